package interop

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"warren/magicfolder"
)

func (m *ourMember) conflicts(t testing.TB, folder string) magicfolder.Conflicts {
	t.Helper()
	var list []magicfolder.Conflicts
	if err := json.Unmarshal([]byte(m.do(t, "folder", "conflicts", "--json", folder)), &list); err != nil || len(list) != 1 {
		t.Fatal(err, list)
	}
	return list[0]
}

func (m *ourMember) history(t testing.TB, folder, path string) []magicfolder.FileVersion {
	t.Helper()
	var list []magicfolder.FileVersion
	if err := json.Unmarshal([]byte(m.do(t, "folder", "history", "--json", folder, path)), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// Ours and a magic-folder 24.3 both publish, and so are in conflict; ours resolves that
// in three ways. Another magic-folder, which was away meanwhile, takes each outcome as
// the next version; the one that was in the conflict stays in it, which we say.
func TestResolutionsWithMagicFolder(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	intro := StartOurIntroducer(t)
	StartOurStorage(t, intro.FURL, "store")
	var nodes [3]*WebClient
	Together(t,
		func() { nodes[0] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) },
		func() { nodes[1] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) },
		func() { nodes[2] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) })
	bob := &ourMember{dir: nodes[0].Dir}
	mailbox := ourMailbox(t)
	var alice, zoe *realMember
	Together(t, func() { alice = startRealMember(t, nodes[1], mailbox) }, func() { zoe = startRealMember(t, nodes[2], mailbox) })
	bobs := filepath.Join(t.TempDir(), "bob")
	bob.do(t, "folder", "add", "--name", "docs", "--author", "bob", bobs)
	alices := alice.takes(t, "docs", bob.code(t, mailbox, "docs", "alice"), "alice")
	zoes := zoe.takes(t, "docs", bob.code(t, mailbox, "docs", "zoe"), "zoe")
	names := []string{"theirs", "mine", "edited"}
	for _, name := range names {
		writeIn(t, bobs, name, "base")
		arrives(t, alices, name, "base")
		arrives(t, zoes, name, "base")
	}
	alice.linked(t, "docs", names)
	zoe.linked(t, "docs", names)

	zoe.stop(t)
	alice.stop(t)
	for _, name := range names {
		writeIn(t, bobs, name, "bob's "+name)
		writeIn(t, alices, name, "alice's "+name)
	}
	bob.do(t, "folder", "scan", "docs")
	bob.current(t, "docs")
	alice.start(t)
	for _, name := range names {
		arrives(t, bobs, name+".conflict-alice", "alice's "+name)
		arrives(t, alices, name+".conflict-bob", "bob's "+name)
	}
	bob.do(t, "folder", "resolve", "docs", "theirs", "--theirs")
	bob.do(t, "folder", "resolve", "docs", filepath.Join(bobs, "mine.conflict-alice"), "--mine")
	writeIn(t, bobs, "edited", "of both")
	remove(t, bobs, "edited.conflict-alice")
	outcome := map[string]string{"theirs": "alice's theirs", "mine": "bob's mine", "edited": "of both"}
	bob.do(t, "folder", "scan", "docs")
	bob.current(t, "docs")

	zoe.start(t)
	for name, want := range outcome {
		arrives(t, bobs, name, want)
		arrives(t, zoes, name, want)
		arrives(t, alices, name, "alice's "+name)
	}
	zoe.linked(t, "docs", names)
	if c := zoe.conflicts(t, "docs"); len(c) > 0 {
		t.Errorf("who was away has conflicts: %v", c)
	}
	if c := alice.conflicts(t, "docs"); len(c) != len(names) {
		t.Errorf("who was in it has conflicts: %v", c)
	}
	Eventually(t, 2*time.Minute, "alice alone being stuck", func() error {
		got := bob.conflicts(t, "docs")
		if len(got.Files) != 0 || len(got.Stuck) != len(names) {
			return fmt.Errorf("%+v", got)
		}
		for _, s := range got.Stuck {
			if s.Participant != "alice" || s.Warren {
				return fmt.Errorf("%+v", got)
			}
		}
		return nil
	})
	for _, name := range names {
		merges, authors := 0, map[string]bool{}
		list := bob.history(t, "docs", name)
		for _, v := range list {
			if v.Merge {
				merges++
			}
			authors[v.Author] = true
		}
		if merges != 1 || !authors["alice"] || !authors["bob"] || list[0].Apart {
			t.Errorf("%s: %+v", name, list)
		}
	}

	// And the folder goes on between the others.
	zoe.idle(t, "docs")
	writeIn(t, zoes, "mine", "zoe goes on")
	arrives(t, bobs, "mine", "zoe goes on")
	bob.do(t, "folder", "restore", "docs", "mine", "--version", "2")
	arrives(t, bobs, "mine", "bob's mine")
	arrives(t, zoes, "mine", "bob's mine")
	writeIn(t, alices, "another", "alice still syncs other files")
	arrives(t, zoes, "another", "alice still syncs other files")
	zoe.noErrors(t, "docs")
	bob.current(t, "docs")
}
