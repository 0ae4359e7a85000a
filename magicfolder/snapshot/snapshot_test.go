package snapshot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"warren/magicfolder/remote"
)

const goodKey = "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="

func TestBadMetadata(t *testing.T) {
	good := `{"snapshot_version": 1, "relpath": "f", "author": {"name": "a", "verify_key": "` + goodKey + `"}, "modification_time": 5, "parents": []}`
	if _, err := ParseMetadata([]byte(good)); err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		out := strings.Replace(good, old, new, 1)
		if out == good {
			t.Fatalf("%q is not in it", old)
		}
		return out
	}
	for _, ok := range []string{
		change(`"parents"`, `"more": {"x": [1]}, "parents"`),
		change(`: 5`, `: 5.75`),
		change(`: 5`, `: -5`),
		change(`"parents"`, `"warren": {}, "parents"`),
		change(`"parents"`, `"warren": {"kind": "device", "mode": "setuid", "later": [1]}, "parents"`),
	} {
		if _, err := ParseMetadata([]byte(ok)); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, c := range []struct {
		in   string
		want error
	}{
		{``, ErrFormat}, {`[]`, ErrFormat}, {`null`, ErrFormat}, {`{}`, ErrFormat}, {good + "x", ErrFormat},
		{change(`: 1,`, `: 2,`), ErrVersion},
		{change(`: 1,`, `: "1",`), ErrFormat},
		{change(`: 1,`, `: true,`), ErrFormat},
		{change(`"snapshot_version"`, `"Snapshot_Version"`), ErrFormat},
		{change(`"relpath"`, `"Relpath"`), ErrFormat},
		{change(`"f"`, `""`), ErrFormat},
		{change(`"f"`, `7`), ErrFormat},
		{change(`"f"`, `null`), ErrFormat},
		{change(`"f"`, `"\ud800"`), ErrFormat},
		{change(`"f"`, `"x\udc00\ud800"`), ErrFormat},
		{change(`"f"`, `"`+strings.Repeat("x", 1<<17)+`"`), ErrFormat},
		{change(`"a"`, `""`), ErrFormat},
		{change(`{"name"`, `{"Name": "b", "name"`), ErrFormat},
		{change(goodKey, goodKey[4:]), ErrFormat},
		{change(goodKey, goodKey[:len(goodKey)-2]+"l="), ErrFormat},
		{change(`: 5`, `: "5"`), ErrFormat},
		{change(`: 5`, `: null`), ErrFormat},
		{change(`: 5`, `: 1e300`), ErrFormat},
		{change(`: 5`, `: NaN`), ErrFormat},
		{change(`[]`, `null`), ErrFormat},
		{change(`[]`, `{}`), ErrFormat},
		{change(`"parents"`, `"warren": null, "parents"`), ErrFormat},
		{change(`"parents"`, `"warren": "x", "parents"`), ErrFormat},
		{change(`"parents"`, `"warren": {"kind": 7}, "parents"`), ErrFormat},
		{change(`"parents"`, `"warren": {"mode": ["x"]}, "parents"`), ErrFormat},
		{change(`"parents"`, `"warren": {"mode": ""}, "parents"`), ErrFormat},
		{change(`"parents"`, `"warren": {"kind": "directory"}, "parents"`), ErrFormat},
		{change(`"parents"`, `"warren": {"x": "`+strings.Repeat("x", maxForm)+`"}, "parents"`), ErrFormat},
		{change(`[]`, `["URI:LIT:me"]`), ErrFormat},
		{change(`[]`, `["URI:DIR2:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]`), ErrFormat},
		{change(`[]`, `[`+strings.Repeat(`"x",`, 100)+`"x"]`), ErrFormat},
		{"\xff" + good, ErrFormat},
		{strings.Repeat(" ", MaxMetadata) + good, ErrFormat},
	} {
		if _, err := ParseMetadata([]byte(c.in)); !errors.Is(err, c.want) {
			t.Errorf("%.120s: %v, want %v", c.in, err, c.want)
		}
	}
}

