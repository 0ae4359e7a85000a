package mutable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
	"warren/node/taghash"
)

// CheckOptions says how thorough a check is.
type CheckOptions struct {
	// Verify reads every byte of the shares of the best version; otherwise servers
	// are believed when they show a header that the file's key signed.
	Verify bool
	// AddLease adds our lease to, or renews it on, the shares of every server that
	// holds any.
	AddLease bool
}

// ShareAt is one share on one server, and what is wrong with it.
type ShareAt struct {
	Server string // grid.Server.ID
	Share  int
	Err    error
}

// Trouble is what a check could not find out or do on a server.
type Trouble struct {
	Server string
	Share  int // -1: it is about the server
	Err    error
}

// Found is one version of which there are shares.
type Found struct {
	Version
	Format        Format
	Needed, Total int
	Size          uint64
	// Shares names the servers that hold each share, in permuted order.
	Shares map[int][]string
}

// Name is Tahoe's short name of the version: "seq3-abcd".
func (f *Found) Name() string {
	return fmt.Sprintf("seq%d-%s", f.Seqnum, taghash.EncodeBase32(f.RootHash[:])[:4])
}

// Recoverable says that there are enough shares to read the version.
func (f *Found) Recoverable() bool { return len(f.Shares) >= f.Needed }

// Health is what a check found of one file, as Tahoe-LAFS counts it.
type Health struct {
	Index caps.StorageIndex
	// Versions are those that shares were found of, the newest first.
	Versions []Found
	// Corrupt shares are none of the file's, or damaged; Incompatible ones are of a
	// format that we do not know or too large. Neither count as Shares.
	Corrupt, Incompatible []ShareAt
	// Responding are the servers that said what they hold, in permuted order.
	Responding []string
	// Troubles are servers that did not say, and shares that could not be read to
	// their end. Leases are servers that hold shares and did not take our lease.
	Troubles, Leases []Trouble
}

// Best is the newest version that can be read, or nil.
func (h *Health) Best() *Found {
	for i := range h.Versions {
		if h.Versions[i].Recoverable() {
			return &h.Versions[i]
		}
	}
	return nil
}

// counted is the version whose shares are counted: the best, else the newest.
func (h *Health) counted() *Found {
	if best := h.Best(); best != nil {
		return best
	}
	if len(h.Versions) > 0 {
		return &h.Versions[0]
	}
	return &Found{Needed: 3, Total: 10} // Tahoe's numbers for a file of which nothing is there
}

// Recoverable reports whether there is a version to read.
func (h *Health) Recoverable() bool { return h.Best() != nil }

// RecoverableVersions and UnrecoverableVersions count the versions of either kind.
func (h *Health) RecoverableVersions() (n int) {
	for i := range h.Versions {
		if h.Versions[i].Recoverable() {
			n++
		}
	}
	return n
}

// UnrecoverableVersions counts versions of which too few shares are there.
func (h *Health) UnrecoverableVersions() int { return len(h.Versions) - h.RecoverableVersions() }

// Encoding is k and n of the version that is counted.
func (h *Health) Encoding() (needed, total int) {
	f := h.counted()
	return f.Needed, f.Total
}

// Good is the number of distinct shares of the version that is counted, and Hosts
// that of the servers with any of them.
func (h *Health) Good() int { return len(h.counted().Shares) }

// Hosts is the number of servers that hold good shares.
func (h *Health) Hosts() int {
	hosts := map[string]bool{}
	for _, servers := range h.counted().Shares {
		for _, id := range servers {
			hosts[id] = true
		}
	}
	return len(hosts)
}

// Wrong is the number of shares of all other versions.
func (h *Health) Wrong() (n int) {
	counted := h.counted()
	for i := range h.Versions {
		if f := &h.Versions[i]; f.Version != counted.Version {
			for _, servers := range f.Shares {
				n += len(servers)
			}
		}
	}
	return n
}

// Happiness is the servers of happiness of all shares, where those of different
// versions are different shares, as Tahoe has it.
func (h *Health) Happiness() int {
	held := grid.Holdings{}
	for i, f := range h.Versions {
		for num, servers := range f.Shares {
			for _, id := range servers {
				held.Add(id, i*maxShares+num)
			}
		}
	}
	return grid.Happiness(held)
}

// Sharemap names the servers of each share of each version, under Tahoe's names:
// "seq3-abcd-sh0".
func (h *Health) Sharemap() map[string][]string {
	m := map[string][]string{}
	for i := range h.Versions {
		for num, servers := range h.Versions[i].Shares {
			m[fmt.Sprintf("%s-sh%d", h.Versions[i].Name(), num)] = servers
		}
	}
	return m
}

// Healthy reports whether there is one version alone and each of its shares is good
// somewhere. Corrupt ones beside them do no harm.
func (h *Health) Healthy() bool { return len(h.ills()) == 0 }

