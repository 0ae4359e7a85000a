package grid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/taghash"
)

func index(t *testing.T, text string) caps.StorageIndex {
	t.Helper()
	b, err := taghash.DecodeBase32(text)
	if err != nil || len(b) != 16 {
		t.Fatalf("storage index %q: %v", text, err)
	}
	return caps.StorageIndex(b)
}

func TestOrderAgainstTahoe(t *testing.T) {
	raw, err := os.ReadFile("testdata/permutation.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Servers []struct {
			ID           string
			Announcement map[string]any
		}
		Preferred []string
		Orders    []struct {
			Index     string
			Servers   []string
			Preferred []string
			LeaseSeed string `json:"lease-seed"`
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Servers) == 0 || len(v.Orders) == 0 || len(v.Preferred) == 0 {
		t.Fatal("no vectors")
	}
	ways := func(a Announced) ([]Candidate, string) {
		return []Candidate{{Client: &fakeClient{up: true}, Via: "test"}}, ""
	}
	synctest.Test(t, func(t *testing.T) {
		g, picky := New(Options{Connect: ways}), New(Options{Connect: ways, Preferred: v.Preferred})
		defer g.Close()
		defer picky.Close()
		for _, s := range v.Servers {
			a, err := ParseAnnouncement(s.ID, s.Announcement, "test")
			if err != nil {
				t.Fatal(err)
			}
			g.Announce(a)
			picky.Announce(a)
		}
		synctest.Wait()
		for _, o := range v.Orders {
			for _, c := range []struct {
				got  []Server
				want []string
			}{{g.Permuted(index(t, o.Index)), o.Servers}, {picky.Permuted(index(t, o.Index)), o.Preferred}} {
				var got []string
				for _, s := range c.got {
					got = append(got, s.ID)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("index %s: %v, Tahoe asks %v", o.Index, got, c.want)
				}
			}
			if got := taghash.EncodeBase32(g.Permuted(index(t, o.Index))[0].LeaseSeed); got != o.LeaseSeed {
				t.Errorf("index %s: lease seed %s, Tahoe's is %s", o.Index, got, o.LeaseSeed)
			}
		}
	})
}

const (
	keyID    = "v0-jgwf3yqz5wxgf6p552qpypz26sh5qmxsf6wfbaqkyeixjvxanc6q"
	testFURL = "pb://h77i4xrs6zaefzwamsmtrlt2gpb2vmhg@tcp:127.0.0.1:10000/ccnormvgtjjje3iijng2cg4jpu"
	testNURL = "pb://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@127.0.0.1:10000/ccnormvgtjjje3iijng2cg4jpu#v=1"
)

