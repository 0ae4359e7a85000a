package mutable

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"warren/node/grid"
	"warren/node/storage"
	"warren/node/taghash"
)

// headSize is how much of each share the first question asks for: header, keys
// and hashes take less than 1000 bytes in SDMF, 2200 in MDMF, and the rest saves a
// second round trip for small files.
const headSize = 4 << 10

// laterQueries is how many questions are in flight after the first batch.
const laterQueries = 5

// maxShares bounds share numbers: n is one byte.
const maxShares = 256

// A share that some server holds and whose header is signed by the file's key.
type share struct {
	server int // index into survey.servers
	num    int
	header Header
	prefix prefix
	offsets
	head   []byte     // the share's first bytes, as far as they are known
	leaves [][32]byte // the hashes of its blocks, once they are proven
}

// A slot is a share number on a server, whatever it holds, with the test that
// holds while it is unchanged.
type slot struct {
	server, num int
	test        storage.TestVector
}

type slotKey struct{ server, num int }

func (s *share) slot() slot {
	test := s.prefix.checkstring()
	return slot{s.server, s.num, storage.TestVector{Size: uint64(len(test)), Specimen: test}}
}

// version is what shares of one prefix have in common.
type version struct {
	prefix prefix
	header Header
	shares []*share // those that arrived first stand first
}

// distinct counts the share numbers that are there.
func (v *version) distinct() int {
	var seen [maxShares]bool
	n := 0
	for _, s := range v.shares {
		if !seen[s.num] {
			seen[s.num] = true
			n++
		}
	}
	return n
}

func (v *version) recoverable() bool { return v.distinct() >= v.header.Needed }

type answer int

const (
	unasked  answer = iota
	asking          // asked, or asked and no longer waited for
	answered        // told what it holds
	failed
)

// survey is what the servers said of one file, Tahoe's servermap. One goroutine
// uses it; ask starts others and waits for them.
type survey struct {
	store    *Store
	id       identity
	servers  []grid.Server // in permuted order
	state    []answer
	held     map[int]seenAt // what those hold that answered
	shares   []*share
	bad      []slot             // shares that are there and cannot be believed
	dropped  map[slotKey]prefix // what drop took out, so that asking again does not bring it back
	moved    bool               // since forget, a slot of dropped turned out to hold another version
	problem  error              // the last failure, for messages
	foreign  error              // why a share that may well be intact is among bad
	why      map[slotKey]error  // what is wrong with those of bad
	failures map[int]error      // by server

	mu       sync.Mutex // guards what follows, which the questions share
	publicDR []byte     // the file's public key, once a share gave it
	public   *rsa.PublicKey
	proven   map[prefix]bool // prefixes with a checked signature
}

func (s *Store) survey(id identity) *survey {
	servers := s.opts.Servers.Permuted(id.index)
	return &survey{
		store: s, id: id, servers: servers,
		state: make([]answer, len(servers)), held: map[int]seenAt{}, dropped: map[slotKey]prefix{}, proven: map[prefix]bool{},
		why: map[slotKey]error{}, failures: map[int]error{},
	}
}

// again is a survey of the same servers that knows nothing yet.
func (v *survey) again() *survey {
	return &survey{
		store: v.store, id: v.id, servers: v.servers,
		state: make([]answer, len(v.servers)), held: map[int]seenAt{}, dropped: map[slotKey]prefix{}, proven: map[prefix]bool{},
		why: map[slotKey]error{}, failures: map[int]error{},
	}
}

// forget makes ask ask all servers once more. What they said stays until they
// say something else.
func (v *survey) forget() {
	clear(v.state)
	v.moved = false
}

// reply is one server's answer to a question.
type reply struct {
	server int
	held   seenAt
	shares []*share
	bad    []slot
	// foreign is why some of bad are not ours to read: of another format, or too
	// large. That is no damage.
	foreign error
	why     map[int]error // what is wrong with those of bad, by number
	err     error
}

// isForeign says that a share may be intact, but is not ours to read.
func isForeign(err error) bool { return errors.Is(err, errVersion) || errors.Is(err, ErrTooLarge) }