// Summary is Tahoe's sentence about it.
func (h *Health) Summary() string {
	ills := h.ills()
	if len(ills) == 0 {
		return "Healthy"
	}
	if len(h.Corrupt) > 0 {
		ills = append(ills, "Corrupt Shares:")
		for _, at := range h.Corrupt {
			// Tahoe's short name of a server.
			id := strings.TrimPrefix(at.Server, "v0-")
			ills = append(ills, fmt.Sprintf("%s-sh%d", id[:min(8, len(id))], at.Share))
		}
	}
	return "Unhealthy: " + strings.Join(ills, " ")
}

func (h *Health) ills() (ills []string) {
	if h.UnrecoverableVersions() > 0 {
		ills = append(ills, "some versions are unrecoverable")
	}
	switch n := h.RecoverableVersions(); {
	case n == 0:
		return append(ills, "no versions are recoverable")
	case n > 1:
		ills = append(ills, "multiple versions are recoverable")
	}
	if k, n := h.Encoding(); h.Good() < n {
		ills = append(ills, fmt.Sprintf("%d shares (enc %d-of-%d)", h.Good(), k, n))
	}
	return ills
}

// ErrNotMutable: a capability that names no mutable file.
var ErrNotMutable = errors.New("mutable: not the capability of a mutable file")

// anyCap is what any capability of a mutable file or directory says.
func anyCap(c caps.Cap) (identity, error) {
	if c == nil {
		return identity{}, ErrNotMutable
	}
	switch f := caps.File(c).(type) {
	case caps.SSKWrite, caps.MDMFWrite:
		return writable(f.(caps.MutableWrite)), nil
	case caps.SSKRead, caps.MDMFRead:
		return readable(f.(caps.MutableRead)), nil
	case caps.SSKVerify:
		return identity{format: SDMF, index: f.Index, fingerprint: f.Fingerprint}, nil
	case caps.MDMFVerify:
		return identity{format: MDMF, index: f.Index, fingerprint: f.Fingerprint}, nil
	}
	return identity{}, fmt.Errorf("%w: %s", ErrNotMutable, c.Kind())
}

