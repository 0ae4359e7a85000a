package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

var (
	si     = caps.StorageIndex{1, 2, 3}
	upload = storagetest.Secret('u')
	lease  = storage.LeaseSecrets{Renew: storagetest.Secret('r'), Cancel: storagetest.Secret('c')}
	slot   = storage.SlotSecrets{WriteEnabler: storagetest.Secret('w'), LeaseSecrets: lease}
)

func TestClients(t *testing.T) {
	storagetest.Clients(t, func(t *testing.T) storage.Client { return storagetest.NewLocal(t) })
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time // mu guards it
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func put(t *testing.T, c storage.Client, si caps.StorageIndex, data string) {
	t.Helper()
	_, got, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, uint64(len(data)))
	if err != nil || len(got) != 1 {
		t.Fatalf("allocated %v, %v", got, err)
	}
	if done, err := c.WriteImmutable(t.Context(), si, 0, upload, 0, []byte(data)); err != nil || !done {
		t.Fatalf("done %v, %v", done, err)
	}
}

func write(t *testing.T, c storage.Client, si caps.StorageIndex, share int, data string) error {
	t.Helper()
	wrote, _, err := c.ReadTestWrite(t.Context(), si, slot, map[int]storage.TestWrite{share: {Write: []storage.WriteVector{{Data: []byte(data)}}}}, nil)
	if err == nil && !wrote {
		t.Fatal("a test failed, and there is none")
	}
	return err
}

func TestLeaseOwners(t *testing.T) {
	backend, c := mem.New(0), &clock{now: time.Unix(5000, 0)}
	server := storage.NewServer(backend, storage.Options{Now: c.Now, NodeID: [20]byte{7}})
	member := server.As(storage.Account{Owner: 42})
	everyone := storage.Local(server)
	put(t, everyone, si, "data")
	put(t, member, caps.StorageIndex{2}, "data")
	if err := write(t, everyone, caps.StorageIndex{3}, 0, "data"); err != nil {
		t.Fatal(err)
	}
	if err := write(t, member, caps.StorageIndex{4}, 0, "data"); err != nil {
		t.Fatal(err)
	}
	expires := uint32(5000 + 31*24*3600)
	owners := func(si caps.StorageIndex) (all []uint32) {
		t.Helper()
		data, _ := backend.File(si, 0)
		var leases []container.Stored
		if mutable, _ := container.IsMutable(data[:32]); mutable {
			m, err := container.OpenMutable(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			leases, _ = m.Leases()
			if leases[0].Node != (container.NodeID{7}) {
				t.Errorf("node %x", leases[0].Node)
			}
		} else {
			im, err := container.OpenImmutable(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			leases, _ = im.Leases()
		}
		for _, l := range leases {
			if l.Expires != expires {
				t.Errorf("expires %d, want %d", l.Expires, expires)
			}
			all = append(all, l.Owner)
		}
		return all
	}
	for i, want := range [][]uint32{{0}, {42}, {1}, {42}} {
		at := caps.StorageIndex{byte(i + 1)}
		if i == 0 {
			at = si
		}
		if got := owners(at); !slices.Equal(got, want) {
			t.Errorf("owners of %d: %v, want %v", i, got, want)
		}
	}
	// Renewed a day later: later expiry, no second lease.
	c.advance(24 * time.Hour)
	expires += 24 * 3600
	for _, at := range []caps.StorageIndex{si, {3}} {
		if err := everyone.AddLease(t.Context(), at, lease); err != nil {
			t.Fatal(err)
		}
		if got := owners(at); len(got) != 1 {
			t.Errorf("owners %v", got)
		}
	}
}

func TestSpace(t *testing.T) {
	for _, c := range []struct {
		name    string
		opt     storage.Options
		account storage.Account
		left    uint64 // of the backend, at the end
	}{
		{"full", storage.Options{}, storage.Account{}, 20},
		{"reserved", storage.Options{ReservedSpace: 10000}, storage.Account{}, 10020},
		{"quota", storage.Options{}, storage.Account{Admit: func(uint64) error { return fmt.Errorf("your quota: %w", storage.ErrNoSpace) }}, 10020},
	} {
		t.Run(c.name, func(t *testing.T) {
			backend := mem.New(20000)
			fill := storage.NewServer(backend, storage.Options{})
			everyone := storage.Local(fill)
			put(t, everyone, si, "kept")
			if err := write(t, everyone, caps.StorageIndex{2}, 0, "slot"); err != nil {
				t.Fatal(err)
			}
			free, _ := backend.Available()
			put(t, everyone, caps.StorageIndex{9}, strings.Repeat("x", int(free-container.ImmutableOverhead-c.left)))

			client := fill.As(c.account)
			if c.opt.ReservedSpace > 0 {
				client = storage.NewServer(backend, c.opt).As(c.account)
			}
			ctx := t.Context()
			_, got, err := client.CreateImmutable(ctx, caps.StorageIndex{3}, upload, lease, []int{0, 1}, 100)
			if err != nil || len(got) != 0 {
				t.Errorf("new shares: %v, %v", got, err)
			}
			if err := write(t, client, caps.StorageIndex{4}, 0, "new"); !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("a new slot: %v", err)
			}
			if err := write(t, client, caps.StorageIndex{2}, 0, strings.Repeat("x", 1000)); !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("a slot that grows: %v", err)
			}
			other := storage.LeaseSecrets{Renew: storagetest.Secret('R')}
			if err := client.AddLease(ctx, si, other); !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("another lease: %v", err)
			}
			if err := client.AdviseCorrupt(ctx, storage.Immutable, si, 0, "rotten"); !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("an advisory: %v", err)
			}
			// What takes no more room goes on.
			if err := write(t, client, caps.StorageIndex{2}, 0, "SLOT"); err != nil {
				t.Errorf("a slot that does not grow: %v", err)
			}
			if err := client.AddLease(ctx, si, lease); err != nil {
				t.Errorf("renewing a lease: %v", err)
			}
			if len(backend.Advisories()) != 0 {
				t.Error("an advisory was kept")
			}
			if free, _ := backend.Available(); free != c.left {
				t.Errorf("%d bytes are left, want %d", free, c.left)
			}
		})
	}
}

