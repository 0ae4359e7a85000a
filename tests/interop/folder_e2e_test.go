package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/magicfolder/snapshot"
	"warren/node/caps"
)

// shared is a folder between magic-folder 24.3 and our node.
type shared struct {
	folder            string
	real              *realMember
	ours              *ourMember
	realName, ourName string // in the Collective
	realDir, ourDir   string
	collective        string // the writecap
	many              int    // how many small files each side makes at once
}

// Two folders between the real magic-folder 24.3 on a real Tahoe client and our
// node, on a grid that is half Tahoe's and half ours: one that magic-folder made
// and ours joined, one that ours made and magic-folder joined.
func TestFoldersWithMagicFolder(t *testing.T) {
	t.Parallel() // it waits for polls most of the time
	NeedPeers(t)
	var said report
	t.Cleanup(func() { said.show(t) }) // the last: after what each program printed
	began := time.Now()
	phase := func(what string) { said.add("%5.1f s  %s", time.Since(began).Seconds(), what) }
	intro := StartOurIntroducer(t)
	StartStorage(t, intro.FURL, "tahoe")
	StartOurStorage(t, intro.FURL, "ours", "--shares-needed=1", "--shares-happy=1", "--shares-total=1")
	tahoe := StartClient(t, intro.FURL, 1, 2, 2, 2)
	mailbox := ourMailbox(t)
	real := startRealMember(t, tahoe, mailbox)
	phase("grid and magic-folder run")

	dirs := t.TempDir()
	place := func(name string) string {
		dir := filepath.Join(dirs, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	theirs := &shared{folder: "theirs", real: real, realName: "alice", ourName: "bob", realDir: place("theirs-real"), ourDir: place("theirs-ours"), many: 30}
	real.add(t, theirs.folder, theirs.realName, theirs.realDir)
	theirs.collective, _ = real.dircaps(t, theirs.folder)
	ours := joinOurs(t, intro.FURL, mailbox, theirs.collective, theirs.folder, theirs.ourName, theirs.ourDir)
	theirs.ours = ours
	phase("ours joined the folder that magic-folder made")

	made := &shared{folder: "made by us", real: real, ours: ours, realName: "Zoë", ourName: "bob", realDir: place("made-real"), ourDir: place("made-ours"), many: 10}
	ours.do(t, "folder", "add", "--name", made.folder, "--author", made.ourName, made.ourDir)
	made.collective = joinReal(t, ours, real, mailbox, made.folder, made.realName, made.realDir)
	phase("magic-folder joined the folder that ours made")

	folders := []*shared{theirs, made}
	t.Run("together", func(t *testing.T) {
		for _, s := range folders {
			t.Run(s.folder, func(t *testing.T) {
				t.Parallel()
				s.tell(t, &said)
				s.live(t, func(what string) { phase(s.folder + ": " + what) })
			})
		}
	})
	if t.Failed() {
		return
	}

	real.stop(t)
	ours.run.Stop(time.Minute)
	for _, s := range folders {
		s.apart(t)
	}
	ours.start(t)
	for _, s := range folders {
		s.published(t)
	}
	real.startUntil(t, func() error {
		for _, s := range folders {
			if _, err := os.Stat(filepath.Join(s.realDir, s.conflictFile())); err != nil {
				return err
			}
		}
		return nil
	})
	phase("both are back")
	t.Run("again", func(t *testing.T) {
		for _, s := range folders {
			t.Run(s.folder, func(t *testing.T) {
				t.Parallel()
				s.tell(t, &said)
				s.reunion(t)
				s.model(t, tahoe)
			})
		}
	})
	phase("together again")

	// 300 small files from ours. Magic-folder writes each to its disk at once and
	// then rewrites its Personal directory for each, one after the other, which
	// takes minutes: so this is last, and the other way round there were fewer.
	for i := range 300 {
		writeIn(t, theirs.ourDir, fmt.Sprintf("300/%d", i), fmt.Sprintf("small file %d of 300", i))
	}
	for i := range 300 {
		arrives(t, theirs.realDir, fmt.Sprintf("300/%d", i), fmt.Sprintf("small file %d of 300", i))
	}
	phase("300 files")
	ours.current(t, theirs.folder)
}

// report is what happened, shown at the end.
type report struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (r *report) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *report) show(t testing.TB) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Logf("what happened:\n%s", strings.Join(r.lines, "\n"))
}

