package mutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"warren/node/caps"
)

// Modify replaces the file's contents by what change makes of them. change is
// called anew for each attempt, with whatever the file holds then, and must see
// for itself whether its change is there already: after a nil or equal result
// nothing is written, unless the version found stands on too few servers. Its
// error ends Modify.
//
// A nil return means that the change stands: see the package comment. After
// ErrUncoordinated and an UnhappyError with Written set it may or may not.
func (s *Store) Modify(ctx context.Context, c caps.MutableWrite, change func(old []byte) ([]byte, error)) error {
	return s.write(ctx, &writing{id: writable(c), change: change, reads: true})
}

// Overwrite replaces the file's contents. It returns nil as well when the new
// contents were stored and somebody has replaced them since.
func (s *Store) Overwrite(ctx context.Context, c caps.MutableWrite, contents []byte) error {
	return s.write(ctx, &writing{id: writable(c), change: func([]byte) ([]byte, error) { return contents, nil }})
}

// writing is one Modify, Overwrite or Update through its attempts.
type writing struct {
	store  *Store
	id     identity
	change func(old []byte) ([]byte, error)
	reads  bool    // change wants the old contents
	splice *splice // what change does, while it may be done in place

	republish bool // what change makes is written also when it is there already
	force     bool // newer versions that cannot be read are replaced

	// What earlier attempts left behind.
	ours     map[prefix]bool // versions that we sent to at least one server
	base     *memory         // what the last of them that arrived was built on
	picture  string          // where the last look showed newer versions that are not whole
	liars    map[string]bool // servers that refuse writes without reason
	refusals map[string]string
	held     map[string]string // what each server held at the last look that it answered
	blind    int               // looks that showed nothing to build on
	mixed    bool              // the last look showed several versions
}

// memory is a version whose contents this process still has, and what it wrote
// over it.
type memory struct {
	contents []byte
	k, n     int
	wrote    prefix
	where    map[memorySlot]bool
}

type memorySlot struct {
	server string
	num    int
}

// retry is a reason not to go on that may pass.
type retry struct{ why error }

func (r retry) Error() string { return r.why.Error() }
func (r retry) Unwrap() error { return r.why }

// maxBlind is how often a file that cannot be read is looked at before giving
// up: a writer that is at work is through within that time.
const maxBlind = 5

// again returns a retry, while there is hope that another look helps. A writer
// that took part in a race looks on: it may be the only one who can mend the file.
// So does, for longer, who sees the remains of a race: whoever can mend it may be
// pausing.
func (w *writing) again(why error) error {
	most := maxBlind
	if w.mixed {
		most = max(most, w.store.opts.Attempts/2)
	}
	if w.blind++; w.blind >= most && w.base == nil {
		return why
	}
	return retry{why}
}

func (s *Store) write(ctx context.Context, w *writing) error {
	release, err := s.turn(ctx, w.id.index)
	if err != nil {
		return err
	}
	defer release()
	w.store, w.ours, w.liars, w.refusals, w.held = s, map[prefix]bool{}, map[string]bool{}, map[string]string{}, map[string]string{}
	for n := 1; ; n++ {
		err := w.attempt(ctx)
		var r retry
		if !errors.As(err, &r) {
			return err
		}
		if n == s.opts.Attempts {
			return r.why
		}
		if err := s.opts.Pause(ctx, n); err != nil {
			return err
		}
	}
}

