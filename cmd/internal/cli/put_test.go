package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warren/cmd/internal/ui"
	"warren/node/webapi"
)

// told answers a PUT as our node does, with these lines.
func told(t *testing.T, lines ...string) (*env, *bytes.Buffer) {
	return answer(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Header.Get("Accept") != webapi.ToldType {
			t.Errorf("Accept: %q", r.Header.Get("Accept"))
		}
		w.Header().Set("Content-Type", webapi.ToldType)
		for _, line := range lines {
			fmt.Fprintln(w, line)
		}
	})
}

func TestPutSaysHowItWasStored(t *testing.T) {
	lines := []string{
		`{"written":10,"total":30}`, `{"written":30,"total":20}`,
		`{"status":201,"text":"URI:CHK:x","stored":{"size":9,"happiness":4,"shares_pushed":3,"shares_existing":2,"resumed_bytes":7}}`,
	}
	e, out := told(t, lines...)
	var talk bytes.Buffer
	e.ui.In, e.ui.Err = strings.NewReader("some text"), &talk
	if err := e.put(t.Context(), putOptions{local: "-"}); err != nil || out.String() != "URI:CHK:x\n" {
		t.Errorf("%q, %v", out, err)
	}
	if want := "on the grid already and not sent again: 2 of 5 shares\nkept from a try that broke off and not sent again: 7 bytes of shares\n"; talk.String() != want {
		t.Errorf("it said %q", &talk)
	}
	// Under --json, one object and no word.
	e, out = told(t, lines...)
	talk.Reset()
	e.ui.JSON, e.ui.Err = true, &talk
	if err := e.put(t.Context(), putOptions{local: "-"}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	dec := json.NewDecoder(out)
	if err := dec.Decode(&got); err != nil || dec.More() || talk.Len() != 0 {
		t.Fatalf("%v, more %v, talk %q", err, dec.More(), &talk)
	}
	for key, want := range map[string]any{"cap": "URI:CHK:x", "created": true, "size": 9.0, "happiness": 4.0, "shares_pushed": 3.0, "shares_existing": 2.0, "resumed_bytes": 7.0} {
		if got[key] != want {
			t.Errorf("%s: %v", key, got[key])
		}
	}
	if s, ok := got["seconds"].(float64); !ok || s < 0 || len(got) != 8 {
		t.Errorf("%v", got)
	}
	// A node of Tahoe's knows nothing of lines.
	e, out = answer(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		io.WriteString(w, "URI:CHK:y")
	})
	if err := e.put(t.Context(), putOptions{local: "-"}); err != nil || out.String() != "URI:CHK:y\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// What goes wrong after the first lines has its own exit code and no capability.
func TestPutThatFailsLate(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		code  int
		want  string
	}{
		{"too few servers", []string{`{"written":1,"total":2}`, `{"status":500,"text":"UploadUnhappinessError: too few"}`}, ui.ExitUnavailable, "too few"},
		{"refused", []string{`{"written":1,"total":2}`, `{"status":409,"text":"There was already a child"}`}, ui.ExitFailed, "already a child"},
		{"the node died", []string{`{"written":1,"total":2}`}, ui.ExitFailed, "nothing is known to be stored"},
		{"cut in a line", []string{`{"written":1,"total":2}`, `{"status":200,"text":"URI:CHK`}, ui.ExitFailed, "nothing is known to be stored"},
		{"nothing", nil, ui.ExitFailed, "nothing is known to be stored"},
	} {
		e, out := told(t, c.lines...)
		err := e.put(t.Context(), putOptions{local: "-"})
		var fail *ui.Error
		if !errors.As(err, &fail) || fail.Code != c.code || !strings.Contains(err.Error(), c.want) || out.Len() != 0 {
			t.Errorf("%s: %v, %q", c.name, err, out)
		}
	}
}

// Ctrl-C while the file goes to the node, and while the node sends it on.
func TestInterruptedPut(t *testing.T) {
	for _, first := range []string{"", `{"written":1,"total":2}`} {
		ctx, cancel := context.WithCancel(t.Context())
		e, out := answer(t, func(w http.ResponseWriter, r *http.Request) {
			if first != "" {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", webapi.ToldType)
				fmt.Fprintln(w, first)
				w.(http.Flusher).Flush()
			}
			cancel()
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		in, hold := io.Pipe()
		if first != "" {
			hold.Close()
		}
		e.ui.In = in
		err := interrupted(e.put(ctx, putOptions{local: "-"}))
		hold.Close()
		var said bytes.Buffer
		if code := ui.Report(&said, err); code != ui.ExitFailed || out.Len() != 0 || !strings.HasPrefix(said.String(), "warren: interrupted\n  do not count on it being stored") {
			t.Errorf("exit %d, %q, %q", code, &said, out)
		}
	}
}

// Ctrl-C in the middle of a download: no file, nor a part of one; and it ends though
// nobody reads what it writes.
func TestInterruptedGet(t *testing.T) {
	dir := t.TempDir()
	for _, local := range []string{filepath.Join(dir, "new"), filepath.Join(dir, "old"), "-"} {
		ctx, cancel := context.WithCancel(t.Context())
		e, _ := answer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			w.Write(make([]byte, 500000))
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
		})
		stuck, unread := io.Pipe()
		defer stuck.Close()
		e.ui.Out = unread
		if filepath.Base(local) == "old" {
			if err := os.WriteFile(local, []byte("as it was"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := interrupted(e.get(ctx, getOptions{remote: someCap, local: local}))
		var fail *ui.Error
		if !errors.As(err, &fail) || fail.Code != ui.ExitFailed || err.Error() != "interrupted" || fail.Hint == "" {
			t.Errorf("%s: %v", filepath.Base(local), err)
		}
	}
	left, err := os.ReadDir(dir)
	if b, e := os.ReadFile(filepath.Join(dir, "old")); err != nil || len(left) != 1 || e != nil || string(b) != "as it was" {
		t.Errorf("left are %v, %v, %v", left, err, e)
	}
}

func TestGetAsJSON(t *testing.T) {
	e, out := answer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("t") == "uri" {
			io.WriteString(w, "URI:CHK:z")
			return
		}
		io.WriteString(w, "fetched")
	})
	e.ui.JSON = true
	file := filepath.Join(t.TempDir(), "x")
	if err := e.get(t.Context(), getOptions{remote: someCap, local: file}); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Cap, File string
		Size      int64
		Seconds   *float64
	}
	dec := json.NewDecoder(out)
	if err := dec.Decode(&got); err != nil || dec.More() || got.Cap != "URI:CHK:z" || got.File != file || got.Size != 7 || got.Seconds == nil {
		t.Errorf("%+v, %v", got, err)
	}
	var fail *ui.Error
	if err := e.get(t.Context(), getOptions{remote: someCap}); !errors.As(err, &fail) || fail.Code != ui.ExitUsage || out.Len() != 0 {
		t.Errorf("to standard output: %v, %q", err, out)
	}
}
