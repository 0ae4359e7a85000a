package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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
	Offset   *int              `json:"offset,omitempty"` // where Contents go; nil: instead of what is there
	Entries  map[string]string `json:"entries,omitzero"`
	Check    bool              `json:"check,omitempty"`
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
	Checks   []mutableCheck // without and with verify
	Repaired bool
	GaveUp   bool `json:"gave_up"`
	Servers  []map[int][]byte
}

// mutableCheck is a check's result as both programs count it.
type mutableCheck struct {
	Healthy, Recoverable                     bool
	Happiness, Good, Wrong, Hosts            int
	Needed, Expected                         int
	Recoverables, Unrecoverables, Responding int
	Corrupt                                  int
	Summary                                  string
	Sharemap                                 map[string]int
}

// tahoe runs the job on the real Tahoe and puts the shares that it left back.
func (s slots) tahoe(t *testing.T, file caps.MutableWrite, job peerJob) peerAnswer {
	t.Helper()
	for i, shares := range s.all(t, file) {
		job.Servers = append(job.Servers, peerServer{Seed: hex.EncodeToString(s[i].LeaseSeed), Shares: shares})
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
	s.set(t, file, out.Servers)
	return out
}

// all reads a file's shares, by server.
func (s slots) all(t *testing.T, file caps.MutableWrite) []map[int][]byte {
	t.Helper()
	list := make([]map[int][]byte, len(s))
	for i, srv := range s {
		got, err := srv.Client.ReadSlot(t.Context(), file.StorageIndex(), nil, []storage.ReadVector{{Size: 1 << 26}})
		if err != nil && !errors.Is(err, storage.ErrNoShare) {
			t.Fatal(err)
		}
		list[i] = map[int][]byte{}
		for n, v := range got {
			list[i][n] = v[0]
		}
	}
	return list
}

// set makes them what is given.
func (s slots) set(t *testing.T, file caps.MutableWrite, servers []map[int][]byte) {
	t.Helper()
	writeKey, _ := keysOf(file)
	now := s.all(t, file)
	for i, shares := range servers {
		tw := map[int]storage.TestWrite{}
		for n := range now[i] {
			tw[n] = storage.TestWrite{NewLength: new(uint64)}
		}
		for n, b := range shares {
			length := uint64(len(b))
			tw[n] = storage.TestWrite{Write: []storage.WriteVector{{Data: b}}, NewLength: &length}
		}
		secrets := storage.SlotSecrets{WriteEnabler: taghash.SSKWriteEnabler(writeKey, s[i].LeaseSeed)}
		if wrote, _, err := s[i].Client.ReadTestWrite(t.Context(), file.StorageIndex(), secrets, tw, nil); err != nil || !wrote {
			t.Fatalf("putting shares: %v %v", wrote, err)
		}
	}
}

// keysOf is a writecap's key, and its readcap.
func keysOf(file caps.MutableWrite) ([16]byte, caps.MutableRead) {
	switch c := caps.File(file).(type) {
	case caps.SSKWrite:
		return c.WriteKey, c.Read()
	case caps.MDMFWrite:
		return c.WriteKey, c.Read()
	}
	panic("no mutable file")
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
// changes the file, and we read and change that; as a whole and, of MDMF, in place.
func TestMutableShares(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	ctx := context.Background()
	const segment = 131073 // of k=3
	for _, c := range []struct {
		format              mutable.Format
		size, k, n, servers int
	}{
		{mutable.SDMF, 0, 3, 5, 5}, {mutable.SDMF, 1, 3, 5, 5}, {mutable.SDMF, 100, 1, 1, 1}, {mutable.SDMF, 5000, 3, 10, 4}, {mutable.SDMF, 300_000, 7, 10, 10},
		{mutable.MDMF, 0, 3, 5, 5}, {mutable.MDMF, 100, 1, 1, 1}, {mutable.MDMF, segment, 3, 10, 4},
		{mutable.MDMF, segment + 1, 3, 5, 5}, {mutable.MDMF, 1_000_000, 7, 10, 10}, {mutable.MDMF, 12 << 20, 2, 3, 3},
	} {
		t.Run(fmt.Sprintf("%v, %d bytes, %d of %d on %d", c.format, c.size, c.k, c.n, c.servers), func(t *testing.T) {
			s := newSlots(t, c.servers)
			store := mutableStore(t, s, c.k, 1, c.n)
			want := body(uint64(c.size), c.size)
			file, err := store.Create(ctx, mutable.Kind{Format: c.format}, func(caps.MutableWrite) ([]byte, error) { return want, nil })
			if err != nil {
				t.Fatal(err)
			}
			_, read := keysOf(file)
			seqnum := 1
			job := peerJob{Write: file.Text(), K: c.k, N: c.n}
			// Tahoe looks at what stands, then changes it as the job says.
			theirs := func(offset *int, data []byte) {
				t.Helper()
				job.Contents, job.Offset = data, offset
				out := s.tahoe(t, file, job)
				if !bytes.Equal(out.Contents, want) || out.Shares != c.n || out.Bad+out.Corrupt != 0 || !slices.Equal(out.Versions, []int{seqnum}) {
					t.Fatalf("Tahoe reads %d bytes, %d shares (%d bad, %d corrupt), versions %v", len(out.Contents), out.Shares, out.Bad, out.Corrupt, out.Versions)
				}
				want = splice(want, offset, data)
				seqnum++
				got, v, err := store.Read(ctx, read)
				if err != nil || !bytes.Equal(got, want) || v.Seqnum != uint64(seqnum) {
					t.Fatalf("we read %d bytes of Tahoe's, version %d: %v", len(got), v.Seqnum, err)
				}
			}
			ours := func(offset *int, data []byte) {
				t.Helper()
				if offset == nil {
					err = store.Overwrite(ctx, file, data)
				} else {
					err = store.Update(ctx, file, uint64(*offset), data)
				}
				if err != nil {
					t.Fatal(err)
				}
				want = splice(want, offset, data)
				seqnum++
			}
			at := func(i int) *int { return &i }
			if c.size == 0 { // to which Tahoe does not append
				theirs(nil, body(97, 5))
			} else {
				theirs(at(c.size/2), body(97, c.size/3+1))
			}
			ours(nil, body(98, c.size+1))
			ours(at(c.size/3), body(99, c.size/4+1))
			ours(at(len(want)), body(100, 70_000))
			theirs(nil, body(101, c.size/2+10))
		})
	}
}

// splice is old with data at an offset, or data alone.
func splice(old []byte, offset *int, data []byte) []byte {
	if offset == nil {
		return data
	}
	b := make([]byte, max(len(old), *offset+len(data)))
	copy(b, old)
	copy(b[*offset:], data)
	return b
}

// TestMutableCheck: what befalls a file is counted by us as by Tahoe, and what Tahoe
// repaired is healthy to us.
func TestMutableCheck(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	ctx := context.Background()
	const k, n = 3, 5
	for _, format := range []mutable.Format{mutable.SDMF, mutable.MDMF} {
		for name, befall := range map[string]func(servers []map[int][]byte, old []map[int][]byte){
			"nothing": func(_, _ []map[int][]byte) {},
			"two shares are gone": func(servers, _ []map[int][]byte) {
				clear(servers[0])
				clear(servers[3])
			},
			"two servers are stale, one is empty": func(servers, old []map[int][]byte) {
				servers[1], servers[2] = old[1], old[2]
				clear(servers[0])
			},
			"a block is damaged": func(servers, _ []map[int][]byte) {
				for _, b := range servers[4] {
					b[len(b)-2000] ^= 1 // of SDMF in the block, of MDMF in the last one
				}
			},
			"nothing can be recovered": func(servers, _ []map[int][]byte) {
				for i := range 3 {
					clear(servers[i])
				}
			},
		} {
			t.Run(format.String()+" "+name, func(t *testing.T) {
				s := newSlots(t, n)
				store := mutableStore(t, s, k, 1, n)
				file, err := store.Create(ctx, mutable.Kind{Format: format}, func(caps.MutableWrite) ([]byte, error) { return body(1, 100), nil })
				if err != nil {
					t.Fatal(err)
				}
				old := s.all(t, file)
				if err := store.Overwrite(ctx, file, body(2, 150_000)); err != nil {
					t.Fatal(err)
				}
				shares := s.all(t, file)
				befall(shares, old)
				s.set(t, file, shares)
				var ours []mutableCheck
				for _, verify := range []bool{false, true} {
					h, err := store.Check(ctx, file, mutable.CheckOptions{Verify: verify})
					if err != nil {
						t.Fatal(err)
					}
					a := mutableCheck{
						Healthy: h.Healthy(), Recoverable: h.Recoverable(), Happiness: h.Happiness(), Good: h.Good(), Wrong: h.Wrong(), Hosts: h.Hosts(),
						Recoverables: h.RecoverableVersions(), Unrecoverables: h.UnrecoverableVersions(), Responding: len(h.Responding),
						Corrupt: len(h.Corrupt), Summary: h.Summary(), Sharemap: map[string]int{},
					}
					a.Needed, a.Expected = h.Encoding()
					for share, servers := range h.Sharemap() {
						a.Sharemap[share] = len(servers)
					}
					ours = append(ours, a)
				}
				out := s.tahoe(t, file, peerJob{Write: file.Text(), K: k, N: n, Check: true})
				if len(out.Checks) != len(ours) {
					t.Fatalf("%d checks", len(out.Checks))
				}
				for i, theirs := range out.Checks {
					// Behind that follow the servers' names, which here differ.
					theirs.Summary, _, _ = strings.Cut(theirs.Summary, " Corrupt Shares:")
					ours[i].Summary, _, _ = strings.Cut(ours[i].Summary, " Corrupt Shares:")
					if !reflect.DeepEqual(ours[i], theirs) {
						t.Errorf("verify %v: ours %+v, Tahoe's %+v", i == 1, ours[i], theirs)
					}
				}
				if out.GaveUp && ours[1].Recoverable && ours[1].Good == k {
					// To repair, Tahoe looks for the shares again as if to read the file, and now
					// and then stops looking before it has found all of the k that are left.
					return
				}
				h, err := store.Check(ctx, file, mutable.CheckOptions{Verify: true})
				if err != nil || out.GaveUp || out.Repaired && !h.Healthy() || out.Repaired != (ours[1].Recoverable && (!ours[1].Healthy || ours[1].Corrupt > 0)) {
					t.Errorf("Tahoe repaired %v, and we find %s: %v", out.Repaired, h.Summary(), err)
				}
			})
		}
	}
}

// TestDirectories: the real Tahoe lists a directory that we made and adds to it,
// and the other way round.
func TestDirectories(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	for _, format := range []mutable.Format{mutable.SDMF, mutable.MDMF} {
		t.Run(format.String(), func(t *testing.T) { sharedDirectory(t, format) })
	}
}

func sharedDirectory(t *testing.T, format mutable.Format) {
	ctx := context.Background()
	s := newSlots(t, 5)
	dirs := &dirnode.Dirs{Mutable: mutableStore(t, s, 3, 5, 5)}
	sub, err := dirs.MakeIn(ctx, mutable.Kind{Format: format}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := dirs.MakeIn(ctx, mutable.Kind{Format: format}, []dirnode.Entry{
		dirnode.NewEntry("sub", sub, nil),
		dirnode.NewEntry("café ü", caps.LIT{Data: []byte("x")}, json.RawMessage(`{"a": 1}`)),
	})
	if err != nil {
		t.Fatal(err)
	}
	lit := caps.LIT{Data: []byte("from Tahoe")}.Text()
	out := s.tahoe(t, dir, peerJob{Write: dir.Text(), K: 3, N: 5, Entries: map[string]string{"theirs": lit, "their dir": sub.Text()}})
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
	out = s.tahoe(t, dir, peerJob{Write: dir.Text(), K: 3, N: 5, Entries: map[string]string{}})
	times, _ := out.Listed["ours"].Metadata["tahoe"].(map[string]any)
	if len(out.Listed) != 4 || out.Listed["ours"].Read != caps.ReadOnly(sub).Text() || times["linkmotime"] == nil {
		t.Fatalf("Tahoe lists %v", out.Listed)
	}
}
