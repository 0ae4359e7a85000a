package storagetest

import (
	"errors"
	"sync"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
)

// ErrInjected is what a Faulty backend fails with.
var ErrInjected = errors.New("storagetest: injected failure")

// Faulty is a backend whose n-th changing step fails, before or after it took
// effect. An Amend of several patches may also stop between them.
type Faulty struct {
	storage.Backend

	mu sync.Mutex
	// mu guards what follows.
	steps  int // until the one that fails; below 0: none
	after  bool
	failed bool
}

// NewFaulty wraps a backend; step counts from 0. From the failure on every change
// fails, as in a process that is dying.
func NewFaulty(b storage.Backend, step int, after bool) *Faulty {
	return &Faulty{Backend: b, steps: step, after: after}
}

// Failed says whether the step was reached.
func (f *Faulty) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// step runs one changing step.
func (f *Faulty) step(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		return ErrInjected
	}
	now := f.steps == 0
	f.steps--
	if !now {
		return do()
	}
	f.failed = true
	if f.after {
		if err := do(); err != nil {
			return err
		}
	}
	return ErrInjected
}

// Draft implements storage.Backend.
func (f *Faulty) Draft(si caps.StorageIndex, share int, copied bool) (d storage.Draft, err error) {
	err = f.step(func() (err error) {
		d, err = f.Backend.Draft(si, share, copied)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultyDraft{d, f}, nil
}

type faultyDraft struct {
	storage.Draft
	f *Faulty
}

func (d *faultyDraft) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.f.step(func() (err error) {
		n, err = d.Draft.WriteAt(p, off)
		return err
	})
	return n, err
}

// Publish implements storage.Backend.
func (f *Faulty) Publish(si caps.StorageIndex, drafts map[int]storage.Draft, remove []int) error {
	inner := map[int]storage.Draft{}
	for n, d := range drafts {
		inner[n] = d.(*faultyDraft).Draft
	}
	return f.step(func() error { return f.Backend.Publish(si, inner, remove) })
}

// Amend implements storage.Backend: each patch is a step.
func (f *Faulty) Amend(si caps.StorageIndex, share int, patches []container.Patch) error {
	for _, p := range patches {
		if err := f.step(func() error { return f.Backend.Amend(si, share, []container.Patch{p}) }); err != nil {
			return err
		}
	}
	return nil
}

// Advise implements storage.Backend.
func (f *Faulty) Advise(name string, text []byte) error {
	return f.step(func() error { return f.Backend.Advise(name, text) })
}
