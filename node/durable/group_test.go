package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowDisk stands for the filesystem.
type slowDisk struct {
	takes time.Duration
	err   error
	syncs int // one at a time: a group has one leader
}

func (d *slowDisk) Sync() error {
	d.syncs++
	time.Sleep(d.takes)
	return d.err
}

func (d *slowDisk) Close() error { return nil }

func create(t *testing.T, dir string, n int) []*os.File {
	t.Helper()
	var files []*os.File
	for i := range n {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint("file", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

func TestGroupSharesSyncs(t *testing.T) {
	dir := t.TempDir()
	files := create(t, dir, manyTargets)
	synctest.Test(t, func(t *testing.T) {
		disk := &slowDisk{takes: time.Millisecond}
		g := &Group{whole: disk}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := g.Sync(files, dir); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		started := time.Now()
		wg.Wait()
		// Those that came while the first sync ran share the second.
		if disk.syncs > 3 || time.Since(started) > 5*time.Millisecond {
			t.Errorf("%d syncs for a hundred writers that came together", disk.syncs)
		}
		// A sync that began before a call does not count for it.
		before := disk.syncs
		if err := g.Sync(files, dir); err != nil || disk.syncs != before+1 {
			t.Errorf("%d more syncs, %v", disk.syncs-before, err)
		}
		if g.running || g.next != nil {
			t.Error("the group is not at rest")
		}
	})
}

func TestGroupIsPatient(t *testing.T) {
	dir := t.TempDir()
	files := create(t, dir, manyTargets)
	synctest.Test(t, func(t *testing.T) {
		disk := &slowDisk{takes: time.Minute} // others write a film
		g := &Group{whole: disk}
		for range 1 + patience + 1 {
			if err := g.Sync(files); err != nil {
				t.Fatal(err)
			}
		}
		if disk.syncs != 2 {
			t.Errorf("%d syncs of everything", disk.syncs)
		}
	})
}

func TestGroupTellsWhoseErrorItWas(t *testing.T) {
	dir := t.TempDir()
	files := create(t, dir, 20)
	files[7].Close()
	for name, disk := range map[string]*slowDisk{"cannot": {err: errors.ErrUnsupported}, "failed": {err: errors.New("input/output error")}} {
		g := &Group{whole: disk}
		var wg sync.WaitGroup
		for i, f := range files {
			wg.Go(func() {
				if err := g.Sync([]*os.File{f}, dir); (i == 7) != errors.Is(err, os.ErrClosed) {
					t.Errorf("%s: file %d: %v", name, i, err)
				}
			})
		}
		wg.Wait()
		if err := g.Sync(nil, dir, filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a directory that is not there: %v", name, err)
		}
	}
}

// TestGroupTrustsNoSyncAfterAFailure: the system tells of a lost write once, in
// whichever round comes first. The file that it was of comes in a later one.
func TestGroupTrustsNoSyncAfterAFailure(t *testing.T) {
	files := create(t, t.TempDir(), 2*manyTargets)
	others, lost := files[:manyTargets], files[manyTargets:]
	lost[0].Close() // its own sync fails
	disk := &slowDisk{err: errors.New("input/output error")}
	g := &Group{whole: disk}
	if err := g.Sync(others); err != nil {
		t.Errorf("files that are on the disk: %v", err)
	}
	disk.err = nil // told
	if err := g.Sync(lost); !errors.Is(err, os.ErrClosed) || disk.syncs != 1 {
		t.Errorf("the file that was lost: %v, after %d syncs of everything", err, disk.syncs)
	}
}

func TestGroupOnThisSystem(t *testing.T) {
	dir := t.TempDir()
	g := NewGroup(dir)
	files := create(t, dir, 50)
	var wg sync.WaitGroup
	for _, f := range files {
		wg.Go(func() {
			if _, err := f.WriteString("x"); err != nil {
				t.Error(err)
			}
			if err := g.Sync([]*os.File{f}, dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := g.Sync(files, dir); err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := NewGroup(filepath.Join(dir, "none")).Sync(files[:1]); err != nil {
		t.Errorf("without a filesystem to sync: %v", err)
	}
}
