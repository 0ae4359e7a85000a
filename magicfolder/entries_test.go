package magicfolder

import (
	"context"
	"strings"
	"testing"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
)

// Capabilities that look as they should.
const (
	someDirectory = "URI:DIR2-RO:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	someVersion   = "URI:DIR2-CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1500"
)

// badCaps are those that neither a participant's nor a version's entry may have.
var badCaps = []string{
	"", " ", "URI:", "URI:NONSENSE", "nonsense", "\xff\xfe", "URI:LIT:me", "URI:LIT:",
	"URI:CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1500",
	"URI:CHK-Verifier:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1500",
	"URI:SSK-RO:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"URI:MDMF-RO:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"URI:DIR2-Verifier:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"URI:DIR2-CHK-Verifier:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1500",
	"ro." + someDirectory, "imm." + someVersion, someDirectory + "x", someVersion + ":1", someVersion + "\n",
	"URI:DIR2-RO:aaaaaaaaaaaaaaaaaaaaaaaaaa", "URI:DIR2-RO:a:a", "URI:DIR2-CHK:a:a:3:5:-1", "URI:DIR2-CHK:a:a:0:0:0",
	strings.Replace(someVersion, ":3:5:", ":5:3:", 1), strings.Replace(someVersion, "1500", "99999999999999999999", 1),
	strings.Replace(someDirectory, "aa:", "a!:", 1), someDirectory + strings.Repeat("x", 1<<17),
}

// badNames are those that no participant may have.
var badNames = []string{
	"", ".", "..", "/", "x/../../y", "../x", "/etc/passwd", "a/b", `back\slash`, `..\..\x`, "a\nb", "a\rb", "a\tb", "a\x00b", "a\x1b[31mb", "\x7f",
	"\u0085", "\u2028", "\u2029", "\u202egnp.exe", "\u202a", "\u2066x\u2069", "\u200fx", "\xff\xfe", "a\xc3", strings.Repeat("n", 129), strings.Repeat("ü", 65), strings.Repeat("x", 1<<17),
}

// badPaths are entries of a Personal directory that name no path of a folder.
var badPaths = []string{
	"", "@", "x@", "@x", "@@@", "x/y", "/", "..", ".", "..@_x", "x@_..", "x@_..@_..@_y", "@_abs", "x@_", "x@_@_y", ".@_x", "x@_.",
	"nul\x00", "\xff", "a\xc3", ".warren-staging", ".warren-staging@_x", ".WARREN-staging@_x", "f.conflict-alice", "d.conflict-x@_f",
	strings.Repeat("n", 256), "d@_" + strings.Repeat("n", 256), strings.Repeat("d@_", 3000) + "f", strings.Repeat("x", 1<<17),
}

// grid with a directory that holds what nobody would store.
type planted struct {
	Grid
	dir     Cap
	entries []Entry
}

func (g *planted) List(ctx context.Context, dir Cap) ([]Entry, Version, error) {
	if dir == g.dir {
		return g.entries, "1", nil
	}
	return g.Grid.List(ctx, dir)
}

// takeParticipants gives those that an entry of the Collective makes, and the alarms.
func takeParticipants(f *Folder, e Entry) ([]*peer, []string) {
	f.takeCollective([]Entry{e})
	return f.allPeers(), f.Status().Alarms
}

