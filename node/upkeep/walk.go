package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/immutable"
	"warren/node/mutable"
)

// How much of the queue is taken at once: visits that ask the network, and others.
const (
	maxJobs   = 32
	maxPassed = 512
)

// entryOf is an item as it is kept; false: it has nothing to keep alive. What leads
// nowhere and cannot change is kept by its verifycap.
func entryOf(it Item) (entry, bool) {
	c := it.Cap
	if c == nil {
		return entry{}, false
	}
	leads := it.Kind != "" || listable(c)
	if caps.Verifier(c) == nil && !leads {
		return entry{}, false
	}
	if !leads && caps.IsImmutable(c) {
		c = caps.Verifier(c)
	}
	return entry{Path: it.Name, Cap: c.Text(), Kind: it.Kind, Past: it.Past}, true
}

// listable says that c is a directory whose entries it lets us read.
func listable(c caps.Cap) bool { return caps.IsDir(c) && !caps.IsVerifier(c) }

func writable(c caps.Cap) bool {
	_, ok := c.(caps.MutableWrite)
	return ok
}

// maxPath bounds the paths that are shown: deep trees make long ones.
const maxPath = 400

// below is the path of what is called name in the directory at path.
func below(path, name string) string {
	switch {
	case name == "":
		return path
	case path != "" && !strings.HasSuffix(path, ":"):
		path += "/"
	}
	path += name
	if len(path) <= maxPath {
		return path
	}
	head, tail := path[:maxPath/2], path[len(path)-maxPath/2:]
	for len(head) > 0 && !utf8.ValidString(head[len(head)-1:]) {
		head = head[:len(head)-1]
	}
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return head + "…" + tail
}

// push puts what was found below path into the queue, unless the round has met it.
func (u *Upkeep) push(t *tx, r *round, path string, e entry) error {
	if e.Past && !u.opt.History {
		return nil
	}
	c, err := caps.Parse(e.Cap)
	if err != nil {
		return fmt.Errorf("upkeep's database: an entry: %w", err)
	}
	k := keyOf(c, e.Kind, writable(c))
	n, err := t.node(k)
	if err != nil || n.Seen == r.Number {
		return err
	}
	if caps.IsMutable(c) && !writable(c) {
		if stronger, err := t.node(keyOf(c, e.Kind, true)); err != nil || stronger.Seen == r.Number {
			return err
		}
	}
	n.Seen = r.Number
	if err := t.put("nodes", k[:], n); err != nil {
		return err
	}
	if ik, ok := itemKey(c); ok {
		it, err := t.item(ik)
		if err != nil {
			return err
		}
		it.Seen = r.Number
		if err := t.put("items", ik[:], it); err != nil {
			return err
		}
	}
	r.Open++
	e.Path, e.First = below(path, e.Path), true
	return t.enqueue(e, time.Time{})
}

// job is a visit that asks the network.
type job struct {
	entry
	queued []byte // its key in the queue
	round  round
	cap    caps.Cap
	node   key
	known  node
	item   key
	shares bool // it has any, and so an item
	due    bool // its lease is to be renewed
	risk   *Risk
}

// pick takes the next visits from the queue: those that need the network stay there
// until they are made, the others are made.
func (u *Upkeep) pick(t *tx, r *round) (jobs []job, passed int, err error) {
	now := u.opt.Now()
	keys, entries, err := t.due(now, maxPassed)
	if err != nil {
		return nil, 0, err
	}
	for i, e := range entries {
		j := job{entry: e, queued: keys[i]}
		wait, err := u.prepare(t, r, &j)
		if err != nil {
			return nil, 0, err
		}
		if wait.IsZero() {
			if jobs = append(jobs, j); len(jobs) == maxJobs {
				break
			}
			continue
		}
		passed++
		if err := u.pass(t, r, j); err != nil {
			return nil, 0, err
		}
		if wait.After(now) {
			e.First = false
			if err := t.enqueue(e, wait); err != nil {
				return nil, 0, err
			}
		}
	}
	for i := range jobs {
		jobs[i].round = *r
	}
	return jobs, passed, nil
}

// prepare finds out what is known of a visit. A zero time says that the network has
// to be asked, one to come when it has to be, any other that nothing has to be.
func (u *Upkeep) prepare(t *tx, r *round, j *job) (wait time.Time, err error) {
	now := u.opt.Now()
	if j.cap, err = caps.Parse(j.Cap); err != nil {
		return now, fmt.Errorf("upkeep's database: queue: %w", err)
	}
	j.node = keyOf(j.cap, j.Kind, writable(j.cap))
	if j.known, err = t.node(j.node); err != nil {
		return now, err
	}
	if j.item, j.shares = itemKey(j.cap); j.shares {
		it, err := t.item(j.item)
		if err != nil {
			return now, err
		}
		j.due = u.renewalDue(r, it, j.item)
		if t.bucket("risks").Get(j.item[:]) != nil {
			j.risk = new(Risk)
			if err := t.get("risks", j.item[:], j.risk); err != nil {
				return now, err
			}
		}
	}
	leads := j.Kind != "" || listable(j.cap)
	switch tried := j.known.Tries > 0; {
	case !j.First, tried && (r.asked() || !now.Before(j.known.Retry)):
		j.due = j.shares // what was away has an old lease
		return time.Time{}, nil
	case tried && j.known.Retry.Sub(now) <= lastRetryFit:
		return j.known.Retry, nil
	case j.due, tried, // until a clock that was set back comes round again
		leads && (!j.known.Expanded || caps.IsMutable(j.cap)),
		j.risk != nil:
		return time.Time{}, nil
	}
	return now, nil
}