// tell has a failed test say how both programs see the folder.
func (s *shared) tell(t testing.TB, said *report) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		st, err := s.ours.status(t, s.folder)
		said.add("%s: our status: %+v (%v)", s.folder, st, err)
		for _, e := range s.real.events(t) {
			if e["folder"] == s.folder {
				said.add("%s: magic-folder: %.300v", s.folder, e)
			}
		}
		said.add("%s: failures in magic-folder's log:\n%s", s.folder, failures(s.real.log))
	})
}

// live is what two people do to a folder while both programs run.
func (s *shared) live(t *testing.T, phase func(string)) {
	names := []string{"plain.txt", "two words.txt", "ünï/日本 語/deep file", "@at/%41 100%", ".hidden", "a/b/c/d/e", "quote\"s and 'back\\slash",
		// Its metadata is about the longest that stands in its capability.
		strings.Repeat(strings.Repeat("d", 235)+"/", 6) + "f"}
	for i, name := range names {
		writeIn(t, s.realDir, "real/"+name, strings.Repeat("made by magic-folder\n", 1+i*7))
		writeIn(t, s.ourDir, "ours/"+name, strings.Repeat("made by us\n", 1+i*7))
	}
	writeIn(t, s.realDir, "real/empty", "")
	writeIn(t, s.ourDir, "ours/empty", "")
	writeIn(t, s.realDir, "real/large", strings.Repeat("0123456789abcdef", 100_000))
	writeIn(t, s.ourDir, "ours/large", strings.Repeat("fedcba9876543210", 100_000))
	same(t, s.realDir, s.ourDir, 2*len(names)+4)
	phase("created both ways")

	// Names that a Mac writes decomposed reach magic-folder composed, since it
	// fetches the other form again at every poll.
	writeIn(t, s.ourDir, "ours/u\u0308ber", "decomposed")
	arrives(t, s.realDir, "ours/\u00fcber", "decomposed")
	composed, err := os.Stat(filepath.Join(s.realDir, "ours/\u00fcber"))
	if err != nil {
		t.Fatal(err)
	}

	for i := range 2 {
		a, b := fmt.Sprintf("edit %d by magic-folder", i), fmt.Sprintf("edit %d by us", i)
		s.real.idle(t, s.folder)
		writeIn(t, s.realDir, "ours/plain.txt", a)
		writeIn(t, s.ourDir, "real/two words.txt", b)
		arrives(t, s.ourDir, "ours/plain.txt", a)
		arrives(t, s.realDir, "real/two words.txt", b)
		s.real.idle(t, s.folder)
		writeIn(t, s.ourDir, "ours/plain.txt", b)
		writeIn(t, s.realDir, "real/two words.txt", a)
		arrives(t, s.realDir, "ours/plain.txt", b)
		arrives(t, s.ourDir, "real/two words.txt", a)
	}
	phase("edited in turns")

	s.real.idle(t, s.folder)
	remove(t, s.ourDir, "real/plain.txt")
	remove(t, s.ourDir, "ours/two words.txt")
	// Told of the new file while it has the old one, magic-folder would stop.
	remove(t, s.ourDir, "ours/@at/%41 100%")
	writeIn(t, s.ourDir, "ours/@at/%41 100%/now a directory", "a file where a file was")
	remove(t, s.realDir, "ours/.hidden")
	remove(t, s.realDir, "real/.hidden")
	for _, dir := range []string{s.ourDir, s.realDir} {
		for _, name := range []string{"real/plain.txt", "ours/two words.txt", "ours/.hidden", "real/.hidden"} {
			vanishes(t, dir, name)
		}
	}
	arrives(t, s.realDir, "ours/@at/%41 100%/now a directory", "a file where a file was")
	phase("deleted both ways")

	for i := range s.many {
		writeIn(t, s.ourDir, fmt.Sprintf("many/ours %d", i), fmt.Sprintf("small file %d of ours", i))
		writeIn(t, s.realDir, fmt.Sprintf("many/real %d", i), fmt.Sprintf("small file %d of magic-folder", i))
	}
	for i := range s.many {
		arrives(t, s.realDir, fmt.Sprintf("many/ours %d", i), fmt.Sprintf("small file %d of ours", i))
		arrives(t, s.ourDir, fmt.Sprintf("many/real %d", i), fmt.Sprintf("small file %d of magic-folder", i))
	}
	var many []string
	for i := range s.many {
		many = append(many, fmt.Sprintf("many/ours %d", i), fmt.Sprintf("many/real %d", i))
	}
	// It works on a file until it has linked it: its edit would wait for that, and
	// when our delete is told first, 24.3 stops the whole folder.
	s.real.linked(t, s.folder, many)
	phase("many small files both ways")

	// We delete while magic-folder edits: the edit stands, wherever it was seen
	// first, and the folder goes on.
	s.real.idle(t, s.folder)
	writeIn(t, s.realDir, "many/ours 3", "edited while it is deleted")
	remove(t, s.ourDir, "many/ours 3")
	remove(t, s.ourDir, "many/ours 4")
	writeIn(t, s.realDir, "many/ours 4", "edited while it is deleted, too")
	arrives(t, s.ourDir, "many/ours 3", "edited while it is deleted")
	arrives(t, s.ourDir, "many/ours 4", "edited while it is deleted, too")
	writeIn(t, s.ourDir, "unrelated by us", "still flowing")
	writeIn(t, s.realDir, "unrelated by magic-folder", "still flowing")
	arrives(t, s.realDir, "unrelated by us", "still flowing")
	arrives(t, s.ourDir, "unrelated by magic-folder", "still flowing")
	phase("deleted against edits")

	if now, err := os.Stat(filepath.Join(s.realDir, "ours/\u00fcber")); err != nil || !os.SameFile(composed, now) {
		t.Errorf("magic-folder wrote a file again that nobody changed (%v)", err)
	}
	s.ours.current(t, s.folder)
	s.real.noErrors(t, s.folder)
	if c := s.real.conflicts(t, s.folder); len(c) > 0 {
		t.Errorf("magic-folder has conflicts: %v", c)
	}
}

