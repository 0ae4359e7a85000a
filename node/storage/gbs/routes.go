package gbs

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"warren/node/storage"
)

func (q *request) version() error {
	if !acceptsCBOR(q.r.Header) {
		return errNotAcceptable
	}
	var v storage.Version
	err := q.work(func() (err error) {
		v, err = q.session.Version(q.ctx)
		return err
	})
	if err != nil {
		return err
	}
	q.Header().Set(watchHeader, "1")
	return q.send(http.StatusOK, encodeVersion(v))
}

func (q *request) allocate() error {
	if !acceptsCBOR(q.r.Header) {
		return errNotAcceptable
	}
	body, done, err := q.body(allocateBody)
	if err != nil {
		return err
	}
	defer done()
	ask, err := decode(body, readAllocation)
	if err != nil {
		return err
	}
	var a allocated
	err = q.work(func() (err error) {
		a.AlreadyHave, a.Allocated, err = q.session.CreateImmutable(q.ctx, q.si, q.upload(), q.leases(), ask.Shares, ask.Size)
		return err
	})
	if err != nil {
		return err
	}
	return q.send(http.StatusOK, a.encode())
}

// writeShare streams the body into the share. A part that arrives before the connection
// breaks stays: sending it again is no conflict.
func (q *request) writeShare() error {
	if !acceptsCBOR(q.r.Header) {
		return errNotAcceptable
	}
	r, err := parseContentRange(q.r.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	if err := q.session.Uploading(q.si, q.share, q.upload()); err != nil {
		return err
	}
	if n := q.r.ContentLength; n >= 0 && uint64(n) != r.End-r.Begin {
		return fmt.Errorf("%w: the body is not as long as its range", storage.ErrMalformed)
	}
	done, err := q.hold(q.streams, 1)
	if err != nil {
		return err
	}
	defer done()
	pooled := q.blocks.Get().(*[]byte)
	defer q.blocks.Put(pooled)
	var required []storage.Range
	for r.Begin < r.End {
		b := (*pooled)[:min(r.End-r.Begin, block)]
		if _, err := io.ReadFull(q, b); err != nil {
			return short(err)
		}
		if r.Begin+uint64(len(b)) == r.End {
			// Before the last of it completes the share.
			if n, _ := io.ReadFull(q, make([]byte, 1)); n > 0 {
				return fmt.Errorf("%w: the body is longer than its range", storage.ErrMalformed)
			}
		}
		err := q.work(func() (err error) {
			required, err = q.session.Write(q.ctx, q.si, q.share, q.upload(), r.Begin, b)
			return err
		})
		if err != nil {
			return err
		}
		r.Begin += uint64(len(b))
	}
	if len(required) == 0 {
		return q.send(http.StatusCreated, encodeRequired(nil))
	}
	return q.send(http.StatusOK, encodeRequired(required))
}

// short says what a body that ends early means; a broken connection is no answer's
// worth.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the body is shorter than its range", storage.ErrMalformed)
	}
	return err
}

func (q *request) abort() error {
	err := q.work(func() error { return q.session.AbortImmutable(q.ctx, q.si, q.share, q.upload()) })
	if err != nil {
		return err
	}
	q.ok()
	return nil
}

// ok answers with nothing but success.
func (q *request) ok() {
	q.extend()
	q.Header().Set("Content-Length", "0")
	q.WriteHeader(http.StatusOK)
}

func (q *request) list() error {
	if !acceptsCBOR(q.r.Header) {
		return errNotAcceptable
	}
	var all []int
	err := q.work(func() (err error) {
		all, err = q.session.ListShares(q.ctx, q.kind, q.si)
		return err
	})
	if err != nil {
		return err
	}
	return q.send(http.StatusOK, encodeShares(all))
}

