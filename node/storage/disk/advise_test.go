package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
)

// TestAdvisoriesAreBounded: by number, by bytes, and for each share; those of
// Tahoe's, from before this process, count; and what the operator removes makes room.
func TestAdvisoriesAreBounded(t *testing.T) {
	name := func(share int) string {
		return fmt.Sprintf("2026-11-23T101112.131415--%s-%d", caps.StorageIndex{byte(share >> 8)}.Text(), share&0xff)
	}
	for _, c := range []struct {
		name string
		fill func(dir string) // writes what is there
		last string           // one of them
		text int
	}{
		{"by number", func(dir string) {
			for i := range 4096 {
				if err := os.WriteFile(filepath.Join(dir, name(i)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, name(77), 1},
		{"by bytes", func(dir string) {
			for i := range 2 {
				if err := os.WriteFile(filepath.Join(dir, name(i)), make([]byte, 8<<20), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, name(1), 100},
		{"for a share", func(dir string) {
			for i := range 16 {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s.%d", name(5000), i)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, name(5000) + ".3", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "corruption-advisories")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.fill(dir)
			b, err := Open(top)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for range 3 {
				if err := b.Advise(name(5000), make([]byte, c.text)); !errors.Is(err, storage.ErrNoSpace) {
					t.Errorf("one more: %v", err)
				}
			}
			if err := os.Remove(filepath.Join(dir, c.last)); err != nil {
				t.Fatal(err)
			}
			if err := b.Advise(name(5000), make([]byte, c.text)); err != nil {
				t.Errorf("with one removed: %v", err)
			}
			if c.name != "by bytes" {
				if err := b.Advise(name(5000), make([]byte, c.text)); !errors.Is(err, storage.ErrNoSpace) {
					t.Errorf("and one more: %v", err)
				}
			}
		})
	}
	// One share does not keep the others from being reported.
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	kept := 0
	for b.Advise(name(1), []byte("x")) == nil {
		kept++
	}
	if err := b.Advise(name(2), []byte("x")); err != nil || kept != 16 {
		t.Errorf("after %d reports of one share, another: %v", kept, err)
	}
}