// attempt surveys, applies the change to the newest version that can be read,
// publishes the result and looks whether it stands.
func (w *writing) attempt(ctx context.Context) error {
	v := w.store.survey(w.id)
	if err := v.askAll(ctx, headSize); err != nil {
		return err
	}
	w.notice(v)
	key := w.store.knownKey(w.id.writeKey)
	best, old, key, err := w.open(ctx, v, key)
	if err != nil {
		return err
	}
	if best != nil {
		if w.force {
			w.store.AcceptRollback(w.id.index)
		}
		// What does not build on the old contents loses nothing of them.
		if back := v.alarm(best); back != nil && w.reads {
			return w.again(back)
		}
	}
	newer := v.newer(best)
	if !w.force {
		if err := w.mayReplace(v, append(v.damaged(best), newer...)); err != nil {
			return err
		}
	}
	var k, n int
	first := best
	if best != nil {
		k, n = best.header.Needed, best.header.Total
	} else {
		if k, n, old, first, err = w.recall(v); err != nil {
			return err
		}
		newer = slices.DeleteFunc(newer, func(ver *version) bool { return first != nil && ver.prefix == first.prefix })
	}

	var d *draft
	if w.splice != nil {
		if best == nil {
			return w.entirely(ctx)
		}
		if d, err = w.splice.draft(ctx, v, best, key); d == nil && err == nil {
			return w.entirely(ctx)
		}
		if err != nil {
			return err
		}
		return w.send(ctx, v, d, best, newer, nil)
	}
	text, err := w.change(old)
	if err != nil {
		return err
	}
	if w.reads && (text == nil || bytes.Equal(text, old)) {
		if best != nil && (!w.republish || w.ours[best.prefix]) && w.settled(v, best.prefix, nil) {
			return nil
		}
		// What was wanted is in it, perhaps since a write of ours, now or in an
		// earlier call, that reached too few servers: make it whole.
		text = old
	}
	if best != nil && !w.reads && w.ours[best.prefix] && w.settled(v, best.prefix, nil) {
		return nil
	}
	if d, err = w.store.draft(w.id.format, key, v.latest(), k, n, text); err != nil {
		return err
	}
	return w.send(ctx, v, d, first, newer, &memory{contents: old, k: k, n: n})
}

// entirely goes on with the file as a whole: what is in the way of changing it in
// place is mended on that way, too.
func (w *writing) entirely(ctx context.Context) error {
	w.splice = nil
	return w.attempt(ctx)
}

