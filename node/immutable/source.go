package immutable

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"warren/node/caps"
	"warren/node/taghash"
)

// litLimit is the largest file that becomes a LIT.
const litLimit = 55

// ErrSourceChanged says that what is uploaded was not the same, or not as long,
// when it was read again. Nothing was stored; another try is safe.
var ErrSourceChanged = errors.New("immutable: the source changed while it was uploaded")

// source is a body of known length that an upload reads, once an attempt.
type source struct {
	size uint64
	lit  []byte // the whole body, when it is a LIT
	// shape and, with convergence, key follow from the body.
	shape      shape
	convergent bool
	key        [16]byte

	sums []uint64
	seed maphash.Seed
	// pass starts reading from the beginning; nil after the only pass of a body
	// that cannot be read again.
	pass  func() (io.Reader, error)
	once  bool
	close func()
}

// newSource finds out the length of body (size below zero: unknown) and its
// encryption key. The caller calls close.
func (c *Client) newSource(ctx context.Context, body io.Reader, size int64) (src *source, err error) {
	made := &source{close: func() {}, convergent: c.cfg.Convergence != nil, seed: maphash.MakeSeed()}
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	src = made
	body = ctxReader{ctx, body}
	limit := int64(c.cfg.SegmentSize)

	if seeker, start, length, ok := seekable(body); ok {
		if size >= 0 {
			length = size
		}
		if length > litLimit {
			src.pass = func() (io.Reader, error) {
				if _, err := seeker.Seek(start, io.SeekStart); err != nil {
					return nil, &sourceError{err}
				}
				return body, nil
			}
			return src, c.derive(src, uint64(length), true, nil)
		}
		// A small one is read to its end: devices and files in /proc say that their
		// length is zero, and are not empty.
	}

	// What fits one segment is held in memory; so is the first segment of the rest,
	// because the key depends on whether there is more.
	if size < 0 || size <= limit {
		want := limit + 1
		if size >= 0 {
			want = size
		}
		var head bytes.Buffer
		if _, err := io.Copy(&head, io.LimitReader(body, want)); err != nil {
			return nil, &sourceError{err}
		}
		got := int64(head.Len())
		switch {
		case size >= 0 && got < size:
			return nil, fmt.Errorf("%w: %d bytes of %d", ErrSourceChanged, got, size)
		case got <= litLimit:
			src.size, src.lit = uint64(got), head.Bytes()
			return src, nil
		case got <= limit:
			src.pass = func() (io.Reader, error) { return bytes.NewReader(head.Bytes()), nil }
			return src, c.derive(src, uint64(got), false, nil)
		}
		body = io.MultiReader(&head, body)
	}

	if size >= 0 && !src.convergent {
		src.pass, src.once = func() (io.Reader, error) { return io.LimitReader(body, size), nil }, true
		return src, c.derive(src, uint64(size), false, nil)
	}

	sp, err := newSpool(c.cfg.TempDir, c.cfg.Rand)
	if err != nil {
		return nil, err
	}
	src.close = sp.close
	src.pass = sp.reader
	var key hash.Hash
	if src.convergent {
		// More than one segment: the parameters are known before the length is.
		key = c.convergence(nextMultiple(uint64(limit), uint64(c.cfg.Needed)))
	}
	in := body
	if size >= 0 {
		in = io.LimitReader(body, size)
	}
	n, err := sp.fill(in, key)
	if err != nil {
		return nil, err
	}
	if size >= 0 && n < uint64(size) {
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrSourceChanged, n, size)
	}
	return src, c.derive(src, n, false, key)
}

// derive sets the shape and, with convergence, the key: from hashed, or, if that
// is nil, by reading the body once. With check the checksums of its segments are
// kept, because somebody may change it before it is read again.
func (c *Client) derive(src *source, size uint64, check bool, hashed hash.Hash) error {
	src.size = size
	s, err := newShape(c.cfg.Needed, c.cfg.Total, size, segmentSizeFor(c.cfg.Needed, size, uint64(c.cfg.SegmentSize)))
	if err != nil {
		return err
	}
	src.shape = s
	if !src.convergent {
		return nil
	}
	if hashed == nil {
		r, err := src.pass()
		if err != nil {
			return err
		}
		hashed = c.convergence(s.segmentSize)
		if check {
			src.sums = make([]uint64, s.segments)
		}
		// The next segment is read while one is hashed.
		free, read := make(chan []byte, 2), make(chan []byte, 2)
		for range min(cap(free), s.segments) {
			free <- make([]byte, s.segmentLen(0))
		}
		var hashing sync.WaitGroup
		hashing.Go(func() {
			for text := range read {
				hashed.Write(text)
				free <- text
			}
		})
		err = src.scan(r, func(i int) []byte { return (<-free)[:s.segmentLen(i)] }, func(i int, text []byte) {
			if check {
				src.sums[i] = maphash.Bytes(src.seed, text)
			}
			read <- text
		})
		close(read)
		hashing.Wait()
		if err != nil {
			return err
		}
	}
	src.key = [16]byte(hashed.Sum(nil)[:16])
	return nil
}

