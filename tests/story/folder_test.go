package story

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/magicfolder"
	"warren/tests/interop"
)

// participants wants the folder to have exactly these, as this node sees it.
func (n *node) participants(t testing.TB, folder string, want ...string) {
	t.Helper()
	interop.Eventually(t, time.Minute, n.name+" seeing "+strings.Join(want, ", "), func() error {
		have := map[string]bool{}
		for _, p := range n.folder(t, folder).Participants {
			have[p.Name] = true
		}
		for _, w := range want {
			if !have[w] {
				return fmt.Errorf("%s is missing from %v", w, have)
			}
		}
		if len(have) != len(want) {
			return fmt.Errorf("there are %v", have)
		}
		return nil
	})
}

// Two newcomers join one folder within a second, twenty times: both are in it.
func TestTwoJoinAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	const batch = 5 // folders at a time: most of a round is waiting
	for round := range 20 / batch {
		var folders []string
		var nodes []*node // two for each folder
		for i := range batch {
			folder := fmt.Sprintf("f%d", round*batch+i)
			folders = append(folders, folder)
			op.share(t, folder, map[string]string{"hello": folder})
			var commands [2][]string
			for j, name := range []string{"bob", "carol"} {
				n, _, args := h.joinArgs(name+"-"+folder, op.invite(t, name, folder).Code)
				nodes, commands[j] = append(nodes, n), args
			}
			for j, args := range commands {
				nodes[2*i+j].run = h.spawn(args...)
			}
		}
		for _, n := range nodes {
			n.answers(t)
		}
		for i, folder := range folders {
			for _, n := range []*node{nodes[2*i], nodes[2*i+1], op} {
				n.participants(t, folder, "op", "bob", "carol")
			}
			for _, n := range nodes[2*i : 2*i+2] {
				holds(t, n.dir+"-folder", map[string]string{"hello": folder})
				n.run.Kill()
			}
			op.must(t, "folder", "leave", folder)
		}
	}
}

// Mailbox, introducer and operator are away: two members still sync, and also
// after both were restarted.
func TestMembersNeedNobodyElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	op := h.client(t, "op", 2, 2, 3)
	want := map[string]string{"a": "one", "sub/b": "two"}
	op.share(t, "docs", want)
	bob, bobs := h.join(t, "bob", op.invite(t, "bob", "docs").Code)
	carol, carols := h.join(t, "carol", op.invite(t, "carol", "docs").Code)
	holds(t, bobs, want)
	holds(t, carols, want)
	bob.settled(t, "docs")
	carol.participants(t, "docs", "op", "bob", "carol")

	h.boxProc.Kill()
	h.intro.run.Kill()
	op.run.Kill()
	want["from-bob"] = "hello carol"
	write(t, bobs, map[string]string{"from-bob": "hello carol"})
	holds(t, carols, want)

	bob.stop(t)
	carol.stop(t)
	bob.start(t)
	carol.start(t)
	want["from-carol"] = "hello bob"
	write(t, carols, map[string]string{"from-carol": "hello bob"})
	holds(t, bobs, want)
	delete(want, "a")
	if err := os.Remove(filepath.Join(bobs, "a")); err != nil {
		t.Fatal(err)
	}
	holds(t, carols, want)
}

// Two of five servers are down, below the four that an upload wants: an edit
// waits, status says why, one server returns, the edit arrives.
func TestTooFewServers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 5)
	op := h.client(t, "op", 3, 4, 5)
	want := map[string]string{"a": "one"}
	ops := op.share(t, "docs", want)
	bob, bobs := h.join(t, "bob", op.invite(t, "bob", "docs").Code)
	holds(t, bobs, want)
	bob.settled(t, "docs")
	op.settled(t, "docs")

	h.servers[0].run.Kill()
	h.servers[1].run.Kill()
	edit := strings.Repeat("an edit while two servers are away\n", 100)
	write(t, ops, map[string]string{"a": edit})
	interop.Eventually(t, time.Minute, "the edit waiting", func() error {
		f := op.folder(t, "docs")
		if f.State != magicfolder.StateWaiting || f.Reason == "" || f.ToUpload.Files != 1 {
			return fmt.Errorf("%s (%s), %d to upload", f.State, f.Reason, f.ToUpload.Files)
		}
		return nil
	})
	t.Logf("status: %s", op.folder(t, "docs").Reason)
	if out := op.must(t, "status"); !strings.Contains(out, "waiting") || !strings.Contains(out, "too few for storing: edits wait until 4 are connected") {
		t.Errorf("status does not say why:\n%s", out)
	}
	// What is stored can still be read, and nothing of the edit has leaked.
	holds(t, bobs, want)

	h.servers[0].start(t)
	want["a"] = edit
	before := time.Now()
	holds(t, bobs, want)
	t.Logf("the edit arrived %.1f s after the server's return", time.Since(before).Seconds())
	op.settled(t, "docs")
}

