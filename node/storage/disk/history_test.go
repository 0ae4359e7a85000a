package disk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/storagetest"
)

// An op is one change that a client asks for, of one storage index; what it leaves
// is the same however often it is asked for. A history is what clients ask for one
// after the other.
type op struct {
	name string
	si   caps.StorageIndex
	do   func(c storage.Client) error
}

var errRefused = errors.New("the server did not take all of it")

func secrets(n byte) storage.LeaseSecrets {
	return storage.LeaseSecrets{Renew: storagetest.Secret(n), Cancel: storagetest.Secret(n + 1)}
}

// body is what a share holds: of no two the same.
func body(si caps.StorageIndex, share, version, size int) []byte {
	line := fmt.Sprintf("share %d of %x, version %d. ", share, si[:3], version)
	return []byte(strings.Repeat(line, size/len(line)+1)[:size])
}

// upload puts shares in two parts each, the second part first.
func upload(si caps.StorageIndex, size int, shares ...int) op {
	return op{fmt.Sprintf("upload of %d", len(shares)), si, func(c storage.Client) error {
		ctx, secret := context.Background(), storagetest.Secret('u')
		already, allocated, err := c.CreateImmutable(ctx, si, secret, secrets('l'), shares, uint64(size))
		if err != nil {
			return err
		}
		for _, n := range allocated {
			data, half := body(si, n, 0, size), size/2
			if done, err := c.WriteImmutable(ctx, si, n, secret, uint64(half), data[half:]); err != nil || done {
				return errors.Join(err, errIf(done))
			}
			if done, err := c.WriteImmutable(ctx, si, n, secret, 0, data[:half]); err != nil || !done {
				return errors.Join(err, errIf(!done))
			}
		}
		have := append(already, allocated...)
		return errIf(slices.ContainsFunc(shares, func(n int) bool { return !slices.Contains(have, n) }))
	}}
}

// errIf is errRefused, if so.
func errIf(so bool) error {
	if so {
		return errRefused
	}
	return nil
}

// change writes a slot's shares and removes others.
func change(si caps.StorageIndex, version, size int, write, remove []int) op {
	return op{fmt.Sprintf("change to version %d", version), si, func(c storage.Client) error {
		tw, zero := map[int]storage.TestWrite{}, uint64(0)
		for _, n := range write {
			length := uint64(size)
			tw[n] = storage.TestWrite{Write: []storage.WriteVector{{Data: body(si, n, version, size)}}, NewLength: &length}
		}
		for _, n := range remove {
			tw[n] = storage.TestWrite{NewLength: &zero}
		}
		wrote, _, err := c.ReadTestWrite(context.Background(), si, storage.SlotSecrets{WriteEnabler: storagetest.Secret('w'), LeaseSecrets: secrets('l')}, tw, nil)
		return errors.Join(err, errIf(err == nil && !wrote))
	}}
}

// lease adds a lease, or renews it.
func lease(si caps.StorageIndex, n byte) op {
	return op{fmt.Sprintf("lease %d", n), si, func(c storage.Client) error {
		return c.AddLease(context.Background(), si, secrets(n))
	}}
}

// expire removes shares, as leases that have ended do.
func expire(si caps.StorageIndex, shares ...int) op {
	return op{fmt.Sprintf("expiry of %d", len(shares)), si, func(c storage.Client) error {
		_, err := c.(*storage.Session).Remove(si, func(h storage.Held) bool { return slices.Contains(shares, h.Share) })
		return err
	}}
}

// advise reports a share.
func advise(kind storage.ShareKind, si caps.StorageIndex, share int) op {
	return op{"advisory", si, func(c storage.Client) error {
		return c.AdviseCorrupt(context.Background(), kind, si, share, strings.Repeat("damaged ", 100))
	}}
}

// A state is all that a storage index has, by share number.
type state map[int]contents

type contents struct {
	data   string
	leases map[container.Secret]uint32 // expiry by the stored renew secret
}

func (c contents) equal(d contents) bool { return c.data == d.data && maps.Equal(c.leases, d.leases) }

// look reads the state of a storage index, from its files.
func look(b *Backend, si caps.StorageIndex) (state, error) {
	all := state{}
	shares, err := b.Shares(si)
	if err != nil {
		return nil, err
	}
	for _, n := range shares {
		if all[n], err = read(b, si, n); err != nil {
			return nil, fmt.Errorf("share %d: %w", n, err)
		}
	}
	return all, nil
}

func read(b *Backend, si caps.StorageIndex, share int) (c contents, err error) {
	f, err := b.Open(si, share)
	if err != nil {
		return c, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return c, err
	}
	var data []byte
	var leases []container.Stored
	head := make([]byte, 32)
	if _, err := f.ReadAt(head, 0); err != nil {
		return c, err
	}
	if mutable, ok := container.IsMutable(head); ok && mutable {
		m, err := container.OpenMutable(f, size)
		if err != nil {
			return c, err
		}
		if data, err = m.Read(0, 1<<40); err != nil {
			return c, err
		}
		if leases, err = m.Leases(); err != nil {
			return c, err
		}
	} else {
		im, err := container.OpenImmutable(f, size)
		if err != nil {
			return c, err
		}
		if data, err = im.Read(0, 1<<40); err != nil {
			return c, err
		}
		if leases, err = im.Leases(); err != nil {
			return c, err
		}
	}
	c = contents{string(data), map[container.Secret]uint32{}}
	for _, l := range leases {
		if _, twice := c.leases[l.Renew]; twice {
			return c, errors.New("a lease stands there twice")
		}
		c.leases[l.Renew] = l.Expires
	}
	return c, nil
}

