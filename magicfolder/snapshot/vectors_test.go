package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"warren/magicfolder/remote"
)

type vector struct {
	Cap         remote.Cap
	Content     remote.Cap
	RawContent  string     `json:"content_metadata"`
	MetadataCap remote.Cap `json:"metadata_cap"`
	RawMetadata string     `json:"metadata_metadata"`
	Metadata    []byte
	Seed        string
	Author      string
	Relpath     string
	VerifyKey   string `json:"verify_key"`
	Modified    int64
	Created     int64
	Parents     []remote.Cap
}

func load[T any](t testing.TB, name string) T {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (v vector) entries() []remote.Entry {
	return []remote.Entry{
		{Name: "content", Read: v.Content, Metadata: json.RawMessage(v.RawContent)},
		{Name: "metadata", Read: v.MetadataCap, Metadata: json.RawMessage(v.RawMetadata)},
	}
}

// Snapshots that magic-folder wrote: verified, and written again byte for byte.
func TestSnapshotsOfMagicFolder(t *testing.T) {
	list := load[[]vector](t, "snapshots.json")
	if len(list) < 50 {
		t.Fatalf("only %d vectors", len(list))
	}
	deletes := 0
	for _, v := range list {
		s, err := Verify(v.Cap, v.entries(), v.Metadata)
		if err != nil {
			t.Fatalf("%q: %v", v.Relpath, err)
		}
		if s.Relpath != v.Relpath || s.Author.Name != v.Author || s.Modified != v.Modified || len(s.Parents) != len(v.Parents) ||
			s.Content != v.Content {
			t.Errorf("%q: read as %+v", v.Relpath, s.Metadata)
		}
		if s.Deleted() {
			deletes++
		}
		if got := s.Metadata.Encode(); !bytes.Equal(got, v.Metadata) {
			t.Errorf("%q: encoded again:\n%s\n%s", v.Relpath, got, v.Metadata)
		}
		seed, err := hex.DecodeString(v.Seed)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range Entries(ed25519.NewKeyFromSeed(seed), s.Metadata, v.Content, v.MetadataCap, v.Created) {
			want := v.entries()[i]
			if e.Name != want.Name || e.Read != want.Read || string(e.Metadata) != string(want.Metadata) {
				t.Errorf("%q: entry %s: %s, want %s", v.Relpath, e.Name, e.Metadata, want.Metadata)
			}
		}
		// Each part is covered by the signature.
		for name, damage := range map[string]func(e []remote.Entry) []byte{
			"content":  func(e []remote.Entry) []byte { e[0].Read = "URI:LIT:me"; return v.Metadata },
			"metadata": func(e []remote.Entry) []byte { e[1].Read = "URI:LIT:me"; return v.Metadata },
			"relpath": func(e []remote.Entry) []byte {
				m := s.Metadata
				m.Relpath += "x"
				return m.Encode()
			},
			"key": func(e []remote.Entry) []byte {
				m := s.Metadata
				m.Author.Key = make([]byte, 32)
				return m.Encode()
			},
		} {
			e := v.entries()
			if _, err := Verify(v.Cap, e, damage(e)); err == nil {
				t.Errorf("%q: other %s accepted", v.Relpath, name)
			}
		}
	}
	if deletes == 0 {
		t.Error("no delete among the vectors")
	}
}

func TestAuthorsAsMagicFolder(t *testing.T) {
	list := load[[]struct {
		Author json.RawMessage
		OK     bool
	}](t, "authors.json")
	if len(list) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range list {
		raw := []byte(`{"snapshot_version": 1, "relpath": "f", "author": ` + string(v.Author) + `, "modification_time": 1, "parents": []}`)
		if _, err := ParseMetadata(raw); (err == nil) != v.OK {
			t.Errorf("%s: %v, magic-folder accepts: %v", v.Author, err, v.OK)
		}
	}
}

func TestMangledAsMagicFolder(t *testing.T) {
	v := load[struct {
		Paths []struct{ Path, Mangled string }
		Names []struct {
			Name string
			Path *string
		}
	}](t, "mangled.json")
	if len(v.Paths) == 0 || len(v.Names) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Paths {
		if got := Mangle(c.Path); got != c.Mangled {
			t.Errorf("%q mangled is %q, want %q", c.Path, got, c.Mangled)
		}
		if got, err := Unmangle(c.Mangled); err != nil || got != c.Path {
			t.Errorf("%q unmangled is %q, %v", c.Mangled, got, err)
		}
	}
	for _, c := range v.Names {
		got, err := Unmangle(c.Name)
		if err == nil && (c.Path == nil || *c.Path != got) {
			t.Errorf("%q is %q to us and not to magic-folder", c.Name, got)
		}
		if err != nil && c.Path != nil && Mangle(*c.Path) == c.Name {
			t.Errorf("%q: refused, though it is the mangled %q", c.Name, *c.Path)
		}
	}
}