func (q *request) readShare() error {
	// Tahoe's client wants this type of an error too.
	q.Header().Set("Content-Type", "application/octet-stream")
	done, err := q.hold(q.streams, 1)
	if err != nil {
		return err
	}
	defer done()
	var sh *storage.ShareReader
	err = q.work(func() (err error) {
		sh, err = q.session.OpenShare(q.ctx, q.kind, q.si, q.share)
		return err
	})
	if err != nil {
		return err
	}
	defer sh.Close()
	r, code := byteRange{0, sh.Length()}, http.StatusOK
	if h := q.r.Header.Values("Range"); len(h) > 0 {
		if r, err = parseRange(h[0]); err != nil {
			return err
		}
		r.End = min(r.End, sh.Length())
		if r.Begin >= r.End {
			return errEmptyRange
		}
		code = http.StatusPartialContent
		q.Header().Set("Content-Range", r.contentRange())
	}
	pooled := q.blocks.Get().(*[]byte)
	defer q.blocks.Put(pooled)
	// The first block before the header: a share that cannot be read is still an error.
	data, err := q.readBlock(sh, r, *pooled)
	if err != nil {
		q.Header().Del("Content-Range")
		return err
	}
	q.extend()
	q.Header().Set("Content-Length", strconv.FormatUint(r.End-r.Begin, 10))
	q.WriteHeader(code)
	for len(data) > 0 {
		q.deliver(data)
		if r.Begin += uint64(len(data)); r.Begin == r.End {
			return nil
		}
		if data, err = q.readBlock(sh, r, *pooled); err != nil {
			break
		}
	}
	if r.Begin < r.End {
		panic(http.ErrAbortHandler) // a mutable share shrank meanwhile
	}
	return nil
}

// readBlock reads what the range begins with, into b.
func (q *request) readBlock(sh *storage.ShareReader, r byteRange, b []byte) (data []byte, err error) {
	err = q.work(func() error {
		n, err := sh.Read(q.ctx, b[:min(r.End-r.Begin, uint64(len(b)))], r.Begin)
		data = b[:n]
		return err
	})
	return data, err
}

func (q *request) addLease() error {
	err := q.work(func() error { return q.session.AddLease(q.ctx, q.si, q.leases()) })
	if err != nil {
		return err
	}
	q.extend()
	q.WriteHeader(http.StatusNoContent)
	return nil
}

func (q *request) advise() error {
	body, done, err := q.body(adviseBody)
	if err != nil {
		return err
	}
	defer done()
	reason, err := decode(body, readReason)
	if err != nil {
		return err
	}
	err = q.work(func() error { return q.session.AdviseCorrupt(q.ctx, q.kind, q.si, q.share, reason) })
	if err != nil {
		return err
	}
	q.ok()
	return nil
}

func (q *request) readTestWrite() error {
	if !acceptsCBOR(q.r.Header) {
		return errNotAcceptable
	}
	body, done, err := q.body(q.opt.MaxMutableWrite)
	if err != nil {
		return err
	}
	defer done()
	ask, err := decode(body, readReadTestWrite)
	if err != nil {
		return err
	}
	reads := ask.mayRead()
	answered, err := q.hold(q.answers, reads)
	if err != nil {
		return err
	}
	defer answered()
	secrets := storage.SlotSecrets{
		WriteEnabler: storage.Secret(q.secrets[writeEnabler]),
		LeaseSecrets: q.leases(),
	}
	var a readTestWriteResult
	err = q.work(func() (err error) {
		a.Success, a.Data, err = q.session.ReadTestWrite(q.ctx, q.si, secrets, ask.Shares, ask.Read)
		return err
	})
	if err != nil {
		return err
	}
	return q.send(http.StatusOK, a.encode())
}

// mayRead is what the answer may take in memory.
func (q readTestWrite) mayRead() int64 {
	var size uint64
	for _, v := range q.Read {
		size = min(size+min(v.Size, storage.MaxSlotRead)*maxShares, storage.MaxSlotRead)
	}
	return 2 * int64(size)
}
