package magicfolder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"warren/magicfolder/conflict"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// link is an entry of our Personal directory that is to change.
type link struct {
	key     string
	relpath string
	cap     remote.Cap
	upto    uint64 // the last captured version that this publishes; 0: none of ours
	content remote.Cap
	had     bool // our directory holds another version
	taken   bool // it is another's deletion
	drop    bool // our directory is to hold nothing
}

// publish makes our Personal directory hold what our records say, in one update
// for all files. Before a version of ours is linked the others' heads are read:
// one that is not its ancestor is met first.
//
// A deletion that was taken over is not linked as long as another's directory names
// it; ours names nothing then. magic-folder 24.3 that finds the same deletion in two
// directories in one poll takes the second for a conflict with the file that it has
// just removed, has no content to set aside for it, and asks for nothing in that
// folder any more until it is started again (magic_file.py, _check_local_update and
// _mark_download_conflict).
func (f *Folder) publish(ctx context.Context) error {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	if err := f.enter(ctx); err != nil {
		return err
	}
	if f.config().Membership.ReadOnly {
		return nil
	}
	if err := f.attend(ctx); err != nil {
		return err
	}
	if err := f.unyield(); err != nil {
		return err
	}
	links, err := f.links()
	if err != nil || len(links) == 0 {
		return err
	}
	if slices.ContainsFunc(links, func(l link) bool { return l.upto > 0 }) {
		if err := f.refresh(ctx); err != nil {
			return err
		}
	}
	if err := f.fault("link.checked"); err != nil {
		return err
	}
	var held, meet []string
	defer func() {
		for _, key := range held {
			f.keys.unlock(key)
		}
	}()
	var ready []link
	for _, l := range links {
		if !f.keys.try(l.key) {
			f.mu.Lock()
			f.missed = true
			f.mu.Unlock()
			continue
		}
		held = append(held, l.key)
		// Again under the lock: a download may have been faster.
		now, ok, err := f.linkOf(l.key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if now.upto > 0 {
			again, err := f.signAgain(now)
			if err != nil {
				return err
			}
			if again {
				continue
			}
			clear, err := f.isNewest(ctx, now)
			if err != nil {
				return err
			}
			if !clear {
				meet = append(meet, now.key)
				continue
			}
		}
		if now.taken {
			var ok bool
			if now.drop, ok = f.othersShow(now.key, now.cap); !ok {
				continue
			}
		}
		ready = append(ready, now)
	}
	if err := f.linkAll(ctx, ready); err != nil {
		return err
	}
	for _, key := range held {
		f.keys.unlock(key)
	}
	held = nil
	if len(meet) == 0 {
		return nil
	}
	disk, err := f.open()
	if err != nil {
		return err
	}
	for _, key := range meet {
		if err := f.reconcile(ctx, disk, key, f.headsOf(key)); err != nil {
			return err
		}
	}
	return nil
}

// links gives everything that is to be linked.
func (f *Folder) links() ([]link, error) {
	var out []link
	err := f.store.View(func(tx *state.Tx) error {
		lines, err := tx.Lines()
		if err != nil {
			return err
		}
		keys, err := tx.Unlinked()
		if err != nil {
			return err
		}
		keys = slices.AppendSeq(keys, maps.Keys(lines))
		slices.Sort(keys)
		for _, key := range slices.Compact(keys) {
			rec, _, err := tx.File(key)
			if err != nil {
				return err
			}
			if l, ok := linkFrom(key, rec, lines[key]); ok {
				out = append(out, l)
			}
		}
		return nil
	})
	return out, err
}

func (f *Folder) linkOf(key string) (link, bool, error) {
	rec, line, err := f.load(key)
	if err != nil {
		return link{}, false, err
	}
	l, ok := linkFrom(key, rec, line)
	return l, ok, nil
}

func linkFrom(key string, rec state.File, line []state.Stashed) (link, bool) {
	var tip *state.Stashed
	for i := range line {
		if line[i].Snapshot == "" {
			break
		}
		tip = &line[i]
	}
	if tip != nil {
		return link{key: key, relpath: tip.Relpath, cap: tip.Snapshot, upto: tip.ID, content: tip.Content}, true
	}
	if rec.Head != "" && rec.Unlinked() {
		return link{key: key, relpath: rec.Relpath, cap: rec.Head, had: rec.Linked != "", taken: rec.Content == "" && !rec.Mine}, true
	}
	return link{}, false
}

// signAgain has a line uploaded anew when it was signed with a name that is not
// ours: the name that we wanted belonged to somebody else, whose key the others
// know, and they would take ours for forgeries.
func (f *Folder) signAgain(l link) (bool, error) {
	author, again := f.config().Author, false
	err := f.store.View(func(tx *state.Tx) error {
		line, err := tx.Line(l.key)
		if err != nil {
			return err
		}
		for _, v := range line {
			if k, ok, err := tx.Known(v.Snapshot); err != nil {
				return err
			} else if ok && k.Author != author {
				again = true
			}
		}
		return nil
	})
	if err != nil || !again {
		return false, err
	}
	poke(f.wakePush)
	return true, f.store.Update(func(tx *state.Tx) error {
		line, err := tx.Line(l.key)
		if err != nil {
			return err
		}
		for _, v := range line {
			v.Snapshot = ""
			if err := tx.PutStashed(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// isNewest says whether every other head of the path is an ancestor.
func (f *Folder) isNewest(ctx context.Context, l link) (bool, error) {
	rec, line, err := f.load(l.key)
	if err != nil {
		return false, err
	}
	for _, h := range f.headsOf(l.key) {
		s, err := f.trusted(ctx, l.key, h)
		if err == nil {
			var c conflict.Case
			c, err = f.caseOf(ctx, rec, line, h.cap, s)
			if err == nil && c.Relation != conflict.Older && c.Relation != conflict.Same {
				var out bool
				if out, err = f.outvoted(ctx, l.key, rec, line, h.cap); err == nil && !out {
					return false, nil
				}
			}
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil && !condemned(err) {
			// A version that nobody can read any more must not stop us for ever.
			f.log.Warn("another participant's version cannot be read", "participant", h.name)
		}
	}
	return true, nil
}

func (f *Folder) linkAll(ctx context.Context, ready []link) error {
	if len(ready) == 0 {
		return nil
	}
	changes := make([]Change, 0, len(ready))
	for _, l := range ready {
		name := snapshot.Mangle(snapshot.Key(l.relpath))
		switch {
		case !l.drop:
			changes = append(changes, Change{Entry: Entry{Name: name, Read: l.cap}})
		case l.had:
			changes = append(changes, Change{Entry: Entry{Name: name}, Delete: true})
		}
	}
	if err := f.fault("link.ready"); err != nil {
		return err
	}
	if len(changes) > 0 {
		if err := f.opt.Grid.Update(ctx, f.config().Personal, changes); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	if err := f.fault("link.updated"); err != nil {
		return err
	}
	if err := f.linked(ready); err != nil {
		return err
	}
	f.touch()
	return f.fault("link.recorded")
}

// linked records that our Personal directory holds these.
func (f *Folder) linked(ready []link) error {
	var dropped []state.Stashed
	err := f.store.Update(func(tx *state.Tx) error {
		dropped = nil
		for _, l := range ready {
			rec, _, err := tx.File(l.key)
			if err != nil {
				return err
			}
			rec.Linked, rec.Yields = l.cap, ""
			if l.drop {
				rec.Linked, rec.Yields = "", l.cap
			}
			if l.upto > 0 {
				line, err := tx.Line(l.key)
				if err != nil {
					return err
				}
				rec.Head, rec.Content, rec.Mine = l.cap, l.content, true
				first := true
				for _, v := range line {
					if v.ID <= l.upto {
						dropped = append(dropped, v)
						err = tx.DropStashed(v)
					} else if first {
						first = false
						v.Parents = []remote.Cap{l.cap}
						err = tx.PutStashed(v)
					}
					if err != nil {
						return err
					}
				}
			}
			if err := tx.PutFile(l.key, rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		f.store.Discard(dropped)
	}
	return err
}

// compareOwn reads our Personal directory when it is not what it was, and
// brings the records in line: a crash may have separated the two, and what we
// wrote must stand.
func (f *Folder) compareOwn(ctx context.Context) error {
	if !f.linkMu.TryLock() {
		return nil // it is being written: the next poll compares
	}
	defer f.linkMu.Unlock()
	cfg := f.config()
	if cfg.Personal == "" {
		return nil // not made yet: nothing to compare with
	}
	f.mu.Lock()
	now := f.personalNow // as the poll just asked
	same := f.personal != "" && f.personal == now.Version
	f.mu.Unlock()
	if now.Err != nil {
		anew, err := f.lookForLoss(ctx, now.Err)
		if err != nil {
			return fmt.Errorf("asking for our directory: %w", err)
		}
		if anew {
			return nil // there is nothing to compare with that was not written just now
		}
	}
	f.notLost()
	if same {
		return nil
	}
	entries, v, err := f.opt.Grid.List(ctx, cfg.Personal)
	if err != nil {
		return fmt.Errorf("reading our directory: %w", err)
	}
	have := map[string]remote.Cap{}
	model := false
	for _, e := range entries {
		if e.Name == snapshot.MetadataName {
			model = f.cardStands(e)
			continue
		}
		if relpath, err := snapshot.Unmangle(e.Name); err == nil {
			have[snapshot.Key(relpath)] = e.Read
		}
	}
	if !model {
		if err := f.writeCard(ctx, cfg.Personal); err != nil {
			return err
		}
	}
	var found []link
	err = f.store.Update(func(tx *state.Tx) error {
		found = nil
		lines, err := tx.Lines()
		if err != nil {
			return err
		}
		stale := map[string]state.File{}
		err = tx.Files(func(key string, rec state.File) error {
			for _, s := range lines[key] {
				if s.Snapshot != "" && s.Snapshot == have[key] {
					// Linked before a crash, recorded now.
					found = append(found, link{key: key, relpath: s.Relpath, cap: s.Snapshot, upto: s.ID, content: s.Content})
					return nil
				}
			}
			if rec.Linked != have[key] {
				rec.Linked, rec.Yields = have[key], ""
				stale[key] = rec
			}
			return nil
		})
		for key, rec := range stale {
			if err := tx.PutFile(key, rec); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		if err := f.linked(found); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.personal = v
	f.mu.Unlock()
	return nil
}

// othersShow says whether another participant's directory names the version; not ok
// before all were asked.
func (f *Folder) othersShow(key string, c remote.Cap) (show, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.askedAll() {
		return false, false
	}
	for _, p := range f.peers {
		if p.heads[key] == c {
			return true, true
		}
	}
	return false, true
}

// askedAll says whether each participant's directory was read once, or could not be;
// f.mu is held.
func (f *Folder) askedAll() bool {
	if f.collective == "" {
		return false
	}
	for _, p := range f.peers {
		if !p.read && p.err == nil {
			return false
		}
	}
	return true
}

// lost notes that a participant does not name these versions any more. f.mu is held.
func (f *Folder) lost(heads, now map[string]remote.Cap) {
	for key, c := range heads {
		if now[key] != c {
			f.orphans[key] = true
		}
	}
}

// unyield has us link the deletions that nobody names any more.
func (f *Folder) unyield() error {
	f.mu.Lock()
	all, keys := f.orphanAll, f.orphans
	todo := f.askedAll() && (all || len(keys) > 0)
	if todo {
		f.orphanAll, f.orphans = false, map[string]bool{}
	}
	f.mu.Unlock()
	if !todo {
		return nil
	}
	var again []string
	look := func(key string, rec state.File) error {
		if rec.Yields == "" || rec.Yields != rec.Head {
			return nil
		}
		if show, ok := f.othersShow(key, rec.Head); ok && !show {
			again = append(again, key)
		}
		return nil
	}
	err := f.store.View(func(tx *state.Tx) error {
		if all {
			return tx.Files(look)
		}
		for key := range keys {
			rec, ok, err := tx.File(key)
			if err == nil && ok {
				err = look(key, rec)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(again) > 0 {
		err = f.store.Update(func(tx *state.Tx) error {
			for _, key := range again {
				rec, _, err := tx.File(key)
				if err == nil && rec.Yields == rec.Head {
					rec.Yields = ""
					err = tx.PutFile(key, rec)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		f.mu.Lock()
		f.orphanAll = true
		f.mu.Unlock()
	}
	return err
}

// writeModel makes the @metadata entry, with a card where there is one.
func writeModel(ctx context.Context, g Grid, dir Cap, card json.RawMessage) error {
	file, err := g.PutFile(ctx, strings.NewReader(snapshot.DirectoryMetadata), int64(len(snapshot.DirectoryMetadata)))
	if err != nil {
		return err
	}
	return g.Update(ctx, dir, []Change{{Entry: Entry{Name: snapshot.MetadataName, Read: file, Metadata: card}}})
}

// modelOne says whether a directory's @metadata names the version that we know.
func modelOne(ctx context.Context, g Grid, file Cap) (bool, error) {
	if size, ok := remote.Size(file); remote.KindOf(file) != remote.File || !ok || size > 4096 {
		return false, nil
	}
	var buf bytes.Buffer
	if err := g.Get(ctx, file, &buf); err != nil {
		return false, fmt.Errorf("reading the folder's version: %w", err)
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(buf.Bytes(), &top) != nil {
		return false, nil
	}
	return string(top["version"]) == "1", nil
}
