package interop

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/magicfolder"
	"warren/magicfolder/snapshot"
	"warren/node/caps"
)

// amongThree is a folder of two of ours and magic-folder 24.3, with their directories.
type amongThree struct {
	alice, bob *ourMember
	carol      *realMember
	a, b, c    string
	collective string // the writecap
}

// shareAmongThree starts a grid, a server of either kind, and a folder that carol, on
// magic-folder, shares with two of ours.
func shareAmongThree(t *testing.T, folder string) amongThree {
	t.Helper()
	intro := StartOurIntroducer(t)
	StartStorage(t, intro.FURL, "tahoe")
	StartOurStorage(t, intro.FURL, "ours", "--shares-needed=1", "--shares-happy=1", "--shares-total=1")
	mailbox := ourMailbox(t)
	f := amongThree{carol: startRealMember(t, StartClient(t, intro.FURL, 1, 2, 2, 2), mailbox), a: t.TempDir(), b: t.TempDir(), c: t.TempDir()}
	f.collective = f.carol.Share(t, folder, "carol", f.c)
	f.alice = joinOurs(t, intro.FURL, mailbox, f.collective, folder, "alice", f.a)
	f.bob = joinOurs(t, intro.FURL, mailbox, f.collective, folder, "bob", f.b)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("failures in magic-folder's log:\n%s", failures(f.carol.log))
		}
	})
	return f
}

