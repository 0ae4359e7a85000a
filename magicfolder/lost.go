package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// Our Personal directory can be lost: too few of its shares are left on any server.
// What it held is in our state, so it is made anew, and our entry in the Collective
// names the new one. The others know us by our key and take it for ours.
//
// That must not happen when servers are merely away, or a server's disk is: the grid
// is asked so many times, so far apart, and every time all servers that are known
// have to be connected and to have said that they cannot help (Options.Lost). A new
// one that turns out to have been made for nothing costs nobody a version.
const (
	lossLooks = 12
	lossEvery = 5 * time.Minute // about an hour in all
)

// loss is what is known of a Personal directory that cannot be read. Folder.mu
// guards it.
type loss struct {
	dir   remote.Cap
	looks int       // that found it lost, one after the other
	asked time.Time // when the last one was
}

const lossAlarm = "lost"

// What follows on a loss, where we can enter a new directory and where not.
const (
	thenAnew = "it is made anew"
	thenAsk  = "only the folder's admin can enter a new one: ask for a new invite (warren folder invite --again), leave the folder (warren folder leave; the files stay), " +
		"join in an empty directory and copy into it what was changed here since"
)

// notLost notes that our Personal directory answers.
func (f *Folder) notLost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loss = loss{}
	delete(f.stat.alarms, lossAlarm)
}

// lookForLoss is called when our Personal directory cannot be read. It says whether it
// was lost and is made anew; else cause stands. f.linkMu is held.
func (f *Folder) lookForLoss(ctx context.Context, cause error) (bool, error) {
	if !errors.Is(cause, ErrUnavailable) {
		return false, cause
	}
	cfg := f.config()
	f.mu.Lock()
	l, now := f.loss, f.now()
	f.mu.Unlock()
	if l.dir != cfg.Personal {
		l = loss{dir: cfg.Personal}
	}
	if !l.asked.IsZero() && now.Sub(l.asked) < lossEvery {
		return false, cause
	}
	gone, err := f.opt.Lost(ctx, cfg.Personal)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	l.asked = now
	if l.looks++; err != nil || !gone {
		l.looks = 0
	}
	enters := f.opt.Grid.Writable(cfg.Collective)
	f.mu.Lock()
	f.loss = l
	enters = enters || f.men.seatedAt // a new one stands there already
	f.mu.Unlock()
	then := thenAsk
	if enters {
		then = thenAnew
	}
	switch {
	case l.looks == 0:
		f.dropAlarm(lossAlarm)
		return false, cause
	case l.looks < lossLooks:
		f.alarm(lossAlarm, fmt.Sprintf("our directory on the grid cannot be read, and no storage server is away that could have more of it. "+
			"Whether that stays so is watched for an hour; then %s", then))
		return false, cause
	case !enters:
		f.alarm(lossAlarm, "our directory on the grid is lost: the storage servers do not have enough of it any more, and the others get nothing from here; "+then)
		return false, cause
	}
	if err := f.remake(ctx, cfg); err != nil {
		if ctx.Err() != nil || errors.Is(err, errCrash) {
			return false, err
		}
		return false, fmt.Errorf("making our lost directory anew: %w", err)
	}
	return true, nil
}

// remake makes our Personal directory anew, with what our state says that the old one
// held. A crash before the state names it leaves a directory that nobody knows.
func (f *Folder) remake(ctx context.Context, cfg state.Folder) error {
	write, read, err := cfg.Membership.Next, cfg.Membership.NextRead, error(nil)
	if write == "" {
		f.opt.Gather(ctx)
		if write, read, err = f.makePersonal(ctx); err != nil {
			return err
		}
	}
	if err := f.fault("remake.made"); err != nil {
		return err
	}
	var changes []Change
	err = f.store.View(func(tx *state.Tx) error {
		return tx.Files(func(key string, rec state.File) error {
			if rec.Linked != "" {
				changes = append(changes, Change{Entry: Entry{Name: snapshot.Mangle(key), Read: rec.Linked}})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	err = f.moveWith(ctx, changes, write, read, func(m *state.Membership) {
		m.Lost = append(m.Lost, cfg.Personal)
		m.Lost = m.Lost[max(0, len(m.Lost)-state.MaxPast):]
		m.Past = slices.DeleteFunc(m.Past, func(c remote.Cap) bool { return c == cfg.Personal })
	})
	if err != nil && f.config().Personal != write {
		return err
	}
	// The state names it: enter goes on if it could not yet.
	f.dropAlarm(lossAlarm)
	f.alarm("remade", fmt.Sprintf("our directory on the grid was lost and is made anew, with the versions of %d files (%s)",
		len(changes), f.now().UTC().Format("2006-01-02 15:04 UTC")))
	return err
}