// between says why a state is none that a change from before to after may leave when
// it is cut short: each share is as before or as after, whole; or it has what it had
// and some of the leases that it was to get.
func between(got, before, after state) error {
	for n := range storage.MaxShare + 1 {
		g, there := got[n]
		b, was := before[n]
		a, will := after[n]
		switch {
		case there && (was && g.equal(b) || will && g.equal(a)), !there && (!was || !will):
			continue
		case !there:
			return fmt.Errorf("share %d is lost", n)
		case !was || !will || g.data != b.data || b.data != a.data:
			return fmt.Errorf("share %d holds %d bytes, %.60q, and %d leases, neither as before nor as after", n, len(g.data), g.data, len(g.leases))
		}
		for secret, expires := range b.leases {
			// Half of a later expiry may be there; never less than the earlier one.
			if e, ok := g.leases[secret]; !ok || e < expires || e > a.leases[secret]|0xffffff {
				return fmt.Errorf("share %d: a lease until %d became one until %d", n, expires, e)
			}
		}
		for secret, expires := range g.leases {
			if _, old := b.leases[secret]; !old && expires != a.leases[secret] {
				return fmt.Errorf("share %d has a lease until %d that nobody asked for", n, expires)
			}
		}
	}
	return nil
}

// A world is a server, and what must be found on its disk.
type world struct {
	backend *Backend
	server  *storage.Server
	client  storage.Client
	now     time.Time
	acked   map[caps.StorageIndex]state
	flying  []flight // what has been asked for and not been answered
	answers int      // so often what must be found has changed
}

type flight struct {
	op
	after state
}

const storageDir = "/storage"

var firstDay = time.Unix(2_000_000_000, 0)

func newWorld(fs filesystem, dir string) (*world, error) {
	b, err := open(dir, fs)
	if err != nil {
		return nil, err
	}
	w := &world{backend: b, now: firstDay, acked: map[caps.StorageIndex]state{}}
	w.server = storage.NewServer(b, storage.Options{Now: func() time.Time { return w.now }})
	w.client = storage.Local(w.server)
	return w, nil
}

// outcomes is what each op of a history leaves of its storage index, when nothing
// goes wrong and so much time passes between them.
func outcomes(t *testing.T, history []op, between time.Duration) (after []state) {
	t.Helper()
	w, err := newWorld(newModel(1<<40), storageDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range history {
		if err := o.do(w.client); err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		s, err := look(w.backend, o.si)
		if err != nil {
			t.Fatalf("after %s: %v", o.name, err)
		}
		after = append(after, s)
		w.now = w.now.Add(between)
	}
	return after
}

// do does an op; after is what it must leave when it is acknowledged.
func (w *world) do(o op, after state) error {
	w.flying = append(w.flying, flight{o, after})
	w.answers++
	defer func() { w.flying = w.flying[:len(w.flying)-1]; w.answers++ }()
	if err := o.do(w.client); err != nil {
		return err
	}
	w.acked[o.si] = after
	return nil
}

// known are the files that a storage directory may have after a start.
var known = regexp.MustCompile(`^(shares/[a-z2-7]{2}/[a-z2-7]{26}/[0-9]{1,3}|corruption-advisories/[0-9T:-]+\.[0-9]{6}--[a-z2-7]{26}-[0-9]+(\.[0-9]+)?)$`)

// check says what is wrong with a server that is started on what w left: it must
// have all that was acknowledged, and of what was not each share whole or not at all;
// nothing else may lie around; and what was not acknowledged can be asked for again.
func (w *world) check(fs filesystem, dir string, files func() []string) error {
	again, err := newWorld(fs, dir)
	if err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	again.now = w.now
	expect := func(flying bool) error {
		shares := 0
		all := maps.Clone(w.acked)
		for _, f := range w.flying {
			all[f.si] = w.acked[f.si]
		}
		for si, before := range all {
			after := before
			for _, f := range w.flying {
				if f.si == si {
					after = f.after
				}
			}
			if !flying {
				before = after
			}
			got, err := look(again.backend, si)
			if err == nil {
				err = between(got, before, after)
			}
			if err != nil {
				return err
			}
			shares += len(got)
		}
		for _, f := range files() {
			f = filepath.ToSlash(f)
			if !known.MatchString(f) {
				return fmt.Errorf("%s is left over", f)
			}
			if strings.HasPrefix(f, "shares/") {
				shares--
			}
		}
		if shares != 0 {
			return fmt.Errorf("%d files of shares more than shares", -shares)
		}
		if m, ok := fs.(*model); ok {
			if v, err := again.client.Version(context.Background()); err != nil || int64(v.AvailableSpace) != m.capacity-m.used() {
				return fmt.Errorf("room for %d bytes (%v), and there are %d", v.AvailableSpace, err, m.capacity-m.used())
			}
		}
		return nil
	}
	if err := expect(true); err != nil {
		return err
	}
	for i := len(w.flying) - 1; i >= 0; i-- {
		if err := w.flying[i].do(again.client); err != nil {
			return fmt.Errorf("asked again for the %s: %w", w.flying[i].name, err)
		}
	}
	if err := expect(false); err != nil {
		return fmt.Errorf("when it was asked for again: %w", err)
	}
	return again.server.Close()
}