// TestPromises: what uploads under way will take is taken already.
func TestPromises(t *testing.T) {
	server := storage.NewServer(mem.New(10000), storage.Options{})
	c := storage.Local(server)
	ctx := t.Context()
	_, got, err := c.CreateImmutable(ctx, si, upload, lease, []int{0, 1, 2}, 4000)
	if err != nil || !slices.Equal(got, []int{0, 1}) {
		t.Fatalf("allocated %v, %v", got, err)
	}
	if v, _ := c.Version(ctx); v.AvailableSpace > 2000 {
		t.Errorf("%d available", v.AvailableSpace)
	}
	if err := c.AbortImmutable(ctx, si, 1, upload); err != nil {
		t.Fatal(err)
	}
	if _, got, err = c.CreateImmutable(ctx, si, upload, lease, []int{2}, 4000); err != nil || len(got) != 1 {
		t.Errorf("after aborting one: %v, %v", got, err)
	}
}

func TestReadOnly(t *testing.T) {
	backend := mem.New(0)
	put(t, storage.Local(storage.NewServer(backend, storage.Options{})), si, "data")
	if err := write(t, storage.Local(storage.NewServer(backend, storage.Options{})), caps.StorageIndex{2}, 0, "slot"); err != nil {
		t.Fatal(err)
	}
	c := storage.Local(storage.NewServer(backend, storage.Options{ReadOnly: true}))
	ctx := t.Context()
	if v, err := c.Version(ctx); err != nil || v.AvailableSpace != 0 {
		t.Errorf("version %+v, %v", v, err)
	}
	if already, got, err := c.CreateImmutable(ctx, si, upload, lease, []int{0, 1}, 4); err != nil || len(got) != 0 || len(already) != 1 {
		t.Errorf("create: %v %v, %v", already, got, err)
	}
	if err := write(t, c, caps.StorageIndex{2}, 1, "slot"); !errors.Is(err, storage.ErrReadOnlyServer) {
		t.Errorf("a new share: %v", err)
	}
	if err := write(t, c, caps.StorageIndex{2}, 0, "new!"); err != nil {
		t.Errorf("a share that is there: %v", err)
	}
}