// Two of ours are in conflict, resolve it, rename and delete, while magic-folder 24.3
// looks on in the same folder: it follows each outcome and never gets into the
// conflict. It is restarted between, and meets a version with two parents then.
func TestMagicFolderLooksOn(t *testing.T) {
	t.Parallel()
	NeedPeers(t)
	const folder = "three"
	f := shareAmongThree(t, folder)
	alice, bob, carol, a, b, c, collective := f.alice, f.bob, f.carol, f.a, f.b, f.c, f.collective
	all := func(name, want string) {
		t.Helper()
		for _, dir := range []string{a, b, c} {
			arrives(t, dir, name, want)
		}
	}
	calm := func() {
		t.Helper()
		carol.idle(t, folder)
		alice.current(t, folder)
		bob.current(t, folder)
		if got := carol.conflicts(t, folder); len(got) > 0 {
			t.Errorf("magic-folder is in a conflict: %v", got)
		}
		carol.noErrors(t, folder)
	}
	files := []string{"mine", "theirs.txt", "both.txt", "dir/merged"}
	for _, name := range files {
		writeIn(t, a, name, "base of "+name)
	}
	writeIn(t, c, "by magic-folder", "made by it")
	for _, name := range files {
		all(name, "base of "+name)
	}
	all("by magic-folder", "made by it")
	calm()

	// Both edit while bob is away.
	bob.run.Stop(time.Minute)
	for _, name := range files[:3] {
		writeIn(t, a, name, "alice's "+name)
		writeIn(t, b, name, "bob's "+name)
		arrives(t, c, name, "alice's "+name)
	}
	alice.current(t, folder)
	bob.start(t)
	for _, name := range files[:3] {
		all(name, "bob's "+name)
		arrives(t, b, magicConflict(name, "alice"), "alice's "+name)
	}
	calm()
	bob.do(t, "folder", "resolve", "--mine", folder, "mine")
	bob.do(t, "folder", "resolve", "--theirs", folder, "theirs.txt")
	bob.do(t, "folder", "resolve", "--keep-both", folder, "both.txt")
	all("mine", "bob's mine")
	all("theirs.txt", "alice's theirs.txt")
	all("both.txt", "bob's both.txt")
	all("both (alice).txt", "alice's both.txt")
	calm()
	for _, dir := range []string{a, b, c} {
		if left, err := filepath.Glob(filepath.Join(dir, "*.conflict-*")); err != nil || len(left) > 0 {
			t.Errorf("left: %q (%v)", left, err)
		}
	}

	// Renames, to and fro, and into a directory; by magic-folder, too.
	rename := func(dir, from, to string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(name string) {
		t.Helper()
		for _, dir := range []string{a, b, c} {
			vanishes(t, dir, name)
		}
	}
	rename(a, "mine", "sub/mine renamed")
	all("sub/mine renamed", "bob's mine")
	gone("mine")
	rename(c, "by magic-folder", "renamed by magic-folder")
	all("renamed by magic-folder", "made by it")
	gone("by magic-folder")
	calm()

	// While magic-folder is away two publish at once, one of ours and dora, whom the test
	// plays: the outcome descends from both.
	// Killed: asked to end, it does not always do so within a minute.
	carol.run.Kill()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32))
	web := alice.web(t)
	head := func(name string) (heads [2]magicfolder.Cap) {
		t.Helper()
		for i, who := range []string{"alice", "bob"} {
			personal := childCap(t, web, collective, who)
			heads[i] = magicfolder.Cap(childCap(t, web, personal, snapshot.Mangle(name)))
		}
		return heads
	}
	base := head("dir/merged")
	if base[0] != base[1] {
		t.Fatal("alice and bob have different versions")
	}
	writeIn(t, a, "dir/merged", "alice's at once")
	arrives(t, b, "dir/merged", "alice's at once")
	alice.current(t, folder)
	bob.current(t, folder)
	doras := PutSnapshot(t, web, key, snapshot.Metadata{Relpath: "dir/merged", Author: snapshot.Author{Name: "dora"},
		Modified: time.Now().Unix(), Parents: base[:1]}, []byte("dora's at once"))
	personal, err := caps.Parse(MakeFolderDirectory(t, web, map[string][2]string{snapshot.Mangle("dir/merged"): {"dirnode", doras.Text()}}))
	if err != nil {
		t.Fatal(err)
	}
	web.Must(t, "PUT", "/uri/"+url.PathEscape(collective)+"/dora?t=uri&replace=false", strings.NewReader(caps.ReadOnly(personal).Text()))
	var merged magicfolder.Cap
	Eventually(t, 3*time.Minute, "one version of alice's and bob's that descends from both", func() error {
		h := head("dir/merged")
		if h[0] != h[1] || h[0] == doras {
			return fmt.Errorf("the heads are not one")
		}
		parents := parentsOf(t, web, h[0])
		if len(parents) != 2 || !slices.Contains(parents, doras.Text()) {
			return fmt.Errorf("%d parents", len(parents))
		}
		merged = h[0]
		return nil
	})
	// Dora follows.
	web.Must(t, "PUT", "/uri/"+url.PathEscape(personal.Text())+"/"+url.PathEscape(snapshot.Mangle("dir/merged"))+"?t=uri&replace=true", strings.NewReader(merged.Text()))
	writeIn(t, c, "made while away", "by carol")
	carol.start(t)
	arrives(t, c, "dir/merged", "alice's at once")
	all("made while away", "by carol")
	carol.idle(t, folder)
	if got := carol.conflicts(t, folder); len(got) > 0 {
		t.Errorf("magic-folder is in a conflict: %v", got)
	}
	// And it goes on from there.
	writeIn(t, c, "dir/merged", "carol goes on")
	arrives(t, a, "dir/merged", "carol goes on")
	arrives(t, b, "dir/merged", "carol goes on")
	carol.linked(t, folder, []string{"dir/merged"})
	carol.idle(t, folder)
	alice.current(t, folder)
	bob.current(t, folder)
	remove(t, b, "dir/merged")
	gone("dir/merged")
	carol.noErrors(t, folder)
}

func magicConflict(name, participant string) string { return name + ".conflict-" + participant }

// childCap is the readcap of a directory's entry.
func childCap(t testing.TB, c *WebClient, dir, name string) string {
	t.Helper()
	var top [2]json.RawMessage
	var node struct {
		Children listed
	}
	err := json.Unmarshal(c.Must(t, "GET", "/uri/"+url.PathEscape(dir)+"?t=json", nil), &top)
	if err == nil {
		err = json.Unmarshal(top[1], &node)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, readcap := node.Children.child(t, name)
	return readcap
}

// parentsOf are those of a version.
func parentsOf(t testing.TB, c *WebClient, version magicfolder.Cap) []string {
	t.Helper()
	var m struct{ Parents []string }
	if err := json.Unmarshal(c.Must(t, "GET", "/uri/"+url.PathEscape(childCap(t, c, version.Text(), "metadata")), nil), &m); err != nil {
		t.Fatal(err)
	}
	return m.Parents
}
