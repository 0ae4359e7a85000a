package dirnode

import (
	"encoding/json"
	"fmt"
	"testing"

	"warren/node/caps"
)

// big is a directory of so many entries, files and directories, with metadata as the web
// API gives it.
func big(b testing.TB, dir caps.DirWrite, entries int) []byte {
	b.Helper()
	list := make([]Entry, entries)
	for i := range list {
		var c caps.Cap = caps.CHK{Key: [16]byte{byte(i), byte(i >> 8)}, UEBHash: [32]byte{byte(i)}, Needed: 3, Total: 10, Size: uint64(1000 + i)}
		if i%10 == 0 {
			c, _ = caps.Dir(caps.SSKWrite{WriteKey: [16]byte{byte(i), byte(i >> 8)}, Fingerprint: [32]byte{byte(i)}})
		}
		list[i] = NewEntry(fmt.Sprintf("a file with a name %d", i), c, json.RawMessage(`{"tahoe": {"linkcrtime": 1790000000.5, "linkmotime": 1790000000.5}}`))
	}
	data, err := Writable(dir.File()).Pack(list)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

func BenchmarkDirectory(b *testing.B) {
	dir := load(b).dir(b)
	form := Writable(dir.File())
	for _, n := range []int{1_000, 10_000} {
		data := big(b, dir, n)
		b.Run(fmt.Sprintf("list/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if list, err := form.Unpack(data); err != nil || len(list) != n {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("link/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := form.Apply(data, []Change{set("new", caps.LIT{})}, vectorNow, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One link into a directory costs what its bytes do, and no entry but the one that is
// linked is looked into; many at once cost little more.
func TestLinkIntoBigDirectory(t *testing.T) {
	dir := load(t).dir(t)
	form := Writable(dir.File())
	data := big(t, dir, 10_000)
	link := []Change{set("a file with a name 5000", caps.LIT{})}
	var linked []byte
	allocs := testing.AllocsPerRun(3, func() {
		var err error
		if linked, err = form.Apply(data, link, vectorNow, false); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 25_000 { // a name and a child each
		t.Errorf("one link allocates %.0f times", allocs)
	}
	before, err := form.children(data)
	if err != nil {
		t.Fatal(err)
	}
	after, err := form.children(linked)
	if err != nil || len(after) != len(before) {
		t.Fatalf("%d entries of %d: %v", len(after), len(before), err)
	}
	for i, c := range after {
		if same := string(c.raw) == string(before[i].raw); same == (c.name == "a file with a name 5000") {
			t.Errorf("%s: the same bytes as before: %v", c.name, same)
		}
	}

	many := make([]Change, 10_000)
	for i := range many {
		many[len(many)-1-i] = set(fmt.Sprintf("%05d", i*7919%len(many)), caps.LIT{})
	}
	allocs = testing.AllocsPerRun(1, func() {
		if linked, err = form.Apply(data, many, vectorNow, false); err != nil {
			t.Fatal(err)
		}
	})
	if list, err := form.Unpack(linked); err != nil || len(list) != 20_000 || list[9_999].Name != "09999" {
		t.Errorf("%d entries: %v", len(list), err)
	}
	if allocs > 100*float64(len(many)) {
		t.Errorf("%d links allocate %.0f times", len(many), allocs)
	}
}
