package magicfolder

import (
	"sync"
	"testing"

	"warren/magicfolder/scan"
)

// What a participant, bob if nothing else is said, is killed at. Between lines of its
// own and those of the others stands who does something while it is not running.
var killCases = []killCase{
	{
		name: "files are made and edited",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			b.write("f", "edited")
			b.write("n/new", "new")
			b.write("run", "#!/bin/sh")
			b.chmod("run", true)
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"f": "-edited", "n/new": "-new", "run": "x#!/bin/sh"},
		kept: map[string][]string{"f": {"base", "edited"}},
	},
	{
		name: "versions that waited are published",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			b.offline("f", "written offline", "and once more")
			b.offline("n", "new", "newer")
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"f": "-and once more", "n": "-newer"},
		kept: map[string][]string{"f": {"base", "written offline", "and once more"}, "n": {"new", "newer"}},
	},
	{
		name: "files are deleted and renamed",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base", "g", "to be renamed", "d/h", "moved elsewhere")
			w.settle()
			b.remove("f")
			b.rename("g", "g2")
			b.rename("d", "e")
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"g2": "-to be renamed", "e/h": "-moved elsewhere"},
		kept: map[string][]string{"f": {"base"}, "g": {"to be renamed"}},
	},
	{
		name: "a file is gone again before it was published",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			b.offline("n", "short-lived")
			b.remove("n")
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"f": "-base"},
	},
	{
		name: "another's files arrive",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base", "gone", "to be deleted")
			w.settle()
			a.write("f", "edited")
			a.write("d/e/new", "new")
			a.remove("gone")
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"f": "-edited", "d/e/new": "-new"},
		kept: map[string][]string{"f": {"base", "edited"}, "gone": {"to be deleted"}},
	},
	{
		name: "another has swapped two files",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "one", "g", "the other")
			w.settle()
			a.rename("f", "x")
			a.rename("g", "f")
			a.rename("x", "g")
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"f": "-the other", "g": "-one"},
	},
	{
		name: "a file becomes a directory, a directory a file, at another's",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "a file", "d/g", "in a directory")
			w.settle()
			a.remove("f")
			a.write("f/x", "below it")
			a.remove("d/g")
			a.rmdir("d")
			a.write("d", "a file now")
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls, polls},
		want: map[string]string{"f/x": "-below it", "d": "-a file now"},
		kept: map[string][]string{"f": {"a file"}, "d/g": {"in a directory"}},
	},
	{
		name: "a conflict is found before linking",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			a.write("f", "from alice")
			a.scan()
			b.write("f", "from bob!")
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"f": "-from bob!"},
		own:  map[string]string{"f.conflict-alice": "-from alice"},
		kept: map[string][]string{"f": {"base", "from alice", "from bob!"}},
	},
	{
		name: "a conflict is found by a poll",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			a.write("f", "from alice")
			a.scan()
			b.write("f", "from bob!")
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"f": "-from bob!"},
		own:  map[string]string{"f.conflict-alice": "-from alice"},
		kept: map[string][]string{"f": {"base", "from alice", "from bob!"}},
	},
	{
		name: "an edit beats another's delete",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			a.remove("f")
			a.scan()
			b.write("f", "edited")
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"f": "-edited"},
		kept: map[string][]string{"f": {"base", "edited"}},
	},
	{
		name: "a delete gives way to another's edit",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base", "g", "base of g")
			w.settle()
			a.write("f", "edited by alice")
			a.write("g", "g, by alice")
			a.scan()
			b.remove("f")
			// What bob wrote before his delete stays in the history.
			b.offline("g", "g, by bob")
			b.remove("g")
			return b, a
		},
		do:   []KillVerb{scans, polls},
		want: map[string]string{"f": "-edited by alice", "g": "-g, by alice"},
		kept: map[string][]string{"f": {"base", "edited by alice"}, "g": {"base of g", "g, by bob", "g, by alice"}},
	},
	{
		name: "both have published, and ours gives way",
		base: func(w *world, a, b *party) (*party, *party) {
			awaits, acts := w.raced(a, b)
			awaits.poll()
			acts.poll()
			return awaits, acts
		},
		do: []KillVerb{polls},
		ends: func(killed, other *party) (want, own map[string]string) {
			mine, theirs := texts[killed.name], texts[other.name]
			return map[string]string{"f": "-" + theirs, "f.conflict-" + killed.name: "-" + mine}, nil
		},
		kept: map[string][]string{"f": {"base", "from alice", "from bob!"}},
	},
	{
		name: "what another chose ends a conflict",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			w.conflict(a, b)
			w.settle()
			a.write("f", "from alice")
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"f": "-from alice"},
		kept: map[string][]string{"f": {"base", "from alice", "from bob!"}},
	},
	resolving(KeepTheirs, map[string]string{"f": "-from alice"}),
	resolving(KeepMine, map[string]string{"f": "-from bob!, and more"}),
	resolving(KeepBoth, map[string]string{"f": "-from bob!, and more", "f (alice)": "-from alice"}),
	{
		name: "an earlier version is restored",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "one")
			w.settle()
			a.files("f", "two")
			w.settle()
			b.write("f", "three, unscanned")
			return b, a
		},
		do:   []KillVerb{{What: "restore", Path: "f"}, scans},
		want: map[string]string{"f": "-one"},
		kept: map[string][]string{"f": {"one", "two", "three, unscanned"}},
	},
	{
		name: "a file is undeleted",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("d/f", "one")
			w.settle()
			a.remove("d/f")
			a.rmdir("d")
			w.settle()
			return b, a
		},
		do:   []KillVerb{{"undelete", "d/f", ""}, scans},
		want: map[string]string{"d/f": "-one"},
	},
	{
		name: "marks: directories are made and removed",
		base: func(w *world, a, b *party) (*party, *party) {
			a.mkdir("old/inner")
			w.settle()
			b.mkdir("new/inner")
			b.rmdir("old/inner")
			b.rmdir("old")
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"new/inner": "/"},
	},
	{
		name: "marks: another's directories arrive and go",
		base: func(w *world, a, b *party) (*party, *party) {
			a.mkdir("old/inner")
			a.mkdir("filled")
			w.settle()
			a.mkdir("new/inner")
			a.rmdir("old/inner")
			a.rmdir("old")
			a.write("filled/f", "in it")
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"new/inner": "/", "filled/f": "-in it"},
	},
	{
		name: "marks: a directory that another removed has a new file",
		base: func(w *world, a, b *party) (*party, *party) {
			a.mkdir("d")
			a.mkdir("e")
			w.settle()
			a.rmdir("d")
			a.rmdir("e")
			a.scan()
			b.write("d/mine", "not to be lost")
			return b, a
		},
		do:   []KillVerb{polls, scans},
		want: map[string]string{"d/mine": "-not to be lost"},
	},
	{
		name: "marks: both have made the same directory",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			a.mkdir("d")
			a.scan()
			b.mkdir("d")
			return b, a
		},
		do:   []KillVerb{scans, polls},
		want: map[string]string{"f": "-base", "d": "/"},
	},
	{
		name: "links: symbolic links are made, changed and removed",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "a file", "g", "another")
			a.link("f", "changes")
			a.link("f", "goes")
			w.settle()
			b.link("f", "new")
			b.link("g", "changes")
			b.remove("goes")
			b.link("f", "g") // of a file
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"f": "-a file", "g": "> f", "new": "> f", "changes": "> g"},
		kept: map[string][]string{"g": {"another"}},
	},
	{
		name: "links: another's symbolic links arrive",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "a file", "g", "another")
			a.link("f", "changes")
			a.link("f", "goes")
			a.link("f", "becomes")
			w.settle()
			a.link("f", "d/up")
			a.link("g", "changes")
			a.remove("goes")
			a.link("f", "g")
			a.remove("becomes")
			a.write("becomes", "a file now")
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls},
		want: map[string]string{"f": "-a file", "g": "> f", "d/up": "> f", "changes": "> g", "becomes": "-a file now"},
		kept: map[string][]string{"g": {"another"}},
	},
	{
		name: "links: both have changed a symbolic link",
		base: func(w *world, a, b *party) (*party, *party) {
			a.link("base", "l")
			w.settle()
			a.link("from-alice", "l")
			a.scan()
			b.link("from-bob", "l")
			return b, a
		},
		do:   []KillVerb{scans},
		want: map[string]string{"l": "> from-bob"},
		own:  map[string]string{"l.conflict-alice": "-from-alice"},
	},
	{
		name: "the executable bit alone changes",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "f", "g", "g")
			w.settle()
			a.chmod("f", true)
			a.scan()
			b.chmod("g", true)
			return b, a
		},
		do:   []KillVerb{polls, scans},
		want: map[string]string{"f": "xf", "g": "xg"},
	},
	{
		name: "ignored: another's " + scan.IgnoreFile + " arrives",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("log.tmp", "shared before")
			w.settle()
			a.write(scan.IgnoreFile, "*.tmp\n")
			a.scan()
			b.write("log.tmp", "bob's own")
			b.write("x.tmp", "nobody's business")
			return b, a
		},
		do:     []KillVerb{polls, scans},
		want:   map[string]string{scan.IgnoreFile: "-*.tmp\n"},
		own:    map[string]string{"log.tmp": "-bob's own", "x.tmp": "-nobody's business"},
		theirs: map[string]string{"log.tmp": "-shared before"},
	},
	{
		name: "ignored: a " + scan.IgnoreFile + " is made",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("log.tmp", "shared before", "build/old", "shared before")
			w.settle()
			b.write(scan.IgnoreFile, "*.tmp\nbuild/\n")
			b.write("log.tmp", "bob's own")
			b.write("build/new", "nobody's business")
			b.remove("build/old")
			b.write("f", "shared")
			return b, a
		},
		do:     []KillVerb{scans},
		want:   map[string]string{scan.IgnoreFile: "-*.tmp\nbuild/\n", "f": "-shared"},
		own:    map[string]string{"log.tmp": "-bob's own", "build/new": "-nobody's business"},
		theirs: map[string]string{"log.tmp": "-shared before", "build/old": "-shared before"},
	},
	{
		name: "ignored: a " + scan.IgnoreFile + " goes",
		base: func(w *world, a, b *party) (*party, *party) {
			a.files(scan.IgnoreFile, "*.tmp\n", "f", "base")
			w.settle()
			b.write("x.tmp", "bob's")
			a.write("y.tmp", "alice's")
			w.settle()
			a.remove(scan.IgnoreFile)
			a.scan()
			return b, a
		},
		do:   []KillVerb{polls, scans},
		want: map[string]string{"f": "-base", "x.tmp": "-bob's", "y.tmp": "-alice's"},
	},
	{
		name: "the admin removes somebody",
		base: func(w *world, a, b *party) (*party, *party) {
			w.invite("xaver", false)
			a.write("f", "before")
			w.settle()
			w.settle()
			return a, b
		},
		do:    []KillVerb{{What: "remove", How: "xaver"}, polls},
		want:  map[string]string{"f": "-before"},
		after: removedXaver,
	},
	{
		name: "the grid has lost the Personal directory",
		base: func(w *world, a, b *party) (*party, *party) {
			b.files("f", "bob's", "d/g", "bob's, too")
			w.settle()
			w.lose(b)
			return b, a
		},
		do:   []KillVerb{{What: "poll for long"}},
		want: map[string]string{"f": "-bob's", "d/g": "-bob's, too"},
		after: func(w *world, killed, other *party) {
			killed.write("f", "bob's next")
			w.settle()
			other.has(map[string]string{"f": "bob's next", "d/g": "bob's, too"})
			if n := len(entriesOf(w.t.(*testing.T), other, other.f.Collective())); n != 3 {
				w.t.Errorf("%d entries in the Collective", n)
			}
		},
	},
	following(false),
	following(true),
}