// The newcomer and a server are killed while the folder comes, and start again:
// it converges, nothing is lost, nothing doubled.
func TestKilledDuringSync(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	op := h.client(t, "op", 2, 3, 3)
	want := map[string]string{}
	for i := range 60 {
		want[fmt.Sprintf("d%d/f%d", i%5, i)] = strings.Repeat(fmt.Sprintf("file %d\n", i), 1+i*400)
	}
	ops := op.share(t, "docs", want)
	bob, bobs := h.join(t, "bob", op.invite(t, "bob", "docs").Code)
	for round := range 3 {
		least := 5 + 15*round
		interop.Eventually(t, time.Minute, "part of the folder", func() error {
			if have := files(t, bobs); len(have) < least {
				return fmt.Errorf("%d files", len(have))
			}
			return nil
		})
		bob.run.Kill()
		h.servers[round].run.Kill()
		name := fmt.Sprintf("bob-%d", round)
		write(t, bobs, map[string]string{name: name})
		want[name] = name
		h.servers[round].start(t)
		bob.start(t)
	}
	holds(t, bobs, want)
	holds(t, ops, want)
	// The operator's process dies in the middle of an upload, too.
	big := strings.Repeat("0123456789abcdef", 1<<18)
	for i := range 4 {
		name := fmt.Sprintf("big%d", i)
		want[name] = big + name
		write(t, ops, map[string]string{name: want[name]})
	}
	interop.Eventually(t, time.Minute, "an upload", func() error {
		if _, err := os.Stat(filepath.Join(bobs, "big0")); err != nil {
			if f := op.folder(t, "docs"); f.ToUpload.Files == 0 {
				return err
			}
		}
		return nil
	})
	op.run.Kill()
	op.start(t)
	holds(t, bobs, want)
	bob.settled(t, "docs")
	op.settled(t, "docs")
	holds(t, ops, want)
	for _, n := range []*node{op, bob} {
		n.participants(t, "docs", "op", "bob")
		if f := n.folder(t, "docs"); len(f.Conflicts)+len(f.Errors)+len(f.Alarms) > 0 {
			t.Errorf("%s: %+v %+v %+v", n.name, f.Conflicts, f.Errors, f.Alarms)
		}
	}
}

// The plain life of a folder: 300 small files within seconds, edits and deletes
// both ways, a conflict that keeps both sides' bytes, nothing outside the folder.
func TestLifeOfAFolder(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 5)
	op := h.client(t, "op", 3, 4, 5)
	want := map[string]string{"first": "first"}
	ops := op.share(t, "docs", want)
	bob, bobs := h.join(t, "bob", op.invite(t, "bob", "docs").Code)
	holds(t, bobs, want)
	outside := func() map[string]bool {
		entries, err := os.ReadDir(h.dir)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, e := range entries {
			names[e.Name()] = true
		}
		return names
	}
	around := outside()

	small := map[string]string{}
	for i := range 300 {
		small[fmt.Sprintf("small/%02d/%d.txt", i%30, i)] = fmt.Sprintf("small file number %d, more than fifty-five bytes so that it is no literal\n", i)
	}
	maps.Copy(want, small)
	before := time.Now()
	write(t, ops, small)
	holds(t, bobs, want)
	t.Logf("300 small files arrived after %.1f s", time.Since(before).Seconds())

	// Edits and deletes, each way.
	write(t, ops, map[string]string{"first": "edited by op"})
	want["first"] = "edited by op"
	holds(t, bobs, want)
	bob.settled(t, "docs")
	write(t, bobs, map[string]string{"first": "edited by bob", "small/new": "bob's"})
	want["first"], want["small/new"] = "edited by bob", "bob's"
	holds(t, ops, want)
	for dir, name := range map[string]string{ops: "small/00/0.txt", bobs: "small/01/1.txt"} {
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
		delete(want, name)
	}
	holds(t, ops, want)
	holds(t, bobs, want)

	// A conflict: both edit while bob is away.
	op.settled(t, "docs")
	bob.settled(t, "docs")
	bob.stop(t)
	write(t, ops, map[string]string{"first": "op's version"})
	write(t, bobs, map[string]string{"first": "bob's version"})
	op.settled(t, "docs")
	bob.start(t)
	mine := maps.Clone(want)
	mine["first"], mine["first.conflict-op"] = "bob's version", "op's version"
	holds(t, bobs, mine)
	bob.settled(t, "docs")
	// Bob's is a child of op's now: it goes to op, whose bytes bob's conflict file keeps.
	want["first"] = "bob's version"
	holds(t, ops, want)
	if f := bob.folder(t, "docs"); len(f.Conflicts) != 1 {
		t.Errorf("bob's status shows %d conflicts", len(f.Conflicts))
	}

	for name := range outside() {
		if !around[name] {
			t.Errorf("%s appeared beside the folders", name)
		}
	}
	if _, err := os.Stat(filepath.Join(h.dir, "Warren")); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was put in the home directory")
	}
}
