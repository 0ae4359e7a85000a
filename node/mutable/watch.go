package mutable

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
)

// Asking again and again for the version of files that seldom change, and waiting for
// the change.
//
// A survey asks every server that may matter, two questions each. What it saw of each
// server is kept as a storage.Tag (a picture), so that the next question can be: is that
// still so? While it is so at every server that the survey asked, a survey would find
// the same, and that is all that an answer can be worth. Versions does not even ask
// all of them each time, but as many as it takes to read the file, two at least, and
// others each time: a write that succeeds reaches every server that holds a share, and
// where those answer, the version is not only known but there. What this may miss
// for a while is a write that reached a few servers only; it is seen when its servers'
// turn has come, and at the latest when the picture is pictureAge old and a survey is made
// anew. A survey is also made when a server says something else, or does not answer;
// when a server came that none has asked; and when those with enough shares to read
// the file are not all connected any more: then there may be no version to speak of.
//
// Our own servers answer for all files in one request, and tell of changes by
// themselves (storage.Watcher). Watch waits for that: one request to each server for
// all who watch. Others are asked for the first bytes of the shares that they had.

const (
	// pictureAge is when a survey is made in any case.
	pictureAge = 10 * time.Minute
	// failedAge is when one is made because a server may answer now that failed then.
	failedAge = 30 * time.Second
	// maxPictures is how many files' pictures are kept.
	maxPictures = 4096
	// witnesses is how many of the servers with a share must say that nothing changed,
	// if so many have one.
	witnesses = 2
	// dearTurn is how seldom servers that take a request for each file are asked where
	// others would do.
	dearTurn = 8
)

// A picture is what a survey saw of a file. It is not changed once it is there, but for told.
type picture struct {
	version Version
	needed  int
	at      time.Time
	servers map[string]seenAt // by id: those that answered
	others  map[string]bool   // those that did not; true: they failed
	told    bool              // of a change since; Store.mu guards it
}

// seenAt is what one server held.
type seenAt struct {
	tag    storage.Tag
	shares []int // all of them
	good   []int // those of the version
}

// note keeps what the survey saw, of which best came.
func (v *survey) note(best *version) {
	si := &picture{version: best.header.version(), needed: best.header.Needed, at: time.Now(), servers: map[string]seenAt{}, others: map[string]bool{}}
	for i, st := range v.state {
		if st != answered {
			si.others[v.servers[i].ID] = st == failed
			continue
		}
		at := v.held[i]
		for _, sh := range best.shares {
			if sh.server == i {
				at.good = append(at.good, sh.num)
			}
		}
		si.servers[v.servers[i].ID] = at
	}
	s := v.store
	s.mu.Lock()
	defer s.mu.Unlock()
	forgetSome(s.pictures, maxPictures)
	s.pictures[v.id.index] = si
}

// had is which shares a server had when it was last asked, as far as that is known.
func (s *Store) had(index caps.StorageIndex, server string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if si := s.pictures[index]; si != nil {
		return si.servers[server].shares
	}
	return nil
}

// pictureOf gives the picture of a file and the connected servers that it is of, if it
// is worth asking whether it is still so.
func (s *Store) pictureOf(index caps.StorageIndex) (*picture, []grid.Server) {
	s.mu.Lock()
	si := s.pictures[index]
	told := si != nil && si.told
	s.mu.Unlock()
	if si == nil || told || time.Since(si.at) > s.pictureAge {
		return nil, nil
	}
	var known []grid.Server
	var found [maxShares]bool
	distinct := 0
	for i, server := range s.opts.Servers.Permuted(index) {
		at, ok := si.servers[server.ID]
		if !ok {
			failed, there := si.others[server.ID]
			if i < 2*max(s.opts.Needed, si.needed) && (!there || failed && time.Since(si.at) > failedAge) {
				return nil, nil // a survey would ask it
			}
			continue
		}
		known = append(known, server)
		for _, n := range at.good {
			if !found[n] {
				found[n] = true
				distinct++
			}
		}
	}
	if distinct < si.needed {
		return nil, nil
	}
	return si, known
}

// Asked is what came of the question for one file's version.
type Asked struct {
	Version Version
	Err     error
}