// apart is what the two people do while neither program runs.
func (s *shared) apart(t *testing.T) {
	writeIn(t, s.ourDir, "written apart by us", "our side")
	writeIn(t, s.realDir, "written apart by magic-folder", "magic-folder's side")
	writeIn(t, s.ourDir, "unrelated by us", "edited apart")
	remove(t, s.realDir, "many/real 1")
	writeIn(t, s.ourDir, "unrelated by magic-folder", "our bytes")
	writeIn(t, s.realDir, "unrelated by magic-folder", "magic-folder's bytes")
}

// published waits until our edits stand on the grid.
func (s *shared) published(t *testing.T) {
	s.ours.do(t, "folder", "status", "--scan", s.folder)
	s.ours.current(t, s.folder)
}

// conflictFile is where magic-folder puts our version of what both wrote.
func (s *shared) conflictFile() string { return "unrelated by magic-folder.conflict-" + s.ourName }

// reunion is what follows when first ours and then magic-folder comes back.
func (s *shared) reunion(t *testing.T) {
	arrives(t, s.realDir, "written apart by us", "our side")
	arrives(t, s.ourDir, "written apart by magic-folder", "magic-folder's side")
	arrives(t, s.realDir, "unrelated by us", "edited apart")
	vanishes(t, s.ourDir, "many/real 1")

	// Both had published when they met: a conflict. Each keeps its own bytes in
	// place and has the other's beside them, under the other's name in the Collective.
	arrives(t, s.realDir, s.conflictFile(), "our bytes")
	arrives(t, s.ourDir, "unrelated by magic-folder.conflict-"+s.realName, "magic-folder's bytes")
	arrives(t, s.realDir, "unrelated by magic-folder", "magic-folder's bytes")
	arrives(t, s.ourDir, "unrelated by magic-folder", "our bytes")
	if c := s.real.conflicts(t, s.folder); len(c) != 1 || len(c["unrelated by magic-folder"]) == 0 {
		t.Errorf("magic-folder's conflicts: %v", c)
	}

	// And the folder goes on.
	writeIn(t, s.realDir, "last by magic-folder", "the end")
	writeIn(t, s.ourDir, "last by us", "the end")
	arrives(t, s.ourDir, "last by magic-folder", "the end")
	arrives(t, s.realDir, "last by us", "the end")
	st := s.ours.current(t, s.folder)
	if len(st.Conflicts) != 1 || st.Conflicts[0].Name != s.realName {
		t.Errorf("our conflicts: %+v", st.Conflicts)
	}
	s.real.noErrors(t, s.folder)
}