func TestParseAnnouncement(t *testing.T) {
	many := make([]any, 100)
	for i := range many {
		many[i] = strings.Replace(testNURL, "10000", fmt.Sprint(10000+i), 1)
	}
	a, err := ParseAnnouncement(keyID, map[string]any{
		"anonymous-storage-FURL": testFURL, "nickname": strings.Repeat("é", 150), "seqnum": int64(7),
		"anonymous-storage-NURLs": append([]any{"pb://garbage", 5, nil, map[string]any{}}, many...),
	}, "intro")
	if err != nil {
		t.Fatal(err)
	}
	if len(a.NURLs) != maxNURLs || a.NURLs[0].Text() != testNURL || a.Seqnum != 7 || a.Source != "intro" || len(a.LeaseSeed) != 20 {
		t.Errorf("%d NURLs, seqnum %d, lease seed of %d bytes", len(a.NURLs), a.Seqnum, len(a.LeaseSeed))
	}
	if a.Nickname != strings.Repeat("é", 100) {
		t.Errorf("nickname cut to %q", a.Nickname)
	}
	if want, _ := taghash.DecodeBase32(keyID[3:]); string(a.PermutationSeed) != string(want) {
		t.Error("the permutation seed is not the key")
	}

	good := func(change string, v any) map[string]any {
		m := map[string]any{"anonymous-storage-FURL": testFURL}
		m[change] = v
		return m
	}
	for _, c := range []struct {
		what, id string
		values   map[string]any
	}{
		{"no id", "", good("nickname", "x")},
		{"a long id", strings.Repeat("a", 101), good("nickname", "x")},
		{"nothing", keyID, nil},
		{"no FURL", keyID, good("anonymous-storage-FURL", nil)},
		{"an empty FURL", keyID, good("anonymous-storage-FURL", "")},
		{"a FURL that is a number", keyID, good("anonymous-storage-FURL", int64(5))},
		{"a FURL that is a list", keyID, good("anonymous-storage-FURL", []any{testFURL})},
		{"a FURL of another scheme", keyID, good("anonymous-storage-FURL", "http://x/y")},
		{"a FURL without a tub id", keyID, good("anonymous-storage-FURL", "pb://@tcp:127.0.0.1:1/x")},
		{"a tub id in capitals", keyID, good("anonymous-storage-FURL", strings.Replace(testFURL, "h77i", "H77I", 1))},
		{"a FURL of 10 MB", keyID, good("anonymous-storage-FURL", testFURL+strings.Repeat("a", 10<<20))},
		{"a seed that is a number", keyID, good("permutation-seed-base32", int64(1))},
		{"an empty seed", keyID, good("permutation-seed-base32", "")},
		{"a seed that is no base32", keyID, good("permutation-seed-base32", "!!")},
		{"a seed with stray bits", keyID, good("permutation-seed-base32", "ab")},
		{"a seed of 10 MB", keyID, good("permutation-seed-base32", strings.Repeat("a", 10<<20))},
	} {
		if a, err := ParseAnnouncement(c.id, c.values, "intro"); err == nil {
			t.Errorf("%s: accepted as %q", c.what, a.ID)
		} else if strings.Contains(err.Error(), "ccnormvg") {
			t.Errorf("%s: the error tells the swissnum", c.what)
		}
	}
	for _, nurls := range []any{"a text", int64(4), []any{}, []any{[]any{testNURL}}} {
		if a, err := ParseAnnouncement(keyID, good("anonymous-storage-NURLs", nurls), ""); err != nil || len(a.NURLs) != 0 {
			t.Errorf("NURLs %v: %v, %d taken", nurls, err, len(a.NURLs))
		}
	}
}

// fakeClient is a server that can be taken down.
type fakeClient struct {
	storage.Client

	mu     sync.Mutex // guards what follows
	up     bool
	hangs  bool
	asked  int
	closed int
	room   uint64
	fail   error // of ListShares
}

func (f *fakeClient) set(change func(*fakeClient)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeClient) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

var errDown = errors.New("connection refused")

func (f *fakeClient) Version(ctx context.Context) (storage.Version, error) {
	f.mu.Lock()
	f.asked++
	up, hangs, room := f.up, f.hangs, f.room
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return storage.Version{}, ctx.Err()
	}
	if !up {
		return storage.Version{}, errDown
	}
	return storage.Version{Application: "fake", MaximumImmutableShareSize: room}, nil
}

func (f *fakeClient) ListShares(ctx context.Context, _ storage.ShareKind, _ caps.StorageIndex) ([]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.fail
}

// world is a Connect whose clients are known by server and way.
type world struct {
	mu      sync.Mutex // guards what follows
	ways    map[string][]*fakeClient
	connect map[string]int // calls of Connect
}

func (w *world) Connect(a Announced) ([]Candidate, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connect[a.ID]++
	var list []Candidate
	for i, c := range w.ways[a.ID] {
		list = append(list, Candidate{Client: c, Via: fmt.Sprintf("way %d", i), Close: func() error {
			c.set(func(c *fakeClient) { c.closed++ })
			return nil
		}})
	}
	return list, "no way is known"
}

func newWorld(ways map[string][]*fakeClient) *world {
	return &world{ways: ways, connect: map[string]int{}}
}

func announced(id string, change ...func(*Announced)) Announced {
	a := Announced{ID: id, PermutationSeed: []byte(id), LeaseSeed: make([]byte, 20), Source: "intro"}
	for _, c := range change {
		c(&a)
	}
	return a
}

func status(t *testing.T, g *Grid, id string) Status {
	t.Helper()
	for _, s := range g.Servers() {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("server %s is not known", id)
	return Status{}
}

// in runs f in a bubble where time passes only when everything waits.
func in(t *testing.T, w *world, f func(t *testing.T, g *Grid)) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{Connect: w.Connect})
		f(t, g)
		g.Close()
	})
	for id, ways := range w.ways {
		for i, c := range ways {
			if c.closed != w.connect[id] {
				t.Errorf("way %d to %s was handed out %d times and closed %d times", i, id, w.connect[id], c.closed)
			}
		}
	}
}

