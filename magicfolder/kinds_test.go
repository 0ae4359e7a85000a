package magicfolder

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
)

// is gives what a party has at a path: "x" and "-" for files, a link's target, "/"
// for a directory, "" for nothing.
func (p *party) is(path string) string {
	p.t.Helper()
	if p.mem != nil {
		it, err := p.mem.Lstat(path)
		switch {
		case err != nil:
			return ""
		case it.Kind == fsys.Symlink:
			data, _ := p.mem.Read(path)
			return "-> " + string(data)
		case it.Kind == fsys.Dir:
			return "/"
		case it.State.Exec:
			return "x"
		}
		return "-"
	}
	full := filepath.Join(p.dir, path)
	info, err := os.Lstat(full)
	switch {
	case err != nil:
		return ""
	case info.IsDir():
		return "/"
	case info.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(full)
		if err != nil {
			p.t.Fatal(err)
		}
		return "-> " + to
	case info.Mode()&0o100 != 0:
		return "x"
	}
	return "-"
}

func (p *party) are(want map[string]string) {
	p.t.Helper()
	for path, form := range want {
		if got := p.is(path); got != form {
			p.t.Errorf("%s: %s is %q, want %q", p.name, path, got, form)
		}
	}
}

func (p *party) chmod(path string, exec bool) {
	p.t.Helper()
	if p.mem != nil {
		p.mem.Chmod(path, exec)
		return
	}
	mode := os.FileMode(0o644)
	if exec {
		mode = 0o755
	}
	if err := os.Chmod(filepath.Join(p.dir, path), mode); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) link(target, path string) {
	p.t.Helper()
	if p.mem != nil {
		p.mem.Symlink(target, path)
		return
	}
	full := filepath.Join(p.dir, path)
	os.Remove(full)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(target, full); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) mkdir(path string) {
	p.t.Helper()
	if p.mem != nil {
		p.mem.Mkdir(path)
	} else if err := os.MkdirAll(filepath.Join(p.dir, path), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) rmdir(path string) {
	p.t.Helper()
	if p.mem != nil {
		p.mem.Rmdir(path)
	} else if err := os.Remove(filepath.Join(p.dir, path)); err != nil {
		p.t.Fatal(err)
	}
}

func noLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: Windows has no modes, and we make no links there")
	}
}

func TestExecutableBit(t *testing.T) {
	noLinks(t)
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("run", "#!/bin/sh")
		a.write("text", "text")
		a.chmod("run", true)
		w.settle()
		b.are(map[string]string{"run": "x", "text": "-"})
		// The bit alone is an edit, which sends no contents again.
		before := b.client.Calls("PutFile")
		b.chmod("run", false)
		b.chmod("text", true)
		w.settle()
		a.are(map[string]string{"run": "-", "text": "x"})
		if n := b.client.Calls("PutFile") - before; n != 0 {
			t.Errorf("%d files stored for two bits", n)
		}
		b.write("text", "text of bob's")
		w.settle()
		a.are(map[string]string{"text": "x"})
		// One on magic-folder edits it: it knows of no bit, and takes none away.
		m := newMallory(w, "carol")
		c := m.snapshot(snapshot.Metadata{Relpath: "text", Author: snapshot.Author{Name: "carol"}, Modified: 1_800_000_000,
			Parents: []Cap{a.head("text")}}, m.file("carol's"))
		m.publish("text", c)
		w.settle()
		w.settle()
		a.has(map[string]string{"run": "#!/bin/sh", "text": "carol's"})
		a.are(map[string]string{"text": "x"})
		w.current()
	})
}

func TestSymlinks(t *testing.T) {
	noLinks(t)
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("d/file", "contents")
		a.link("file", "d/link")
		a.link("d", "dir")
		a.link("nowhere", "dangling")
		w.settle()
		b.are(map[string]string{"d/link": "-> file", "dir": "-> d", "dangling": "-> nowhere"})
		// Another target; a file becomes a link, a link a file.
		b.link("nowhere/else", "dangling")
		b.link("dangling", "d/file")
		b.remove("dir")
		b.write("dir", "a file now")
		w.settle()
		a.are(map[string]string{"dangling": "-> nowhere/else", "d/file": "-> dangling", "d/link": "-> file", "dir": "-"})
		// An edit on both sides is a conflict: the other's target is kept as text.
		a.link("alice's", "dangling")
		b.link("bob's", "dangling")
		a.scan()
		b.poll()
		b.scan()
		w.settle()
		if b.is("dangling") != "-> bob's" || b.is("dangling"+".conflict-alice") != "-" {
			t.Errorf("bob: %q beside %q", b.is("dangling"), b.is("dangling.conflict-alice"))
		}
		a.remove("d/link")
		w.settle()
		b.are(map[string]string{"d/link": "", "d/file": "-> dangling"})
	})
}

