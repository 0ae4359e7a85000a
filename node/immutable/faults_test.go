package immutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// mortal is a server that is killed when its clients have written or read so much:
// the call in which that happens fails, done or not, and so does every later one.
type mortal struct {
	storage.Client

	mu      sync.Mutex // guards what follows
	dead    bool
	written uint64
	read    uint64
	// Above which written or read it dies; answered: the last call was carried out,
	// and only its answer is lost.
	write, reading *uint64
	answered       bool
}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDied
	}
	return nil
}

// strikes counts n bytes and reports whether they kill.
func (m *mortal) strikes(count *uint64, n int, limit *uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	*count += uint64(n)
	m.dead = m.dead || limit != nil && *count > *limit
	return m.dead
}

func (m *mortal) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) ([]int, []int, error) {
	if err := m.alive(); err != nil {
		return nil, nil, err
	}
	return m.Client.CreateImmutable(ctx, si, upload, lease, shares, size)
}

func (m *mortal) Write(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) ([]storage.Range, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	strikes := m.strikes(&m.written, len(data), m.write)
	if strikes && !m.answered {
		return nil, errDied
	}
	missing, err := storage.Write(ctx, m.Client, si, share, upload, offset, data)
	if strikes {
		return nil, errDied
	}
	return missing, err
}

func (m *mortal) AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Client.AbortImmutable(ctx, si, share, upload)
}

func (m *mortal) ListShares(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex) ([]int, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	return m.Client.ListShares(ctx, kind, si)
}

func (m *mortal) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	data, err := m.Client.ReadShare(ctx, kind, si, share, offset, size)
	if err == nil && m.strikes(&m.read, len(data), m.reading) {
		return nil, errDied
	}
	return data, err
}

func (m *mortal) AddLease(ctx context.Context, si caps.StorageIndex, lease storage.LeaseSecrets) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Client.AddLease(ctx, si, lease)
}

func (m *mortal) AdviseCorrupt(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, reason string) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Client.AdviseCorrupt(ctx, kind, si, share, reason)
}

var (
	faultEncodings = [][2]int{{1, 1}, {2, 4}, {3, 10}}
	faultPercents  = []uint64{0, 25, 50, 75, 99}
)

// percent is so much of a share of size bytes by k, at the time of whose arrival a
// server dies; 0 is the first byte.
func percent(p uint64, size, k int) *uint64 {
	limit := uint64(size/k) * p / 100
	return &limit
}

// A server is killed at each stage of an upload, before or after it has done what it
// was told last. With another server to go to, the file is stored as happily as was
// asked, nothing on the dead one counts, and it comes back; without one, that is
// said, and no capability is given.
func TestServerKilledDuringUpload(t *testing.T) {
	ran := 0
	data := pattern(500_000)
	for _, e := range faultEncodings {
		for _, p := range faultPercents {
			for _, answered := range []bool{false, true} {
				for _, spare := range []bool{false, true} {
					ran++
					name := fmt.Sprintf("%d of %d at %d %%, answered %v, spare %v", e[0], e[1], p, answered, spare)
					servers := e[1]
					if spare {
						servers++
					}
					g := newGrid(t, servers)
					for _, n := range g.nodes {
						n.Client = &mortal{Client: n.Client}
					}
					c := newClient(t, g, e[0], e[1], e[1], func(cfg *Config) { cfg.SegmentSize = 64 << 10 })
					victim := g.node(g.Permuted(mustIndex(t, c, data))[0].ID)
					m := victim.Client.(*mortal)
					m.write, m.answered = percent(p, len(data), e[0]), answered
					res, err := c.Upload(t.Context(), bytes.NewReader(data), -1)
					if !m.dead {
						t.Fatalf("%s: nobody was killed", name)
					}
					if !spare {
						if !errors.Is(err, ErrUnhappy) || !errors.Is(err, errDied) || res.Cap != nil {
							t.Errorf("%s: %+v, %v", name, res, err)
						}
						continue
					}
					if err != nil || res.Happiness != e[1] || len(res.Shares) != e[1] {
						t.Errorf("%s: %+v, %v", name, res, err)
						continue
					}
					for share, ids := range res.Shares {
						if slices.Contains(ids, victim.id) {
							t.Errorf("%s: share %d counts as stored on the dead server", name, share)
						}
					}
					mustDownload(t, c, res.Cap, data)
				}
			}
		}
	}
	if ran != 60 {
		t.Fatalf("%d cases", ran)
	}
}

