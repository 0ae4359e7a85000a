package webapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"warren/node/immutable"
	"warren/node/webapi"
	"warren/tests/gridtest"
)

// A PUT that wants to be told hears how far the upload is, and at last what came of
// it; who asks for nothing hears the capability alone, as from Tahoe.
func TestPutIsTold(t *testing.T) {
	n := newNode(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // several pieces a share
	put := func(path string, body []byte, want int) (webapi.Told, int) {
		t.Helper()
		resp, text := n.ask(http.MethodPut, path, bytes.NewReader(body), "Accept", webapi.ToldType)
		if resp.Header.Get("Content-Type") != webapi.ToldType {
			t.Fatalf("%s, %q: %s", resp.Status, resp.Header.Get("Content-Type"), text)
		}
		lines := 0
		for dec := json.NewDecoder(strings.NewReader(text)); ; lines++ {
			var line webapi.Told
			if err := dec.Decode(&line); err != nil {
				t.Fatal(err)
			}
			if line.Status == 0 {
				if line.Written > line.Total || line.Total == 0 {
					t.Errorf("%+v", line)
				}
				continue
			}
			if line.Status != want || dec.More() {
				t.Errorf("%+v, more %v", line, dec.More())
			}
			return line, lines
		}
	}
	first, lines := put("/uri", data, 200)
	if s := first.Stored; s == nil || s.Size != uint64(len(data)) || s.Happiness != 5 || s.Pushed != 5 || s.Existing != 0 || lines == 0 {
		t.Errorf("%+v, %+v after %d lines", first, s, lines)
	}
	if n.do(200, "PUT", "/uri", string(data)) != first.Text {
		t.Error("another capability")
	}
	if again, _ := put("/uri", data, 200); again.Text != first.Text || again.Stored.Existing != 5 || again.Stored.Pushed != 0 {
		t.Errorf("again: %+v", again.Stored)
	}
	if lit, _ := put("/uri", []byte("short"), 200); !strings.HasPrefix(lit.Text, "URI:LIT:") || lit.Stored.Size != 5 {
		t.Errorf("%+v", lit)
	}
	if m, _ := put("/uri?format=SDMF", data[:100], 200); !strings.HasPrefix(m.Text, "URI:SSK:") || m.Stored != nil {
		t.Errorf("%+v", m)
	}
	dir := n.do(200, "PUT", "/uri?t=mkdir", "")
	if in, _ := put(uri(dir, "x"), data[:1000], 201); in.Stored == nil {
		t.Errorf("%+v", in)
	}
	put(uri(dir, "x"), data[:1001], 200)

	// A failure that comes before the first line is answered like any other.
	for _, s := range n.grid.Servers[:3] {
		s.Stop(t)
	}
	resp, text := n.ask(http.MethodPut, "/uri", bytes.NewReader(data[1:]), "Accept", webapi.ToldType)
	if resp.StatusCode != 500 || !strings.HasPrefix(text, "UploadUnhappinessError") || strings.HasPrefix(resp.Header.Get("Content-Type"), webapi.ToldType) {
		t.Errorf("%s, %s", resp.Status, text)
	}
}

// late fails when everything has been sent.
type late struct{ webapi.Grid }

func (l late) PutFile(ctx context.Context, r io.Reader, size int64) (immutable.Result, error) {
	if res, err := l.Grid.PutFile(ctx, r, size); err != nil {
		return res, err
	}
	return immutable.Result{}, &immutable.UnhappyError{Happy: 5, Got: 4}
}

// What fails after the first lines says so in the last.
func TestPutThatFailsLateIsTold(t *testing.T) {
	g := gridtest.New(t, gridtest.Options{})
	h := httptest.NewServer(webapi.New(webapi.Config{Grid: late{g.Web}, Token: func() string { return "" }}))
	defer h.Close()
	n := &node{t, h.URL, h.Client(), g}
	resp, text := n.ask(http.MethodPut, "/uri", bytes.NewReader(make([]byte, 3<<20)), "Accept", webapi.ToldType)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var last webapi.Told
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || len(lines) < 2 || last.Status != 500 || !strings.HasPrefix(last.Text, "UploadUnhappinessError") || last.Stored != nil || strings.Contains(text, "URI:") {
		t.Errorf("%s, %q", resp.Status, lines)
	}
}
