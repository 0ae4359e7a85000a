package interop

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"warren/node/foolscap"
	"warren/node/furl"
	"warren/node/introducer"
	"warren/node/taghash"
)

// ourIntroducer is an introducer of ours in this process.
type ourIntroducer struct {
	tub    *foolscap.Tub
	server *introducer.Server
	furl   furl.FURL
}

func startOur(t testing.TB, cert tls.Certificate, address string) *ourIntroducer {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tub, err := foolscap.New(foolscap.Config{
		Certificate: cert, Location: []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}},
	})
	if err != nil {
		t.Fatal(err)
	}
	i := &ourIntroducer{tub: tub, server: introducer.NewServer("warren/test", nil)}
	i.furl = i.server.Register(tub, "introducerswissnum")
	go tub.Serve(l) // ends with the tub
	t.Cleanup(i.stop)
	return i
}

func (i *ourIntroducer) stop() {
	i.server.Close()
	i.tub.Close()
}

// ourClient is an introducer client of ours with its own tub; stop ends it before
// the test does.
func ourClient(t testing.TB, f furl.FURL, cache string) (c *introducer.Client, key ed25519.PrivateKey, stop func()) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var seqnum atomic.Int64
	c, err = introducer.NewClient(startTub(t, tubCertificate(t, anyTub)), f, introducer.ClientOptions{
		Nickname: "warr\u00e9n", Version: "warren/test", Key: key, CachePath: cache,
		Sequence: func() (int64, error) { return seqnum.Add(1), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, key, c.Close
}

func subscribe(c *introducer.Client) <-chan introducer.Announcement {
	got := make(chan introducer.Announcement, 100)
	c.Subscribe(introducer.Storage, func(a introducer.Announcement) { got <- a })
	return got
}

func nextAnnouncement(t testing.TB, got <-chan introducer.Announcement) introducer.Announcement {
	t.Helper()
	select {
	case a := <-got:
		return a
	// A real node that has lost its introducer tries again after 1, 3, 7, 20, 55 s..
	case <-time.After(3 * time.Minute):
		t.Fatal("no announcement came")
	}
	panic("unreachable")
}

func readFile(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// permutationSeed is what Tahoe gives a new server.
func permutationSeed(key ed25519.PublicKey) string {
	return taghash.EncodeBase32([]byte(introducer.KeyID(key)[len("v0-"):]))
}

// welcomeServers is what a real node's web API says of servers, by server id.
func welcomeServers(t testing.TB, c *WebClient) map[string]string {
	t.Helper()
	body, _, err := c.Do("GET", "/?t=json", nil)
	if err != nil {
		t.Fatal(err)
	}
	var welcome struct {
		Servers []struct{ Nodeid, Nickname string }
	}
	if err := json.Unmarshal(body, &welcome); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range welcome.Servers {
		out[s.Nodeid] = s.Nickname
	}
	return out
}

// The real introducer with our publisher and subscriber, a real server and a real
// client; then it restarts. Our cache and Tahoe's hold the same bytes.
func TestRealIntroducer(t *testing.T) {
	t.Parallel()
	in := StartIntroducer(t)
	_, storageDir := StartStorage(t, in.FURL, "storage0")
	cache := filepath.Join(t.TempDir(), "cache.yaml")
	subscriber, _, stopSubscriber := ourClient(t, parseFURL(t, in.FURL), cache)
	got := subscribe(subscriber)
	a := nextAnnouncement(t, got)
	if a.Nickname != "storage0" || a.Values["anonymous-storage-FURL"] != readFile(t, storageDir, "private", "storage.furl") ||
		a.Values["permutation-seed-base32"] != readFile(t, storageDir, "permutation-seed") {
		t.Errorf("the real server's announcement: %v", a)
	}
	if want := "pub-" + a.KeyID; readFile(t, storageDir, "node.pubkey") != want {
		t.Errorf("node.pubkey is not %s", want)
	}
	if nurls, ok := a.Values["anonymous-storage-NURLs"].([]any); !ok || len(nurls) != 1 {
		t.Errorf("%d NURLs", len(nurls))
	} else if _, err := furl.ParseNURL(nurls[0].(string)); err != nil {
		t.Error(err)
	}
	for key, want := range map[string]any{"version": int64(0), "service-name": "storage", "oldest-supported": "1.0.0", "seqnum": int64(1), "app-versions": []any{}} {
		if !reflect.DeepEqual(a.Values[key], want) {
			t.Errorf("%s: %v", key, a.Values[key])
		}
	}

	// A real client hears of the real server and of ours, which is not there.
	client := StartClient(t, in.FURL, 1, 1, 1, 1)
	publisher, key, _ := ourClient(t, parseFURL(t, in.FURL), "")
	our := key.Public().(ed25519.PublicKey)
	f := furl.FURL{TubID: strings.Repeat("a", 32), Hints: []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: FreePort(t)}}, Swissnum: "swissnum"}
	if err := publisher.Publish(introducer.Storage, introducer.StorageAnnouncement(f, nil, permutationSeed(our))); err != nil {
		t.Fatal(err)
	}
	ours := nextAnnouncement(t, got)
	if ours.KeyID != introducer.KeyID(our) || ours.Nickname != "warr\u00e9n" {
		t.Errorf("our announcement came back as %v", ours)
	}
	Eventually(t, 2*time.Minute, "the real client lists our server", func() error {
		if nickname := welcomeServers(t, client)[introducer.KeyID(our)]; nickname != "warr\u00e9n" {
			return fmt.Errorf("nickname %q", nickname)
		}
		return nil
	})
	compareCaches(t, cache, client.Dir)

	// The introducer restarts, having forgotten everything.
	in.Stop(time.Minute)
	Start(t, Tahoe(t), "run", "--allow-stdin-close", in.Dir)
	later, _, _ := ourClient(t, parseFURL(t, in.FURL), "")
	gotLater := subscribe(later)
	for range 2 {
		nextAnnouncement(t, gotLater)
	}
	Eventually(t, 3*time.Minute, "our subscriber is back", func() error {
		if s := subscriber.Status(); !s.Ready || s.LastError != nil {
			return fmt.Errorf("ready: %v, last error: %v", s.Ready, s.LastError)
		}
		return nil
	})
	stopSubscriber()
	if n := len(got); n != 0 {
		t.Errorf("%d announcements came twice", n)
	}
}

// compareCaches checks that our cache and a real client's say the same, byte by
// byte but for the order, and that each program reads the other's.
func compareCaches(t *testing.T, our, clientDir string) {
	t.Helper()
	theirs := filepath.Join(clientDir, "private", "introducer_default_cache.yaml")
	entries := func(path string) map[string]bool {
		out := map[string]bool{}
		b, _ := os.ReadFile(path)
		for _, e := range strings.Split(string(b), "\n- ") {
			out[strings.TrimSpace(strings.TrimPrefix(e, "- "))] = true
		}
		return out
	}
	Eventually(t, time.Minute, "the caches agree", func() error {
		a, b := entries(our), entries(theirs)
		if len(a) != 2 || !reflect.DeepEqual(a, b) {
			return fmt.Errorf("ours\n%v\ntheirs\n%v", a, b)
		}
		return nil
	})
	script := `import json, sys, yaml
key = lambda e: e["key_s"]
a, b = [sorted(yaml.safe_load(open(p, "rb")), key=key) for p in sys.argv[1:]]
print(json.dumps(a == b))`
	if out := strings.TrimSpace(Run(t, time.Minute, Python(t), "-c", script, our, theirs)); out != "true" {
		t.Errorf("PyYAML reads different things from the caches")
	}
	dead := furl.FURL{TubID: strings.Repeat("a", 32), Swissnum: "s"}
	fromOurs, _, _ := ourClient(t, dead, our)
	copied := filepath.Join(t.TempDir(), "copy.yaml")
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	fromTheirs, _, _ := ourClient(t, dead, copied)
	x, y := fromOurs.Announcements(introducer.Storage), fromTheirs.Announcements(introducer.Storage)
	if len(x) != 2 || len(y) != 2 {
		t.Fatalf("%d and %d announcements in the caches", len(x), len(y))
	}
	for i := range x {
		if x[i].KeyID != y[i].KeyID || !reflect.DeepEqual(x[i].Values, y[i].Values) {
			t.Errorf("announcement %d: %v differs", i, x[i])
		}
	}
}

// Our introducer with a real server and a real client; then it restarts, and the
// server publishes again.
func TestOurIntroducer(t *testing.T) {
	t.Parallel()
	cert := tubCertificate(t, anyTub)
	in := startOur(t, cert, "127.0.0.1:0")
	address := fmt.Sprintf("127.0.0.1:%d", in.furl.Hints[0].Port)
	StartStorage(t, in.furl.Text(), "storage0")
	client := StartClient(t, in.furl.Text(), 1, 1, 1, 1)
	if cap := client.Must(t, "PUT", "/uri", bytes.NewReader(make([]byte, 1000))); !bytes.HasPrefix(cap, []byte("URI:CHK:")) {
		t.Errorf("put answered %.10q", cap)
	}
	announcements, subscribers := in.server.Announcements(), in.server.Subscribers()
	if len(announcements) != 1 || announcements[0].Nickname != "storage0" {
		t.Errorf("%v", announcements)
	}
	nicknames := map[string]bool{}
	for _, s := range subscribers {
		nicknames[s.Nickname] = true
	}
	if len(subscribers) != 2 || !nicknames["storage0"] {
		t.Errorf("subscribers %+v", subscribers)
	}
	in.stop()
	in = startOur(t, cert, address)
	Eventually(t, 3*time.Minute, "the real server publishes again", func() error {
		if n := len(in.server.Announcements()); n != 1 {
			return fmt.Errorf("%d announcements", n)
		}
		return nil
	})
	Eventually(t, 3*time.Minute, "both subscribe again", func() error {
		if n := len(in.server.Subscribers()); n != 2 {
			return fmt.Errorf("%d subscribers", n)
		}
		return nil
	})
}

// A real client whose introducer is away finds its server by a cache of ours.
func TestTahoeStartsFromOurCache(t *testing.T) {
	t.Parallel()
	in := startOur(t, tubCertificate(t, anyTub), "127.0.0.1:0")
	StartStorage(t, in.furl.Text(), "storage0")
	cache := filepath.Join(t.TempDir(), "cache.yaml")
	c, key, stop := ourClient(t, in.furl, cache)
	got := subscribe(c)
	nextAnnouncement(t, got)
	// Beside it an announcement full of what YAML readers take for something else.
	f := furl.FURL{TubID: strings.Repeat("b", 32), Hints: []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: 1}}, Swissnum: "s"}
	values := introducer.StorageAnnouncement(f, nil, permutationSeed(key.Public().(ed25519.PublicKey)))
	odd := []any{"", "=", "<<", "~", "y", "NO", "1e3", "0777", "12:30:45", "2024-01-01", "a: b", "a #b", " a ", "- x", "\x00\u0085\u2028\ufeff\U0001f600", 1e21, 1e-7, 2.0, nil, true, -5,
		[]any{[]any{1, []any{}}, map[string]any{"x": map[string]any{"y": []any{true}}, "z": "1"}}, map[string]any{}, map[string]any{"=": 1, "1": 2, "a:": 3, "k\U0001f600": strings.Repeat("long ", 100)}}
	values["odd"] = odd
	if err := c.Publish(introducer.Storage, values); err != nil {
		t.Fatal(err)
	}
	nextAnnouncement(t, got)
	stop()
	in.stop()
	script := `import json, sys, yaml
print(json.dumps([e["ann"].get("odd") for e in yaml.safe_load(open(sys.argv[1], "rb")) if "odd" in e["ann"]]))`
	var read, want any
	if err := json.Unmarshal([]byte(Run(t, time.Minute, Python(t), "-c", script, cache)), &read); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{odd})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read, want) {
		t.Errorf("PyYAML reads\n%#v, want\n%#v", read, want)
	}

	dir := filepath.Join(t.TempDir(), "client")
	Run(t, time.Minute, Tahoe(t), "create-client", "--introducer="+in.furl.Text(), "--shares-needed=1", "--shares-happy=1", "--shares-total=1",
		"--webport="+freeEndpoint(t), dir)
	text, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "private", "introducer_default_cache.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	client := RunClient(t, Tahoe(t), dir, 1)
	if cap := client.Must(t, "PUT", "/uri", bytes.NewReader(make([]byte, 1000))); !bytes.HasPrefix(cap, []byte("URI:CHK:")) {
		t.Errorf("put answered %.10q", cap)
	}
}
