package interop

import (
	"bytes"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/node/mutable"
)

// body returns n bytes that differ for every seed and are the same each time.
func body(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// startGrid is an introducer with three storage servers, real or ours.
func startGrid(t *testing.T, ours bool) (introducerFURL string) {
	t.Helper()
	var in *Introducer
	if ours {
		in = StartOurIntroducer(t)
	} else {
		in = StartIntroducer(t)
	}
	var servers []func()
	for i := range 3 {
		name := fmt.Sprintf("storage%d", i)
		servers = append(servers, func() {
			if ours {
				StartOurStorage(t, in.FURL, name)
			} else {
				StartStorage(t, in.FURL, name)
			}
		})
	}
	Together(t, servers...)
	return in.FURL
}

// startClients starts a client of ours and one of Tahoe's with the same
// convergence secret, so that the same file has the same cap.
func startClients(t *testing.T, furl string, needed, happy, total, servers int) (ours, theirs *WebClient) {
	t.Helper()
	secret := "aaaaaaaaaaaaaaaaaaaaaaaaaa\n"
	start := func(program string) *WebClient {
		dir := filepath.Join(t.TempDir(), "client")
		makeNode(t, program, "create-client", furl, dir, "--webport="+freeEndpoint(t), fmt.Sprintf("--shares-needed=%d", needed),
			fmt.Sprintf("--shares-happy=%d", happy), fmt.Sprintf("--shares-total=%d", total))
		if err := os.WriteFile(filepath.Join(dir, "private", "convergence"), []byte(secret), 0o600); err != nil {
			t.Error(err)
		}
		return RunClient(t, program, dir, servers)
	}
	Together(t, func() { ours = start(Warren(t)) }, func() { theirs = start(Tahoe(t)) })
	return ours, theirs
}

// TestClientsAndServers is {our client, Tahoe's client} x {our servers, Tahoe's
// servers}: each client reads what the other stored, as files and in directories
// that both change; their web APIs answer alike; Tahoe's commands run on our node.
func TestClientsAndServers(t *testing.T) {
	NeedPeers(t)
	for _, servers := range []string{"our servers", "Tahoe's servers"} {
		t.Run(servers, func(t *testing.T) {
			t.Parallel()
			ours, theirs := startClients(t, startGrid(t, servers == "our servers"), 2, 3, 3, 3)
			t.Run("ours to Tahoe's", func(t *testing.T) { exchange(t, 0, ours, theirs) })
			t.Run("Tahoe's to ours", func(t *testing.T) { exchange(t, 1, theirs, ours) })
			t.Run("ours to ours", func(t *testing.T) { exchange(t, 2, ours, ours) })
			if servers == "our servers" { // what follows is the clients' own
				t.Run("ranges", func(t *testing.T) { sameRanges(t, ours, theirs) })
				t.Run("web API", func(t *testing.T) { sameAnswers(t, ours, theirs) })
				t.Run("tahoe commands", func(t *testing.T) { tahoeCommands(t, ours) })
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
	exchangeMDMF(t, seed, from, to)
	// Immutable directories: the same children give the same cap.
	file := string(from.Must(t, "PUT", "/uri", bytes.NewReader(body(99, 3000))))
	children := fmt.Sprintf(`{"content": ["filenode", {"ro_uri": %q, "metadata": {"k": 1}}]}`, file)
	a := string(from.Must(t, "POST", "/uri?t=mkdir-immutable", strings.NewReader(children)))
	if b := string(to.Must(t, "POST", "/uri?t=mkdir-immutable", strings.NewReader(children))); a != b {
		t.Error("the same immutable directory has two caps")
	}
	got := to.Must(t, "GET", "/uri/"+url.PathEscape(a)+"/content", nil)
	if !bytes.Equal(got, body(99, 3000)) {
		t.Error("the immutable directory's file differs")
	}
}

// exchangeMDMF is put, get, ranges and changes in place of MDMF files, and MDMF
// directories; and the same private key makes the same caps.
func exchangeMDMF(t *testing.T, seed uint64, from, to *WebClient) {
	want := body(seed+50, 500_000)
	c := string(from.Must(t, "PUT", "/uri?format=MDMF", bytes.NewReader(want)))
	at := "/uri/" + url.PathEscape(c)
	readonly := "/uri/" + url.PathEscape(string(from.Must(t, "GET", at+"?t=readonly-uri", nil)))
	read := func(path string) {
		t.Helper()
		for who, client := range map[string]*WebClient{"from": from, "to": to} {
			if got := client.Must(t, "GET", path, nil); !bytes.Equal(got, want) {
				t.Fatalf("%s reads %d other bytes", who, len(got))
			}
			b, code, err := client.DoRange(path, "bytes=131000-262200")
			if err != nil || code != 206 || !bytes.Equal(b, want[131000:262201]) {
				t.Errorf("%s reads a range of %d bytes: %d, %v", who, len(b), code, err)
			}
		}
	}
	read(at)
	for i, client := range []*WebClient{to, from, to} {
		data := body(seed+60+uint64(i), 140_000)
		offset := []int{100, len(want) - 7, 200_001}[i]
		if got := string(client.Must(t, "PUT", fmt.Sprintf("%s?offset=%d", at, offset), bytes.NewReader(data))); got != c {
			t.Error("a changed file got another cap")
		}
		want = splice(want, &offset, data)
		read(readonly)
	}
	want = body(seed+70, 300_000)
	to.Must(t, "PUT", at, bytes.NewReader(want))
	read(at)
	for i, client := range []*WebClient{from, to} {
		var meta []json.RawMessage
		if err := json.Unmarshal(client.Must(t, "GET", at+"?t=json", nil), &meta); err != nil {
			t.Fatal(err)
		}
		var props struct {
			Format string
			Size   int
			Verify string `json:"verify_uri"`
		}
		if err := json.Unmarshal(meta[1], &props); err != nil || props.Format != "MDMF" || props.Size != len(want) || !strings.HasPrefix(props.Verify, "URI:MDMF-Verifier:") {
			t.Errorf("%d: %+v, %v", i, props, err)
		}
	}

	dir := string(from.Must(t, "POST", "/uri?t=mkdir&format=MDMF", nil))
	if !strings.HasPrefix(dir, "URI:DIR2-MDMF:") {
		t.Fatal("another kind of directory")
	}
	in := "/uri/" + url.PathEscape(dir)
	for i, client := range []*WebClient{from, to, from, to} {
		client.Must(t, "PUT", fmt.Sprintf("%s/file%d?format=MDMF", in, i), strings.NewReader(fmt.Sprint("contents ", i)))
	}
	to.Must(t, "POST", in+"?t=mkdir&name=sub&format=MDMF", nil)
	from.Must(t, "PUT", in+"/sub/deep", strings.NewReader("deep"))
	for who, client := range map[string]*WebClient{"from": from, "to": to} {
		for path, text := range map[string]string{"/file0": "contents 0", "/file3": "contents 3", "/sub/deep": "deep"} {
			if got := string(client.Must(t, "GET", in+path, nil)); got != text {
				t.Errorf("%s reads %q at %s", who, got, path)
			}
		}
	}

	for i, format := range []string{"SDMF", "MDMF"} {
		private, err := rsa.GenerateKey(crand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		key, err := mutable.ImportKey(der)
		if err != nil {
			t.Fatal(err)
		}
		made := string(from.Must(t, "PUT", "/uri?format="+format+"&private-key="+base64.URLEncoding.EncodeToString(der), strings.NewReader("of this key")))
		if want := []string{key.Cap().Text(), key.MDMFCap().Text()}[i]; made != want {
			t.Errorf("%s: the caps of a given key differ", format)
		}
		if got := string(to.Must(t, "GET", "/uri/"+url.PathEscape(made), nil)); got != "of this key" {
			t.Errorf("read %q", got)
		}
	}
}

// sameRanges compares the answers to ranges with Tahoe's.
func sameRanges(t *testing.T, ours, theirs *WebClient) {
	cap := string(ours.Must(t, "PUT", "/uri", bytes.NewReader(body(5, 1<<20+5000))))
	for _, header := range []string{"bytes=0-0", "bytes=5-", "bytes=-7", "bytes=1048570-1048580", "bytes=2000000-", "bytes=2000000-2000001",
		"bytes=1053576-", "bytes=1053575-", "bytes=0-99999999", "bytes=-99999999", "bytes=9-3", "junk", "bytes=1-2,5-6", "bytes=-0", "bytes= 4 - 9 ", "lines=1-2"} {
		b1, c1, err1 := ours.DoRange("/uri/"+url.PathEscape(cap), header)
		b2, c2, err2 := theirs.DoRange("/uri/"+url.PathEscape(cap), header)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if c1 != c2 || !bytes.Equal(b1, b2) {
			t.Errorf("%s: ours %d (%d bytes), Tahoe's %d (%d bytes)", header, c1, len(b1), c2, len(b2))
		}
	}
}

// tahoeCommands runs Tahoe's commands against our node.
func tahoeCommands(t *testing.T, ours *WebClient) {
	tahoe := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(Run(t, time.Minute, Tahoe(t), append([]string{"-d", ours.Dir}, args...)...))
	}
	in, out := t.TempDir(), t.TempDir()
	file, want := filepath.Join(in, "file"), body(3, 300_000)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	same := func(path ...string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(path...)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came, %v", filepath.Join(path...), len(got), err)
		}
	}
	cap := tahoe("put", file)
	tahoe("get", cap, filepath.Join(out, "got"))
	same(out, "got")
	dir := tahoe("mkdir")
	tahoe("put", file, dir+"/name")
	tahoe("mkdir", dir+"/sub")
	tahoe("put", "--mutable", file, dir+"/sub/mutable")
	tahoe("cp", file, dir+"/copied ü")
	if ls := tahoe("ls", dir); ls != "copied ü\nname\nsub" {
		t.Errorf("tahoe ls: %q", ls)
	}
	tahoe("mv", dir+"/name", dir+"/sub/moved")
	tahoe("ln", dir+"/copied ü", dir+"/linked")
	tahoe("unlink", dir+"/copied ü")
	tahoe("unlink", dir+"/linked")
	if ls := tahoe("ls", dir); ls != "sub" {
		t.Errorf("tahoe ls: %q", ls)
	}
	tahoe("cp", "-r", dir, out+"/")
	entries, err := filepath.Glob(filepath.Join(out, "*", "moved"))
	if err != nil || len(entries) != 1 {
		entries, err = filepath.Glob(filepath.Join(out, "*", "*", "moved"))
	}
	if err != nil || len(entries) != 1 {
		t.Fatalf("tahoe cp -r left %v, %v", entries, err)
	}
	same(entries[0])
	same(filepath.Dir(entries[0]), "mutable")
	if out, err := TryRun(t, time.Minute, Tahoe(t), "-d", ours.Dir, "ls", dir+"/nothing"); err == nil || !strings.Contains(err.Error(), "No such file or directory") {
		t.Errorf("tahoe ls of nothing: %q, %v", out, err)
	}
	if out, err := TryRun(t, time.Minute, Tahoe(t), "-d", ours.Dir, "get", lostCHK); err == nil || !strings.Contains(err.Error(), "NoSharesError") {
		t.Errorf("tahoe get of what is lost: %q, %v", out, err)
	}
}

// TestCapsAndShares: the two clients make the same caps, and share files that are
// the same to the byte, on servers of both kinds.
func TestCapsAndShares(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	in := StartOurIntroducer(t)
	stores := make([]string, 2)
	Together(t,
		func() { _, stores[0] = StartOurStorage(t, in.FURL, "ours") },
		func() { _, stores[1] = StartStorage(t, in.FURL, "theirs") },
	)
	const segment = 1 << 20
	sizes := []int{0, 55, 56, segment - 1, segment, segment + 1, 3*segment + 12345}
	for _, code := range []struct{ k, n int }{{1, 1}, {3, 10}, {7, 10}} {
		t.Run(fmt.Sprintf("%d of %d", code.k, code.n), func(t *testing.T) {
			ours, theirs := startClients(t, in.FURL, code.k, 1, code.n, 2)
			shares := 0
			for _, size := range sizes {
				data := body(uint64(code.k), size)
				put := func(c *WebClient) (string, map[string][]byte) {
					cap := string(c.Must(t, "PUT", "/uri", bytes.NewReader(data)))
					return cap, takeShares(t, stores)
				}
				a, ourShares := put(ours)
				b, theirShares := put(theirs)
				if a != b {
					t.Errorf("%d bytes: the caps differ", size)
				}
				if want := min(size/56, 1) * code.n; len(theirShares) != want {
					t.Errorf("%d bytes: %d shares, want %d", size, len(theirShares), want)
				}
				if !maps.EqualFunc(ourShares, theirShares, bytes.Equal) {
					t.Errorf("%d bytes: the shares differ: %v and %v", size, slices.Sorted(maps.Keys(ourShares)), slices.Sorted(maps.Keys(theirShares)))
				}
				shares += len(theirShares)
			}
			if shares != (len(sizes)-2)*code.n {
				t.Errorf("%d shares compared", shares)
			}
		})
	}
}

// takeShares removes all share files of the nodes and returns their bytes, the
// container's header too but not the lease behind the data, by storage index and number.
func takeShares(t *testing.T, nodes []string) map[string][]byte {
	t.Helper()
	taken := map[string][]byte{}
	for _, node := range nodes {
		files, err := filepath.Glob(filepath.Join(node, "storage", "shares", "??", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			const header, lease = 12, 72
			if len(b) < header+lease {
				t.Fatalf("a share file of %d bytes", len(b))
			}
			name, err := filepath.Rel(filepath.Join(node, "storage", "shares"), file)
			if err != nil {
				t.Fatal(err)
			}
			if taken[name] != nil {
				t.Errorf("share %s is there twice", name)
			}
			taken[name] = b[:len(b)-lease]
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	return taken
}