func TestStaleUploads(t *testing.T) {
	ck := &clock{now: time.Unix(1, 0)}
	c := storage.Local(storage.NewServer(mem.New(0), storage.Options{Now: ck.Now}))
	ctx := t.Context()
	for _, n := range []int{0, 1} {
		if _, _, err := c.CreateImmutable(ctx, si, upload, lease, []int{n}, 10); err != nil {
			t.Fatal(err)
		}
	}
	ck.advance(29 * time.Minute)
	if _, err := c.WriteImmutable(ctx, si, 1, upload, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	ck.advance(2 * time.Minute)
	_, got, err := c.CreateImmutable(ctx, si, storagetest.Secret('x'), lease, []int{0, 1}, 10)
	if err != nil || !slices.Equal(got, []int{0}) {
		t.Errorf("allocated %v, %v; want the one that was left alone", got, err)
	}
}

// TestStaleUploadsAndFullServers: what a stale upload keeps from others is given
// back when they look, as who sees no room asks for none.
func TestStaleUploadsAndFullServers(t *testing.T) {
	ck := &clock{now: time.Unix(1, 0)}
	c := storage.Local(storage.NewServer(mem.New(10000), storage.Options{Now: ck.Now}))
	if _, got, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, 9000); err != nil || len(got) != 1 {
		t.Fatalf("allocated %v, %v", got, err)
	}
	ck.advance(4 * time.Minute)
	if v, err := c.Version(t.Context()); err != nil || v.AvailableSpace > 1000 {
		t.Fatalf("%d available, %v", v.AvailableSpace, err)
	}
	ck.advance(27 * time.Minute)
	if v, err := c.Version(t.Context()); err != nil || v.AvailableSpace != 10000 {
		t.Errorf("%d available after the upload timed out, %v", v.AvailableSpace, err)
	}
}

// slowBackend writes to drafts only when it is let.
type slowBackend struct {
	storage.Backend
	writing, let chan struct{}
}

func (b slowBackend) Draft(si caps.StorageIndex, share int, copied bool) (storage.Draft, error) {
	d, err := b.Backend.Draft(si, share, copied)
	return slowDraft{d, b}, err
}

func (b slowBackend) Publish(si caps.StorageIndex, drafts map[int]storage.Draft, remove []int) error {
	inner := map[int]storage.Draft{}
	for n, d := range drafts {
		inner[n] = d.(slowDraft).Draft
	}
	return b.Backend.Publish(si, inner, remove)
}

type slowDraft struct {
	storage.Draft
	b slowBackend
}

func (d slowDraft) WriteAt(p []byte, off int64) (int, error) {
	if string(p) == "slow" {
		close(d.b.writing)
		<-d.b.let
	}
	return d.Draft.WriteAt(p, off)
}

// TestUploadsDoNotWaitForEachOther: an upload begins while the disk is busy with
// another.
func TestUploadsDoNotWaitForEachOther(t *testing.T) {
	b := slowBackend{mem.New(0), make(chan struct{}), make(chan struct{})}
	c := storage.Local(storage.NewServer(b, storage.Options{}))
	if _, _, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, 4); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.WriteImmutable(t.Context(), si, 0, upload, 0, []byte("slow"))
		done <- err
	}()
	<-b.writing
	put(t, c, caps.StorageIndex{2}, "fast")
	close(b.let)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCloseForgetsUploads(t *testing.T) {
	dir := t.TempDir()
	b, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := storage.NewServer(b, storage.Options{})
	c := storage.Local(server)
	if _, _, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, 10); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteImmutable(t.Context(), si, 0, upload, 0, []byte("x")); !errors.Is(err, storage.ErrNoShare) {
		t.Errorf("%v", err)
	}
}