// A server is killed at each stage of a download: others take over where it was, or,
// if there are none, what came is the beginning of the file and the error says what
// is missing. (In fake time, as TestServersThatHang: nobody is slow.)
func TestServerKilledDuringDownload(t *testing.T) {
	ran := 0
	for _, e := range faultEncodings {
		for _, p := range faultPercents {
			ran++
			synctest.Test(t, func(t *testing.T) { testServerKilledDuringDownload(t, e[0], e[1], p) })
		}
	}
	if ran != 15 {
		t.Fatalf("%d cases", ran)
	}
}

func testServerKilledDuringDownload(t *testing.T, k, n int, p uint64) {
	data := pattern(k * 700_000)
	g := newGrid(t, n)
	c := newClient(t, g, k, n, n, func(cfg *Config) { cfg.SegmentSize = 64 << 10 })
	cp := mustUpload(t, c, data).Cap
	// Whoever is the first to have sent so much: which ones are asked is the
	// download's to choose.
	killer := &sync.Once{}
	var victims []*striker
	for _, node := range g.nodes {
		s := &striker{mortal: &mortal{Client: node.Client}, once: killer, limit: *percent(p, len(data), k)}
		node.Client = s
		victims = append(victims, s)
	}
	got, err := download(t, c, cp)
	dead, read := 0, 0
	for i, s := range victims {
		if s.dead {
			dead++
		}
		read += g.nodes[i].bytes
	}
	if dead != 1 {
		t.Fatalf("%d of %d at %d %%: %d died", k, n, p, dead)
	}
	if n == 1 {
		if !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, errDied) || !bytes.HasPrefix(data, got) || len(got) == len(data) {
			t.Errorf("at %d %%: %d bytes, %v", p, len(got), err)
		}
		if p >= 50 && len(got) == 0 {
			t.Errorf("at %d %% nothing had been delivered", p)
		}
		return
	}
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d at %d %%: %d bytes, %v", k, n, p, len(got), err)
	}
	// The dead server's part comes once more at most, where it had been asked for and
	// not delivered; nothing else does.
	if most := len(data)*102/100 + 8*(64<<10)/k + 200_000; read > most {
		t.Errorf("%d of %d at %d %%: %d bytes were read for %d", k, n, p, read, len(data))
	}
}

// striker is a mortal that dies when it is the first to have sent so much.
type striker struct {
	*mortal
	once  *sync.Once
	limit uint64
}

func (s *striker) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	data, err := s.mortal.ReadShare(ctx, kind, si, share, offset, size)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read > s.limit {
		s.once.Do(func() { s.dead = true })
	}
	if s.dead {
		return nil, errDied
	}
	return data, nil
}

// trickle is a server that sends and takes a byte a second.
type trickle struct{ storage.Client }

func trickled(ctx context.Context, n int) error {
	select {
	case <-time.After(time.Duration(n) * time.Second): // in the bubble
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s trickle) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) ([]int, []int, error) {
	already, allocated, err := s.Client.CreateImmutable(ctx, si, upload, lease, shares, size)
	return already, allocated, errors.Join(err, trickled(ctx, 12))
}

func (s trickle) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (bool, error) {
	if err := trickled(ctx, len(data)); err != nil {
		return false, err
	}
	return s.Client.WriteImmutable(ctx, si, share, upload, offset, data)
}

func (s trickle) ListShares(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex) ([]int, error) {
	all, err := s.Client.ListShares(ctx, kind, si)
	return all, errors.Join(err, trickled(ctx, 5))
}

func (s trickle) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	data, err := s.Client.ReadShare(ctx, kind, si, share, offset, size)
	if err == nil {
		err = trickled(ctx, len(data))
	}
	return data, err
}

// silent is a server that never answers.
type silent struct{ storage.Client }

func (silent) CreateImmutable(ctx context.Context, _ caps.StorageIndex, _ storage.Secret, _ storage.LeaseSecrets, _ []int, _ uint64) ([]int, []int, error) {
	return nil, nil, hang(ctx)
}

func (silent) WriteImmutable(ctx context.Context, _ caps.StorageIndex, _ int, _ storage.Secret, _ uint64, _ []byte) (bool, error) {
	return false, hang(ctx)
}

func (silent) AbortImmutable(ctx context.Context, _ caps.StorageIndex, _ int, _ storage.Secret) error {
	return hang(ctx)
}

func (silent) ListShares(ctx context.Context, _ storage.ShareKind, _ caps.StorageIndex) ([]int, error) {
	return nil, hang(ctx)
}

func (silent) ReadShare(ctx context.Context, _ storage.ShareKind, _ caps.StorageIndex, _ int, _, _ uint64) ([]byte, error) {
	return nil, hang(ctx)
}

