package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// nodes are an introducer, a storage server and a client that live in three
// directories, whatever program runs them.
type nodes struct {
	introducer, storage, client string
	furl                        string
}

// makeNodes makes the three directories with a program and starts its introducer
// once, for the FURL that the others need.
func makeNodes(t *testing.T, program string) *nodes {
	t.Helper()
	top := t.TempDir()
	n := &nodes{introducer: filepath.Join(top, "introducer"), storage: filepath.Join(top, "storage"), client: filepath.Join(top, "client")}
	makeNode(t, program, "create-introducer", "", n.introducer)
	p := runNode(t, program, n.introducer)
	n.furl = waitForFile(t, p, filepath.Join(n.introducer, "private", "introducer.furl"))
	p.Stop(2 * time.Minute)
	Together(t,
		func() { makeNode(t, program, "create-node", n.furl, n.storage, "--nickname=stör", "--webport=none") },
		func() {
			makeNode(t, program, "create-client", n.furl, n.client, "--webport="+freeEndpoint(t), "--shares-needed=1", "--shares-happy=1", "--shares-total=1")
		})
	return n
}

// identity is all that must stay the same whoever runs the directories: what other
// nodes know them by, and their secrets. What only one of the programs writes is
// absent until it has run, so absent files are left out.
func (n *nodes) identity(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for dir, names := range map[string][]string{
		n.introducer: {"private/introducer.furl", "private/node.pem", "my_nodeid", "tahoe.cfg"},
		n.storage: {"private/storage.furl", "private/node.pem", "private/node.privkey", "private/secret", "private/convergence",
			"my_nodeid", "node.pubkey", "permutation-seed", "tahoe.cfg", "private/introducers.yaml"},
		n.client: {"private/node.pem", "private/node.privkey", "private/secret", "private/convergence", "my_nodeid", "node.pubkey", "tahoe.cfg", "private/introducers.yaml"},
	} {
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			if err == nil {
				found[filepath.Base(dir)+"/"+name] = strings.TrimSpace(string(b))
			}
		}
	}
	return found
}