// renewalDue says whether the lease on an item is to be renewed. They differ by up
// to a quarter.
func (u *Upkeep) renewalDue(r *round, it item, k key) bool {
	if r.All && r.Finished.IsZero() && it.Renewed.Before(r.Started) {
		return true
	}
	age := u.opt.Now().Sub(it.Renewed)
	return age < 0 || age >= renewAfter-renewAfter/4*time.Duration(k[0])/256
}

// pass makes a visit without asking the network, as far as what it leads to goes.
func (u *Upkeep) pass(t *tx, r *round, j job) error {
	links, err := t.links(j.node)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := u.push(t, r, j.Path, l); err != nil {
			return err
		}
	}
	if j.First {
		r.Open--
		r.Done++
	}
	return t.bucket("queue").Delete(j.queued)
}

// outcome is what a visit brought.
type outcome struct {
	renewed, repaired bool
	whole             bool  // every share is there, and every server answered
	judged            bool  // whether it is at risk is known
	risk              *Risk // nil: it is not
	expanded          bool  // links and version are new
	links             []entry
	version           string
	err               error
}

// health is that of a file or directory of either kind.
type health struct {
	good, needed, total int
	happiness, hosts    int // servers of happiness, and servers with good shares
	answers             int
	troubles, leases    int // servers, or shares, that failed us
	version             string
}

var (
	errNoAnswer   = errors.New("no storage server answers")
	errUnreadable = errors.New("too few of its shares are there to read it")
	errLeases     = errors.New("no server took our lease")
)

// visit renews, looks after and expands one item.
func (u *Upkeep) visit(ctx context.Context, r round, j job) (o outcome) {
	var h health
	if j.shares {
		var err error
		if h, err = u.check(ctx, j.cap, j.due); err != nil {
			return outcome{err: err}
		}
		if h.answers == 0 {
			return outcome{err: errNoAnswer}
		}
		o.judge(u, j, h)
		var failed error
		if o.risk != nil && u.repairs(r, j, h) {
			if h, failed, err = u.repair(ctx, j.cap, h); err != nil {
				failed = err
			} else {
				o.judge(u, j, h)
				o.repaired = failed == nil
			}
			if failed != nil && o.risk != nil {
				o.risk.Repair = text(failed)
			}
		}
		o.renewed = j.due && h.leases < h.hosts
		if j.due && h.hosts > 0 && !o.renewed {
			o.err = errLeases
		}
		if h.good < h.needed {
			o.err = errUnreadable
		}
	} else {
		o.whole = true
	}
	leads := j.Kind != "" || listable(j.cap)
	if !leads || o.err == errUnreadable || j.known.Expanded && (!caps.IsMutable(j.cap) || j.known.Version == h.version) {
		return o
	}
	found, err := u.reach(ctx, j)
	if err != nil {
		o.err = err
		return o
	}
	o.expanded, o.version = true, h.version
	for _, it := range found {
		if e, ok := entryOf(it); ok {
			o.links = append(o.links, e)
		}
	}
	return o
}

// judge says whether what has this health is at risk.
func (o *outcome) judge(u *Upkeep, j job, h health) {
	o.judged, o.risk = true, nil
	o.whole = h.good >= h.total && h.troubles == 0 && h.leases == 0
	if h.happiness >= enough(u.opt.Happy, h) {
		return
	}
	o.risk = &Risk{Path: j.Path, Shares: h.good, Needed: h.needed, Total: h.total, Servers: h.happiness, Since: u.opt.Now().UTC()}
	if j.risk != nil && !j.risk.Since.After(o.risk.Since) {
		o.risk.Since = j.risk.Since
	}
}

// enough is how many servers of happiness something has that is not at risk.
func enough(happy int, h health) int { return min(max(happy, h.needed), h.total) }

// repairs says whether something at risk is to be repaired.
func (u *Upkeep) repairs(r round, j job, h health) bool {
	switch {
	case h.good < h.needed, caps.IsMutable(j.cap) && !writable(j.cap):
		return false // it cannot be
	case h.happiness >= min(u.opt.Servers.Connected(), h.total):
		return false // it would not help
	case r.asked() && r.Repair:
		return true
	}
	return u.opt.Repair && !u.opt.Busy() && (h.good <= h.needed || j.risk != nil && u.opt.Now().Sub(j.risk.Since) >= patience)
}

