package backupdb

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type world struct {
	*DB
	path   string
	now    time.Time
	chance float64
}

func open(t *testing.T) *world {
	t.Helper()
	w := &world{path: filepath.Join(t.TempDir(), "db"), now: time.Unix(1_700_000_000, 0)}
	w.reopen(t)
	return w
}

func (w *world) reopen(t *testing.T) {
	t.Helper()
	if w.DB != nil {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db, err := Open(w.path, func() time.Time { return w.now }, func() float64 { return w.chance })
	if err != nil {
		t.Fatal(err)
	}
	w.DB = db
	t.Cleanup(func() { db.Close() })
}

func TestFiles(t *testing.T) {
	w := open(t)
	was := Attributes{Size: 5, Changed: 100, Inode: 200}
	is := func(path string, a Attributes, want Known) {
		t.Helper()
		if got, err := w.File(path, a); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	is("/a", was, Known{})
	for _, path := range []string{"/a", "/b"} {
		if err := w.StoredFile(path, was, "URI:1"); err != nil {
			t.Fatal(err)
		}
	}
	w.reopen(t)
	is("/a", was, Known{Cap: "URI:1"})
	for _, changed := range []Attributes{{6, 100, 200}, {5, 101, 200}, {5, 100, 201}} {
		is("/a", changed, Known{})
	}
	// A month is a month of 30 days; then the chance grows for as long again.
	const day = 24 * time.Hour
	for _, c := range []struct {
		age    time.Duration
		chance float64
		check  bool
	}{{30 * day, 0, false}, {45 * day, 0.49, true}, {45 * day, 0.51, false}, {60 * day, 0.999, true}, {600 * day, 0.999, true}} {
		w.now, w.chance = time.Unix(1_700_000_000, 0).Add(c.age), c.chance
		is("/a", was, Known{Cap: "URI:1", Check: c.check})
	}
	// One look at it serves all files with that content.
	if err := w.HealthyFile("URI:1"); err != nil {
		t.Fatal(err)
	}
	is("/b", was, Known{Cap: "URI:1"})
	if err := errors.Join(w.StoredFile("/a", was, "URI:2"), w.HealthyFile("URI:nobody")); err != nil {
		t.Fatal(err)
	}
	is("/a", was, Known{Cap: "URI:2"})
	if info, err := os.Stat(w.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestDirectories(t *testing.T) {
	w := open(t)
	hash := Hash(map[string]string{"b": "URI:2", "a": "URI:1"})
	if known, err := w.Directory(hash); err != nil || known != (Known{}) {
		t.Errorf("%+v, %v", known, err)
	}
	if err := w.StoredDirectory(hash, "URI:d"); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(2 * alwaysCheckAfter)
	w.chance = 0.9
	if known, err := w.Directory(hash); err != nil || known != (Known{"URI:d", true}) {
		t.Errorf("%+v, %v", known, err)
	}
	if err := w.StoredDirectory(hash, "URI:d"); err != nil {
		t.Fatal(err)
	}
	if known, err := w.Directory(hash); err != nil || known != (Known{"URI:d", false}) {
		t.Errorf("%+v, %v", known, err)
	}
}

// The hashes are those of allmydata.scripts.backupdb.
func TestHash(t *testing.T) {
	for want, contents := range map[string]map[string]string{
		"5grsmybrmqd7jfna6gghvmacwclmrru6qndxhas44lwlkxfizb3q": {},
		"ma23yboadcjlfuwnxfdydxllqts7n4x2i26znava2p5kebxxe7rq": {"b": "URI:2", "a": "URI:1", "ä": "URI:3"},
	} {
		if got := Hash(contents); got != want {
			t.Errorf("%v: %s", contents, got)
		}
	}
}

func TestTwoAtOnce(t *testing.T) {
	w := open(t)
	if db, err := Open(w.path, time.Now, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("%v, %v", db, err)
	}
}