// texts are what the two wrote who race.
var texts = map[string]string{"alice": "from alice", "bob": "from bob!"}

func resolving(keep Keep, want map[string]string) killCase {
	return killCase{
		name: "a conflict is resolved, " + string(keep),
		base: func(w *world, a, b *party) (*party, *party) {
			a.files("f", "base")
			w.settle()
			w.conflict(a, b)
			b.write("f", "from bob!, and more")
			return b, a
		},
		do:   []KillVerb{{"resolve", "f", string(keep)}, scans},
		want: want,
		kept: map[string][]string{"f": {"base", "from alice", "from bob!", "from bob!, and more"}},
	}
}

func following(adminOnly bool) killCase {
	name := "the folder moves, all may invite"
	if adminOnly {
		name = "the folder moves, the admin invites"
	}
	return killCase{
		name: name,
		base: func(w *world, a, b *party) (*party, *party) {
			if err := a.f.SetAdminOnly(adminOnly); err != nil {
				w.t.Fatal(err)
			}
			w.invite("xaver", false)
			a.write("f", "before")
			w.settle()
			w.settle()
			if got, err := a.f.Remove(w.t.Context(), "xaver"); err != nil || got.Waits != "" {
				w.t.Fatalf("%+v, %v", got, err)
			}
			return b, a
		},
		do:    []KillVerb{polls},
		want:  map[string]string{"f": "-before"},
		after: removedXaver,
	}
}