func (silent) AddLease(ctx context.Context, _ caps.StorageIndex, _ storage.LeaseSecrets) error {
	return hang(ctx)
}

// Servers at a byte a second, and servers that never answer: others do their work
// in good time. When there is nobody else the error comes, and in bounded time.
func TestServersAtAByteASecond(t *testing.T) {
	for name, wrap := range map[string]func(storage.Client) storage.Client{
		"a byte a second": func(c storage.Client) storage.Client { return trickle{c} },
		"silence":         func(c storage.Client) storage.Client { return silent{c} },
	} {
		for _, e := range faultEncodings {
			t.Run(fmt.Sprintf("%s, %d of %d", name, e[0], e[1]), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newGrid(t, e[1]+1)
					data := pattern(700_000)
					c := newClient(t, g, e[0], e[1], e[1], func(cfg *Config) { cfg.SegmentSize = 64 << 10 })
					bad := g.node(g.Permuted(mustIndex(t, c, data))[0].ID)
					good := bad.Client
					bad.Client = wrap(good)
					started := time.Now()
					res := mustUpload(t, c, data)
					if took := time.Since(started); took > 5*time.Minute || res.Happiness != e[1] {
						t.Errorf("the upload took %v: %+v", took, res)
					}
					bad.Client = good
					if e[1] > 1 {
						// One that has a share goes the same way.
						for _, n := range g.nodes {
							if held, err := n.Client.ListShares(t.Context(), storage.Immutable, res.Cap.(caps.CHK).StorageIndex()); err == nil && len(held) > 0 {
								n.Client = wrap(n.Client)
								break
							}
						}
						started = time.Now()
						mustDownload(t, newClient(t, g, e[0], e[1], e[1]), res.Cap, data)
						if took := time.Since(started); took > time.Minute {
							t.Errorf("the download took %v", took)
						}
					}
					for _, n := range g.nodes {
						if _, done := n.Client.(trickle); !done {
							n.Client = wrap(n.Client)
						}
					}
					started = time.Now()
					got, err := download(t, newClient(t, g, e[0], e[1], e[1]), res.Cap)
					if !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, context.DeadlineExceeded) || len(got) > 0 {
						t.Errorf("from nobody else: %d bytes, %v", len(got), err)
					}
					if _, err := newClient(t, g, e[0], e[1], e[1]).Upload(t.Context(), bytes.NewReader(data[1:]), -1); !errors.Is(err, ErrUnhappy) {
						t.Errorf("to nobody else: %v", err)
					}
					if took := time.Since(started); took > time.Hour {
						t.Errorf("the errors took %v", took)
					}
				})
			})
		}
	}
}

// Every server but those needed gives out the share of its neighbour, or that of
// another file: what is right is found among them, and when there is too little of
// it no byte is returned.
func TestSharesOfOthersAmongRightOnes(t *testing.T) {
	for _, e := range [][2]int{{1, 3}, {2, 4}, {3, 10}} {
		k, n := e[0], e[1]
		data := pattern(200_000)
		g := newGrid(t, n)
		c := newClient(t, g, k, n, n)
		chk := mustUpload(t, c, data).Cap.(caps.CHK)
		other := mustUpload(t, c, pattern(200_001)).Cap.(caps.CHK)
		own, foreign := g.shares(t, chk.StorageIndex()), g.shares(t, other.StorageIndex())
		for name, wrong := range map[string]func(i int) []byte{
			"of a neighbour":   func(i int) []byte { return own[(i+1)%n] },
			"of another file":  func(i int) []byte { return foreign[i] },
			"of the next size": func(i int) []byte { return append(bytes.Clone(own[i][:100]), foreign[i][100:]...) },
		} {
			for _, right := range []int{k, k - 1} {
				mixed := newGrid(t, n)
				for i, node := range mixed.nodes {
					share := wrong(i)
					if i < right {
						share = own[i]
					}
					node.put(t, chk.StorageIndex(), i, share)
				}
				got, err := download(t, newClient(t, mixed, k, 1, n), chk)
				if right == k && (err != nil || !bytes.Equal(got, data)) {
					t.Errorf("%d of %d, shares %s beside enough: %v", k, n, name, err)
				}
				if k == 1 && name == "of a neighbour" {
					right = k // one is as good as the other: their blocks are equal
				}
				if right < k && (!errors.Is(err, ErrNotEnoughShares) || len(got) > 0) {
					t.Errorf("%d of %d, shares %s beside too few: %d bytes, %v", k, n, name, len(got), err)
				}
			}
		}
	}
}