// shares are the hashes of all share files, leases and all: neither program
// renews a lease here.
func (n *nodes) shares(t *testing.T) map[string][32]byte {
	t.Helper()
	found := map[string][32]byte{}
	files, err := filepath.Glob(filepath.Join(n.storage, "storage", "shares", "??", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found[f] = sha256.Sum256(b)
	}
	return found
}

// stored is what a round left on the grid.
type stored struct {
	by, file, mutable string
	data              []byte
}

// TestProgramsAlternate: the same three directories are run by one program, then by
// the other, twice over. Nothing of a node's identity changes, every share stays,
// every cap is read by whoever comes after; and while one program runs a directory
// the other does not start on it.
func TestProgramsAlternate(t *testing.T) {
	NeedPeers(t)
	for _, maker := range []string{"warren", "tahoe"} {
		t.Run("made by "+maker, func(t *testing.T) {
			t.Parallel()
			programs := []string{Warren(t), Tahoe(t)}
			if maker == "warren" {
				slices.Reverse(programs) // the other program is the first to run them
			}
			n := makeNodes(t, map[string]string{"warren": Warren(t), "tahoe": Tahoe(t)}[maker])
			before := n.identity(t)
			kept := map[string][32]byte{}
			var all []stored
			var dir string
			for round := range 4 {
				program, other := programs[round%2], programs[(round+1)%2]
				dir, all = n.round(t, round, program, other, dir, all)
				after := n.identity(t)
				for name, was := range before {
					if after[name] != was {
						t.Errorf("round %d (%s): %s changed", round, filepath.Base(program), name)
					}
				}
				before = after
				now := n.shares(t)
				changed := 0
				for name, was := range kept {
					if hash, ok := now[name]; !ok {
						t.Errorf("round %d (%s): a share is lost", round, filepath.Base(program))
					} else if hash != was {
						changed++
					}
				}
				// The directory and the last round's mutable file change; nothing else does.
				if round > 0 && changed != 2 {
					t.Errorf("round %d (%s): %d shares changed, want 2", round, filepath.Base(program), changed)
				}
				if len(now) != 1+2*(round+1) {
					t.Errorf("round %d (%s): %d shares", round, filepath.Base(program), len(now))
				}
				kept = now
			}
			for _, name := range []string{"introducer/private/introducer.furl", "storage/private/storage.furl", "storage/my_nodeid", "storage/node.pubkey",
				"storage/permutation-seed", "client/private/node.privkey", "client/private/secret", "client/private/convergence"} {
				if before[name] == "" {
					t.Errorf("%s is missing; there are %v", name, slices.Sorted(maps.Keys(before)))
				}
			}
		})
	}
}

// round runs the directories with a program, reads what earlier rounds stored,
// stores more, and stops.
func (n *nodes) round(t *testing.T, round int, program, other, dir string, all []stored) (string, []stored) {
	t.Helper()
	by := fmt.Sprintf("%s in round %d", filepath.Base(program), round)
	introducer, storage := runNode(t, program, n.introducer), runNode(t, program, n.storage)
	client := RunClient(t, program, n.client, 1)
	if got := readFile(t, n.introducer, "private", "introducer.furl"); got != n.furl {
		t.Errorf("%s: the introducer has another FURL", by)
	}
	if round < 2 { // each program holds the lock once, against the other
		Together(t, func() { n.refused(t, other, n.client) }, func() { n.refused(t, other, n.storage) }, func() { n.refused(t, other, n.introducer) })
	}
	read := func(cap string) []byte { return client.Must(t, "GET", "/uri/"+url.PathEscape(cap), nil) }
	for _, s := range all {
		if !bytes.Equal(read(s.file), s.data) {
			t.Errorf("%s: the file of %s differs", by, s.by)
		}
		if got := string(read(s.mutable)); !strings.HasPrefix(got, "mutable, by "+s.by) {
			t.Errorf("%s: the mutable file of %s is %q", by, s.by, got)
		}
	}
	if round == 0 {
		dir = string(client.Must(t, "POST", "/uri?t=mkdir", nil))
	} else {
		last := all[len(all)-1]
		client.Must(t, "PUT", "/uri/"+url.PathEscape(last.mutable), strings.NewReader("mutable, by "+last.by+", changed by "+by))
	}
	s := stored{by: by, data: body(uint64(50+round), 200_000)}
	s.file = string(client.Must(t, "PUT", "/uri/"+url.PathEscape(dir)+"/"+url.PathEscape(by), bytes.NewReader(s.data)))
	s.mutable = string(client.Must(t, "PUT", "/uri?format=SDMF", strings.NewReader("mutable, by "+by)))
	var listing []json.RawMessage
	var props struct{ Children map[string]any }
	if err := json.Unmarshal(client.Must(t, "GET", "/uri/"+url.PathEscape(dir)+"?t=json", nil), &listing); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(listing[1], &props); err != nil {
		t.Fatal(err)
	}
	if len(props.Children) != round+1 {
		t.Errorf("%s: the directory has %d entries", by, len(props.Children))
	}
	Together(t, func() { client.Process.Stop(2 * time.Minute) }, func() { storage.Stop(2 * time.Minute) }, func() { introducer.Stop(2 * time.Minute) })
	return dir, append(all, s)
}

// refused checks that a program does not start on a directory that is in use.
func (n *nodes) refused(t *testing.T, program, dir string) {
	t.Helper()
	args := []string{"run", "--allow-stdin-close", dir}
	out, err := TryRun(t, 2*time.Minute, program, args...)
	switch {
	case err == nil:
		t.Errorf("%s ran on %s beside the other program:\n%s", filepath.Base(program), filepath.Base(dir), out)
	case !strings.Contains(err.Error(), "already running"):
		t.Errorf("%s on %s: %v", filepath.Base(program), filepath.Base(dir), err)
	}
}
