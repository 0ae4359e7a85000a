package immutable

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
)

// dying is a server whose client dies: it hears no goodbye.
type dying struct{ storage.Client }

func (dying) AbortImmutable(context.Context, caps.StorageIndex, int, storage.Secret) error {
	return errors.New("killed")
}

// mute is a server that cannot say what it lacks, as over Foolscap.
type mute struct{ storage.Client }

// strict is a server like Tahoe's: a share that is being written is given to
// nobody, not even to its writer.
type strict struct {
	storage.Client
	mu      sync.Mutex // guards writing
	writing map[int]bool
}

func (s *strict) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) (already, allocated []int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	complete, err := s.Client.ListShares(ctx, storage.Immutable, si)
	if err != nil {
		return nil, nil, err
	}
	free := slices.DeleteFunc(slices.Clone(shares), func(n int) bool { return s.writing[n] && !slices.Contains(complete, n) })
	already, allocated, err = s.Client.CreateImmutable(ctx, si, upload, lease, free, size)
	for _, n := range allocated {
		s.writing[n] = true
	}
	return already, allocated, err
}

func (s *strict) Write(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) ([]storage.Range, error) {
	return storage.Write(ctx, s.Client, si, share, upload, offset, data)
}

func (s *strict) AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret) error {
	err := s.Client.AbortImmutable(ctx, si, share, upload)
	if err == nil {
		s.mu.Lock()
		delete(s.writing, share)
		s.mu.Unlock()
	}
	return err
}

// An upload breaks off, by Ctrl-C or because its process is killed: the next one is
// not locked out by what the first left half written, neither on our servers nor on
// Tahoe's, and does not send it again where the server says what it lacks.
func TestUploadThatBrokeOffIsTakenUp(t *testing.T) {
	for _, c := range []struct {
		name    string
		wrap    func(storage.Client) storage.Client
		resumes bool
	}{
		{"ours", func(c storage.Client) storage.Client { return c }, true},
		{"Tahoe's", func(c storage.Client) storage.Client { return &strict{Client: c, writing: map[int]bool{}} }, true},
		{"mute", func(c storage.Client) storage.Client { return mute{c} }, false},
		{"mute and strict", func(c storage.Client) storage.Client { return mute{&strict{Client: c, writing: map[int]bool{}}} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGrid(t, 3)
			servers := map[*fakeNode]storage.Client{}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var arrived sync.WaitGroup
			arrived.Add(3)
			go func() { // ended by the three
				arrived.Wait()
				cancel()
			}()
			for _, n := range g.nodes {
				servers[n] = c.wrap(n.Client)
				n.Client = dying{servers[n]}
				if c.resumes {
					n.Client = servers[n]
				}
				var once sync.Once // two writes may be under way
				n.onWrite = func(ctx context.Context, _ int, offset uint64) error {
					if offset > 1<<20 {
						once.Do(arrived.Done)
						return hang(ctx)
					}
					return nil
				}
			}
			data := pattern(5 << 20)
			if _, err := newClient(t, g, 2, 3, 3).Upload(ctx, bytes.NewReader(data), -1); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			for _, n := range g.nodes {
				n.set(func(n *fakeNode) {
					if n.aborted != 0 {
						t.Errorf("%s was told to drop its share", n.id)
					}
					n.Client, n.onWrite, n.sent = servers[n], nil, 0
				})
			}
			// One server has forgotten, as all do when they restart.
			servers[g.nodes[2]] = c.wrap(newGrid(t, 1).nodes[0].Client)
			g.nodes[2].Client = servers[g.nodes[2]]
			client := newClient(t, g, 2, 3, 3) // of another process
			res := mustUpload(t, client, data)
			mustDownload(t, client, res.Cap, data)
			if res.Pushed != 3 || res.Existing != 0 || res.Happiness != 3 {
				t.Errorf("%+v", res)
			}
			share := len(data)/2 + 10000
			for i, n := range g.nodes {
				if c.resumes && i < 2 && n.sent > share-(1<<20)+firstPiece+1 {
					t.Errorf("%s: %d bytes were sent, of a share of %d that was there by half", n.id, n.sent, share)
				}
			}
			if c.resumes && res.Resumed < 2<<20-2*firstPiece || !c.resumes && res.Resumed != 0 {
				t.Errorf("%d bytes were taken up", res.Resumed)
			}
		})
	}
}

