package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"warren/cmd/internal/ui"
	"warren/invite/message"
	"warren/torutil"
)

// answer is a web API that says what f says.
func answer(t *testing.T, f http.HandlerFunc) (*env, *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "node.url"), []byte(server.URL+"/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	return &env{ui: &ui.UI{In: strings.NewReader(""), Out: &out, Err: io.Discard}, dir: dir}, &out
}

const someCap = "URI:LIT:nbswy3dp"

func TestGetIntoWhatIsThere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: rights, links and devices are those of Unix")
	}
	e, out := answer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fetched") })
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	get := func(local string) error { return e.get(t.Context(), getOptions{remote: someCap, local: local}) }
	mode := func(name string) os.FileMode {
		info, err := os.Lstat(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	for name, rights := range map[string]os.FileMode{"mine": 0o600, "behind": 0o640} {
		if err := os.WriteFile(path(name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path(name), rights); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("behind", path("link")), os.WriteFile(path("plain"), nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new", "mine", "link"} {
		if err := get(path(name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(path(name)); err != nil || string(b) != "fetched" {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	if mode("mine") != 0o600 || mode("behind") != 0o640 || mode("link").Type() != os.ModeSymlink {
		t.Errorf("mine %v, behind %v, link %v", mode("mine"), mode("behind"), mode("link"))
	}
	if mode("new") != mode("plain") { // the umask decides
		t.Errorf("a new file has %v, others have %v", mode("new"), mode("plain"))
	}
	var fail *ui.Error
	if err := get(dir); !errors.As(err, &fail) || fail.Code != ui.ExitUsage {
		t.Errorf("into a directory: %v", err)
	}
	// A device stays one.
	if err := get("/dev/null"); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Fatalf("/dev/null is %v, %v", info, err)
	}
	if err := get("-"); err != nil || out.String() != "fetched" {
		t.Errorf("%q, %v", out, err)
	}
	// What cannot be fetched leaves what was there, and nothing beside it.
	e, _ = answer(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusGone) })
	if err := get(path("mine")); !errors.As(err, &fail) || fail.Code != ui.ExitUnavailable {
		t.Errorf("410: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if b, rerr := os.ReadFile(path("mine")); rerr != nil || string(b) != "fetched" || err != nil || len(entries) != 5 {
		t.Errorf("mine holds %q, %v; the directory %v, %v", b, rerr, entries, err)
	}
}

// A disk that takes no more is not the node's fault.
func TestGetWithoutRoom(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP: /dev/full is Linux's")
	}
	e, _ := answer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fetched") })
	err := e.get(t.Context(), getOptions{remote: someCap, local: "/dev/full"})
	if err == nil || !strings.Contains(err.Error(), "no space left") || strings.Contains(err.Error(), "ended early") {
		t.Errorf("error %v", err)
	}
}

// A directory that holds itself ends a copy, and does not fill the disk.
func TestCopyOfADirectoryThatHoldsItself(t *testing.T) {
	const read, other = "URI:DIR2-RO:a:b", "URI:DIR2-RO:c:d"
	node := func(cap string, children map[string]any) []any {
		return []any{"dirnode", map[string]any{"ro_uri": cap, "mutable": true, "children": children}}
	}
	asked := 0
	e, _ := answer(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		at, inner := read, node(other, nil)
		if strings.HasSuffix(r.URL.Path, other) {
			at, inner = other, node(read, nil)
		}
		if asked > 10 {
			http.Error(w, "no end", http.StatusGone)
			return
		}
		json.NewEncoder(w).Encode(node(at, map[string]any{"inner": inner}))
	})
	err := e.cp(t.Context(), cpOptions{from: []string{read}, to: filepath.Join(t.TempDir(), "x"), recursive: true})
	if err == nil || !strings.Contains(err.Error(), "holds itself") {
		t.Errorf("%v, after %d questions", err, asked)
	}
}

// A node that was killed leaves its address: nobody who listens there now is told
// of a capability. One without a web API is not called stopped.
func TestNodeThatIsGone(t *testing.T) {
	asked := 0
	e, _ := answer(t, func(http.ResponseWriter, *http.Request) { asked++ })
	const dead = "2147483646 1000.5\n"
	for _, name := range []string{"running.process", "warren.process"} {
		if err := os.WriteFile(filepath.Join(e.dir, name), []byte(dead), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(e.dir, "tahoe.cfg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var fail *ui.Error
	err := e.get(t.Context(), getOptions{remote: someCap, local: "-"})
	if !errors.As(err, &fail) || fail.Code != ui.ExitNoNode || !strings.Contains(err.Error(), "is not running") || asked != 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

func TestInterruptedKeepsTheHint(t *testing.T) {
	var out bytes.Buffer
	code := ui.Report(&out, interrupted(ui.Fail(ui.ExitInvite, "run the same command again", context.Canceled)))
	if code != ui.ExitFailed || out.String() != "warren: interrupted\n  run the same command again\n" {
		t.Errorf("exit %d, %q", code, &out)
	}
}

// What cannot be read here is not blamed on the node.
func TestPutOfWhatCannotBeRead(t *testing.T) {
	e, _ := answer(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	e.ui.In = iotest.ErrReader(&fs.PathError{Op: "read", Path: "x", Err: fs.ErrPermission})
	err := e.put(t.Context(), putOptions{local: "-"})
	var fail *ui.Error
	if !errors.Is(err, fs.ErrPermission) || errors.As(err, &fail) {
		t.Errorf("error %v", err)
	}
}

// Under --json standard output holds JSON alone.
func TestJoinedAsJSON(t *testing.T) {
	var out bytes.Buffer
	e := &env{ui: &ui.UI{Out: &out, JSON: true}, dir: "/n"}
	if err := e.joined(message.Settings{Nickname: "a<b"}, "/f"); err != nil || out.String() != `{"directory":"/n","grid":"a<b","folder":"/f"}`+"\n" {
		t.Errorf("%q, %v", &out, err)
	}
	out.Reset()
	e.ended(torutil.Counts{})
	if !json.Valid(out.Bytes()) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", &out)
	}
}
