package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/grid"
	"warren/node/mutable"
	"warren/node/storage"
	"warren/node/storage/storagetest"
	"warren/node/taghash"
)

// slots are storage servers in memory whose shares go to Tahoe's code and back.
type slots []grid.Server

func newSlots(t *testing.T, n int) slots {
	var list slots
	for i := range n {
		seed := fmt.Appendf(nil, "server %012d!", i)
		list = append(list, grid.Server{ID: hex.EncodeToString(seed), PermutationSeed: seed, LeaseSeed: seed, Client: storagetest.NewLocal(t)})
	}
	return list
}

func (s slots) Permuted(si caps.StorageIndex) []grid.Server { return grid.Permute(si, slices.Clone(s)) }

// peerJob is mutable_peer.py's input, peerAnswer its output.
type peerJob struct {
	Write    string            `json:"write"`
	K        int               `json:"k"`
	N        int               `json:"n"`
	Servers  []peerServer      `json:"servers"`
	Contents []byte            `json:"contents,omitempty"`
	Entries  map[string]string `json:"entries,omitzero"`
}

type peerServer struct {
	Seed   string         `json:"seed"`
	Shares map[int][]byte `json:"shares"`
}

type peerAnswer struct {
	Contents             []byte
	Versions             []int
	Shares, Bad, Corrupt int
	Listed               map[string]struct {
		Write, Read string
		Metadata    map[string]any
	}
	Servers []map[int][]byte
}

// tahoe runs the job on the real Tahoe and puts the shares that it left back.
func (s slots) tahoe(t *testing.T, file caps.SSKWrite, job peerJob) peerAnswer {
	t.Helper()
	ctx, si := context.Background(), file.StorageIndex()
	for _, srv := range s {
		got, err := srv.Client.ReadSlot(ctx, si, nil, []storage.ReadVector{{Size: 1 << 24}})
		if err != nil {
			t.Fatal(err)
		}
		p := peerServer{Seed: hex.EncodeToString(srv.LeaseSeed), Shares: map[int][]byte{}}
		for n, v := range got {
			p.Shares[n] = v[0]
		}
		job.Servers = append(job.Servers, p)
	}
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	text, err := TryRunInput(t, time.Minute, bytes.NewReader(in), Python(t), Script(t, "mutable_peer.py"))
	if err != nil {
		t.Fatal(err)
	}
	var out peerAnswer
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	for i, shares := range out.Servers {
		secrets := storage.SlotSecrets{WriteEnabler: taghash.SSKWriteEnabler(file.WriteKey, s[i].LeaseSeed)}
		tw := map[int]storage.TestWrite{}
		for n, b := range shares {
			length := uint64(len(b))
			tw[n] = storage.TestWrite{Write: []storage.WriteVector{{Data: b}}, NewLength: &length}
		}
		if wrote, _, err := s[i].Client.ReadTestWrite(ctx, si, secrets, tw, nil); err != nil || !wrote {
			t.Fatalf("putting Tahoe's shares back: %v %v", wrote, err)
		}
	}
	return out
}

func mutableStore(t *testing.T, s slots, k, happy, n int) *mutable.Store {
	store, err := mutable.New(mutable.Options{Servers: s, LeaseSecret: []byte("our lease secret"), Needed: k, Happy: happy, Total: n, Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// TestMutableShares: the real Tahoe reads and verifies every share that we write,
// changes the file, and we read and change that.
func TestMutableShares(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	ctx := context.Background()
	for _, c := range []struct{ size, k, n, servers int }{{0, 3, 5, 5}, {1, 3, 5, 5}, {100, 1, 1, 1}, {5000, 3, 10, 4}, {300_000, 7, 10, 10}} {
		s := newSlots(t, c.servers)
		store := mutableStore(t, s, c.k, 1, c.n)
		want := body(uint64(c.size), c.size)
		file, err := store.Create(ctx, want)
		if err != nil {
			t.Fatal(err)
		}
		theirs := body(99, c.size/2+10)
		out := s.tahoe(t, file, peerJob{Write: file.Text(), K: c.k, N: c.n, Contents: theirs})
		if !bytes.Equal(out.Contents, want) || out.Shares != c.n || out.Bad+out.Corrupt != 0 || !slices.Equal(out.Versions, []int{1}) {
			t.Errorf("%+v: Tahoe reads %d bytes, %d shares (%d bad, %d corrupt), versions %v", c, len(out.Contents), out.Shares, out.Bad, out.Corrupt, out.Versions)
		}
		got, v, err := store.Read(ctx, file.Read())
		if err != nil || !bytes.Equal(got, theirs) || v.Seqnum != 2 {
			t.Errorf("%+v: we read %d bytes of Tahoe's, version %d: %v", c, len(got), v.Seqnum, err)
		}
		ours := body(100, c.size+1)
		if err := store.Overwrite(ctx, file, ours); err != nil {
			t.Fatal(err)
		}
		out = s.tahoe(t, file, peerJob{Write: file.Text(), K: c.k, N: c.n, Contents: theirs})
		if !bytes.Equal(out.Contents, ours) || out.Shares != c.n || out.Bad+out.Corrupt != 0 || !slices.Equal(out.Versions, []int{3}) {
			t.Errorf("%+v: Tahoe reads %d bytes of our change, %d shares (%d bad, %d corrupt), versions %v", c, len(out.Contents), out.Shares, out.Bad, out.Corrupt, out.Versions)
		}
	}
}

// TestDirectories: the real Tahoe lists a directory that we made and adds to it,
// and the other way round.
func TestDirectories(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	ctx := context.Background()
	s := newSlots(t, 5)
	dirs := &dirnode.Dirs{Mutable: mutableStore(t, s, 3, 5, 5)}
	sub, err := dirs.Make(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := dirs.Make(ctx, []dirnode.Entry{
		dirnode.NewEntry("sub", sub, nil),
		dirnode.NewEntry("café ü", caps.LIT{Data: []byte("x")}, json.RawMessage(`{"a": 1}`)),
	})
	if err != nil {
		t.Fatal(err)
	}
	lit := caps.LIT{Data: []byte("from Tahoe")}.Text()
	out := s.tahoe(t, dir.File(), peerJob{Write: dir.Text(), K: 3, N: 5, Entries: map[string]string{"theirs": lit, "their dir": sub.Text()}})
	if len(out.Listed) != 2 || out.Listed["sub"].Write != sub.Text() || out.Listed["café ü"].Metadata["a"] != 1.0 {
		t.Fatalf("Tahoe lists %d entries of ours", len(out.Listed))
	}
	entries, _, err := dirs.List(ctx, dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("we list %d entries: %v", len(entries), err)
	}
	if e, err := dirs.Lookup(ctx, dir, []string{"their dir"}); err != nil || e.Write == nil || e.Write.Text() != sub.Text() {
		t.Fatalf("Tahoe's entry: %v", err)
	}
	if err := dirs.Edit(ctx, dir, []dirnode.Change{
		{Entry: dirnode.NewEntry("ours", sub, nil)}, {Delete: true, Entry: dirnode.Entry{Name: "theirs"}},
	}); err != nil {
		t.Fatal(err)
	}
	out = s.tahoe(t, dir.File(), peerJob{Write: dir.Text(), K: 3, N: 5, Entries: map[string]string{}})
	times, _ := out.Listed["ours"].Metadata["tahoe"].(map[string]any)
	if len(out.Listed) != 4 || out.Listed["ours"].Read != sub.Read().Text() || times["linkmotime"] == nil {
		t.Fatalf("Tahoe lists %v", out.Listed)
	}
}
