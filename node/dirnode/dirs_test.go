package dirnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/mutable"
	"warren/node/storage/storagetest"
	"warren/node/taghash"
)

var ctx = context.Background()

// memFiles keeps immutable files in memory under made-up capabilities.
type memFiles struct {
	mu sync.Mutex // guards m
	m  map[[16]byte][]byte
}

func (f *memFiles) Put(_ context.Context, data []byte) (caps.Cap, error) {
	if len(data) <= 55 {
		return caps.LIT{Data: data}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	hash := taghash.Tagged("test", data)
	c := caps.CHK{Key: [16]byte(hash[:]), UEBHash: hash, Needed: 1, Total: 1, Size: uint64(len(data))}
	f.m[c.Key] = bytes.Clone(data)
	return c, nil
}

func (f *memFiles) Get(_ context.Context, c caps.Cap) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch c := c.(type) {
	case caps.LIT:
		return c.Data, nil
	case caps.CHK:
		if b, ok := f.m[c.Key]; ok {
			return b, nil
		}
	}
	return nil, errors.New("no such file")
}

type servers []grid.Server

func (s servers) Permuted(si caps.StorageIndex) []grid.Server {
	return grid.Permute(si, slices.Clone(s))
}

func newServers(t testing.TB, n int) servers {
	var list servers
	for i := range n {
		seed := fmt.Appendf(nil, "server %012d!", i)
		list = append(list, grid.Server{ID: string(seed), PermutationSeed: seed, LeaseSeed: seed, Client: storagetest.NewLocal(t)})
	}
	return list
}

