package magicfolder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"warren/magicfolder/card"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// peer is another participant, as its Personal directory was last read.
type peer struct {
	name    string
	dir     remote.Cap // readcap
	mutable bool
	version Version
	read    bool
	heads   map[string]remote.Cap // by key
	todo    map[string]bool       // keys whose head was not dealt with yet
	err     error
	card    *card.Card // what it says of itself, if it runs our program
}

// head is another participant's version of a file.
type head struct {
	name string
	dir  remote.Cap
	cap  remote.Cap
}

// maxEntries bounds what one directory may name, maxDirectory how large one is
// that tells its size beforehand.
const (
	maxEntries   = 1 << 20
	maxDirectory = 256 << 20
)

var errTooLarge = errors.New("its directory is too large")

// read reads the Collective and every Personal directory that has changed, see
// refresh. It returns an error when the Collective cannot be read; a participant whose
// directory cannot be read keeps its last known heads and an error. It writes
// nothing: a newcomer gets the files while its own entry still waits.
func (f *Folder) read(ctx context.Context) error {
	f.freshMu.Lock()
	defer f.freshMu.Unlock()
	asked := f.askVersions(ctx)
	if err := asked[f.config().Collective].Err; err != nil {
		return fmt.Errorf("asking for the Collective: %w", err)
	}
	f.mu.Lock()
	fresh := f.collective != "" && f.collective == asked[f.cfg.Collective].Version
	f.mu.Unlock()
	if !fresh {
		if _, err := f.readCollective(ctx); err != nil {
			return err
		}
	}
	one := func(gctx context.Context, p *peer) error {
		err := f.readPeer(gctx, p, asked)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.mu.Lock()
		p.err = err
		f.mu.Unlock()
		return nil
	}
	// The admin first: it may say that another's key is a new one.
	peers, board := f.allPeers(), f.config().Membership.Board
	if i := slices.IndexFunc(peers, func(p *peer) bool { return p.dir == board }); i >= 0 {
		if err := one(ctx, peers[i]); err != nil {
			return err
		}
		peers = slices.Delete(peers, i, i+1)
	}
	if err := f.heed(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(f.opt.Workers)
	for _, p := range peers {
		g.Go(func() error { return one(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return f.heed()
}

// askVersions asks in one go for the version of every directory that a poll looks at:
// the Collective, the others' directories as far as they are known, and ours.
func (f *Folder) askVersions(ctx context.Context) map[remote.Cap]Asked {
	cfg := f.config()
	dirs := []remote.Cap{cfg.Collective}
	for _, p := range f.allPeers() {
		if p.mutable {
			dirs = append(dirs, p.dir)
		}
	}
	if cfg.Personal != "" {
		dirs = append(dirs, cfg.Personal)
	}
	asked := make(map[remote.Cap]Asked, len(dirs))
	began := f.now()
	for i, a := range f.opt.Grid.Versions(ctx, dirs) {
		asked[dirs[i]] = a
	}
	f.asked(f.now().Sub(began))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.personalNow = asked[cfg.Personal]
	return asked
}

// enrol makes us a participant, or one again.
func (f *Folder) enrol(ctx context.Context) error {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	return f.enter(ctx)
}

// enter sees to it that our entry stands in the Collective: when we are new, or
// when it is missing, since another newcomer's program may have lost it. f.linkMu
// is held.
func (f *Folder) enter(ctx context.Context) error {
	f.mu.Lock()
	inside := f.cfg.Membership.ReadOnly || f.cfg.Enrolled && (f.ownName || f.collective == "")
	f.mu.Unlock()
	if inside {
		return nil
	}
	if !f.config().Enrolled {
		// The folder may have moved since we were invited.
		if _, err := f.follow(ctx); err != nil {
			return err
		}
	}
	if err := f.settleIn(ctx); err != nil {
		return fmt.Errorf("waiting to enter the folder: %w", err)
	}
	for range 20 {
		names, err := f.lookIn(ctx)
		if err != nil {
			return fmt.Errorf("waiting to enter the folder: %w", err)
		}
		f.mu.Lock()
		cfg, inside, former := f.cfg, f.ownName, f.men.former
		f.mu.Unlock()
		if inside {
			return nil
		}
		if !f.opt.Grid.Writable(cfg.Collective) {
			if cfg.Enrolled {
				f.alarm("enrol", "we are not in the folder's Collective any more and cannot write to it")
				return nil
			}
			return errors.New("the folder's admin has not entered us yet")
		}
		if former != "" {
			// Ours, and it names the directory that we had before.
			if err := f.opt.Grid.Update(ctx, cfg.Collective, []Change{{Entry: Entry{Name: former, Read: cfg.Readcap}}}); err != nil {
				return fmt.Errorf("entering the Collective anew: %w", err)
			}
			continue
		}
		name := freeName(cfg.Author, func(n string) bool { return names[n] })
		err = f.opt.Grid.Update(ctx, cfg.Collective, []Change{{
			Entry: Entry{Name: name, Read: cfg.Readcap}, Absent: true}})
		if err != nil && !errors.Is(err, ErrExists) {
			return fmt.Errorf("entering the Collective: %w", err)
		}
		// Read it back: only what stands there counts.
	}
	return errors.New("our entry in the Collective does not stand")
}

// settleIn makes our Personal directory, if there is none yet: Join makes none.
func (f *Folder) settleIn(ctx context.Context) error {
	cfg := f.config()
	if cfg.Personal != "" {
		return nil
	}
	f.opt.Gather(ctx)
	write, read, err := f.makePersonal(ctx)
	if err != nil {
		return err
	}
	return f.amend(func(cfg *state.Folder) { cfg.Personal, cfg.Readcap = write, read })
}

func (f *Folder) allPeers() []*peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*peer, 0, len(f.peers))
	for _, p := range f.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *peer) int { return strings.Compare(a.name, b.name) })
	return out
}

// lookIn is readCollective for those who do not refresh.
func (f *Folder) lookIn(ctx context.Context) (names map[string]bool, err error) {
	f.freshMu.Lock()
	defer f.freshMu.Unlock()
	return f.readCollective(ctx)
}

// readCollective brings the list of participants up to date and gives the keys of
// all names that stand there. f.freshMu is held.
func (f *Folder) readCollective(ctx context.Context) (names map[string]bool, err error) {
	cfg := f.config()
	entries, v, err := f.opt.Grid.List(ctx, cfg.Collective)
	if err != nil {
		return nil, fmt.Errorf("reading the Collective: %w", err)
	}
	if err := f.checkModel(ctx, entries); err != nil {
		return nil, err
	}
	if !cfg.Enrolled && !slices.ContainsFunc(entries, func(e Entry) bool { return e.Name == snapshot.MetadataName }) {
		return nil, ErrNotCollective // and we leave no entry in what is none
	}
	names = map[string]bool{}
	for _, e := range entries {
		names[snapshot.Key(e.Name)] = true
	}
	return names, f.enrolledAs(f.takeCollective(entries), v)
}

// checkModel refuses a data model that is not version 1. A missing @metadata is
// borne: magic-folder itself omits it in the Personal directories of invitees.
func (f *Folder) checkModel(ctx context.Context, entries []Entry) error {
	for _, e := range entries {
		if e.Name != snapshot.MetadataName {
			continue
		}
		ok, err := modelOne(ctx, f.opt.Grid, e.Read)
		if err != nil {
			return err
		}
		if !ok {
			return ErrNotCollective
		}
	}
	return nil
}

// takeCollective sets the peers and returns the name that our entry has.
func (f *Folder) takeCollective(entries []Entry) string {
	cfg := f.config()
	f.mu.Lock()
	defer f.mu.Unlock()
	own := ""
	found := map[string]bool{}
	f.clearAlarms("name:")
	f.men.seats, f.men.former, f.men.seatedAt = nil, "", false
	if len(entries) > maxEntries {
		entries = entries[:maxEntries]
	}
	for _, e := range entries {
		if e.Name == snapshot.MetadataName {
			continue
		}
		dir := e.Read
		if e.Write != "" {
			// Nobody should hand out a writecap; for us it only says who they are.
			ro, err := f.opt.Grid.ReadOnly(e.Write)
			if err != nil {
				f.raise("name:"+e.Name, fmt.Sprintf("participant %q has an unreadable entry", e.Name))
				continue
			}
			dir = ro
			f.raise("name:w:"+e.Name, fmt.Sprintf("participant %q gave its writecap away: anybody can change its files", e.Name))
		}
		// Before anything else: an entry of ours under a bad name is somebody's trap.
		if err := foreignName(e.Name); err != nil {
			f.raise("name:"+e.Name, fmt.Sprintf("participant %q is ignored: %v", e.Name, err))
			continue
		}
		switch f.seat(e, dir) {
		case isSelf:
			own = snapshot.Key(e.Name)
			continue
		case isFormer:
			continue
		}
		if cfg.Readcap != "" && dir == cfg.Readcap {
			// Several entries may be ours after a race; the wanted name wins.
			if own == "" || snapshot.Key(e.Name) == cfg.Author {
				own = snapshot.Key(e.Name)
			}
			continue
		}
		kind := remote.KindOf(dir)
		if kind != remote.MutableDirectory && kind != remote.Directory {
			f.raise("name:"+e.Name, fmt.Sprintf("participant %q is ignored: its entry is no directory", e.Name))
			continue
		}
		if found[dir.Text()] {
			continue
		}
		found[dir.Text()] = true
		if p := f.peers[dir.Text()]; p != nil {
			p.name = e.Name
			continue
		}
		f.peers[dir.Text()] = &peer{name: e.Name, dir: dir, mutable: kind == remote.MutableDirectory,
			heads: map[string]remote.Cap{}, todo: map[string]bool{}}
	}
	for key, p := range f.peers {
		if !found[key] {
			f.lost(p.heads, nil)
			delete(f.peers, key)
		}
	}
	return own
}

// enrolledAs records the name under which we stand. Our snapshots are signed
// with it, so that the key that others pin for the name is ours.
func (f *Folder) enrolledAs(own string, v Version) error {
	f.mu.Lock()
	f.collective, f.ownName = v, own != ""
	changed := own != "" && (f.cfg.Author != own || !f.cfg.Enrolled)
	f.mu.Unlock()
	if own != "" {
		f.dropAlarm("enrol")
	}
	if !changed {
		return nil
	}
	if err := f.amend(func(cfg *state.Folder) { cfg.Author, cfg.Enrolled = own, true }); err != nil {
		return err
	}
	f.log.Info("we are a participant", "name", own)
	return f.setKey(own, f.AuthorKey(), true)
}

// readPeer reads a participant's directory when it is new or its version has changed.
func (f *Folder) readPeer(ctx context.Context, p *peer, asked map[remote.Cap]Asked) error {
	if !p.mutable && p.read {
		return nil
	}
	if a, ok := asked[p.dir]; ok {
		if a.Err != nil {
			return a.Err
		}
		if p.read && a.Version == p.version {
			return nil
		}
	}
	if size, ok := remote.Size(p.dir); ok && size > maxDirectory {
		return errTooLarge
	}
	entries, v, err := f.opt.Grid.List(ctx, p.dir)
	if err != nil {
		return err
	}
	heads := map[string]remote.Cap{}
	own, err := f.readCard(p, entries)
	if err != nil {
		return err
	}
	f.mu.Lock()
	name := p.name // the Collective may be read anew meanwhile
	f.mu.Unlock()
	pin, err := f.pinned(name)
	if err != nil {
		return err
	}
	f.mu.Lock()
	p.card = own
	f.clearAlarms("entry:" + p.name + ":")
	if own == nil && p.mutable && pin.Own && pin.Ours {
		f.raise("entry:"+p.name+":", fmt.Sprintf("the entry of participant %q names a directory that it has not signed: somebody else has put that there", p.name))
	}
	if len(entries) > maxEntries {
		f.raise("entry:"+p.name+":", fmt.Sprintf("participant %q has too many files", p.name))
		entries = entries[:maxEntries]
	}
	for _, e := range entries {
		if e.Name == snapshot.MetadataName {
			continue
		}
		relpath, err := snapshot.Unmangle(e.Name)
		if err == nil {
			err = checkRemotePath(relpath)
		}
		if err == nil && (e.Write != "" || remote.KindOf(e.Read) != remote.Directory) {
			err = snapshot.ErrFormat
		}
		if err != nil {
			f.raise("entry:"+p.name+":"+e.Name, fmt.Sprintf("an entry of participant %q is ignored: %v: %q", p.name, err, e.Name))
			continue
		}
		heads[snapshot.Key(relpath)] = e.Read
	}
	f.mu.Unlock()
	back, err := f.keepNewest(ctx, p, own, heads)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clearAlarms("back:" + p.name + ":")
	for key, message := range back {
		f.raise("back:"+p.name+":"+key, message)
	}
	for key, c := range heads {
		if p.heads[key] != c {
			p.todo[key] = true
			delete(f.stat.alarms, "version:"+p.name+":"+key)
		}
	}
	for key := range p.todo {
		if _, ok := heads[key]; !ok {
			delete(p.todo, key)
		}
	}
	f.lost(p.heads, heads)
	p.heads, p.version, p.read = heads, v, true
	return nil
}

// headsOf gives the others' versions of a path, in the order of their names.
func (f *Folder) headsOf(key string) []head {
	var out []head
	for _, p := range f.allPeers() {
		f.mu.Lock()
		if c, ok := p.heads[key]; ok {
			out = append(out, head{p.name, p.dir, c})
		}
		f.mu.Unlock()
	}
	return out
}

// Errors that condemn a version whose author is not who the name stands for.
var (
	errForged   = errors.New("signed with another key than the one known for its author")
	errUnproven = errors.New("signed with a key that its author's own directory does not show")
)

// checkAuthor holds a version found in a participant's directory against the
// keys that are pinned. A name of the Collective stands for one key: the one that
// is seen in that participant's own directory. A version found elsewhere that
// uses the name before is not taken until then, unless that directory cannot be
// read. Other names (participants who left, or whose author name is not the one
// in the Collective) have one key for each directory that they occur in.
func (f *Folder) checkAuthor(h head, s snapshot.Snapshot) error {
	name := snapshot.Key(s.Author.Name)
	slot := "dir:" + h.dir.Text() + ":" + name
	own := snapshot.Key(h.name) == name
	f.mu.Lock()
	inCollective, readable := name == f.cfg.Author, false
	for _, p := range f.peers {
		if snapshot.Key(p.name) == name {
			inCollective, readable = true, p.read
		}
	}
	f.mu.Unlock()
	if inCollective {
		slot = "name:" + name
	}
	proven, changed := false, false
	err := f.store.Update(func(tx *state.Tx) error {
		proven, changed = false, false
		have, ok, err := tx.Pin(slot)
		switch {
		case err != nil:
			return err
		case ok && signedBefore(have, s.Author.Key):
			return nil
		case ok && have.Own && !bytes.Equal(have.Key, s.Author.Key):
			changed = own
			return errForged
		case own && !have.Own:
			proven = true
			have.Key, have.Own = s.Author.Key, true
			return tx.PutPin(slot, have)
		case ok && bytes.Equal(have.Key, s.Author.Key):
			return nil
		case ok:
			return errForged
		case inCollective && readable:
			return errUnproven
		}
		return tx.PutPin(slot, state.Pin{Key: s.Author.Key})
	})
	if err == nil && proven {
		f.lookAtAll()
	}
	if changed {
		f.keyChanged(h.name, s.Author.Key)
	}
	return err
}

// lookAtAll makes the next poll consider every head again.
func (f *Folder) lookAtAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clearAlarms("version:")
	for _, p := range f.peers {
		for key := range p.heads {
			p.todo[key] = true
		}
	}
}

