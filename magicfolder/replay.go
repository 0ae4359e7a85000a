package magicfolder

import (
	"bytes"
	"context"
	"fmt"

	"warren/magicfolder/card"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// keepNewest holds a participant's heads against those that its directory showed
// before, also before a restart and in another directory with its card: who puts an
// older one in place of its own gains nothing. One that goes back to an ancestor of what it was is
// ignored, with the alarm that is returned under its path: somebody replays the
// directory, or its owner's state was restored. In its place stands what it was.
//
// Only what was read before can be such a one, so the grid is not asked.
func (f *Folder) keepNewest(ctx context.Context, p *peer, c *card.Card, heads map[string]remote.Cap) (map[string]string, error) {
	f.mu.Lock()
	had, name := p.heads, p.name
	f.mu.Unlock()
	pin, err := f.pinned(name)
	if err != nil {
		return nil, err
	}
	// What is proven to be the participant's is remembered under its key, and what
	// claims to be so is held against that.
	here, whose := p.dir.Text(), p.dir.Text()
	if pin.Own && pin.Ours && (c == nil || bytes.Equal(c.Key, pin.Key)) {
		whose = "key " + string(pin.Key)
		if c != nil {
			here = whose
		}
	}
	alarms, show := map[string]string{}, map[string]remote.Cap{}
	err = f.store.View(func(tx *state.Tx) error {
		known := func(_ context.Context, c remote.Cap) ([]remote.Cap, error) {
			k, _, err := tx.Known(c)
			return k.Parents, err
		}
		for key, c := range heads {
			if had[key] == c {
				continue
			}
			was := tx.Seen(whose, key)
			if was == "" {
				was = tx.Seen(p.dir.Text(), key)
			}
			if was == c && tx.Seen(here, key) == c {
				continue
			}
			show[key] = c
			if was == "" || was == c {
				continue
			}
			if _, read, err := tx.Known(c); err != nil {
				return err
			} else if !read {
				continue
			}
			// Usually it goes on, and the other way is long.
			const near = 64
			if newer, err := snapshot.IsAncestor(ctx, known, was, c, near); err == nil && newer {
				continue
			}
			if older, err := snapshot.IsAncestor(ctx, known, c, was, f.deep); err == nil && older {
				alarms[key] = fmt.Sprintf("participant %q shows an older version than before, which is ignored: %s", name, key)
				heads[key] = was
				delete(show, key)
			}
		}
		return nil
	})
	if err != nil || len(show) == 0 {
		return alarms, err
	}
	return alarms, f.store.Update(func(tx *state.Tx) error {
		for key, c := range show {
			if err := tx.PutSeen(here, key, c); err != nil {
				return err
			}
		}
		return nil
	})
}