func (u *Upkeep) check(ctx context.Context, c caps.Cap, lease bool) (health, error) {
	if caps.IsMutable(c) {
		h, err := u.opt.Slots.Check(ctx, c, mutable.CheckOptions{AddLease: lease})
		if err != nil {
			return health{}, err
		}
		return mutableHealth(h), nil
	}
	h, err := u.opt.Files.Check(ctx, c, immutable.CheckOptions{AddLease: lease})
	if err != nil {
		return health{}, err
	}
	return immutableHealth(h), nil
}

// repair repairs, and tells the health afterwards. failed says why it did not
// succeed; err, that nothing was tried.
func (u *Upkeep) repair(ctx context.Context, c caps.Cap, before health) (after health, failed, err error) {
	select {
	case u.repairing <- struct{}{}:
	case <-ctx.Done():
		return before, nil, ctx.Err()
	}
	defer func() { <-u.repairing }()
	if caps.IsMutable(c) {
		res, err := u.opt.Slots.CheckAndRepair(ctx, c, mutable.CheckOptions{AddLease: true})
		if err != nil {
			return before, nil, err
		}
		return mutableHealth(res.After), res.Failure, nil
	}
	res, err := u.opt.Files.CheckAndRepair(ctx, c, immutable.CheckOptions{AddLease: true})
	if err != nil {
		return before, nil, err
	}
	return immutableHealth(res.After), res.Failure, nil
}

func immutableHealth(h *immutable.Health) health {
	return health{
		good: len(h.Shares), needed: h.Needed, total: h.Total, happiness: h.Happiness(), hosts: h.Hosts(),
		answers: len(h.Responding), troubles: len(h.Troubles), leases: len(h.Leases),
	}
}

func mutableHealth(h *mutable.Health) health {
	k, n := h.Encoding()
	out := health{good: h.Good(), needed: k, total: n, hosts: h.Hosts(), answers: len(h.Responding), troubles: len(h.Troubles), leases: len(h.Leases)}
	if best := h.Best(); best != nil {
		out.version = best.Version.String()
		held := grid.Holdings{}
		for share, servers := range best.Shares {
			for _, id := range servers {
				held.Add(id, share)
			}
		}
		out.happiness = grid.Happiness(held)
	}
	return out
}

// reach lists what a visit leads to.
func (u *Upkeep) reach(ctx context.Context, j job) ([]Item, error) {
	if j.Kind != "" {
		return u.opt.Reach(ctx, Item{Name: j.Path, Cap: j.cap, Kind: j.Kind, Past: j.Past})
	}
	entries, _, err := u.opt.Dirs.List(ctx, j.cap)
	if err != nil {
		return nil, err
	}
	items := make([]Item, 0, len(entries))
	for _, e := range entries {
		items = append(items, Item{Name: e.Name, Cap: e.Cap()})
	}
	return items, nil
}

// settle records what a visit brought.
func (u *Upkeep) settle(t *tx, j job, o outcome) error {
	now := u.opt.Now().UTC()
	r, err := t.round()
	if err != nil {
		return err
	}
	if j.shares {
		it, err := t.item(j.item)
		if err != nil {
			return err
		}
		if o.renewed || o.repaired {
			it.Renewed = now
		}
		if err := t.put("items", j.item[:], it); err != nil {
			return err
		}
	}
	switch {
	case o.risk != nil:
		err = t.put("risks", j.item[:], o.risk)
	case o.judged:
		err = t.bucket("risks").Delete(j.item[:])
	}
	if err != nil {
		return err
	}
	n, err := t.node(j.node)
	if err != nil {
		return err
	}
	if o.expanded {
		n.Expanded, n.Version = true, o.version
		if err := t.setLinks(j.node, o.links); err != nil {
			return err
		}
	}
	if o.err == nil && o.whole {
		n.Tries, n.Retry = 0, time.Time{}
	} else {
		most := lastRetry
		if o.err == nil && o.risk == nil {
			most = lastRetryFit
		}
		n.Retry = now.Add(min(firstRetry<<min(n.Tries, 10), most))
		n.Tries++
	}
	if o.err == nil || o.err == errUnreadable { // that one is among the risks
		err = t.bucket("failures").Delete(j.node[:])
	} else {
		f := Failure{Since: now}
		if err := t.get("failures", j.node[:], &f); err != nil {
			return err
		}
		f.Path, f.Reason, f.Next = j.Path, text(o.err), n.Retry
		err = t.put("failures", j.node[:], f)
	}
	if err != nil {
		return err
	}
	if err := t.put("nodes", j.node[:], n); err != nil || r.Number != j.round.Number {
		return err // the round was replaced by another, which comes by again
	}
	if err := u.pass(t, &r, j); err != nil {
		return err
	}
	if o.renewed {
		r.Renewed++
	}
	if o.repaired {
		r.Repaired++
	}
	if n.Tries > 0 {
		e := j.entry
		e.First = false
		if err := t.enqueue(e, n.Retry); err != nil {
			return err
		}
	}
	return t.setRound(r)
}

// text is an error as it is kept: errors hold no capabilities, but may be long.
func text(err error) string {
	s := strings.ToValidUTF8(err.Error(), "�")
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return cmp.Or(s, "an error without words")
}