func removedXaver(w *world, killed, other *party) {
	xaver := w.parties[2]
	removed(w.t.(*testing.T), w, xaver, killed, other)
}

// conflict has both edit f; bob is in conflict, and has published the outcome.
func (w *world) conflict(a, b *party) {
	a.write("f", texts["alice"])
	a.scan()
	b.write("f", texts["bob"])
	b.scan()
	b.has(map[string]string{"f": texts["bob"], "f.conflict-alice": texts["alice"]})
}

// raced has both publish f before either hears of the other. It gives the one who
// awaits the other's action.
func (w *world) raced(a, b *party) (awaits, acts *party) {
	a.files("f", "base")
	w.settle()
	a.write("f", texts["alice"])
	b.write("f", texts["bob"])
	var once sync.Once
	a.fault = func(step string) error {
		if step == "link.ready" {
			once.Do(b.scan)
		}
		return nil
	}
	a.scan()
	a.fault = nil
	if a.head("f") > b.head("f") {
		return a, b
	}
	return b, a
}

// offline has a participant write versions of a file and capture them while there is
// no grid.
func (p *party) offline(path string, versions ...string) {
	p.t.Helper()
	for _, text := range versions {
		p.write(path, text)
		if err := p.f.scan(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
		p.clock.Add(minute)
	}
}

// files has a participant publish files, given by path and contents in turn.
func (p *party) files(list ...string) {
	p.t.Helper()
	for i := 0; i < len(list); i += 2 {
		p.write(list[i], list[i+1])
	}
	p.scan()
}