// model checks what stands on the grid, as Tahoe and magic-folder see it.
func (s *shared) model(t *testing.T, tahoe *WebClient) {
	collective := tahoeList(t, tahoe, s.collective)
	if len(collective) != 3 {
		t.Errorf("the Collective has %d entries, want @metadata and two participants", len(collective))
	}
	if kind, metadata := collective.child(t, "@metadata"); kind != "filenode" || !sameJSONText(string(tahoe.Must(t, "GET", "/uri/"+url.PathEscape(metadata), nil)), `{"version": 1}`) {
		t.Errorf("the Collective's @metadata is a %s", kind)
	}
	_, ourPersonal := collective.child(t, s.ourName)
	_, realPersonal := collective.child(t, s.realName)
	_, own := s.real.dircaps(t, s.folder)
	if c, err := caps.Parse(own); err != nil || caps.ReadOnly(c).Text() != realPersonal {
		t.Errorf("magic-folder's entry in the Collective is not its Personal directory (%v)", err)
	}

	theirs, ours := tahoeList(t, tahoe, realPersonal), tahoeList(t, tahoe, ourPersonal)
	if kind, metadata := ours.child(t, "@metadata"); kind != "filenode" || !sameJSONText(string(tahoe.Must(t, "GET", "/uri/"+url.PathEscape(metadata), nil)), `{"version": 1}`) {
		t.Errorf("our @metadata is a %s", kind)
	}
	for name := range ours {
		if name == "@metadata" {
			continue
		}
		relpath, err := snapshot.Unmangle(name)
		if err != nil {
			t.Errorf("our Personal directory has an entry %q: %v", name, err)
			continue
		}
		if kind, head := ours.child(t, name); kind != "dirnode" || !strings.HasPrefix(head, "URI:DIR2-CHK:") && !strings.HasPrefix(head, "URI:DIR2-LIT:") {
			t.Errorf("our entry %q is a %s", relpath, kind)
		}
	}
	// What either made and the other has is one and the same snapshot in both.
	for _, relpath := range []string{"ours/plain.txt", "real/two words.txt", "real/ünï/日本 語/deep file", "ours/@at/%41 100%", "ours/@at/%41 100%/now a directory", "ours/\u00fcber", "ours/empty",
		"many/ours 3", "real/plain.txt", "last by us", "last by magic-folder"} {
		_, a := ours.child(t, snapshot.Mangle(relpath))
		if _, b := theirs.child(t, snapshot.Mangle(relpath)); a != b {
			t.Errorf("%s: the two Personal directories name different snapshots", relpath)
		}
	}

	// But a deletion stands with its author alone: magic-folder does not bear it twice.
	if name := snapshot.Mangle("many/real 1"); len(ours[name][0]) > 0 || len(theirs[name][0]) == 0 {
		t.Errorf("its deletion of many/real 1: ours %s, theirs %s", ours[name], theirs[name])
	}

	// magic-folder's own code reads and verifies every version that we published.
	out := Run(t, 2*time.Minute, Python(t), Script(t, "folder_peer.py"), s.ours.web(t).URL, ourPersonal)
	read, authors := 0, map[string]int{}
	for line := range strings.Lines(out) {
		var v struct {
			Author string
			Head   bool
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if v.Head {
			read++
		}
		authors[v.Author]++
	}
	if read != len(ours)-1 || authors[s.ourName] == 0 || authors[s.realName] == 0 {
		t.Errorf("magic-folder read %d of %d heads, versions by author: %v", read, len(ours)-1, authors)
	}
}

func writeIn(t testing.TB, dir, name, data string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func arrives(t testing.TB, dir, name, want string) {
	t.Helper()
	Eventually(t, 2*time.Minute, name, func() error {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && string(got) != want {
			err = fmt.Errorf("it holds %.40q", got)
		}
		return err
	})
}

func vanishes(t testing.TB, dir, name string) {
	t.Helper()
	Eventually(t, 2*time.Minute, name+" deleted", func() error {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}

func remove(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// same waits until both directories hold the same n files with the same bytes.
func same(t testing.TB, a, b string, n int) {
	t.Helper()
	Eventually(t, 3*time.Minute, "the same files", func() error {
		x, err := tree(a)
		if err != nil {
			return err
		}
		y, err := tree(b)
		if err != nil {
			return err
		}
		for name, data := range x {
			if other, ok := y[name]; !ok {
				return fmt.Errorf("%d and %d files; %q is on one side alone", len(x), len(y), name)
			} else if other != data {
				return fmt.Errorf("%q differs", name)
			}
		}
		if len(x) != n || len(y) != n {
			return fmt.Errorf("%d and %d files, want %d", len(x), len(y), n)
		}
		return nil
	})
}

// tree is every file below a directory.
func tree(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // it went while we looked
		}
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		rel, _ := filepath.Rel(dir, p)
		out[rel] = string(data)
		return err
	})
	return out, err
}

func sameJSONText(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return compact(x) == compact(y)
}