// send publishes a draft and looks whether it stands. first is the version whose
// replacement goes first (see publish), or nil; base is what the draft was built
// from, or nil.
func (w *writing) send(ctx context.Context, v *survey, d *draft, first *version, newer []*version, base *memory) error {
	unusable := w.unusable(v)
	if can := happiness(plan(v.candidates(newer, unusable), d.header.Total, d.happy)); can < d.happy {
		return &UnhappyError{Placed: can, Wanted: d.happy, Err: v.problem}
	}
	out := v.publish(ctx, d, first, newer, unusable)
	if len(out.placed) > 0 || len(out.failed) > 0 {
		w.ours[d.prefix()] = true // a call that failed may have been carried out
	}
	if len(out.placed) > 0 && base != nil {
		w.base = base
		w.base.wrote, w.base.where = d.prefix(), map[memorySlot]bool{}
		for _, t := range out.placed {
			w.base.where[memorySlot{v.servers[t.server].ID, t.num}] = true
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.remember(v, out)
	w.splice = nil // what fails in place is done again entirely
	if out.contested() {
		return retry{ErrUncoordinated}
	}
	err := w.confirm(ctx, v, d, out)
	if d.patch != nil && errors.Is(err, ErrUnhappy) {
		return retry{err}
	}
	return err
}

// draft encodes and signs a new version behind the highest sequence number seen.
func (s *Store) draft(format Format, key *Key, highest uint64, k, n int, text []byte) (*draft, error) {
	if highest == math.MaxUint64 {
		return nil, errUsedUp
	}
	shares, err := Encode(s.opts.Rand, key, Encoding{format, highest + 1, k, n, s.salt}, text)
	if err != nil {
		return nil, err
	}
	return &draft{key: key, header: shares[0].Header, shares: shares, happy: min(s.opts.Happy, n)}, nil
}

var errUsedUp = errors.New("mutable: the file's sequence numbers are used up")

func (s *Store) salt() (salt [16]byte, err error) {
	if _, err := io.ReadFull(s.opts.Rand, salt[:]); err != nil {
		return salt, fmt.Errorf("mutable: make an IV: %w", err)
	}
	return salt, nil
}

// open finds the newest version that can be read, its contents where the change
// wants them, and the private key. best is nil when no version can be read.
func (w *writing) open(ctx context.Context, v *survey, key *Key) (best *version, old []byte, _ *Key, err error) {
	if len(v.shares) == 0 {
		return nil, nil, nil, v.missing()
	}
	for best = v.best(); best != nil; best = v.best() {
		var sealed [][]byte
		if w.reads && w.splice == nil {
			old, sealed, err = v.contents(ctx, best, key == nil)
			if errors.Is(err, ErrNotEnoughShares) {
				continue // its damaged shares have left the survey
			}
			if err != nil {
				return nil, nil, nil, err
			}
		}
		if key == nil {
			if key, err = v.findKey(ctx, sealed); err != nil {
				return nil, nil, nil, w.again(err) // the shares may have been replaced meanwhile
			}
			w.store.rememberKey(key)
		}
		return best, old, key, nil
	}
	if key == nil && !w.reads && len(v.shares) > 0 {
		if key, err = v.findKey(ctx, nil); err != nil {
			return nil, nil, nil, w.again(err)
		}
		w.store.rememberKey(key)
	}
	if key == nil {
		// There is nothing to build on, and, the key being unknown, nothing in our
		// memory either: lost, or another writer is at work.
		return nil, nil, nil, w.again(v.missing())
	}
	return nil, nil, key, nil
}

// mayReplace decides about versions that are newer than what can be read. They
// are the remains of a writer that died, or of a race, or a write that is going
// on; or they are whole on servers that are away. The first two look the same
// after a pause and have no room to be whole elsewhere.
func (w *writing) mayReplace(v *survey, newer []*version) error {
	var foreign []*version
	whole := false // one of them may be whole, out of sight
	for _, ver := range newer {
		if w.ours[ver.prefix] {
			continue
		}
		foreign = append(foreign, ver)
		// Every share number that stands in no other version might, with this one,
		// be on a server that is away.
		var elsewhere, here [maxShares]bool
		for _, s := range v.shares {
			if s.prefix == ver.prefix {
				here[s.num] = true
			} else {
				elsewhere[s.num] = true
			}
		}
		for slot := range v.dropped { // damaged here is not away
			elsewhere[slot.num] = true
		}
		possible := 0
		for num := range ver.header.Total {
			if here[num] || !elsewhere[num] {
				possible++
			}
		}
		if possible >= max(ver.header.Needed, min(w.store.opts.Happy, ver.header.Total)) {
			whole = true
		}
	}
	picture := v.picture(foreign)
	same := picture == w.picture
	w.picture = picture
	if !same {
		w.blind = 0 // somebody is at work
	}
	if len(foreign) > 0 && (whole || !same) {
		return w.again(ErrNewerVersion)
	}
	return nil
}

// picture is where versions stand, as one comparable text.
func (v *survey) picture(list []*version) string {
	var stands []string
	for _, ver := range list {
		for _, s := range ver.shares {
			stands = append(stands, fmt.Sprintf("%s %d %x", v.servers[s.server].ID, s.num, s.prefix))
		}
	}
	slices.Sort(stands)
	return strings.Join(stands, ",")
}

// recall is the way out when a race left no version whole: the contents from
// before it are still in our memory. It is open only to a writer whose last
// shares all stand where it put them: they are in the way of every other writer,
// so that nobody else's version can have been acknowledged since. They are given
// back as the version to be replaced first, since that may change any moment.
//
// A server that failed is in nobody's way. So where others wrote after us, it is
// also waited until none of them goes on.
func (w *writing) recall(v *survey) (k, n int, old []byte, ours *version, err error) {
	list := v.versions()
	if w.base == nil {
		if !w.reads && len(list) > 0 {
			// The old contents do not matter, and mayReplace found that nobody has them.
			return list[0].header.Needed, list[0].header.Total, nil, nil, nil
		}
		return 0, 0, nil, nil, w.again(v.missing())
	}
	standing, later := 0, false
	for _, s := range v.shares {
		if s.prefix == w.base.wrote && w.base.where[memorySlot{v.servers[s.server].ID, s.num}] {
			standing++
		}
		later = later || !w.ours[s.prefix] && s.header.Seqnum > w.base.wrote.header().Seqnum
	}
	if standing < len(w.base.where) || later && w.blind < maxBlind {
		return 0, 0, nil, nil, w.again(v.missing())
	}
	i := slices.IndexFunc(list, func(ver *version) bool { return ver.prefix == w.base.wrote })
	return w.base.k, w.base.n, w.base.contents, list[i], nil
}

// settled says that a version is the newest, whole, on enough servers, with
// nothing as new beside it.
func (w *writing) settled(v *survey, p prefix, written []target) bool {
	best := v.best()
	if best == nil || best.prefix != p || len(v.newer(best)) > 0 {
		return false
	}
	for _, s := range v.shares {
		if s.header.Seqnum >= best.header.Seqnum && s.prefix != p {
			return false
		}
	}
	if happiness(v.holders(p, written)) < min(w.store.opts.Happy, best.header.Total) {
		return false
	}
	w.store.opts.Seen.gave(w.id.index, best.header.Seqnum)
	return true
}

// confirm looks at all servers again. That a server said "written" is not
// enough: it may be full and hide it, and another writer may have come since.
func (w *writing) confirm(ctx context.Context, v *survey, d *draft, out *outcome) error {
	look := v.again()
	if err := look.askAll(ctx, w.id.versionSize()); err != nil {
		return err
	}
	p := d.prefix()
	if w.settled(look, p, out.placed) {
		return nil
	}
	best := look.best()
	// Whoever replaced ours saw it whole: our contents were the file's for a while.
	if !w.reads && best != nil && best.prefix.compare(p) > 0 && best.header.Seqnum > d.header.Seqnum && happiness(out.placed) >= d.happy {
		return nil
	}
	for _, rival := range look.shares {
		if rival.header.Seqnum >= d.header.Seqnum && rival.prefix != p {
			return retry{ErrUncoordinated}
		}
	}
	return &UnhappyError{Placed: happiness(look.holders(p, out.placed)), Wanted: d.happy, Written: true, Err: out.problem()}
}

// problem is one of the failures.
func (o *outcome) problem() error {
	for _, err := range o.failed {
		return err
	}
	return nil
}

// remember keeps what the servers that refused held when we tested it.
func (w *writing) remember(v *survey, out *outcome) {
	clear(w.refusals)
	for _, i := range out.refused {
		w.refusals[v.servers[i].ID] = v.holdings(i)
	}
}

// notice finds servers that refused our write although their shares were and
// still are what we tested for. They are left out of what follows: else one
// could hold up every write for ever.
func (w *writing) notice(v *survey) {
	w.mixed = slices.ContainsFunc(v.shares, func(s *share) bool { return s.prefix != v.shares[0].prefix })
	for i, s := range v.servers {
		if v.state[i] != answered {
			continue
		}
		now := v.holdings(i)
		if before, ok := w.refusals[s.ID]; ok && now == before {
			w.liars[s.ID] = true
		}
		if before, ok := w.held[s.ID]; ok && now != before {
			w.blind = 0 // somebody is at work
		}
		w.held[s.ID] = now
	}
}

func (w *writing) unusable(v *survey) map[int]bool {
	list := map[int]bool{}
	for i, s := range v.servers {
		if w.liars[s.ID] {
			list[i] = true
		}
	}
	return list
}

// holdings is all that a server holds of the file, as one comparable text.
func (v *survey) holdings(server int) string {
	var held []string
	for _, s := range v.shares {
		if s.server == server {
			held = append(held, fmt.Sprintf("%d %x", s.num, s.prefix))
		}
	}
	for _, b := range v.bad {
		if b.server == server {
			held = append(held, fmt.Sprintf("%d bad %x", b.num, b.test.Specimen))
		}
	}
	slices.Sort(held)
	return fmt.Sprint(held)
}

// create publishes the first version of a file.
func (s *Store) create(ctx context.Context, format Format, key *Key, contents []byte) error {
	id := writable(key.cap(format))
	v := s.survey(id)
	for i := range v.state {
		v.state[i] = answered // with a fresh key there is nothing to ask for
	}
	d, err := s.draft(format, key, v.latest(), s.opts.Needed, s.opts.Total, contents)
	if err != nil {
		return err
	}
	if can := happiness(plan(v.candidates(nil, nil), s.opts.Total, d.happy)); can < d.happy {
		return &UnhappyError{Placed: can, Wanted: d.happy}
	}
	out := v.publish(ctx, d, nil, nil, nil)
	if err := ctx.Err(); err != nil {
		return err
	}
	if out.contested() {
		return ErrUncoordinated
	}
	w := &writing{store: s, id: id, reads: true}
	if err := w.confirm(ctx, v, d, out); err != nil {
		var r retry
		if errors.As(err, &r) {
			return r.why
		}
		return err
	}
	s.rememberKey(key)
	return nil
}
