package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"warren/node/caps"
	"warren/node/storage/container"
)

// ReadTestWrite implements Client. Changed shares are written as new files which
// then replace the old ones, so that a crash, or a full disk, leaves each share
// as it was before or as it is after.
func (ss *Session) ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets SlotSecrets, tw map[int]TestWrite, read []ReadVector) (wrote bool, reads map[int][][]byte, err error) {
	if err := ctx.Err(); err != nil {
		return false, nil, err
	}
	if err := checkVectors(tw); err != nil {
		return false, nil, err
	}
	defer ss.timed(opWritev)()
	defer ss.locks.write(si)()
	all, err := ss.openAll(si, false)
	if err != nil {
		return false, nil, err
	}
	defer closeAll(all)
	held := map[int]*share{}
	for _, sh := range all {
		if sh.mutable == nil {
			return false, nil, fmt.Errorf("%w: the storage index holds immutable shares", ErrConflict)
		}
		if ok, node := sh.mutable.WritableBy(secrets.WriteEnabler); !ok {
			ss.opt.Log.Warn("wrong write enabler", "storage-index", si.Text(), "share", sh.number, "recorded-by", fmt.Sprintf("%x", node))
			return false, nil, ErrUnauthorized
		}
		held[sh.number] = sh
	}
	if err := checkReads(all, read); err != nil {
		return false, nil, err
	}
	pass, err := test(held, tw)
	if err != nil {
		return false, nil, err
	}
	if reads, err = readVectors(all, read); err != nil || !pass {
		return false, reads, err
	}
	closeAll(all) // the reads are done; what is open cannot be replaced on Windows
	// Also when only some of it was done.
	defer ss.watchers.changed(si)
	if err := ss.writeSlot(si, secrets, held, tw); err != nil {
		return false, nil, err
	}
	return true, reads, nil
}

// checkVectors refuses what can never be done, before anything is locked or read.
func checkVectors(tw map[int]TestWrite) error {
	for n, t := range tw {
		if n < 0 || n > MaxShare {
			return fmt.Errorf("%w: share number out of range", ErrMalformed)
		}
		for _, w := range t.Write {
			if w.Offset > container.MaxMutable || w.Offset+uint64(len(w.Data)) > container.MaxMutable {
				return fmt.Errorf("%w: write past the largest share", ErrTooLarge)
			}
		}
	}
	return nil
}

// test says whether every test vector holds. A share that is absent reads as empty.
func test(held map[int]*share, tw map[int]TestWrite) (bool, error) {
	for n, t := range tw {
		for _, v := range t.Test {
			sh := held[n]
			if sh == nil {
				if len(v.Specimen) > 0 {
					return false, nil
				}
				continue
			}
			if ok, err := sh.mutable.Matches(v.Offset, v.Size, v.Specimen); err != nil || !ok {
				return false, err
			}
		}
	}
	return true, nil
}

// writeSlot applies the write vectors and puts the lease on the shares they name.
func (ss *Session) writeSlot(si caps.StorageIndex, secrets SlotSecrets, held map[int]*share, tw map[int]TestWrite) (err error) {
	drafts := map[int]Draft{}
	defer func() {
		for _, d := range drafts {
			d.Discard()
		}
	}()
	var remove []int
	for _, n := range slices.Sorted(maps.Keys(tw)) {
		t := tw[n]
		if t.NewLength != nil && *t.NewLength == 0 {
			if held[n] != nil {
				remove = append(remove, n)
			}
			continue
		}
		if held[n] == nil && ss.opt.ReadOnly {
			return ErrReadOnlyServer
		}
		release, err := ss.reserveWrite(held[n], t)
		if err != nil {
			return err
		}
		defer release()
		draft, err := ss.backend.Draft(si, n, held[n] != nil)
		if err != nil {
			return fmt.Errorf("storage: starting share %d: %w", n, err)
		}
		drafts[n] = draft
		if err := ss.writeShare(draft, secrets, t, held[n] == nil); err != nil {
			return fmt.Errorf("storage: writing share %d: %w", n, err)
		}
	}
	if len(drafts) == 0 && len(remove) == 0 {
		return nil
	}
	publish := drafts
	drafts = nil // used up, whatever the outcome
	if err := ss.backend.Publish(si, publish, remove); err != nil {
		return fmt.Errorf("storage: publishing: %w", err)
	}
	return nil
}

// reserveWrite reserves what a share may grow by.
func (ss *Session) reserveWrite(sh *share, t TestWrite) (release func(), err error) {
	var end uint64
	for _, w := range t.Write {
		end = max(end, w.Offset+uint64(len(w.Data)))
	}
	if sh == nil {
		return ss.reserve(container.MutableOverhead + end)
	}
	before, err := sh.mutable.SizeAfter(0)
	if err != nil {
		return nil, err
	}
	after, err := sh.mutable.SizeAfter(end)
	if err != nil {
		return nil, err
	}
	return ss.reserve(uint64(after - before))
}

// writeShare makes the new version of one share in its draft.
func (ss *Session) writeShare(draft Draft, secrets SlotSecrets, t TestWrite, fresh bool) error {
	if fresh {
		if _, err := draft.WriteAt(container.NewMutable(ss.opt.NodeID, secrets.WriteEnabler), 0); err != nil {
			return err
		}
	}
	size, err := draft.Size()
	if err != nil {
		return err
	}
	m, err := container.OpenMutable(draft, size)
	if err != nil {
		return err
	}
	for _, w := range t.Write {
		patches, err := m.Write(w.Offset, w.Data)
		if err != nil {
			return err
		}
		if err := container.Apply(draft, patches); err != nil {
			return err
		}
	}
	if t.NewLength != nil {
		if err := container.Apply(draft, m.Shrink(*t.NewLength)); err != nil {
			return err
		}
	}
	patches, grows, err := m.AddOrRenew(ss.lease(secrets.LeaseSecrets, 1))
	if err != nil {
		return err
	}
	release, err := ss.reserve(uint64(grows))
	if err != nil {
		return err
	}
	defer release()
	return container.Apply(draft, patches)
}
