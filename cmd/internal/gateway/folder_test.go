package gateway_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warren/cmd/internal/gateway"
	"warren/magicfolder"
	"warren/tests/gridtest"
)

// member is one participant: a node's parts, its folder and its directory.
type member struct {
	folder *magicfolder.Folder
	dir    string
}

func (m member) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m member) scan(t *testing.T) {
	t.Helper()
	if err := m.folder.ScanNow(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m member) poll(t *testing.T) {
	t.Helper()
	if err := m.folder.PollNow(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m member) want(t *testing.T, name, text string) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(m.dir, name)); err != nil || string(b) != text {
		t.Errorf("%s: %q, %v, want %q", name, b, err, text)
	}
}

// manager makes a participant's folders; they run only when told to.
func manager(t *testing.T, c *gridtest.Client) *magicfolder.Manager {
	t.Helper()
	m, err := magicfolder.NewManager(magicfolder.Options{
		Grid: gateway.New(c.Files, c.Dirs), StatePath: filepath.Join(t.TempDir(), "folders.db"), Settle: -1, Linger: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("closing the folders: %v", err)
		}
	})
	return m
}

// TestTwoParticipants: a file each way, an edit, a delete, and an edit that waits
// below happy, over storage servers, real files and real folders.
func TestTwoParticipants(t *testing.T) {
	ctx := t.Context()
	grid := gridtest.New(t, gridtest.Options{})
	var alice, bob member
	var err error
	alice.dir, bob.dir = t.TempDir(), t.TempDir()
	if alice.folder, err = manager(t, grid.Client).Create(ctx, "project", alice.dir, "alice"); err != nil {
		t.Fatal(err)
	}
	if bob.folder, err = manager(t, grid.Join(t)).Join(ctx, "project", bob.dir, "bob", alice.folder.Collective()); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long ", 100_000)
	alice.write(t, "from alice", "hello")
	alice.write(t, "deep/below/long", long)
	alice.write(t, "empty", "")
	alice.scan(t)
	bob.poll(t)
	bob.want(t, "from alice", "hello")
	bob.want(t, "deep/below/long", long)
	bob.want(t, "empty", "")

	bob.write(t, "from bob", "hello too")
	bob.write(t, "from alice", "hello, edited")
	bob.scan(t)
	alice.poll(t)
	alice.want(t, "from bob", "hello too")
	alice.want(t, "from alice", "hello, edited")

	if err := os.Remove(filepath.Join(alice.dir, "from bob")); err != nil {
		t.Fatal(err)
	}
	alice.scan(t)
	bob.poll(t)
	if _, err := os.Stat(filepath.Join(bob.dir, "from bob")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the delete did not arrive: %v", err)
	}

	// Below happy an edit waits in the stash, with the bytes that were saved.
	grid.Servers[0].Stop(t)
	grid.Servers[1].Stop(t)
	alice.write(t, "waiting", strings.Repeat("w", 1000))
	if err := alice.folder.ScanNow(ctx); !errors.Is(err, magicfolder.ErrUnhappy) {
		t.Errorf("stored on three servers: %v", err)
	}
	if st := alice.folder.Status(); st.ToUpload.Files != 1 {
		t.Errorf("%+v", st.ToUpload)
	}
	grid.Servers[0].Start(t)
	alice.scan(t)
	bob.poll(t)
	bob.want(t, "waiting", strings.Repeat("w", 1000))
	for _, m := range []member{alice, bob} {
		if st := m.folder.Status(); len(st.Conflicts)+len(st.Errors)+len(st.Alarms) != 0 || st.ToUpload.Files+st.ToDownload.Files+st.ToLink != 0 {
			t.Errorf("%s: %+v", m.folder.Participant(), st)
		}
	}
}