func TestServersComeAndGo(t *testing.T) {
	a, b := &fakeClient{up: true}, &fakeClient{}
	in(t, newWorld(map[string][]*fakeClient{"a": {a}, "b": {b}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		g.Announce(announced("b"))
		g.Announce(announced("unreachable"))
		if err := g.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := g.Connected(); n != 1 {
			t.Fatalf("%d connected", n)
		}
		if s := status(t, g, "b"); s.Connected || !strings.Contains(s.Summary, "connection refused") || !s.LastSeen.IsZero() {
			t.Errorf("b: %+v", s)
		}
		if s := status(t, g, "unreachable"); !strings.Contains(s.Summary, "no way is known") {
			t.Errorf("unreachable: %+v", s)
		}
		// b comes up, and is found though nobody asks for servers.
		b.set(func(c *fakeClient) { c.up = true })
		if err := g.Wait(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if s := status(t, g, "b"); s.Summary != "Connected via way 0" || s.Version.Application != "fake" {
			t.Errorf("b: %+v", s)
		}
		// A call that fails has the state found out at once.
		changed := g.Changed()
		a.set(func(c *fakeClient) { c.up, c.fail = false, errDown })
		for _, s := range g.Permuted(caps.StorageIndex{}) {
			s.Client.ListShares(t.Context(), storage.Immutable, caps.StorageIndex{})
		}
		<-changed
		if n := g.Connected(); n != 1 {
			t.Errorf("%d connected after a failed call", n)
		}
		a.set(func(c *fakeClient) { c.up, c.fail = true, nil })
		if err := g.Wait(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	in(t, newWorld(nil), func(t *testing.T, g *Grid) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := g.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited for nothing: %v", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	a := &fakeClient{}
	in(t, newWorld(map[string][]*fakeClient{"a": {a}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		time.Sleep(10 * time.Minute) // in the bubble
		if n := a.count(); n < 8 || n > 30 {
			t.Errorf("a dead server was tried %d times in ten minutes", n)
		}
		// Whoever needs servers has the dead one tried at once, but not more often
		// than every ten seconds.
		// Its own tries are half a minute apart by now: right after one of them none
		// other gets between.
		for last := a.count(); a.count() == last; {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		time.Sleep(wakeMost + time.Millisecond)
		before := a.count()
		for range 100 {
			g.Permuted(caps.StorageIndex{})
			synctest.Wait()
		}
		if n := a.count() - before; n != 1 {
			t.Errorf("a hundred questions for servers made %d tries", n)
		}
	})
}

func TestIdleServersAreLeftAlone(t *testing.T) {
	a := &fakeClient{up: true}
	in(t, newWorld(map[string][]*fakeClient{"a": {a}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		time.Sleep(time.Hour)
		if n := a.count(); n < 11 || n > 14 {
			t.Errorf("a server that answers was asked %d times in an hour", n)
		}
		// A recheck finds out that it is gone.
		a.set(func(c *fakeClient) { c.hangs = true })
		time.Sleep(7 * time.Minute)
		if s := status(t, g, "a"); s.Connected {
			t.Errorf("hangs, but: %+v", s)
		}
	})
}

// A server that fell silent counts as away soon after a call failed, not when its
// version query has run its whole time; it is back as soon as it answers.
func TestSilentServer(t *testing.T) {
	a := &fakeClient{up: true}
	in(t, newWorld(map[string][]*fakeClient{"a": {a}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		if err := g.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		changed := g.Changed()
		a.set(func(c *fakeClient) { c.hangs, c.fail = true, context.DeadlineExceeded })
		began := time.Now()
		g.Permuted(caps.StorageIndex{})[0].Client.ListShares(t.Context(), storage.Immutable, caps.StorageIndex{})
		<-changed
		if took := time.Since(began); took != g.opts.Quiet || g.Connected() != 0 {
			t.Errorf("%d connected after %v", g.Connected(), took)
		}
		if s := status(t, g, "a"); !strings.Contains(s.Summary, "does not answer") {
			t.Errorf("%+v", s)
		}
		a.set(func(c *fakeClient) { c.hangs, c.fail = false, nil })
		if err := g.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhichErrorsCastDoubt(t *testing.T) {
	a := &fakeClient{up: true}
	in(t, newWorld(map[string][]*fakeClient{"a": {a}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		if err := g.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		client := g.Permuted(caps.StorageIndex{})[0].Client
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		outpaced, stop := context.WithCancelCause(t.Context())
		stop(ErrOutpaced)
		for _, c := range []struct {
			ctx   context.Context
			err   error
			doubt int
		}{
			{t.Context(), nil, 0},
			{t.Context(), errDown, 1},
			{t.Context(), fmt.Errorf("asking: %w", storage.ErrNoShare), 0},
			{t.Context(), storage.ErrConflict, 0},
			{t.Context(), storage.ErrUnauthorized, 0},
			{t.Context(), storage.ErrNoSpace, 0},
			{t.Context(), storage.ErrBadRange, 0},
			{t.Context(), storage.ErrTooLarge, 0},
			{t.Context(), storage.ErrReadOnlyServer, 0},
			{t.Context(), storage.ErrComplete, 0},
			{t.Context(), storage.ErrMalformed, 0},
			{gone, context.Canceled, 0},
			{late, context.DeadlineExceeded, 1},
			{outpaced, context.Canceled, 1},
		} {
			synctest.Wait()
			before := a.count()
			a.set(func(f *fakeClient) { f.fail = c.err })
			client.ListShares(c.ctx, storage.Immutable, caps.StorageIndex{})
			synctest.Wait()
			if n := a.count() - before; n != c.doubt {
				t.Errorf("after %v the server was asked %d times, want %d", c.err, n, c.doubt)
			}
		}
	})
}

func TestSecondWay(t *testing.T) {
	first, second := &fakeClient{}, &fakeClient{up: true}
	in(t, newWorld(map[string][]*fakeClient{"a": {first, second}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		if err := g.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if s := status(t, g, "a"); s.Summary != "Connected via way 1" {
			t.Errorf("%+v", s)
		}
		// The way in use fails and the other has come up: calls go there now.
		first.set(func(c *fakeClient) { c.up, c.fail = true, storage.ErrNoShare })
		second.set(func(c *fakeClient) { c.up, c.fail = false, errDown })
		changed := g.Changed()
		g.Permuted(caps.StorageIndex{})[0].Client.ListShares(t.Context(), storage.Immutable, caps.StorageIndex{})
		<-changed
		_, err := g.Permuted(caps.StorageIndex{})[0].Client.ListShares(t.Context(), storage.Immutable, caps.StorageIndex{})
		if !errors.Is(err, storage.ErrNoShare) {
			t.Errorf("calls still go the dead way: %v", err)
		}
		if s := status(t, g, "a"); s.Summary != "Connected via way 0" {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnnouncementsThatChange(t *testing.T) {
	a := &fakeClient{up: true}
	w := newWorld(map[string][]*fakeClient{"a": {a}})
	in(t, w, func(t *testing.T, g *Grid) {
		connects := func(want int, why string) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.connect["a"] != want {
				t.Fatalf("%s: Connect was called %d times, want %d", why, w.connect["a"], want)
			}
		}
		nickname := func(s string) func(*Announced) { return func(a *Announced) { a.Nickname = s } }
		seqnum := func(n int64) func(*Announced) { return func(a *Announced) { a.Seqnum = n } }
		static := func(a *Announced) { a.Source = Static }
		g.Announce(announced("a", nickname("one"), seqnum(3)))
		connects(1, "the first")
		g.Announce(announced("a", nickname("one"), seqnum(4)))
		connects(1, "nothing new")
		g.Announce(announced("a", nickname("old"), seqnum(3)))
		connects(1, "older than what is known")
		g.Announce(announced("a", nickname("two"), seqnum(5)))
		connects(2, "something new")
		if a.set(func(c *fakeClient) {}); a.closed != 1 {
			t.Errorf("the replaced client was closed %d times", a.closed)
		}
		if s := status(t, g, "a"); s.Nickname != "two" || !s.Connected {
			t.Errorf("%+v", s)
		}
		g.Announce(announced("a", nickname("mine"), static))
		connects(3, "servers.yaml")
		g.Announce(announced("a", nickname("theirs"), seqnum(9)))
		connects(3, "an introducer about a static server")
		if s := status(t, g, "a"); s.Nickname != "mine" {
			t.Errorf("%+v", s)
		}
		// A server of this process stands above all announcements.
		g.AddLocal(Server{ID: "a", Nickname: "here", Client: &fakeClient{up: true}})
		g.Announce(announced("a", nickname("away"), seqnum(10)))
		connects(3, "our own announcement")
		if s := status(t, g, "a"); !s.Local || s.Nickname != "here" || s.Summary != "Connected via this process" || s.Version.Application != "fake" {
			t.Errorf("%+v", s)
		}
	})
}

// What the user writes down counts also when an introducer was first to say it.
func TestAKnownServerIsWrittenDown(t *testing.T) {
	w := newWorld(map[string][]*fakeClient{"a": {{up: true}}})
	in(t, w, func(t *testing.T, g *Grid) {
		g.Announce(announced("a", func(a *Announced) { a.Seqnum = 5 }))
		synctest.Wait()
		g.Announce(announced("a", func(a *Announced) { a.Source = Static }))
		g.Announce(announced("a", func(a *Announced) { a.Nickname, a.Seqnum = "theirs", 9 }))
		synctest.Wait()
		if s := status(t, g, "a"); s.Source != Static || s.Nickname != "" || w.connect["a"] != 1 {
			t.Errorf("%+v after %d connects", s, w.connect["a"])
		}
	})
}

func TestServersWithoutRoom(t *testing.T) {
	full, roomy := &fakeClient{up: true}, &fakeClient{up: true, room: 1 << 30}
	in(t, newWorld(map[string][]*fakeClient{"full": {full}, "roomy": {roomy}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("full"))
		g.Announce(announced("roomy"))
		if err := g.Wait(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		readonly := func() string {
			var list []string
			for _, s := range g.Permuted(caps.StorageIndex{}) {
				if s.ReadOnly {
					list = append(list, s.ID)
				}
			}
			return strings.Join(list, " ")
		}
		if got := readonly(); got != "full" {
			t.Errorf("without room: %q", got)
		}
		// When somebody needs servers, those without room are asked again, now and then.
		full.set(func(c *fakeClient) { c.room = 1 << 30 })
		time.Sleep(wakeMost + time.Millisecond) // in the bubble
		for range 10 {
			readonly()
			synctest.Wait()
		}
		if got := readonly(); got != "" || full.count() != 2 || roomy.count() != 1 {
			t.Errorf("then without room: %q, after %d and %d questions", got, full.count(), roomy.count())
		}
		// That the others have none left comes out with the next recheck.
		roomy.set(func(c *fakeClient) { c.room = 0 })
		time.Sleep(6 * time.Minute)
		if got := readonly(); got != "roomy" {
			t.Errorf("at last without room: %q", got)
		}
	})
}

func TestAFloodOfServers(t *testing.T) {
	in(t, newWorld(nil), func(t *testing.T, g *Grid) {
		for i := range maxServers + 100 {
			g.Announce(announced(fmt.Sprint("server ", i)))
		}
		if n := len(g.Servers()); n != maxServers {
			t.Errorf("%d servers are held", n)
		}
		// Known ones still may change.
		g.Announce(announced("server 0", func(a *Announced) { a.Nickname = "new" }))
		if s := status(t, g, "server 0"); s.Nickname != "new" {
			t.Errorf("%+v", s)
		}
	})
}

func TestClosedGrid(t *testing.T) {
	a := &fakeClient{hangs: true}
	in(t, newWorld(map[string][]*fakeClient{"a": {a}}), func(t *testing.T, g *Grid) {
		g.Announce(announced("a"))
		synctest.Wait()
		g.Close() // amid a question
		g.Announce(announced("b"))
		if n := len(g.Servers()); n != 1 {
			t.Errorf("%d servers", n)
		}
	})
}

func FuzzParseAnnouncement(f *testing.F) {
	f.Add(keyID, `{"anonymous-storage-FURL":"`+testFURL+`","anonymous-storage-NURLs":["`+testNURL+`"],"nickname":"x"}`)
	f.Add("tub", `{"anonymous-storage-FURL":"`+testFURL+`","permutation-seed-base32":"mfrggzdf"}`)
	f.Add("", `{"anonymous-storage-FURL":5}`)
	f.Fuzz(func(t *testing.T, id, text string) {
		var values map[string]any
		if json.Unmarshal([]byte(text), &values) != nil {
			return
		}
		a, err := ParseAnnouncement(id, values, "fuzz")
		if err != nil {
			return
		}
		if len(a.LeaseSeed) != 20 || len(a.PermutationSeed) == 0 || len(a.NURLs) > maxNURLs || len(a.Nickname) > maxNickname {
			t.Errorf("%d bytes of lease seed, %d of permutation seed, %d NURLs", len(a.LeaseSeed), len(a.PermutationSeed), len(a.NURLs))
		}
		again, err := ParseAnnouncement(id, values, "fuzz")
		if err != nil || !sameServer(a, again) || a.FURL.Text() != values["anonymous-storage-FURL"] {
			t.Error("two readings differ")
		}
	})
}