// Versions is Version of several files, for those who ask again and again.
func (s *Store) Versions(ctx context.Context, files []caps.MutableRead) []Asked {
	out := make([]Asked, len(files))
	var surveys errgroup.Group
	surveys.SetLimit(laterQueries + 1)
	survey := func(i int) {
		surveys.Go(func() error {
			out[i].Version, out[i].Err = s.Version(ctx, files[i])
			return nil
		})
	}
	// What is known to be otherwise does not wait for the rest.
	known := make([]glance, len(files))
	var old []int
	for i, f := range files {
		if known[i].picture, known[i].servers = s.pictureOf(f.StorageIndex()); known[i].picture == nil {
			old = append(old, i)
		}
	}
	var same []*picture
	var wg sync.WaitGroup
	wg.Go(func() { same = s.unchanged(ctx, files, known) })
	for _, i := range old {
		survey(i)
	}
	wg.Wait()
	for i := range files {
		if same[i] != nil {
			out[i].Version = same[i].version
		} else if known[i].picture != nil {
			survey(i)
		}
	}
	_ = surveys.Wait()
	return out
}

// glance is a picture that may still be true, and the servers in sight that it is of.
type glance struct {
	picture *picture
	servers []grid.Server
}

// testimony is how far it is confirmed that a file is as it was.
type testimony struct {
	picture *picture
	lacking int // servers with a share
	shares  [maxShares]bool
	missing int // shares, of those that it takes to read the file
}

func newTestimony(si *picture, servers []grid.Server) *testimony {
	t := &testimony{picture: si, missing: si.needed}
	for _, server := range servers {
		if len(si.servers[server.ID].good) > 0 && t.lacking < witnesses {
			t.lacking++
		}
	}
	return t
}

func (t *testimony) enough() bool { return t.lacking <= 0 && t.missing <= 0 }

// add takes in that a server holds what it held.
func (t *testimony) add(at seenAt) {
	if len(at.good) == 0 {
		return
	}
	t.lacking--
	for _, n := range at.good {
		if !t.shares[n] {
			t.shares[n] = true
			t.missing--
		}
	}
}

// question is what one server is asked: which of the files are as they were.
type question struct {
	server grid.Server
	files  map[int]seenAt // by their place in the list
}