func TestBadDirectories(t *testing.T) {
	v := load[[]vector](t, "snapshots.json")[1]
	for name, edit := range map[string]func(e []remote.Entry) []remote.Entry{
		"no entries":     func(e []remote.Entry) []remote.Entry { return nil },
		"no content":     func(e []remote.Entry) []remote.Entry { return e[1:] },
		"no metadata":    func(e []remote.Entry) []remote.Entry { return e[:1] },
		"writecap":       func(e []remote.Entry) []remote.Entry { e[0].Write = e[0].Read; return e },
		"directory":      func(e []remote.Entry) []remote.Entry { e[0].Read = v.Cap; return e },
		"garbage":        func(e []remote.Entry) []remote.Entry { e[0].Read = "URI:CHK:x"; return e },
		"empty metadata": func(e []remote.Entry) []remote.Entry { e[1].Read = ""; return e },
		"no signature":   func(e []remote.Entry) []remote.Entry { e[1].Metadata = nil; return e },
		"signature type": func(e []remote.Entry) []remote.Entry {
			e[1].Metadata = []byte(`{"magic_folder": {"author_signature": 1}}`)
			return e
		},
		"signature size": func(e []remote.Entry) []remote.Entry {
			e[1].Metadata = []byte(`{"magic_folder": {"author_signature": "AAAA"}}`)
			return e
		},
		"signature base64": func(e []remote.Entry) []remote.Entry {
			e[1].Metadata = []byte(`{"magic_folder": {"author_signature": "` + strings.Repeat("!", 88) + `"}}`)
			return e
		},
	} {
		if _, err := Verify(v.Cap, edit(v.entries()), v.Metadata); !Malformed(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAncestry(t *testing.T) {
	graph := map[remote.Cap][]remote.Cap{"d": {"c", "b"}, "c": {"a"}, "b": {"a"}, "a": nil, "loop": {"pool"}, "pool": {"loop"}}
	for i := range 10000 {
		graph[remote.Cap(fmt.Sprint(i+1))] = []remote.Cap{remote.Cap(fmt.Sprint(i))}
	}
	parents := func(_ context.Context, c remote.Cap) ([]remote.Cap, error) {
		ps, ok := graph[c]
		if !ok {
			return nil, errors.New("unreadable")
		}
		return ps, nil
	}
	for _, c := range []struct {
		old, young remote.Cap
		want       bool
		err        error
	}{
		{"a", "d", true, nil}, {"b", "d", true, nil}, {"d", "a", false, nil}, {"c", "b", false, nil}, {"a", "a", true, nil},
		{"a", "loop", false, nil}, {"pool", "loop", true, nil},
		{"0", "10000", false, ErrTooDeep}, {"9000", "10000", true, nil},
	} {
		got, err := IsAncestor(t.Context(), parents, c.old, c.young, MaxAncestors)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v of %v: %v, %v", c.old.Text(), c.young.Text(), got, err)
		}
	}
	if _, err := IsAncestor(t.Context(), parents, "a", "5", MaxAncestors); err == nil {
		t.Error("an unreadable ancestor gave an answer")
	}
}

// What we add reads back, and is nothing where there is nothing to add.
func TestForms(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString(goodKey)
	if err != nil {
		t.Fatal(err)
	}
	for want, form := range map[string]Form{
		`[]}`:                                 {},
		`[], "warren": {"mode":"x"}}`:         {Mode: Executable},
		`[], "warren": {"mode":"-"}}`:         {Mode: Ordinary},
		`[], "warren": {"kind":"symlink"}}`:   {Kind: Symlink},
		`[], "warren": {"kind":"directory"}}`: {Kind: Directory},
	} {
		m := Metadata{Relpath: "d/" + DirectoryMark, Author: Author{"a", key}, Form: form}
		raw := m.Encode()
		if !strings.HasSuffix(string(raw), want) {
			t.Errorf("%+v: %s", form, raw)
		}
		if got, err := ParseMetadata(raw); err != nil || got.Form != form {
			t.Errorf("%+v: %+v, %v", form, got.Form, err)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	for _, v := range load[[]vector](f, "snapshots.json")[:12] {
		f.Add(v.Metadata)
	}
	f.Add([]byte(`{"snapshot_version": 1, "relpath": "d/.warren-directory", "author": {"name": "a", "verify_key": "` + goodKey + `"}, "modification_time": 5, "parents": [], "warren": {"kind": "directory", "mode": "x"}}`))
	f.Add([]byte(`{"snapshot_version": 1, "relpath": "\ud83d\ude00", "author": {"name": "a", "verify_key": "` + goodKey + `"}, "modification_time": 5.5, "parents": []}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMetadata(data)
		if err != nil {
			return
		}
		again, err := ParseMetadata(m.Encode())
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if string(again.Encode()) != string(m.Encode()) {
			t.Fatal("not the same again")
		}
	})
}

func FuzzMangled(f *testing.F) {
	for _, s := range []string{"a@_b", "@@", "@", "@x", "@metadata", "x/y", "", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := Unmangle(name)
		if err != nil {
			return
		}
		if got := Mangle(p); got != name {
			t.Fatalf("%q became %q", name, got)
		}
	})
}

func FuzzSnapshotDirectory(f *testing.F) {
	for _, v := range load[[]vector](f, "snapshots.json")[:6] {
		f.Add(v.Content.Text(), v.MetadataCap.Text(), v.RawMetadata, v.Metadata)
	}
	f.Fuzz(func(t *testing.T, content, metadata, beside string, raw []byte) {
		s, err := Verify("c", []remote.Entry{{Name: "content", Read: remote.Cap(content)},
			{Name: "metadata", Read: remote.Cap(metadata), Metadata: []byte(beside)}}, raw)
		if err == nil && s.Content.Text() != content {
			t.Fatal("another content")
		}
	})
}

// counting is a grid on which nothing must be read.
type counting struct{ calls int }

func (c *counting) List(context.Context, remote.Cap) ([]remote.Entry, remote.Version, error) {
	c.calls++
	return nil, "", errors.New("listed")
}

func (c *counting) Get(context.Context, remote.Cap, io.Writer) error {
	c.calls++
	return errors.New("read")
}

// What cannot be a snapshot is not even read: a list of many GB would fill memory.
func TestReadsNothingLarge(t *testing.T) {
	chk := "CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:"
	for _, c := range []string{"URI:DIR2-" + chk + "8589934592", "URI:DIR2-" + chk + "18446744073709551615", "URI:" + chk + "1000",
		"URI:DIR2:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "garbage", ""} {
		var g counting
		if _, err := Read(t.Context(), &g, remote.Cap(c)); !Malformed(err) || g.calls != 0 {
			t.Errorf("%.16s: %v after %d calls", c, err, g.calls)
		}
	}
	var g counting
	if _, err := Read(t.Context(), &g, remote.Cap("URI:DIR2-"+chk+"1500")); Malformed(err) || g.calls != 1 {
		t.Errorf("a usual one: %v after %d calls", err, g.calls)
	}
}
