package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two magic-folder 24.3 daemons, each on the web API of a node of ours, on a grid
// that is ours alone, meeting through our mailbox by magic-folder's own invite.
func TestMagicFoldersOnOurNodes(t *testing.T) {
	t.Parallel()
	NeedPeers(t)
	intro := StartOurIntroducer(t)
	for i := range 2 {
		StartOurStorage(t, intro.FURL, fmt.Sprintf("storage%d", i), "--shares-needed=1", "--shares-happy=1", "--shares-total=1")
	}
	mailbox := ourMailbox(t)
	a := startRealMember(t, StartOurClient(t, intro.FURL, 1, 2, 2, 2), mailbox)
	b := startRealMember(t, StartOurClient(t, intro.FURL, 1, 2, 2, 2), mailbox)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("first: %v\nsecond: %v", a.events(t), b.events(t))
		}
	})
	dirs := t.TempDir()
	x, y := filepath.Join(dirs, "x"), filepath.Join(dirs, "y")
	for _, dir := range []string{x, y} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const folder = "on ours"
	a.add(t, folder, "alice", x)
	a.Invite(t, b, folder, "bob", y)

	for i := range 15 {
		writeIn(t, x, fmt.Sprintf("from alice/%d ü %%", i), strings.Repeat("alice ", i*i))
		writeIn(t, y, fmt.Sprintf("from bob/%d @", i), strings.Repeat("bob ", i*i))
	}
	writeIn(t, x, "large", strings.Repeat("0123456789abcdef", 100_000))
	same(t, x, y, 31)
	a.idle(t, folder)
	b.idle(t, folder)
	writeIn(t, x, "from bob/3 @", "edited by alice")
	writeIn(t, y, "large", "edited by bob")
	arrives(t, y, "from bob/3 @", "edited by alice")
	arrives(t, x, "large", "edited by bob")
	b.idle(t, folder)
	writeIn(t, y, "from bob/3 @", "edited by bob")
	arrives(t, x, "from bob/3 @", "edited by bob")
	a.idle(t, folder)
	b.idle(t, folder)
	remove(t, x, "from bob/4 @")
	remove(t, y, "large")
	vanishes(t, y, "from bob/4 @")
	vanishes(t, x, "large")

	// Not a conflict: between two of magic-folder's own that would prove nothing of our
	// nodes, and it stops a folder whose file it scans and fetches at the same time.
	a.idle(t, folder)
	b.idle(t, folder)
	b.stop(t)
	writeIn(t, x, "from alice/9 ü %", "edited while bob was away")
	writeIn(t, y, "from alice/8 ü %", "edited by bob, away")
	b.start(t)
	arrives(t, y, "from alice/9 ü %", "edited while bob was away")
	arrives(t, x, "from alice/8 ü %", "edited by bob, away")
	writeIn(t, x, "last", "the end")
	arrives(t, y, "last", "the end")
	a.noErrors(t, folder)
	b.noErrors(t, folder)
}
