package dirnode

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
)

// TestMove: an entry that is moved takes its capabilities and metadata along, and
// what is moved twice, because the first attempt may have come through, is as if it
// were moved once.
func TestMove(t *testing.T) {
	form := Writable(caps.SSKWrite{WriteKey: [16]byte{1}})
	was, now := time.Unix(1000, 0), time.Unix(2000, 0)
	unknown, err := caps.Parse("x-future:write")
	if err != nil {
		t.Fatal(err)
	}
	unknownRO, err := caps.Parse("ro.x-future:read")
	if err != nil {
		t.Fatal(err)
	}
	entries := []Entry{
		{Name: "dir", Write: caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{2}}}},
		{Name: "file", Read: caps.LIT{Data: []byte("file")}, Metadata: []byte(`{"mine": [1.0, "\u00fc"]}`)},
		{Name: "future", Write: unknown, Read: unknownRO},
		{Name: "gone", Metadata: []byte(`{"a": 1}`)},
		{Name: "other", Read: caps.LIT{Data: []byte("other")}, Metadata: []byte(`{"theirs": 1}`)},
	}
	var sets []Change
	for _, e := range entries {
		sets = append(sets, Change{Entry: e})
	}
	data, err := form.Apply(nil, sets, was, false)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]Entry{}
	list, err := form.Unpack(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		before[e.Name] = e
	}
	move := func(from, to string, over Overwrite) []Change {
		return []Change{{From: from, Entry: Entry{Name: to}, Overwrite: over}}
	}
	for _, from := range []string{"dir", "file", "future", "gone"} {
		for _, to := range []string{"new", "e\u0301", "other"} {
			changes := move(from, to, Always)
			got, err := form.Apply(bytes.Clone(data), changes, now, false)
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			twice, err := form.Apply(bytes.Clone(got), changes, now, true)
			if err != nil || !bytes.Equal(twice, got) {
				t.Errorf("%s to %s, again: %v", from, to, err)
			}
			list, err := form.Unpack(got)
			if err != nil {
				t.Fatal(err)
			}
			want := len(entries)
			if to == "other" {
				want--
			}
			found := false
			for _, e := range list {
				if e.Name == from {
					t.Errorf("%s is still there", from)
				}
				if e.Name != Normalize(to) {
					continue
				}
				found = e.gives(before[from])
				user, _, _ := strings.Cut(string(before[from].Metadata), `"tahoe"`)
				if !strings.HasPrefix(string(e.Metadata), user) || !strings.Contains(string(e.Metadata), `"linkmotime": 2000.0`) || strings.Contains(string(e.Metadata), "theirs") {
					t.Errorf("%s to %s: metadata %s, were %s", from, to, e.Metadata, before[from].Metadata)
				}
			}
			if !found || len(list) != want {
				t.Errorf("%s to %s: found %v among %d", from, to, found, len(list))
			}
		}
	}
	for _, c := range []struct {
		from, to string
		over     Overwrite
		want     error
	}{
		{"none", "new", Always, ErrNoEntry}, {"file", "other", Never, ErrExists}, {"file", "dir", OnlyFiles, ErrExists},
		{"file", "other", OnlyFiles, nil}, {"file", "file", Never, nil}, {"file", "", Always, ErrName}, {"file", strings.Repeat("x", MaxName+1), Always, ErrName},
	} {
		got, err := form.Apply(bytes.Clone(data), move(c.from, c.to, c.over), now, false)
		if !errors.Is(err, c.want) || c.from == c.to && !bytes.Equal(got, data) {
			t.Errorf("%s to %.9s: %v, want %v", c.from, c.to, err, c.want)
		}
	}
	// Deleting what is still the same, and leaving what is not.
	for name, still := range map[string]bool{"file": true, "other": false} {
		e := before["file"]
		got, err := form.Apply(bytes.Clone(data), []Change{{Delete: true, Entry: Entry{Name: name}, Still: &e}}, now, false)
		if err != nil || bytes.Equal(got, data) == still {
			t.Errorf("%s: deleted %v, want %v; %v", name, !bytes.Equal(got, data), still, err)
		}
	}
}