// introduce learns each participant's key from its own directory before
// anything signed with its name is taken from elsewhere. What it reads is read
// once in any case.
func (f *Folder) introduce(ctx context.Context) error {
	const enough = 64
	for _, p := range f.allPeers() {
		f.mu.Lock()
		name := snapshot.Key(p.name) // the Collective may be read anew meanwhile
		f.mu.Unlock()
		var pin state.Pin
		err := f.store.View(func(tx *state.Tx) (err error) {
			pin, _, err = tx.Pin("name:" + name)
			return err
		})
		if err != nil {
			return err
		}
		if pin.Own {
			continue
		}
		f.mu.Lock()
		var heads []head
		for key := range p.todo {
			if heads = append(heads, head{p.name, p.dir, p.heads[key]}); len(heads) >= enough {
				break
			}
		}
		f.mu.Unlock()
		for _, h := range heads {
			s, err := f.version(ctx, h.cap)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && snapshot.Key(s.Author.Name) == name {
				if err := f.checkAuthor(h, s); err != nil && !errors.Is(err, errForged) {
					return err
				}
				break
			}
		}
	}
	return nil
}

func (f *Folder) pin(slot string, p state.Pin) error {
	return f.store.Update(func(tx *state.Tx) error { return tx.PutPin(slot, p) })
}