func newDirs(t testing.TB, s servers, k, happy, n int) *Dirs {
	store, err := mutable.New(mutable.Options{
		Servers: s, LeaseSecret: []byte("lease secret"), Needed: k, Happy: happy, Total: n, Attempts: 200, Patience: time.Minute,
		Pause: func(ctx context.Context, n int) error {
			for range rand.IntN(100 * n) {
				runtime.Gosched()
			}
			return ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return &Dirs{Files: &memFiles{m: map[[16]byte][]byte{}}, Mutable: store, Now: func() time.Time { return vectorNow }}
}

func set(name string, c caps.Cap) Change { return Change{Entry: NewEntry(name, c, nil)} }

func names(entries []Entry) (list []string) {
	for _, e := range entries {
		list = append(list, e.Name)
	}
	return list
}

func version(ctx context.Context, d *Dirs, dir caps.Cap) (mutable.Version, error) {
	a := d.Versions(ctx, []caps.Cap{dir})[0]
	return a.Version, a.Err
}

func TestDirs(t *testing.T) {
	d := newDirs(t, newServers(t, 5), 3, 4, 5)
	small, err := d.MakeImmutable(ctx, nil)
	if err != nil || small.Text() != (caps.DirLIT{}).Text() {
		t.Fatal(small, err)
	}
	big, err := d.MakeImmutable(ctx, []Entry{
		NewEntry("leaf", caps.LIT{Data: []byte("leaf")}, json.RawMessage(`{"n": 1}`)),
		NewEntry("empty", small, nil),
	})
	if err != nil || big.Kind() != "DIR2-CHK" {
		t.Fatal(big, err)
	}
	sub, err := d.Make(ctx, []Entry{NewEntry("big", big, nil)})
	if err != nil {
		t.Fatal(err)
	}
	root, err := d.Make(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	v1, err := version(ctx, d, root)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Edit(ctx, root, []Change{set("sub", sub), set("file", caps.LIT{}), set("loop", root), set("alias", sub)}); err != nil {
		t.Fatal(err)
	}
	entries, v2, err := d.List(ctx, root)
	if err != nil || v2 == v1 || v2.Seqnum != 2 {
		t.Fatal(v2, err)
	}
	if got := names(entries); !slices.Equal(got, []string{"alias", "file", "loop", "sub"}) {
		t.Fatal(got)
	}
	if v, err := version(ctx, d, root.Read()); v != v2 || err != nil {
		t.Fatal(v, err)
	}

	// Through the readcap nothing gives a right to write.
	entries, _, err = d.List(ctx, root.Read())
	if err != nil || len(entries) != 4 {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Write != nil || !caps.IsReadOnly(e.Read) {
			t.Errorf("%s: a right to write through the readcap", e.Name)
		}
	}

	e, err := d.Lookup(ctx, root, []string{"sub", "big", "leaf"})
	if err != nil || e.Read.Text() != (caps.LIT{Data: []byte("leaf")}).Text() || string(e.Metadata) != `{"n": 1}` {
		t.Fatal(err)
	}
	if e, err := d.Lookup(ctx, root, nil); err != nil || e.Write.Text() != root.Text() {
		t.Fatal(err)
	}
	if e, err := d.Lookup(ctx, root.Read(), []string{"sub"}); err != nil || e.Write != nil || e.Read.Text() != sub.Read().Text() {
		t.Fatal(err)
	}
	if _, err := d.Lookup(ctx, root, []string{"sub", "none"}); !errors.Is(err, ErrNoEntry) {
		t.Error(err)
	}
	if _, err := d.Lookup(ctx, root, []string{"file", "x"}); !errors.Is(err, ErrNotDirectory) {
		t.Error(err)
	}
	for _, c := range []caps.Cap{caps.LIT{}, caps.SSKWrite{}, nil} {
		if _, _, err := d.List(ctx, c); !errors.Is(err, ErrNotDirectory) {
			t.Error(err)
		}
	}
	for _, c := range []caps.Cap{caps.DirMDMFVerify{}, caps.DirVerify{}, caps.DirCHKVerify{}} {
		if _, err := version(ctx, d, c); !errors.Is(err, ErrUnsupported) {
			t.Error(c.Kind(), err)
		}
	}

	if err := d.Edit(ctx, root, []Change{{Delete: true, MustExist: true, Entry: Entry{Name: "none"}}}); !errors.Is(err, ErrNoEntry) {
		t.Error(err)
	}
	if err := d.Edit(ctx, root, []Change{set("", caps.LIT{})}); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if v, err := version(ctx, d, root); v != v2 || err != nil {
		t.Error("a refused edit changed the directory", err)
	}
}

// Two processes edit one directory 60 times each: no acknowledged entry is lost.
func TestRace(t *testing.T) {
	s := newServers(t, 5)
	a := newDirs(t, s, 3, 4, 5)
	root, err := a.Make(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards stands
	stands := map[string]bool{}
	for w, d := range []*Dirs{a, newDirs(t, s, 3, 4, 5)} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 60 {
				name := fmt.Sprintf("%d-%d", w, i)
				change := set(name, caps.LIT{Data: []byte(name)})
				change.Overwrite = Never // a repeated attempt must know its own entry
				changes := []Change{change}
				gone := fmt.Sprintf("%d-%d", w, i-3)
				if i%5 == 4 {
					changes = append(changes, Change{Delete: true, MustExist: true, Entry: Entry{Name: gone}})
				}
				if err := d.Edit(ctx, root, changes); err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				mu.Lock()
				stands[name] = true
				if i%5 == 4 {
					delete(stands, gone)
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	entries, _, err := a.List(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(stands) {
		t.Errorf("%d entries, %d acknowledged", len(entries), len(stands))
	}
	for _, name := range names(entries) {
		if !stands[name] {
			t.Errorf("%s should be gone", name)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	dir := load(t).dir(t)
	lit := caps.LIT{}
	unknown := func(s string) caps.Cap { return parse(t, s) }
	for _, c := range []struct {
		name string
		form Form
		e    Entry
		want error
	}{
		{"no name", Writable(dir.File()), Entry{Read: lit}, ErrName},
		{"long name", Writable(dir.File()), Entry{Name: strings.Repeat("x", MaxName+1), Read: lit}, ErrName},
		{"no UTF-8", Writable(dir.File()), Entry{Name: "a\xff", Read: lit}, ErrName},
		{"a surrogate", Writable(dir.File()), Entry{Name: "\xed\xa0\x80", Read: lit}, ErrName},
		{"unknown writecap alone", Writable(dir.File()), Entry{Name: "a", Write: unknown("x-w")}, ErrCap},
		{"unknown writecap, immutable readcap", Writable(dir.File()), Entry{Name: "a", Write: unknown("x-w"), Read: unknown("imm.x-r")}, ErrCap},
		{"metadata is a list", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(`[]`)}, ErrMetadata},
		{"metadata is empty", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(``)}, ErrMetadata},
		{"metadata is NaN", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(`{"a": NaN}`)}, ErrMetadata},
		{"metadata overflows", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(`{"a": 1e999}`)}, ErrMetadata},
		{"metadata holds a number too long", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(`{"a": -` + strings.Repeat("7", maxDigits+1) + `}`)}, ErrMetadata},
		{"metadata is huge", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(`{"a": "` + strings.Repeat("x", maxMetadata) + `"}`)}, ErrMetadata},
		{"metadata is nested deep", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage(`{"a": ` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`)}, ErrMetadata},
		{"metadata is not UTF-8", Writable(dir.File()), Entry{Name: "a", Read: lit, Metadata: json.RawMessage("{\"a\": \"\xff\"}")}, ErrMetadata},
		{"writecap in immutable", Immutable(), NewEntry("a", dir, nil), ErrNotImmutable},
		{"mutable readcap in immutable", Immutable(), NewEntry("a", dir.Read(), nil), ErrNotImmutable},
		{"file writecap in immutable", Immutable(), NewEntry("a", dir.File(), nil), ErrNotImmutable},
		{"unknown writecap in immutable", Immutable(), Entry{Name: "a", Write: unknown("x-w"), Read: unknown("x-r")}, ErrNotImmutable},
	} {
		if _, err := c.form.Pack([]Entry{c.e}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	dir := load(t).dir(t)
	good, err := Writable(dir.File()).Pack([]Entry{{Name: "a", Read: caps.LIT{}}})
	if err != nil {
		t.Fatal(err)
	}
	inner := "1:a,11:URI:LIT:aaa,0:,2:{},"
	wrap := func(s string) string { return fmt.Sprintf("%d:%s,", len(s), s) }
	if list, err := Immutable().Unpack([]byte(wrap("1:a,8:URI:LIT:,0:,2:{},"))); err != nil || len(list) != 1 {
		t.Fatal("the plain case:", err)
	}
	for name, data := range map[string]string{
		"cut off":                       string(good[:len(good)-1]),
		"one byte":                      "5",
		"no colon":                      strings.Repeat("1", 20),
		"empty length":                  ":,",
		"leading zero":                  "0" + wrap(inner),
		"plus":                          "+" + wrap(inner),
		"minus":                         "-1:,",
		"space":                         " " + wrap(inner),
		"no comma":                      "2:ab;",
		"too long":                      "999999999:x,",
		"longer than 32 bits":           "99999999999:x,",
		"rubbish behind":                wrap(inner) + "x",
		"newline behind":                wrap(inner) + "\n",
		"three parts":                   wrap("1:a,0:,0:,"),
		"no parts":                      wrap(""),
		"part too long":                 wrap("9:a,0:,0:,2:{},"),
		"name not UTF-8":                wrap("1:\xff,8:URI:LIT:,0:,2:{},"),
		"name a surrogate":              wrap("3:\xed\xa0\x80,8:URI:LIT:,0:,2:{},"),
		"not a directory":               "hello",
		"writecap in immutable":         wrap("1:a,8:URI:LIT:,1:x,2:{},"),
		"second entry malformed":        wrap("1:a,8:URI:LIT:,0:,2:{},") + "3:abc",
		"a length that is not a number": "1x:a,",
		"a length in hexadecimal":       "0x10:aaaaaaaaaaaaaaaa,",
		"a length with a fraction":      "2.0:ab,",
		"a length with an underscore":   "1_0:aaaaaaaaaa,",
		"a length in other digits":      "\u0663:abc,",
		"nothing between":               wrap(inner) + wrap(""),
		"one part":                      wrap("1:a,"),
		"first part malformed":          wrap("a,0:,0:,2:{},"),
		"second part cut off":           wrap("1:a,8:URI:L"),
		"a part without its comma":      wrap("1:a,8:URI:LIT:;0:,2:{},"),
		"name overlong UTF-8":           wrap("2:\xc0\xaf,8:URI:LIT:,0:,2:{},"),
	} {
		if _, err := Immutable().Unpack([]byte(data)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Odd entries that are no reason to refuse the rest.
	for name, data := range map[string]string{
		"short writecap field":   wrap("1:a,8:URI:LIT:,3:abc,2:{},"),
		"more than four parts":   wrap("1:a,8:URI:LIT:,0:,2:{},1:x,"),
		"metadata is not JSON":   wrap("1:a,8:URI:LIT:,0:,3:xyz,"),
		"metadata is not a dict": wrap("1:a,8:URI:LIT:,0:,2:[],"),
	} {
		list, err := Writable(dir.File()).Unpack([]byte(data))
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %d entries, %v", name, len(list), err)
		}
		kept, err := Writable(dir.File()).Apply([]byte(data), []Change{set("b", caps.LIT{})}, vectorNow, false)
		if err != nil || !bytes.HasPrefix(kept, []byte(data)) {
			t.Errorf("%s: not kept: %v", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	v := load(f)
	dir := v.dir(f)
	for _, p := range v.Packs {
		f.Add(p.Data)
	}
	for _, o := range append(v.Odd, v.Oddimm...) {
		f.Add(o.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, form := range []Form{Writable(dir.File()), ReadOnly(), Immutable()} {
			children, err := form.children(data)
			if err != nil {
				continue
			}
			packed := join(children)
			again, err := form.children(packed)
			if err != nil || !bytes.Equal(join(again), packed) {
				t.Fatal("carried entries change")
			}
			if form.writeKey == nil && !form.immutable {
				for _, c := range children {
					if e := form.open(c); e != nil && (e.Write != nil || !caps.IsReadOnly(e.Read)) {
						t.Fatal("a right to write through the readcap")
					}
				}
				continue
			}
			// What is listed can be packed, and lists the same.
			listed, err := form.Unpack(data)
			if err != nil {
				t.Fatal(err)
			}
			usable := listed[:0]
			for _, e := range listed {
				if len(e.Name) <= MaxName {
					usable = append(usable, e)
				}
			}
			repacked, err := form.Pack(usable)
			if err != nil {
				t.Fatal("what is listed does not pack:", err)
			}
			relisted, err := form.Unpack(repacked)
			if err != nil || len(relisted) != len(usable) {
				t.Fatal("lists differently:", err)
			}
			for i, e := range relisted {
				if e.Name != usable[i].Name || text(e.Write) != text(usable[i].Write) || text(e.Read) != text(usable[i].Read) {
					t.Fatal("an entry changes")
				}
			}
		}
	})
}

func FuzzMetadata(f *testing.F) {
	for _, m := range load(f).Metadata {
		f.Add(m.In)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseObject(json.RawMessage(text))
		if err != nil {
			return
		}
		written := o.python()
		if !json.Valid([]byte(written)) {
			t.Fatalf("%q becomes %q", text, written)
		}
		again, err := parseObject(json.RawMessage(written))
		if len(written) <= maxMetadata && (err != nil || again.python() != written) {
			t.Fatalf("%q is not stable: %v", written, err)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "café", "e\u0301", "\U0001f600", "a/b", "..", "\x00"} {
		f.Add(s)
	}
	dir := load(f).dir(f)
	f.Fuzz(func(t *testing.T, name string) {
		form := Writable(dir.File())
		data, err := form.Pack([]Entry{{Name: name, Read: caps.LIT{}}})
		if err != nil {
			return
		}
		list, err := form.Unpack(data)
		if err != nil || len(list) != 1 || list[0].Name != Normalize(name) {
			t.Fatalf("%q: %v", name, err)
		}
	})
}