// Check finds out which connected servers hold which shares of a mutable file or
// directory. Any of its capabilities will do; only from the writecap can Verify also
// prove the private key in each share.
//
// A server that fails is no error but shows in Health; the only errors are ctx's
// and that of a capability that cannot be checked. Check changes nothing but
// leases; servers are told of shares that are corrupt.
func (s *Store) Check(ctx context.Context, c caps.Cap, o CheckOptions) (*Health, error) {
	id, err := anyCap(c)
	if err != nil {
		return nil, err
	}
	v := s.survey(id)
	if err := v.askAll(ctx, id.versionSize()); err != nil {
		return nil, err
	}
	h := &Health{Index: id.index}
	if o.AddLease {
		h.Leases = v.addLeases(ctx)
	}
	if best := v.best(); best != nil {
		v.alarm(best)
		if o.Verify {
			h.Troubles = v.verifyAll(ctx, best)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, srv := range v.servers {
		switch {
		case v.state[i] == answered:
			h.Responding = append(h.Responding, srv.ID)
		case v.failures[i] != nil:
			h.Troubles = append(h.Troubles, Trouble{srv.ID, -1, v.failures[i]})
		default:
			h.Troubles = append(h.Troubles, Trouble{srv.ID, -1, errSilent})
		}
	}
	for _, ver := range v.versions() {
		f := Found{Version: ver.header.version(), Format: ver.header.Format, Needed: ver.header.Needed, Total: ver.header.Total, Size: ver.header.DataLength, Shares: map[int][]string{}}
		slices.SortFunc(ver.shares, func(a, b *share) int { return a.server - b.server })
		for _, sh := range ver.shares {
			f.Shares[sh.num] = append(f.Shares[sh.num], v.servers[sh.server].ID)
		}
		h.Versions = append(h.Versions, f)
	}
	slices.SortFunc(v.bad, func(a, b slot) int {
		if a.server != b.server {
			return a.server - b.server
		}
		return a.num - b.num
	})
	for _, b := range v.bad {
		at := ShareAt{v.servers[b.server].ID, b.num, v.why[slotKey{b.server, b.num}]}
		if isForeign(at.Err) {
			h.Incompatible = append(h.Incompatible, at)
		} else {
			h.Corrupt = append(h.Corrupt, at)
		}
	}
	return h, nil
}

var errSilent = errors.New("mutable: the server did not answer in time")

// addLeases renews our lease wherever there are shares, good or bad.
func (v *survey) addLeases(ctx context.Context) (failed []Trouble) {
	ctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
	defer cancel()
	holds := make([]bool, len(v.servers))
	for _, s := range v.shares {
		holds[s.server] = true
	}
	for _, b := range v.bad {
		holds[b.server] = true
	}
	errs := make([]error, len(v.servers))
	var wg sync.WaitGroup
	for i, srv := range v.servers {
		if !holds[i] {
			continue
		}
		wg.Go(func() {
			secrets, err := v.store.secrets([16]byte{}, v.id.index, srv.LeaseSeed)
			if err == nil {
				err = srv.Client.AddLease(ctx, v.id.index, secrets.LeaseSecrets)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			failed = append(failed, Trouble{v.servers[i].ID, -1, err})
		}
	}
	return failed
}

// verifying is how many shares are read at the same time.
const verifying = 8

// verifyAll reads every byte of a version's shares. What is damaged leaves the
// survey, and its server is told.
func (v *survey) verifyAll(ctx context.Context, ver *version) (troubles []Trouble) {
	shares := v.of(ver.prefix)
	errs := make([]error, len(shares))
	room := make(chan struct{}, verifying)
	var wg sync.WaitGroup
	for i, s := range shares {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			if errs[i] = v.verifyShare(ctx, s); errors.Is(errs[i], errShare) {
				cctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
				defer cancel()
				_ = v.servers[s.server].Client.AdviseCorrupt(cctx, storage.Mutable, v.id.index, s.num, errs[i].Error())
			}
		})
	}
	wg.Wait()
	for i, s := range shares {
		switch {
		case errors.Is(errs[i], errShare):
			v.drop(s)
			v.why[slotKey{s.server, s.num}] = errs[i]
		case errs[i] != nil:
			troubles = append(troubles, Trouble{v.servers[s.server].ID, s.num, errs[i]})
		}
	}
	return troubles
}

// verifyShare reads all of a share but its header, keys and signature, which are
// known already.
func (v *survey) verifyShare(ctx context.Context, s *share) error {
	call := func(f func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
		defer cancel()
		return f(ctx)
	}
	if err := call(func(ctx context.Context) error {
		in, err := v.read(ctx, s, []span{s.chain, s.tree, s.privateKey})
		if err != nil {
			return err
		}
		if s.leaves, err = prove(s.header, s.num, parseChain(in(s.chain)), parseHashes(in(s.tree))); err != nil {
			return err
		}
		if v.id.writeKey == ([16]byte{}) {
			return nil
		}
		if _, err := unsealKey(v.id.writeKey, in(s.privateKey), v.publicDR); err != nil {
			return fmt.Errorf("%w: private key", errShare)
		}
		return nil
	}); err != nil {
		return err
	}
	h := s.header
	for at := 0; at < h.segments(); at += h.run() {
		if err := call(func(ctx context.Context) error {
			return v.fetch(ctx, s, at, min(at+h.run(), h.segments()), false).err
		}); err != nil {
			return err
		}
	}
	return nil
}

// ErrMustForce: the newest version has too few shares to be read, or there are two
// equally new ones, and repair would make one of them unreadable for ever.
var ErrMustForce = errors.New("mutable: repair would discard a version, and must be forced to")

// Repaired is what CheckAndRepair did.
type Repaired struct {
	Before, After *Health // After is Before when nothing was attempted
	Attempted     bool
	Failure       error // why the repair that was attempted failed
}

// Successful reports whether a repair was attempted and done.
func (r *Repaired) Successful() bool { return r.Attempted && r.Failure == nil }

// CheckAndRepair checks, and repairs what is not healthy or has corrupt shares,
// without force. From a capability that gives no right to write nothing can be
// repaired, and nothing is attempted.
func (s *Store) CheckAndRepair(ctx context.Context, c caps.Cap, o CheckOptions) (*Repaired, error) {
	before, err := s.Check(ctx, c, o)
	if err != nil {
		return nil, err
	}
	r := &Repaired{Before: before, After: before}
	w, ok := c.(caps.MutableWrite)
	if !ok || before.Healthy() && len(before.Corrupt) == 0 {
		return r, nil
	}
	r.Attempted = true
	if r.Failure = s.repair(ctx, w, before, false); r.Failure != nil {
		return r, ctx.Err()
	}
	o.AddLease = false // what was written has one
	if r.After, err = s.Check(ctx, c, o); err != nil {
		return nil, err
	}
	return r, nil
}

// Repair publishes the best version anew: to the servers that hold older or damaged
// shares, in their places, and to others for shares that are missing. It is
// ErrMustForce, unless force is set, when that discards a version: see there.
func (s *Store) Repair(ctx context.Context, c caps.MutableWrite, force bool) error {
	h, err := s.Check(ctx, c, CheckOptions{})
	if err != nil {
		return err
	}
	return s.repair(ctx, c, h, force)
}

func (s *Store) repair(ctx context.Context, c caps.MutableWrite, h *Health, force bool) error {
	best := h.Best()
	if best == nil {
		return fmt.Errorf("%w: no version can be recovered", ErrNotEnoughShares)
	}
	for i := range h.Versions {
		f := &h.Versions[i]
		if f.Version == best.Version || force {
			continue
		}
		if f.Seqnum > best.Seqnum || f.Seqnum == best.Seqnum && f.Recoverable() {
			return ErrMustForce
		}
	}
	return s.write(ctx, &writing{
		id: writable(c), reads: true, republish: true, force: force,
		change: func([]byte) ([]byte, error) { return nil, nil },
	})
}
