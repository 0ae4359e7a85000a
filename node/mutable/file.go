package mutable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"warren/node/caps"
)

// identity is what a capability says of its file. Shares say their format
// themselves; that of the capability is the one that is written.
type identity struct {
	format            Format
	index             caps.StorageIndex
	fingerprint       [32]byte
	readKey, writeKey [16]byte // as far as the capability gives them
}

func writable(c caps.MutableWrite) identity {
	switch c := caps.File(c).(type) {
	case caps.SSKWrite:
		id := readable(c.Read())
		id.writeKey = c.WriteKey
		return id
	case caps.MDMFWrite:
		id := readable(c.Read())
		id.writeKey = c.WriteKey
		return id
	}
	panic("mutable: no such writecap") // the interface is closed
}

func readable(c caps.MutableRead) identity {
	switch c := caps.File(c).(type) {
	case caps.SSKRead:
		return identity{SDMF, c.StorageIndex(), c.Fingerprint, c.ReadKey, [16]byte{}}
	case caps.MDMFRead:
		return identity{MDMF, c.StorageIndex(), c.Fingerprint, c.ReadKey, [16]byte{}}
	}
	panic("mutable: no such readcap") // the interface is closed
}

// versionSize is how much of a share tells its version: header, keys and
// signature. Those of MDMF stand behind the private key.
func (id identity) versionSize() uint64 {
	if id.format == MDMF {
		return mdmfData
	}
	return 1000
}

// runSize is how much of a file is fetched at once when it is read in order.
const runSize = 2 << 20

// run is how many segments that is.
func (h Header) run() int { return int(max(1, runSize/max(1, h.SegmentSize))) }

// contents reads a version whole. See retrieve.
func (v *survey) contents(ctx context.Context, ver *version, withKey bool) (contents []byte, sealed [][]byte, err error) {
	h := ver.header
	if h.DataLength > MaxSize {
		return nil, nil, fmt.Errorf("%w: %d bytes are not read at once", ErrTooLarge, h.DataLength)
	}
	if h.DataLength == 0 {
		return v.retrieve(ctx, ver, 0, 0, withKey)
	}
	for at := 0; at < h.segments(); at += h.run() {
		b, keys, err := v.retrieve(ctx, ver, at, min(at+h.run(), h.segments()), withKey && len(sealed) == 0)
		if err != nil {
			return nil, nil, err
		}
		if h.segments() <= h.run() {
			return b, keys, nil
		}
		contents, sealed = append(contents, b...), append(sealed, keys...)
	}
	return contents, sealed, nil
}

// File is one version of a mutable file, opened for reading. It is safe for
// concurrent use; reads through one File wait for each other.
type File struct {
	store *Store
	id    identity
	size  uint64

	mu      sync.Mutex // guards what follows
	survey  *survey
	version *version
	whole   []byte // the contents, when they are no more than a segment
}

// Open finds the newest version that can be read of a file. One of a single segment
// is read at once; of others the parts that are asked for.
func (s *Store) Open(ctx context.Context, c caps.MutableRead) (*File, error) {
	f := &File{store: s, id: readable(c)}
	err := s.look(ctx, f.id, func(v *survey, best *version) error {
		f.survey, f.version, f.whole, f.size = v, best, nil, best.header.DataLength
		if best.header.segments() > 1 {
			return nil
		}
		var err error
		f.whole, _, err = v.contents(ctx, best, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Size is the file's length.
func (f *File) Size() uint64 { return f.size }

// Format is how the file is kept.
func (f *File) Format() Format {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version.header.Format
}

// Version is the version that was opened, or, when that was replaced before it was
// read by another of the same length, the one that was read.
func (f *File) Version() Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version.header.version()
}

// Close is there for the symmetry.
func (f *File) Close() error { return nil }

// WriteRange writes size bytes from offset to w, each of them verified. Of each
// share that it reads it asks for the blocks in that range, the hash tree over all
// blocks, and nothing else. When the file is replaced meanwhile, the error is
// ErrNotEnoughShares: what was written is the beginning of the version opened.
func (f *File) WriteRange(ctx context.Context, w io.Writer, offset, size int64) error {
	if offset < 0 || size < 0 || uint64(offset)+uint64(size) > f.size {
		return fmt.Errorf("%w: %d bytes from %d of %d", ErrRange, size, offset, f.size)
	}
	if size == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to := uint64(offset), uint64(offset+size)
	if f.version.header.segments() <= 1 {
		_, err := w.Write(f.whole[from:to])
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	runs := make(chan run, 1) // one is fetched while the one before is written
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(runs)
		f.fetchRuns(ctx, from, to, runs)
	}()
	for r := range runs {
		if r.err != nil {
			return r.err
		}
		if _, err := w.Write(r.text); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// run is a piece of the range that was asked for.
type run struct {
	text []byte
	err  error
}

// fetchRuns sends the bytes [from, to) in order.
func (f *File) fetchRuns(ctx context.Context, from, to uint64, out chan<- run) {
	start := from
	for from < to {
		text, at, err := f.fetchRun(ctx, from, to, from == start)
		r := run{err: err}
		if err == nil {
			r.text = text[from-at : min(to-at, uint64(len(text)))]
			from += uint64(len(r.text))
		}
		select {
		case out <- r:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// fetchRun retrieves the segments from the one with that byte on, and says where
// they begin. Before the first byte was sent, a version of the same length that
// took the place of the one opened will do.
func (f *File) fetchRun(ctx context.Context, from, to uint64, first bool) (text []byte, at uint64, err error) {
	for look := 0; ; look++ {
		h := f.version.header
		seg := int(from / h.SegmentSize)
		last := min(int((to-1)/h.SegmentSize)+1, seg+h.run())
		text, _, err = f.survey.retrieve(ctx, f.version, seg, last, false)
		if !errors.Is(err, ErrNotEnoughShares) || look == maxLooks {
			at, _ = h.segment(seg)
			return text, at, err
		}
		if look > 0 && !f.survey.moved {
			return nil, 0, err
		}
		f.survey.forget()
		if err := f.survey.askAll(ctx, f.id.versionSize()); err != nil {
			return nil, 0, err
		}
		if best := f.survey.best(); first && best != nil && best.header.DataLength == f.size && best.header.segments() > 1 {
			f.version = best
		} else if len(f.survey.of(f.version.prefix)) == 0 {
			return nil, 0, fmt.Errorf("%w: it was replaced while it was read", ErrNotEnoughShares)
		}
	}
}
