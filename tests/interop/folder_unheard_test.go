package interop

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file is made and deleted while the storage server is away. A magic-folder 24.3 never
// hears of that, since from a delete of what it never had it does not recover: a file made
// at that path later reaches it as a plain file. The versions from before are in the
// history.
func TestUnheardOfWithMagicFolder(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	intro := StartOurIntroducer(t)
	store, storeDir := StartOurStorage(t, intro.FURL, "store")
	var nodes [2]*WebClient
	Together(t,
		func() { nodes[0] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) },
		func() { nodes[1] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) })
	mailbox := ourMailbox(t)
	bob, zoe := &ourMember{dir: nodes[0].Dir}, startRealMember(t, nodes[1], mailbox)
	bobs := filepath.Join(t.TempDir(), "bob")
	bob.do(t, "folder", "add", "--name", "docs", "--author", "bob", bobs)
	zoes := zoe.takes(t, "docs", bob.code(t, mailbox, "docs", "zoe"), "zoe")
	writeIn(t, bobs, "base", "of both")
	arrives(t, zoes, "base", "of both")
	bob.current(t, "docs")
	zoe.stop(t)
	store.Kill()

	captured := func(what string, versions, withheld int) {
		t.Helper()
		Eventually(t, time.Minute, what, func() error {
			st, err := bob.status(t, "docs")
			if err == nil && (st.ToUpload.Files != versions || st.Withheld != withheld) {
				err = fmt.Errorf("%d to upload, %d withheld", st.ToUpload.Files, st.Withheld)
			}
			return err
		})
	}
	// An edit within five seconds of the one before takes its place: the delete comes
	// later than that.
	writeIn(t, bobs, "f", "one")
	captured("the file captured", 1, 0)
	<-time.After(6 * time.Second)
	remove(t, bobs, "f")
	captured("the delete captured", 0, 1)

	runNode(t, Warren(t), storeDir)
	writeIn(t, bobs, "next", "after the server's return")
	bob.current(t, "docs")
	if out := bob.do(t, "folder", "status", "docs"); !strings.Contains(out, "1 file, made and deleted before anybody heard") {
		t.Errorf("status does not say what is withheld:\n%s", out)
	}
	zoe.start(t)
	arrives(t, zoes, "next", "after the server's return")
	zoe.idle(t, "docs")
	writeIn(t, bobs, "f", "made again")
	arrives(t, zoes, "f", "made again")
	writeIn(t, zoes, "f", "zoe's")
	arrives(t, bobs, "f", "zoe's")
	remove(t, bobs, "f")
	vanishes(t, zoes, "f")
	zoe.idle(t, "docs")
	if c := zoe.conflicts(t, "docs"); len(c) > 0 {
		t.Errorf("conflicts: %v", c)
	}
	if st := bob.current(t, "docs"); st.Withheld != 0 || len(st.Conflicts) > 0 {
		t.Errorf("%+v", st)
	}
	// The delete that nobody heard of is none: what was made again is an edit.
	var line []string
	for _, v := range bob.history(t, "docs", "f") {
		line = append(line, fmt.Sprint(v.Author, " ", v.Size, " ", v.Deleted))
	}
	if got := strings.Join(line, ", "); got != "bob 0 true, zoe 5 false, bob 10 false, bob 3 false" {
		t.Errorf("the history is %s", got)
	}
}
