package disk

import (
	"fmt"
	"slices"
	"testing"
)

// watched hears what a start looks at.
type watched struct {
	*model
	names *[]string
}

func (w watched) open(name string, flag int) (handle, error) {
	*w.names = append(*w.names, name)
	return w.model.open(name, flag)
}

func (w watched) list(dir string) ([]string, error) {
	*w.names = append(*w.names, dir)
	return w.model.list(dir)
}

func (w watched) exists(name string) (bool, error) {
	*w.names = append(*w.names, name)
	return w.model.exists(name)
}

// TestStartLooksAtNoShare: a server with a million shares starts as one with none
// does. (tests/interop's TestManyShares has them.)
func TestStartLooksAtNoShare(t *testing.T) {
	m := newModel(1 << 40)
	w, err := newWorld(m, storageDir)
	if err != nil {
		t.Fatal(err)
	}
	var before []string
	for n := range byte(3) {
		var names []string
		if _, err := open(storageDir, watched{m, &names}); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if k := kind(name); slices.Contains([]string{"shares", "prefix", "bucket", "share"}, k) {
				t.Errorf("the start looks at %s, a %s", name, k)
			}
		}
		if n > 0 && fmt.Sprint(names) != fmt.Sprint(before) {
			t.Errorf("with shares the start looks at %v, without at %v", names, before)
		}
		before = names
		for i := range byte(50) {
			if err := upload(numbered(i, n), 10, 0, 1).do(w.client); err != nil {
				t.Fatal(err)
			}
		}
	}
}