// With a key of its own nobody can go on with an upload: nothing is left of it.
func TestCancelledUploadLeavesNothing(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.Convergence = nil })
	ctx, cancel := context.WithCancel(t.Context())
	g.nodes[1].onWrite = func(ctx context.Context, _ int, offset uint64) error {
		cancel()
		return hang(ctx)
	}
	if _, err := c.Upload(ctx, bytes.NewReader(pattern(3<<20)), -1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) {
			n.onWrite = nil
			if n.aborted != 1 {
				t.Errorf("%s: %d aborts", n.id, n.aborted)
			}
		})
	}
	mustUpload(t, c, pattern(3<<20))
}

// A server that says it has what it was never sent is done without.
func TestServersThatLieAboutWhatTheyLack(t *testing.T) {
	for name, lie := range map[string]func([]storage.Range) []storage.Range{
		"the end alone": func(m []storage.Range) []storage.Range {
			return []storage.Range{{Begin: m[len(m)-1].End - 1, End: m[len(m)-1].End}}
		},
		"nothing after it": func([]storage.Range) []storage.Range { return []storage.Range{{Begin: 0, End: 1}} },
		"far beyond":       func([]storage.Range) []storage.Range { return []storage.Range{{Begin: 1 << 60, End: 1 << 61}} },
	} {
		g := newGrid(t, 4)
		c := newClient(t, g, 2, 3, 3)
		data := pattern(3 << 20)
		liar := g.node(g.Permuted(mustIndex(t, c, data))[0].ID)
		liar.Client = liesAboutMissing{liar.Client, lie}
		res := mustUpload(t, c, data)
		for _, ids := range res.Shares {
			if slices.Contains(ids, liar.id) {
				t.Errorf("%s: a share counts as stored there", name)
			}
		}
		if res.Happiness != 3 {
			t.Errorf("%s: %+v", name, res)
		}
		mustDownload(t, c, res.Cap, data)
	}
}

type liesAboutMissing struct {
	storage.Client
	lie func([]storage.Range) []storage.Range
}

func (l liesAboutMissing) Write(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) ([]storage.Range, error) {
	missing, err := storage.Write(ctx, l.Client, si, share, upload, offset, data)
	if err == nil && len(missing) > 0 {
		missing = l.lie(missing)
	}
	return missing, err
}

// A server fails midway and another takes its place: the others keep what they have,
// complete shares and halves, and are sent only the rest.
func TestReplacingAServerStartsNothingOver(t *testing.T) {
	for name, at := range map[string]uint64{"early": 64 << 10, "in the middle": 1 << 20, "at the end": 2_400_000} {
		t.Run(name, func(t *testing.T) {
			g := newGrid(t, 6)
			data := pattern(5 << 20)
			c := newClient(t, g, 2, 4, 4)
			failing := g.node(g.Permuted(mustIndex(t, c, data))[1].ID)
			failing.onWrite = func(_ context.Context, _ int, offset uint64) error {
				if offset >= at {
					return errDied
				}
				return nil
			}
			var last Progress
			res, err := c.Upload(WithProgress(t.Context(), func(p Progress) { last = p }), bytes.NewReader(data), -1)
			if err != nil {
				t.Fatal(err)
			}
			share := len(data)/2 + 10000
			sent := 0
			for _, n := range g.nodes {
				if n != failing {
					sent += n.sent
				}
			}
			// Of a share that was begun the first piece goes twice.
			if most := 4*share + 3*(firstPiece+1); sent > most {
				t.Errorf("%d bytes were sent for four shares of %d", sent, share)
			}
			if res.Happiness != 4 || res.Pushed != 4 || res.Existing != 0 || len(res.Shares) != 4 {
				t.Errorf("%+v", res)
			}
			if last.Written != last.Total || last.Total == 0 {
				t.Errorf("the last progress was %+v", last)
			}
			mustDownload(t, c, res.Cap, data)
		})
	}
}