// scan reads every segment into what room gives, and shows it.
func (src *source) scan(r io.Reader, room func(int) []byte, show func(int, []byte)) error {
	for i := range src.shape.segments {
		text := room(i)
		if _, err := io.ReadFull(r, text); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return fmt.Errorf("%w: shorter than %d bytes", ErrSourceChanged, src.size)
			}
			return &sourceError{err}
		}
		show(i, text)
	}
	return nil
}

func (c *Client) convergence(segmentSize uint64) hash.Hash {
	return taghash.NewConvergence(c.cfg.Needed, c.cfg.Total, segmentSize, c.cfg.Convergence)
}

// storageIndex is where the file with this key belongs.
func storageIndex(key [16]byte) caps.StorageIndex { return taghash.StorageIndex(key) }

// seekable reports whether body can be read again, from where it stands now and
// how far. A pipe has a Seek method too, so it is tried.
func seekable(body io.Reader) (s io.Seeker, start, length int64, ok bool) {
	s, ok = body.(ctxReader).r.(io.Seeker)
	if !ok {
		return nil, 0, 0, false
	}
	start, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, 0, false
	}
	end, err := s.Seek(0, io.SeekEnd)
	if err != nil || end < start {
		return nil, 0, 0, false
	}
	if _, err := s.Seek(start, io.SeekStart); err != nil {
		return nil, 0, 0, false
	}
	return s, start, end - start, true
}

// ctxReader ends a long read when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// spool is a temporary file that holds a body, encrypted with a key of its own.
type spool struct {
	f     *os.File
	block cipher.Block
}

func newSpool(dir string, random io.Reader) (*spool, error) {
	var key [16]byte
	if _, err := io.ReadFull(random, key[:]); err != nil {
		return nil, fmt.Errorf("immutable: spool key: %w", err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "upload-*.spool") // 0600
	if err != nil {
		return nil, fmt.Errorf("immutable: spool: %w", err)
	}
	// Where the system allows it (not on Windows) the name goes at once, so that not
	// even a crash leaves the file behind. close removes it elsewhere.
	_ = os.Remove(f.Name())
	return &spool{f, block}, nil
}

func (s *spool) stream() cipher.Stream {
	return cipher.NewCTR(s.block, make([]byte, aes.BlockSize))
}

// fill copies body into the file, and into h if it is not nil. Reading, hashing and
// writing run side by side.
func (s *spool) fill(body io.Reader, h hash.Hash) (uint64, error) {
	const chunks, size = 4, 256 << 10
	free, hashing, writing := make(chan []byte, chunks), make(chan []byte, chunks), make(chan []byte, chunks)
	for range chunks {
		free <- make([]byte, size)
	}
	var total uint64
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error {
		defer close(hashing)
		for {
			var buf []byte
			select {
			case buf = <-free:
			case <-ctx.Done():
				return nil
			}
			n, err := full(body, buf[:size])
			hashing <- buf[:n] // never blocks, as the next: as much room as chunks
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return &sourceError{err}
			}
		}
	})
	g.Go(func() error {
		defer close(writing)
		for buf := range hashing {
			if h != nil {
				h.Write(buf)
			}
			writing <- buf
		}
		return nil
	})
	g.Go(func() error {
		stream := s.stream()
		for buf := range writing {
			stream.XORKeyStream(buf, buf)
			if _, err := s.f.Write(buf); err != nil {
				return fmt.Errorf("immutable: spool: %w", err)
			}
			total += uint64(len(buf))
			free <- buf
		}
		return nil
	})
	err := g.Wait()
	return total, err
}

// full reads until buf is full or the body ends. Not io.ReadFull: it says
// ErrUnexpectedEOF of a last piece that is short, and net/http of a body that broke
// off.
func full(body io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = body.Read(buf[n:])
		n += more
	}
	return n, err
}

func (s *spool) reader() (io.Reader, error) {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return nil, &sourceError{err}
	}
	return cipher.StreamReader{S: s.stream(), R: s.f}, nil
}

// close frees the disk space. There is nothing to do about an error: the content
// is noise without its key.
func (s *spool) close() {
	_ = s.f.Close()
	_ = os.Remove(s.f.Name())
}