// takeHeads gives the versions that an entry of a participant's directory names.
func takeHeads(t testing.TB, f *Folder, e Entry) (map[string]remote.Cap, []string) {
	t.Helper()
	g := f.opt.Grid
	f.opt.Grid = &planted{Grid: g, dir: someDirectory, entries: []Entry{e}}
	defer func() { f.opt.Grid = g }()
	p := &peer{name: "mallory", dir: someDirectory, mutable: true, heads: map[string]remote.Cap{}, todo: map[string]bool{}}
	if err := f.readPeer(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	for key := range p.todo {
		if p.heads[key] == "" {
			t.Errorf("%q is to be looked at and has no version", key)
		}
	}
	return p.heads, f.Status().Alarms
}

func unprintable(alarms []string) string {
	for _, a := range alarms {
		if strings.Contains(a, "URI:") || strings.ContainsAny(a, "\n\r\x00\x1b\u202e\u2028") || strings.ToValidUTF8(a, "") != a {
			return a
		}
	}
	return ""
}

func TestBadCollectiveEntries(t *testing.T) {
	f := newWorld(t).add("alice", true).f
	good := Entry{Name: "bob", Read: someDirectory}
	if peers, alarms := takeParticipants(f, good); len(peers) != 1 || len(alarms) != 0 {
		t.Fatalf("a good one: %d, %q", len(peers), alarms)
	}
	bad := []Entry{{Name: "bob", Write: "URI:NONSENSE"}, {Name: "bob", Write: "URI:LIT:me", Read: "URI:LIT:me"}}
	for _, name := range badNames {
		bad = append(bad, Entry{Name: name, Read: someDirectory})
	}
	for _, c := range badCaps {
		bad = append(bad, Entry{Name: "bob", Read: Cap(c)})
	}
	for _, e := range bad {
		peers, alarms := takeParticipants(f, e)
		if len(peers) != 0 || len(alarms) == 0 {
			t.Errorf("%.60q, %.60q: %d participants, alarms %q", e.Name, e.Read.Text(), len(peers), alarms)
		}
		if a := unprintable(alarms); a != "" {
			t.Errorf("%.60q, %.60q: alarm %q", e.Name, e.Read.Text(), a)
		}
	}
	if len(bad) < 50 {
		t.Errorf("only %d", len(bad))
	}
	// @metadata is no participant, whatever it is.
	if peers, alarms := takeParticipants(f, Entry{Name: snapshot.MetadataName, Read: someDirectory}); len(peers) != 0 || len(alarms) != 0 {
		t.Errorf("@metadata: %d, %q", len(peers), alarms)
	}
}

func TestBadPersonalEntries(t *testing.T) {
	f := newWorld(t).add("alice", true).f
	for name, key := range map[string]string{"f": "f", "d@_@@_": "d/@_", "e\u0301": "\u00e9"} {
		if heads, alarms := takeHeads(t, f, Entry{Name: name, Read: someVersion}); heads[key] != someVersion || len(alarms) != 0 {
			t.Fatalf("%q: %q, %q", name, heads, alarms)
		}
	}
	bad := []Entry{{Name: "f", Write: someVersion, Read: someVersion}, {Name: "f", Read: someDirectory}}
	for _, name := range badPaths {
		bad = append(bad, Entry{Name: name, Read: someVersion})
	}
	for _, c := range badCaps {
		bad = append(bad, Entry{Name: "f", Read: Cap(c)})
	}
	for _, e := range bad {
		heads, alarms := takeHeads(t, f, e)
		if len(heads) != 0 || len(alarms) != 1 {
			t.Errorf("%.60q, %.60q: heads %q, alarms %q", e.Name, e.Read.Text(), heads, alarms)
		}
		if a := unprintable(alarms); a != "" {
			t.Errorf("%.60q, %.60q: alarm %q", e.Name, e.Read.Text(), a)
		}
	}
	if len(bad) < 50 {
		t.Errorf("only %d", len(bad))
	}
}

func FuzzCollectiveEntry(f *testing.F) {
	f.Add("bob", someDirectory)
	f.Add(snapshot.MetadataName, someDirectory)
	for _, name := range badNames {
		f.Add(name, someDirectory)
	}
	for _, c := range badCaps {
		f.Add("bob", c)
	}
	folder := newWorld(f).add("alice", true).f
	f.Fuzz(func(t *testing.T, name, readcap string) {
		peers, alarms := takeParticipants(folder, Entry{Name: name, Read: Cap(readcap)})
		for _, p := range peers {
			if foreignName(p.name) != nil || p.name != name || p.dir.Text() != readcap {
				t.Fatalf("participant %q", p.name)
			}
			// What arrives ends as a part of a file's name.
			if got := p.name; strings.ContainsAny(got, "/\\\x00") || got == ".." {
				t.Fatalf("participant %q", got)
			}
		}
		if len(peers) == 0 && len(alarms) == 0 && name != snapshot.MetadataName {
			t.Fatal("ignored without an alarm")
		}
		if a := unprintable(alarms); a != "" {
			t.Fatalf("alarm %q", a)
		}
	})
}

func FuzzPersonalEntry(f *testing.F) {
	f.Add("d@_f", someVersion)
	f.Add(snapshot.MetadataName, someVersion)
	for _, name := range badPaths {
		f.Add(name, someVersion)
	}
	for _, c := range badCaps {
		f.Add("f", c)
	}
	folder := newWorld(f).add("alice", true).f
	f.Fuzz(func(t *testing.T, name, readcap string) {
		heads, alarms := takeHeads(t, folder, Entry{Name: name, Read: Cap(readcap)})
		for key, c := range heads {
			if checkRemotePath(key) != nil || c.Text() != readcap || remote.KindOf(c) != remote.Directory {
				t.Fatalf("path %q", key)
			}
			if relpath, err := snapshot.Unmangle(name); err != nil || snapshot.Key(relpath) != key {
				t.Fatalf("%q became the path %q", name, key)
			}
		}
		if len(heads) == 0 && len(alarms) == 0 && name != snapshot.MetadataName {
			t.Fatal("ignored without an alarm")
		}
		if a := unprintable(alarms); a != "" {
			t.Fatalf("alarm %q", a)
		}
	})
}
