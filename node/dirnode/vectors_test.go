package dirnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
)

// Vectors from the real Tahoe (tests/vectors/gen_dirnode.py).
type vectors struct {
	Write         string
	Base, Oldbase []byte
	Packs         []struct {
		Immutable        bool
		Entries          []vectorEntry
		Data             []byte
		Listed, Readonly []vectorEntry
		Literal          string
	}
	Edits, Stamps []vectorEdit
	Odd, Oddimm   []struct {
		What             string
		Data             []byte
		Listed, Readonly []vectorEntry
	}
	Metadata []struct{ In, Out string }
}

type vectorEntry struct {
	Name, Write, Read, Metadata string
	None                        bool // no metadata given
}

type vectorEdit struct {
	What, Delete, Overwrite, Error string
	Sets                           []vectorEntry
	Options                        []string
	Data                           []byte
}

func load(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "dirnode.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Packs) == 0 || len(v.Edits) == 0 || len(v.Odd) == 0 || len(v.Metadata) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func (v vectors) dir(t testing.TB) caps.DirWrite {
	t.Helper()
	return parse(t, v.Write).(caps.DirWrite)
}

func parse(t testing.TB, s string) caps.Cap {
	t.Helper()
	if s == "" {
		return nil
	}
	c, err := caps.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (e vectorEntry) entry(t testing.TB) Entry {
	t.Helper()
	out := Entry{Name: e.Name, Write: parse(t, e.Write), Read: parse(t, e.Read)}
	if !e.None {
		out.Metadata = json.RawMessage(e.Metadata)
	}
	return out
}

func text(c caps.Cap) string {
	if c == nil {
		return ""
	}
	return c.Text()
}

func compare(t *testing.T, what string, got []Entry, want []vectorEntry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d entries, Tahoe lists %d", what, len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		read := strings.TrimPrefix(w.Read, "ro.")
		if strings.HasPrefix(read, "x-") {
			read = w.Read // a prefix that matters
		}
		if g.Name != w.Name || text(g.Write) != w.Write || text(g.Read) != read || string(g.Metadata) != w.Metadata {
			t.Errorf("%s: entry %q: differs from Tahoe's %q (metadata %s, %s; write %v)", what, g.Name, w.Name, g.Metadata, w.Metadata, text(g.Write) == w.Write)
		}
	}
}

func TestVectorPacks(t *testing.T) {
	v := load(t)
	dir := v.dir(t)
	for i, p := range v.Packs {
		form := Writable(dir.File())
		if p.Immutable {
			form = Immutable()
		}
		var entries []Entry
		for _, e := range p.Entries {
			entries = append(entries, e.entry(t))
		}
		data, err := form.Pack(entries)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, p.Data) {
			t.Errorf("pack %d differs from Tahoe's:\n%q\n%q", i, data, p.Data)
		}
		listed, err := form.Unpack(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "listed", listed, p.Listed)
		again, err := form.Pack(listed)
		if err != nil || !bytes.Equal(again, p.Data) {
			t.Errorf("pack %d: what was listed packs differently: %v", i, err)
		}
		if p.Immutable {
			if (caps.DirLIT{LIT: caps.LIT{Data: data}}).Text() != p.Literal {
				t.Error("literal capability differs")
			}
			continue
		}
		readonly, err := ReadOnly().Unpack(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "readonly", readonly, p.Readonly)
		for _, e := range readonly {
			if e.Write != nil || !caps.IsReadOnly(e.Read) {
				t.Errorf("%q gives a right to write through the readcap", e.Name)
			}
		}
	}
}

// vectorNow is the clock of the vectors: near enough to their float that it
// prints the same.
var vectorNow = time.Unix(1700000000, 123456700)

func TestVectorEdits(t *testing.T) {
	v := load(t)
	form := Writable(v.dir(t).File())
	kinds := map[string]error{"ExistingChildError": ErrExists, "NoSuchChildError": ErrNoEntry, "ChildOfWrongTypeError": ErrWrongType}
	for _, group := range []struct {
		base  []byte
		edits []vectorEdit
	}{{v.Base, v.Edits}, {v.Oldbase, v.Stamps}} {
		for _, e := range group.edits {
			var changes []Change
			for _, s := range e.Sets {
				changes = append(changes, Change{Entry: s.entry(t), Overwrite: map[string]Overwrite{"true": Always, "false": Never, "only-files": OnlyFiles}[e.Overwrite]})
			}
			if e.Delete != "" {
				ch := Change{Delete: true, Entry: Entry{Name: e.Delete}, MustExist: true}
				for _, o := range e.Options {
					switch o {
					case "must_exist":
						ch.MustExist = false
					case "must_be_file":
						ch.Only = FileType
					case "must_be_directory":
						ch.Only = DirectoryType
					}
				}
				changes = append(changes, ch)
			}
			got, err := form.Apply(group.base, changes, vectorNow, false)
			if e.Error != "" {
				if !errors.Is(err, kinds[e.Error]) || kinds[e.Error] == nil {
					t.Errorf("%s: %v, Tahoe says %s", e.What, err, e.Error)
				}
				continue
			}
			want := e.Data
			if want == nil {
				want = group.base // Tahoe's "no change"
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %s: differs from Tahoe's (%v)\n%q\n%q", e.What, e.Delete, err, got, want)
				continue
			}
			// Once more, as after an uncoordinated write: nothing new.
			again, err := form.Apply(got, changes, vectorNow, true)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("%s %s: applying it again changes something: %v", e.What, e.Delete, err)
			}
		}
	}
}

// Tahoe's odd bytes are listed as Tahoe lists them, with one exception, and
// survive an edit byte for byte, also where Tahoe drops what it cannot list.
func TestVectorOdd(t *testing.T) {
	v := load(t)
	form := Writable(v.dir(t).File())
	for _, o := range v.Odd {
		got, err := form.Unpack(o.Data)
		if err != nil {
			t.Fatalf("%s: %v", o.What, err)
		}
		if o.What == "unknown ro in both" {
			o.Listed[0].Write = "" // marked read-only: no right to write
		}
		compare(t, o.What, got, o.Listed)
		if got, err = ReadOnly().Unpack(o.Data); err != nil {
			t.Fatalf("%s: %v", o.What, err)
		}
		compare(t, o.What+", read-only", got, o.Readonly)

		edited, err := form.Apply(o.Data, []Change{{Entry: Entry{Name: "~", Read: caps.LIT{}}}}, vectorNow, false)
		if err != nil {
			t.Fatal(err)
		}
		back, err := form.Apply(edited, []Change{{Delete: true, Entry: Entry{Name: "~"}}}, vectorNow, false)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(o.What, "twice") && o.What != "unsorted" && !bytes.Equal(back, o.Data) {
			t.Errorf("%s: an edit beside it changed it", o.What)
		}
	}
	for _, o := range v.Oddimm {
		got, err := Immutable().Unpack(o.Data)
		if err != nil {
			t.Fatalf("%s: %v", o.What, err)
		}
		compare(t, o.What, got, o.Listed)
	}
}

func TestVectorMetadata(t *testing.T) {
	for _, m := range load(t).Metadata {
		o, err := parseObject([]byte(m.In))
		if err != nil || o.python() != m.Out {
			t.Errorf("%s\nbecomes %s\nnot     %s (%v)", m.In, o.python(), m.Out, err)
		}
		again, err := parseObject([]byte(m.Out))
		if err != nil || again.python() != m.Out {
			t.Errorf("%s is not stable: %v", m.Out, err)
		}
	}
}