// unchanged gives the pictures of those files that are as they were.
func (s *Store) unchanged(ctx context.Context, files []caps.MutableRead, known []glance) []*picture {
	heard, planned := make([]*testimony, len(files)), make([]*testimony, len(files))
	asked := map[string]*question{}
	for i := range files {
		si, servers := known[i].picture, known[i].servers
		if si == nil {
			continue
		}
		heard[i], planned[i] = newTestimony(si, servers), newTestimony(si, servers)
		for _, server := range servers {
			q := asked[server.ID]
			if q == nil {
				q = &question{server, map[int]seenAt{}}
				asked[server.ID] = q
			}
			q.files[i] = si.servers[server.ID]
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Patience)
	defer cancel()
	other := make([]bool, len(files))
	var mu sync.Mutex // guards what the questions share: heard and other
	var wg sync.WaitGroup
	for _, q := range s.choose(asked, planned) {
		wg.Go(func() {
			same, err := q.ask(ctx, files)
			mu.Lock()
			defer mu.Unlock()
			for i, at := range q.files {
				switch {
				case err != nil:
				case !same[i]:
					other[i] = true
				default:
					heard[i].add(at)
				}
			}
		})
	}
	wg.Wait()
	same := make([]*picture, len(files))
	for i, t := range heard {
		if t != nil && t.enough() && !other[i] {
			same[i] = t.picture
		}
	}
	return same
}

// choose picks the questions whose answers will be enough for each file: the fewest
// requests, and other servers each time.
func (s *Store) choose(all map[string]*question, planned []*testimony) []*question {
	list := slices.SortedFunc(maps.Values(all), func(a, b *question) int { return strings.Compare(a.server.ID, b.server.ID) })
	if len(list) == 0 {
		return nil
	}
	turn := s.asking.Add(1)
	at := int(turn % uint64(len(list)))
	list = slices.Concat(list[at:], list[:at])
	if turn%dearTurn != 0 {
		slices.SortStableFunc(list, func(a, b *question) int { return dear(a) - dear(b) })
	}
	var out []*question
	for _, q := range list {
		dear, helps := dear(q) > 0, false
		for i, at := range q.files {
			switch {
			case len(at.good) > 0 && !planned[i].enough():
				planned[i].add(at)
				helps = true
			case dear:
				delete(q.files, i)
			}
		}
		if helps {
			out = append(out, q)
		}
	}
	return out
}

// dear says that a server takes a request for each file.
func dear(q *question) int {
	if storage.Watches(q.server.Client) {
		return 0
	}
	return 1
}

// ask says which files are as they were.
func (q *question) ask(ctx context.Context, files []caps.MutableRead) (same map[int]bool, err error) {
	same = map[int]bool{}
	have := map[caps.StorageIndex]storage.Tag{}
	for i, at := range q.files {
		have[files[i].StorageIndex()] = at.tag
	}
	if storage.Watches(q.server.Client) && len(have) <= storage.MaxWatched {
		changed, err := storage.Watch(ctx, q.server.Client, have, 0)
		if err == nil {
			for i := range q.files {
				_, other := changed[files[i].StorageIndex()]
				same[i] = !other
			}
			return same, nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
	}
	var mu sync.Mutex // guards same
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(laterQueries)
	for i, at := range q.files {
		if len(at.shares) == 0 {
			same[i] = true // not asked, and confirms nothing
			continue
		}
		g.Go(func() error {
			got, err := q.server.Client.ReadSlot(ctx, files[i].StorageIndex(), at.shares, []storage.ReadVector{{Size: storage.TagHead}})
			if err != nil && !errors.Is(err, storage.ErrNoShare) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			same[i] = err == nil && tagOf(got) == at.tag
			return nil
		})
	}
	return same, g.Wait()
}

// tagOf is the Tag of what a server said of a slot, from its beginning.
func tagOf(got map[int][][]byte) storage.Tag {
	heads := make(map[int][]byte, len(got))
	for n, vectors := range got {
		if len(vectors) > 0 {
			heads[n] = vectors[0]
		}
	}
	return storage.TagOf(heads)
}

// ErrUnwatched: the servers that hold the files do not tell of changes, or cannot be
// asked to now. Ask for the versions, now and then.
var ErrUnwatched = errors.New("mutable: the servers do not tell of changes")

// Watch has the channel closed when one of the files may have another version than
// have says, which the caller found last, or when that would not be told any more. ctx
// ends the watching, and is to be ended. A change that reached a few servers only may
// be told late, or not before the next survey: Versions is to be asked all the same,
// seldom.
func (s *Store) Watch(ctx context.Context, files []caps.MutableRead, have []Version) (<-chan struct{}, error) {
	w := &waiter{changed: make(chan struct{}), wants: map[string]map[caps.StorageIndex]storage.Tag{}, cover: map[caps.StorageIndex]int{}}
	clients := map[string]storage.Client{}
	for i, f := range files {
		index := f.StorageIndex()
		s.mu.Lock()
		last := s.pictures[index]
		news := last != nil && (last.told || last.version != have[i])
		s.mu.Unlock()
		if news {
			close(w.changed)
			return w.changed, nil
		}
		si, servers := s.pictureOf(index)
		if si == nil {
			return nil, ErrUnwatched
		}
		for _, server := range servers {
			if !storage.Watches(server.Client) || !s.lines.usable(server.ID) {
				continue
			}
			clients[server.ID] = server.Client
			if w.wants[server.ID] == nil {
				w.wants[server.ID] = map[caps.StorageIndex]storage.Tag{}
			}
			at := si.servers[server.ID]
			w.wants[server.ID][index] = at.tag
			if len(at.shares) > 0 {
				w.cover[index]++
			}
		}
		if w.cover[index] == 0 {
			return nil, ErrUnwatched
		}
	}
	s.watch(w, clients)
	context.AfterFunc(ctx, func() { s.lines.remove(w) })
	return w.changed, nil
}

// tell notes what a server says that it holds, if it is something else than was seen.
func (s *Store) tell(index caps.StorageIndex, server string, tag storage.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if si := s.pictures[index]; si != nil && si.servers[server].tag != tag {
		si.told = true
	}
}