func TestKindsDoNotMix(t *testing.T) {
	c := storagetest.NewLocal(t)
	ctx := t.Context()
	put(t, c, si, "data")
	if err := write(t, c, si, 1, "slot"); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a slot where immutable shares are: %v", err)
	}
	at := caps.StorageIndex{2}
	if err := write(t, c, at, 0, "slot"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadShare(ctx, storage.Immutable, at, 0, 0, 9); !errors.Is(err, storage.ErrNoShare) {
		t.Errorf("a slot read as immutable: %v", err)
	}
	if got, err := c.ListShares(ctx, storage.Immutable, at); err != nil || len(got) != 0 {
		t.Errorf("a slot listed as immutable: %v, %v", got, err)
	}
	// An upload that a slot overtakes does not replace it.
	other := caps.StorageIndex{3}
	if _, _, err := c.CreateImmutable(ctx, other, upload, lease, []int{0}, 4); err != nil {
		t.Fatal(err)
	}
	if err := write(t, c, other, 0, "slot"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteImmutable(ctx, other, 0, upload, 0, []byte("data")); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("an upload over a slot: %v", err)
	}
	if got, err := c.ReadShare(ctx, storage.Mutable, other, 0, 0, 9); err != nil || string(got) != "slot" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDamagedShares(t *testing.T) {
	c, backend := storagetest.NewLocalMem(t)
	ctx := t.Context()
	put(t, c, si, "data")
	backend.SetFile(si, 3, []byte("not a share file"))
	backend.SetFile(si, 4, []byte{})
	if got, err := c.ListShares(ctx, storage.Immutable, si); err != nil || !slices.Equal(got, []int{0}) {
		t.Errorf("shares %v, %v", got, err)
	}
	if _, err := c.ReadShare(ctx, storage.Immutable, si, 3, 0, 1); err == nil || errors.Is(err, storage.ErrNoShare) {
		t.Errorf("reading a damaged share: %v", err)
	}
	if err := c.AddLease(ctx, si, lease); err != nil {
		t.Errorf("a lease beside a damaged share: %v", err)
	}
	already, got, err := c.CreateImmutable(ctx, si, upload, lease, []int{0, 3}, 4)
	if err != nil || !slices.Equal(already, []int{0}) || len(got) != 0 {
		t.Errorf("already %v, allocated %v, %v", already, got, err)
	}
	if err := c.AdviseCorrupt(ctx, storage.Immutable, si, 3, "indeed"); err != nil {
		t.Errorf("an advisory on a damaged share: %v", err)
	}
}

// unreadable is a backend with a bad spot where share 3 is.
type unreadable struct{ storage.Backend }

func (b unreadable) Open(si caps.StorageIndex, share int) (storage.File, error) {
	f, err := b.Backend.Open(si, share)
	if err == nil && share == 3 {
		return badSpot{f}, nil
	}
	return f, err
}

type badSpot struct{ storage.File }

func (badSpot) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

// TestUnreadableShare: a share that the disk does not give back takes none of those
// beside it with it, and is not taken for absent.
func TestUnreadableShare(t *testing.T) {
	backend := mem.New(0)
	c := storage.Local(storage.NewServer(unreadable{backend}, storage.Options{}))
	ctx := t.Context()
	put(t, c, si, "data")
	data, _ := backend.File(si, 0)
	backend.SetFile(si, 3, data)
	if got, err := c.ListShares(ctx, storage.Immutable, si); err != nil || !slices.Equal(got, []int{0}) {
		t.Errorf("shares %v, %v", got, err)
	}
	if _, err := c.ReadShare(ctx, storage.Immutable, si, 3, 0, 1); err == nil || errors.Is(err, storage.ErrNoShare) {
		t.Errorf("reading it: %v", err)
	}
	if already, got, err := c.CreateImmutable(ctx, si, upload, lease, []int{0, 3}, 4); err != nil || !slices.Equal(already, []int{0}) || len(got) != 0 {
		t.Errorf("already %v, allocated %v, %v", already, got, err)
	}
	if err := c.AddLease(ctx, si, lease); err != nil {
		t.Errorf("a lease: %v", err)
	}
}

func TestPieces(t *testing.T) {
	c := storagetest.NewLocal(t)
	ctx := t.Context()
	if _, _, err := c.CreateImmutable(ctx, si, upload, lease, []int{0}, 1<<20); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; n < 10000 && err == nil; n++ {
		_, err = c.WriteImmutable(ctx, si, 0, upload, uint64(2*n), []byte("x"))
	}
	if !errors.Is(err, storage.ErrTooLarge) || n < 4000 {
		t.Errorf("after %d pieces: %v", n, err)
	}
	// What closes the gaps is still welcome, piece by piece and at once.
	if _, err := c.WriteImmutable(ctx, si, 0, upload, 1, []byte("y")); err != nil {
		t.Errorf("closing a gap: %v", err)
	}
	rest := bytes.Repeat([]byte("xy"), 1<<19)
	for at := range n - 1 { // the others' second bytes
		if _, err := c.WriteImmutable(ctx, si, 0, upload, uint64(2*at), rest[:2]); err != nil {
			t.Fatalf("piece %d: %v", at, err)
		}
	}
	if done, err := c.WriteImmutable(ctx, si, 0, upload, uint64(2*n-2), rest[2*n-2:]); err != nil || !done {
		t.Errorf("the rest: %v, %v", done, err)
	}
}

// TestUploadsAreBounded: who starts uploads and never ends them takes no more of
// the server than that.
func TestUploadsAreBounded(t *testing.T) {
	c := storagetest.NewLocal(t)
	var every []int
	for n := range storage.MaxShare + 1 {
		every = append(every, n)
	}
	create := func(i int) int {
		t.Helper()
		_, got, err := c.CreateImmutable(t.Context(), caps.StorageIndex{byte(i)}, upload, lease, every, 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	i := 0
	for create(i) == len(every) {
		if i++; i == 100 {
			t.Fatal("no bound")
		}
	}
	if i < 30 {
		t.Errorf("only %d uploads side by side", i)
	}
	// One that ends makes room for one.
	if err := c.AbortImmutable(t.Context(), caps.StorageIndex{0}, 7, upload); err != nil {
		t.Fatal(err)
	}
	if n := create(i); n != 1 {
		t.Errorf("allocated %d", n)
	}
}

// TestSlotReadsAreBounded: a few bytes asked for many times over are not held in
// memory so often; and what is refused has not been written.
func TestSlotReadsAreBounded(t *testing.T) {
	c := storagetest.NewLocal(t)
	const length = 3 << 20
	_, _, err := c.ReadTestWrite(t.Context(), si, slot, map[int]storage.TestWrite{
		1: {Write: []storage.WriteVector{{Offset: length - 1, Data: []byte("!")}}},
		2: {Write: []storage.WriteVector{{Offset: length - 1, Data: []byte("!")}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	change := map[int]storage.TestWrite{1: {Write: []storage.WriteVector{{Data: []byte("?")}}}}
	most := slices.Repeat([]storage.ReadVector{{Size: 1 << 62}}, storage.MaxSlotRead/length/2)
	_, reads, err := c.ReadTestWrite(t.Context(), si, slot, nil, most)
	if err != nil || len(reads[1][0]) != length {
		t.Errorf("as much as may be: %v", err)
	}
	wrote, _, err := c.ReadTestWrite(t.Context(), si, slot, change, append(most, most[0]))
	if !errors.Is(err, storage.ErrTooLarge) || wrote {
		t.Errorf("one more: %v, %v", wrote, err)
	}
	got, err := c.ReadShare(t.Context(), storage.Mutable, si, 1, 0, 1)
	if err != nil || got[0] != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSlotReadsAreWhole: a reader never sees half of a write.
func TestSlotReadsAreWhole(t *testing.T) {
	c := storagetest.NewLocal(t)
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 50 {
				if err := write(t, c, si, 0, strings.Repeat(string(rune('a'+w+2*(i%3))), 3000)); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			reads, err := c.ReadSlot(t.Context(), si, nil, []storage.ReadVector{{Size: 1}, {Offset: 2999, Size: 1}})
			if err != nil || len(reads) == 1 && !bytes.Equal(reads[0][0], reads[0][1]) {
				t.Errorf("read %v, %v", reads, err)
			}
		}
	})
	wg.Wait()
}
