package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// body returns n bytes that differ for every seed and are the same each time.
func body(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// grid is an introducer with three storage servers, real or ours.
func startGrid(t *testing.T, ours bool) (introducerFURL string) {
	t.Helper()
	var in *Introducer
	if ours {
		in = StartOurIntroducer(t)
	} else {
		in = StartIntroducer(t)
	}
	for i := range 3 {
		name := fmt.Sprintf("storage%d", i)
		if ours {
			StartOurStorage(t, in.FURL, name)
		} else {
			StartStorage(t, in.FURL, name)
		}
	}
	return in.FURL
}

// TestClientsAndServers is {our client, Tahoe's client} x {our servers, Tahoe's
// servers}: each client reads what the other stored, as files and in directories
// that both change.
func TestClientsAndServers(t *testing.T) {
	for _, servers := range []string{"our servers", "Tahoe's servers"} {
		t.Run(servers, func(t *testing.T) {
			NeedPeers(t)
			furl := startGrid(t, servers == "our servers")
			clients := map[string]*WebClient{
				"ours":    StartOurClient(t, furl, 2, 3, 3, 3),
				"Tahoe's": StartClient(t, furl, 2, 3, 3, 3),
			}
			pairs := []struct{ from, to string }{{"ours", "Tahoe's"}, {"Tahoe's", "ours"}, {"ours", "ours"}}
			for i, p := range pairs {
				from, to := clients[p.from], clients[p.to]
				t.Run(p.from+" to "+p.to, func(t *testing.T) { exchange(t, uint64(i), from, to) })
			}
		})
	}
}

func exchange(t *testing.T, seed uint64, from, to *WebClient) {
	for _, size := range []int{0, 1, 55, 56, 100_000, 1 << 20, 2<<20 + 17} {
		want := body(seed, size)
		cap := string(from.Must(t, "PUT", "/uri", bytes.NewReader(want)))
		got := to.Must(t, "GET", "/uri/"+url.PathEscape(cap), nil)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: other bytes came back", size)
		}
	}
	// A directory: made by one, changed by both, read by both.
	dir := string(from.Must(t, "POST", "/uri?t=mkdir", nil))
	at := "/uri/" + url.PathEscape(dir)
	for i, c := range []*WebClient{from, to, from, to} {
		name := fmt.Sprintf("file %d ü", i)
		c.Must(t, "PUT", at+"/"+url.PathEscape(name), strings.NewReader(name+" "+strings.Repeat("x", 100)))
	}
	to.Must(t, "DELETE", at+"/"+url.PathEscape("file 0 ü"), nil)
	from.Must(t, "PUT", at+"/sub/deep.txt", strings.NewReader("deep"))
	for who, c := range map[string]*WebClient{"from": from, "to": to} {
		var listing []json.RawMessage
		if err := json.Unmarshal(c.Must(t, "GET", at+"?t=json", nil), &listing); err != nil {
			t.Fatal(err)
		}
		var props struct {
			Children map[string]json.RawMessage `json:"children"`
			Mutable  bool                       `json:"mutable"`
			RW       string                     `json:"rw_uri"`
		}
		if err := json.Unmarshal(listing[1], &props); err != nil {
			t.Fatal(err)
		}
		if len(props.Children) != 4 || !props.Mutable || props.RW != dir {
			t.Errorf("%s sees %d entries, mutable %v", who, len(props.Children), props.Mutable)
		}
		if got := string(c.Must(t, "GET", at+"/sub/deep.txt", nil)); got != "deep" {
			t.Errorf("%s reads %q", who, got)
		}
		if got := string(c.Must(t, "GET", at+"/"+url.PathEscape("file 3 ü"), nil)); !strings.HasPrefix(got, "file 3 ü xxx") {
			t.Errorf("%s reads %q", who, got)
		}
	}
	// Mutable files.
	m := string(from.Must(t, "PUT", "/uri?format=SDMF", strings.NewReader("first")))
	to.Must(t, "PUT", "/uri/"+url.PathEscape(m), strings.NewReader("second, and longer than the first"))
	if got := string(from.Must(t, "GET", "/uri/"+url.PathEscape(m), nil)); got != "second, and longer than the first" {
		t.Errorf("read %q", got)
	}
	// Immutable directories: the same children give the same cap.
	file := string(from.Must(t, "PUT", "/uri", bytes.NewReader(body(99, 3000))))
	children := fmt.Sprintf(`{"content": ["filenode", {"ro_uri": %q, "metadata": {"k": 1}}]}`, file)
	a := string(from.Must(t, "POST", "/uri?t=mkdir-immutable", strings.NewReader(children)))
	got := to.Must(t, "GET", "/uri/"+url.PathEscape(a)+"/content", nil)
	if !bytes.Equal(got, body(99, 3000)) {
		t.Error("the immutable directory's file differs")
	}
}

// TestRangesAgree compares the answers to ranges with Tahoe's.
func TestRangesAgree(t *testing.T) {
	NeedPeers(t)
	furl := startGrid(t, true)
	ours, theirs := StartOurClient(t, furl, 2, 3, 3, 3), StartClient(t, furl, 2, 3, 3, 3)
	cap := string(ours.Must(t, "PUT", "/uri", bytes.NewReader(body(5, 1<<20+5000))))
	for _, header := range []string{"bytes=0-0", "bytes=5-", "bytes=-7", "bytes=1048570-1048580", "bytes=2000000-", "bytes=0-99999999", "bytes=9-3", "junk", "bytes=1-2,5-6", "bytes=-0"} {
		b1, c1, err1 := ours.DoRange("/uri/"+url.PathEscape(cap), header)
		b2, c2, err2 := theirs.DoRange("/uri/"+url.PathEscape(cap), header)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if c1 != c2 || c1 < 300 && !bytes.Equal(b1, b2) {
			t.Errorf("%s: ours %d (%d bytes), Tahoe's %d (%d bytes)", header, c1, len(b1), c2, len(b2))
		}
	}
}

// TestTahoeCommands runs the real put, get and ls against our node.
func TestTahoeCommands(t *testing.T) {
	NeedPeers(t)
	ours := StartOurClient(t, startGrid(t, true), 2, 3, 3, 3)
	file := filepath.Join(t.TempDir(), "in")
	want := body(3, 300_000)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	cap := strings.TrimSpace(Run(t, time.Minute, Tahoe(t), "-d", ours.Dir, "put", file))
	out := filepath.Join(t.TempDir(), "out")
	Run(t, time.Minute, Tahoe(t), "-d", ours.Dir, "get", cap, out)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("tahoe get gave other bytes")
	}
	dir := strings.TrimSpace(Run(t, time.Minute, Tahoe(t), "-d", ours.Dir, "mkdir"))
	Run(t, time.Minute, Tahoe(t), "-d", ours.Dir, "put", file, dir+"/name")
	if ls := Run(t, time.Minute, Tahoe(t), "-d", ours.Dir, "ls", dir); strings.TrimSpace(ls) != "name" {
		t.Errorf("tahoe ls: %q", ls)
	}
}