// A link that would lead out of the folder is neither sent nor made.
func TestSymlinksStayInside(t *testing.T) {
	noLinks(t)
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("plain", "plain")
		w.settle()
		b.link("../../secret", "d/out")
		w.settle()
		if len(a.f.headsOf("d/out")) != 0 {
			t.Error("a link that leads out was sent")
		}
		if st := b.f.Status(); len(st.Errors) != 1 || !strings.Contains(st.Errors[0].Message, "inside") {
			t.Errorf("bob is told %+v", st.Errors)
		}
		b.remove("d/out")
		m := newMallory(w, "mallory")
		for name, target := range map[string]string{"abs": "/etc/passwd", "up": "../x", "turn": "d/../../x", "long": strings.Repeat("x/", 3000), "zero": "a\x00b", "fine": "plain"} {
			m.publish(name, m.snapshot(snapshot.Metadata{Relpath: name, Author: snapshot.Author{Name: "mallory"},
				Modified: 1_800_000_000, Form: snapshot.Form{Kind: snapshot.Symlink}}, m.file(target)))
		}
		w.settle()
		a.are(map[string]string{"abs": "", "up": "", "turn": "", "long": "", "zero": "", "fine": "-> plain"})
		st := a.f.Status()
		if len(st.Errors) != 5 || st.State == StateCurrent {
			t.Errorf("status: %+v", st)
		}
		for _, e := range st.Errors {
			if !strings.Contains(e.Message, "inside the folder") {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestEmptyDirectories(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		w.settle()
		a.mkdir("d/e")
		a.mkdir("f")
		w.settle()
		b.are(map[string]string{"d/e": "/", "f": "/"})
		a.are(map[string]string{"d/e": "/"})
		if left, err := os.ReadDir(filepath.Join(b.dir, "d", "e")); !mem && (err != nil || len(left) > 0) {
			t.Errorf("in bob's: %v, %v", left, err)
		}
		// It fills and empties again: nobody's directory goes.
		b.write("f/x", "x")
		w.settle()
		a.has(map[string]string{"f/x": "x"})
		a.remove("f/x")
		w.settle()
		a.are(map[string]string{"f": "/", "f/x": ""})
		b.are(map[string]string{"f": "/", "f/x": ""})
		// And when it is removed it is removed for all, unless something is in it.
		a.rmdir("f")
		a.rmdir("d/e")
		b.write("d/e/mine", "not to be lost")
		a.f.ScanNow(t.Context())
		b.f.ScanNow(t.Context())
		for range 3 {
			w.settle()
		}
		a.has(map[string]string{"d/e/mine": "not to be lost"})
		b.has(map[string]string{"d/e/mine": "not to be lost"})
		a.are(map[string]string{"f": ""})
		b.are(map[string]string{"f": ""})
		w.current()
	})
}

// What a participant that knows nothing of all this sees: plain files.
func TestFormsAreHarmless(t *testing.T) {
	noLinks(t)
	w := newWorld(t)
	a := w.add("alice", true)
	a.mkdir("d")
	a.link("nowhere", "l")
	a.write("r", "run")
	a.chmod("r", true)
	w.settle()
	var names []string
	entries, _, err := a.client.List(t.Context(), a.f.config().Readcap)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name == snapshot.MetadataName {
			continue
		}
		names = append(names, e.Name)
		s, err := snapshot.Read(t.Context(), a.client, e.Read)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := a.client.Get(t.Context(), s.Content, &text); err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"d/" + snapshot.DirectoryMark: "", "l": "nowhere", "r": "run"}[s.Relpath]; text.String() != want {
			t.Errorf("%s: %q", s.Relpath, text.String())
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"d@_" + snapshot.DirectoryMark, "l", "r"}) {
		t.Errorf("%q", names)
	}
}

// send publishes a plain file.
func (m *mallory) send(relpath, data string) {
	m.t.Helper()
	m.publish(snapshot.Mangle(relpath), m.snapshot(snapshot.Metadata{Relpath: relpath, Author: snapshot.Author{Name: "carol"}}, m.file(data)))
}