// askForReading asks servers in permuted order until the newest version can be
// read: twice k at first, since up to k of them may be stale, and more while
// there is a sign of something newer than what is whole.
func (v *survey) askForReading(ctx context.Context, size uint64) error {
	return v.ask(ctx, size, false)
}

// askAll asks every server.
func (v *survey) askAll(ctx context.Context, size uint64) error { return v.ask(ctx, size, true) }

// ask returns when enough is known, with the context's error, or nil when all
// have answered or failed. Servers that are slow are not waited for longer than
// Patience once a version that can be read stands unchallenged.
func (v *survey) ask(ctx context.Context, size uint64, all bool) error {
	qctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
	defer cancel()
	qctx, stop := context.WithCancelCause(qctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	replies := make(chan reply, len(v.servers))
	var patience <-chan time.Time
	first := 2 * v.store.opts.Needed
	next, inFlight, done := 0, 0, 0
	for {
		standing := v.standing()
		if standing && !all {
			best := v.best()
			first = max(first, 2*best.header.Needed)
			if done >= first {
				return nil
			}
		}
		window := laterQueries
		if done+inFlight < first {
			window = max(window, first-done)
		}
		for ; next < len(v.servers) && (all || inFlight < window); next++ {
			if v.state[next] == answered {
				done++
				continue
			}
			v.state[next] = asking
			inFlight++
			wg.Add(1)
			go func(i int) {
				defer wg.Done()
				r := v.query(qctx, i, size)
				replies <- r
				v.advise(qctx, r)
			}(next)
		}
		if inFlight == 0 {
			return nil
		}
		if standing && patience == nil {
			timer := time.NewTimer(v.store.opts.Patience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case r := <-replies:
			inFlight--
			done++
			v.take(r)
		case <-patience:
			if v.standing() {
				stop(grid.ErrOutpaced)
				return nil
			}
			patience = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take adds a reply.
func (v *survey) take(r reply) {
	if r.err != nil {
		v.state[r.server], v.problem, v.failures[r.server] = failed, r.err, r.err
		return
	}
	if r.foreign != nil {
		v.foreign = r.foreign
	}
	v.state[r.server], v.held[r.server] = answered, r.held
	for num, err := range r.why {
		v.why[slotKey{r.server, num}] = err
	}
	v.shares = slices.DeleteFunc(v.shares, func(s *share) bool { return s.server == r.server })
	v.bad = append(slices.DeleteFunc(v.bad, func(s slot) bool { return s.server == r.server }), r.bad...)
	for _, s := range r.shares {
		v.store.opts.Seen.saw(v.id.index, s.header.Seqnum)
		if p, ok := v.dropped[slotKey{s.server, s.num}]; ok {
			if p == s.prefix {
				v.bad = append(v.bad, s.slot())
				continue
			}
			v.moved = true
		}
		v.shares = append(v.shares, s)
	}
}

// standing says that a version can be read and nothing points to a newer one.
func (v *survey) standing() bool {
	best := v.best()
	return best != nil && len(v.newer(best)) == 0 && best.header.Seqnum >= v.store.opts.Seen.get(v.id.index).given
}

// versions lists what is there, newest first.
func (v *survey) versions() []*version {
	var list []*version
	index := map[prefix]*version{}
	for _, s := range v.shares {
		ver := index[s.prefix]
		if ver == nil {
			ver = &version{prefix: s.prefix, header: s.header}
			index[s.prefix] = ver
			list = append(list, ver)
		}
		ver.shares = append(ver.shares, s)
	}
	slices.SortFunc(list, func(a, b *version) int { return b.prefix.compare(a.prefix) })
	return list
}

// best is the newest version of which enough shares are there, or nil.
func (v *survey) best() *version {
	for _, ver := range v.versions() {
		if ver.recoverable() {
			return ver
		}
	}
	return nil
}

// newer lists versions newer than best (nil: all), none of which can be read.
func (v *survey) newer(best *version) []*version {
	list := v.versions()
	if best == nil {
		return list
	}
	return list[:slices.IndexFunc(list, func(ver *version) bool { return ver.prefix == best.prefix })]
}

// damaged lists versions newer than best of which damaged shares alone are here.
// Their headers are signed: such a version exists, and may be whole elsewhere.
// Without best there is nothing that could be taken for newer than it is.
func (v *survey) damaged(best *version) []*version {
	if best == nil {
		return nil
	}
	known := v.versions()
	var list []*version
	for at, p := range v.dropped {
		is := func(ver *version) bool { return ver.prefix == p }
		if p.compare(best.prefix) <= 0 || slices.ContainsFunc(known, is) {
			continue
		}
		i := slices.IndexFunc(list, is)
		if i < 0 {
			i = len(list)
			list = append(list, &version{prefix: p, header: p.header()})
		}
		list[i].shares = append(list[i].shares, &share{server: at.server, num: at.num, prefix: p})
	}
	return list
}

// highest is the highest sequence number of any share, damaged or not.
func (v *survey) highest() uint64 {
	var h uint64
	for _, s := range v.shares {
		h = max(h, s.header.Seqnum)
	}
	for _, p := range v.dropped {
		h = max(h, p.header().Seqnum)
	}
	return h
}

// latest is the sequence number that a new version must exceed: also those which are
// out of sight now, and might come back.
func (v *survey) latest() uint64 { return max(v.highest(), v.store.opts.Seen.get(v.id.index).any) }

// missing says why there is no version to read.
func (v *survey) missing() error {
	failures := 0
	for _, st := range v.state {
		if st != answered {
			failures++
		}
	}
	list := v.versions()
	switch {
	case len(list) > 0:
		return fmt.Errorf("%w: %d of %d found, %d of %d servers did not answer", ErrNotEnoughShares,
			list[0].distinct(), list[0].header.Needed, failures, len(v.state))
	case v.foreign != nil:
		return fmt.Errorf("%w: %w", ErrNotEnoughShares, v.foreign)
	case len(v.bad) > 0:
		return fmt.Errorf("%w: none of the %d found is intact", ErrNotEnoughShares, len(v.bad))
	case failures == 0 && len(v.state) > 0:
		return ErrNotFound
	case v.problem != nil:
		return fmt.Errorf("%w: none found, %d of %d servers did not answer: %w", ErrNotEnoughShares, failures, len(v.state), v.problem)
	}
	return fmt.Errorf("%w: no server answered", ErrNotEnoughShares)
}

// query asks one server for the heads of the shares that it holds.
func (v *survey) query(ctx context.Context, server int, size uint64) reply {
	r := reply{server: server, why: map[int]error{}}
	client := v.servers[server].Client
	got, err := client.ReadSlot(storage.Expecting(ctx, v.store.had(v.id.index, v.servers[server].ID)), v.id.index, nil, []storage.ReadVector{{Offset: 0, Size: size}})
	if errors.Is(err, storage.ErrNoShare) {
		got, err = nil, nil
	}
	if err != nil {
		r.err = err
		return r
	}
	r.held = seenAt{tag: tagOf(got), shares: slices.Sorted(maps.Keys(got))}
	for num, vectors := range got {
		if num < 0 || num >= maxShares || len(vectors) != 1 || uint64(len(vectors[0])) > size {
			r.err = fmt.Errorf("mutable: a server answered beside the question")
			return r
		}
		s, err := v.check(ctx, server, num, vectors[0])
		switch {
		case err == nil:
			r.shares = append(r.shares, s)
		case isForeign(err):
			r.foreign, r.why[num] = err, err
			r.bad = append(r.bad, badSlot(server, num, vectors[0]))
		case errors.Is(err, errShare):
			r.why[num] = err
			r.bad = append(r.bad, badSlot(server, num, vectors[0]))
		default:
			return reply{server: server, err: err}
		}
	}
	return r
}

// badSlot is a slot whose contents are not believed: the test compares with what
// was read, whatever it is.
func badSlot(server, num int, head []byte) slot {
	return slot{server, num, storage.TestVector{Size: sdmfCheckstring, Specimen: head[:min(len(head), sdmfCheckstring)]}}
}

// check believes a share: its public key has the capability's fingerprint and
// signed the header.
func (v *survey) check(ctx context.Context, server, num int, head []byte) (*share, error) {
	h, o, head, err := v.wholeHead(ctx, server, num, head)
	if err != nil {
		return nil, err
	}
	if num >= h.Total {
		return nil, fmt.Errorf("%w: number %d of %d", errShare, num, h.Total)
	}
	public, err := v.publicKey(head[o.publicKey.from:o.publicKey.to])
	if err != nil {
		return nil, err
	}
	s := &share{server: server, num: num, header: h, prefix: h.prefix(), offsets: o, head: head}
	v.mu.Lock()
	proven := v.proven[s.prefix]
	v.mu.Unlock()
	if !proven {
		if err := verify(public, s.prefix, head[o.signature.from:o.signature.to]); err != nil {
			return nil, err
		}
		v.mu.Lock()
		v.proven[s.prefix] = true
		v.mu.Unlock()
	}
	return s, nil
}

// wholeHead parses a share's head. Keys longer than ours, or those of MDMF where SDMF
// was expected, lie beyond what was read: it is read again then, as far as they go.
// The share may be replaced between two readings; each has what one version holds.
func (v *survey) wholeHead(ctx context.Context, server, num int, head []byte) (Header, offsets, []byte, error) {
	for look := 0; ; look++ {
		h, o, err := parseHeader(head)
		need := max(o.publicKey.to, o.signature.to)
		if err != nil || uint64(len(head)) >= need {
			return h, o, head, err
		}
		got, err := v.servers[server].Client.ReadSlot(ctx, v.id.index, []int{num}, []storage.ReadVector{{Offset: 0, Size: need}})
		if err != nil && !errors.Is(err, storage.ErrNoShare) {
			return h, o, nil, err
		}
		if look == maxLooks || len(got[num]) != 1 || uint64(len(got[num][0])) > need || bytes.HasPrefix(head, got[num][0]) {
			return h, o, nil, fmt.Errorf("%w: cut off", errShare)
		}
		head = got[num][0]
	}
}

// publicKey parses the file's public key once and refuses any other.
func (v *survey) publicKey(der []byte) (*rsa.PublicKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.public != nil && bytes.Equal(v.publicDR, der) {
		return v.public, nil
	}
	if taghash.SSKFingerprint(der) != v.id.fingerprint {
		return nil, fmt.Errorf("%w: public key is not the file's", errShare)
	}
	public, err := parsePublicKey(der)
	if err != nil {
		return nil, err
	}
	v.publicDR, v.public = bytes.Clone(der), public
	return public, nil
}

// advise tells a server of its damaged shares. Best effort: it ends with the
// survey. Where some are of a format that is not ours it says nothing: to a
// server a false advisory is worse than none.
func (v *survey) advise(ctx context.Context, r reply) {
	if r.foreign != nil {
		return
	}
	for _, s := range r.bad {
		_ = v.servers[r.server].Client.AdviseCorrupt(ctx, storage.Mutable, v.id.index, s.num, "header or signature does not verify")
	}
}

// of lists the shares of a version that are believed.
func (v *survey) of(p prefix) []*share {
	return slices.DeleteFunc(slices.Clone(v.shares), func(s *share) bool { return s.prefix != p })
}

// demote puts a share whose server is slow behind the others.
func (v *survey) demote(s *share) {
	if i := slices.Index(v.shares, s); i >= 0 {
		v.shares = append(slices.Delete(v.shares, i, i+1), s)
	}
}

// drop stops believing a share whose inside turned out to be damaged.
func (v *survey) drop(s *share) {
	v.shares = slices.DeleteFunc(v.shares, func(o *share) bool { return o == s })
	v.bad = append(v.bad, s.slot())
	v.dropped[slotKey{s.server, s.num}] = s.prefix
}

// lose forgets a share whose server stopped answering.
func (v *survey) lose(s *share, err error) {
	v.shares = slices.DeleteFunc(v.shares, func(o *share) bool { return o == s })
	v.state[s.server], v.problem, v.failures[s.server] = failed, err, err
}
