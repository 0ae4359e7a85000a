package gbs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/taghash"
)

// Options are a server's limits; zero values mean the defaults named.
type Options struct {
	// MaxMutableWrite bounds the body of a mutable write: 256 MiB. Tahoe sends all
	// of a share in one.
	MaxMutableWrite int64
	// BodyMemory bounds what all bodies under way may take together: 512 MiB; and
	// once more what is read for the answers to mutable writes. Requests beyond it
	// wait. Immutable writes and other reads are streamed and do not count. Bodies up
	// to 1 MiB, as nearly all are, have a sixteenth more to themselves: they wait for
	// no large one.
	BodyMemory int64
	// MaxRequests is how many requests are at work in the storage at once; others
	// wait. One that waits for its client is not at work. 64.
	MaxRequests int64
	// MaxStreams is how many shares are read and written at once, each as slowly as
	// its client; others wait. Each has a block in memory. 512.
	MaxStreams int64
	// MaxConnections is how many clients are connected at once. One more takes the
	// place of the connection that has been without a request for the longest. 1024.
	MaxConnections int
	// MaxWatchers is how many requests wait for slots to change at once, each on a
	// connection of its own; one more is refused. Half of MaxConnections, so that
	// the other half remains for those who have something to do. MaxWatched is how
	// many slots all of them together wait for, at some 150 bytes each; 65536.
	MaxWatchers, MaxWatched int
	// Stall ends a connection on which nothing moves in the midst of a request: 60 s.
	Stall time.Duration
	// MinRate is how many bytes a second a client must move, in a sixth of Stall, while
	// others wait for the memory or the stream that it holds; else its connection ends.
	// While nobody waits it may be as slow as it likes. 2048.
	MinRate float64
	// Idle ends a connection without a request: 5 minutes, beyond every client's own.
	Idle time.Duration
	// Log receives internal failures, never secrets. Nil discards.
	Log *slog.Logger
}

const (
	allocateBody = 8192
	adviseBody   = 32768
	// maxReads is what the largest answer to a mutable write takes: what was read,
	// and its message.
	maxReads = 2 * storage.MaxSlotRead
	// block is how much of a share is read or written at once.
	block = 1 << 20
	// piece is how much of an answer a client must take in Options.Stall: 1 kB/s
	// will do, as over Tor on a bad day.
	piece = 64 << 10
	// smallBody is the largest body that takes from the memory kept for small ones.
	smallBody = 1 << 20
)

// Server is the HTTP handler of the protocol. Safe for concurrent use.
type Server struct {
	session       *storage.Session
	authorization string
	opt           Options
	requests      *semaphore.Weighted // acquired last, and held for no network
	streams       *pool
	memory        *pool        // of bodies larger than smallBody
	small         *pool        // of the others
	answers       *pool        // acquired after memory or small, never before
	blocks        sync.Pool    // of *[]byte, block bytes long
	waiting       atomic.Int64 // requests that wait for slots to change
	watched       atomic.Int64 // those slots, counted for each
}

// NewServer serves session to whoever knows the swissnum.
func NewServer(session *storage.Session, swissnum string, opt Options) *Server {
	if opt.MaxMutableWrite == 0 {
		opt.MaxMutableWrite = 256 << 20
	}
	if opt.BodyMemory == 0 {
		opt.BodyMemory = 512 << 20
	}
	opt.BodyMemory = max(opt.BodyMemory, opt.MaxMutableWrite, adviseBody, maxReads)
	if opt.MaxRequests == 0 {
		opt.MaxRequests = 64
	}
	if opt.MaxStreams == 0 {
		opt.MaxStreams = 512
	}
	if opt.MaxConnections == 0 {
		opt.MaxConnections = 1024
	}
	if opt.MaxWatchers == 0 {
		opt.MaxWatchers = opt.MaxConnections / 2
	}
	if opt.MaxWatched == 0 {
		opt.MaxWatched = 1 << 16
	}
	if opt.Stall == 0 {
		opt.Stall = time.Minute
	}
	if opt.MinRate == 0 {
		opt.MinRate = 2048
	}
	if opt.Idle == 0 {
		opt.Idle = 5 * time.Minute
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	shared := func(amount int64) *pool { return newPool(amount, opt.MinRate, opt.Stall/6) }
	return &Server{
		session:       session,
		authorization: authorization(swissnum),
		opt:           opt,
		requests:      semaphore.NewWeighted(opt.MaxRequests),
		streams:       shared(opt.MaxStreams),
		memory:        shared(opt.BodyMemory),
		small:         shared(max(opt.BodyMemory/16, smallBody)),
		answers:       shared(opt.BodyMemory),
		blocks:        sync.Pool{New: func() any { b := make([]byte, block); return &b }},
	}
}

// Serve answers on the listener's connections, plain ones that it speaks TLS on,
// until ctx ends; then it closes the listener and waits for the requests under way,
// at most a second. It returns nil after ctx, else why the listener failed.
func (s *Server) Serve(ctx context.Context, l net.Listener, cert tls.Certificate) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	// Requests end with it, also those that still wait for their turn: after Serve
	// nothing reaches the storage any more.
	requests, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	requests = context.WithValue(requests, servingKey{}, ctx.Done())
	server := &http.Server{
		Handler:           s,
		Protocols:         &protocols,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnState:         (&crowd{most: s.opt.MaxConnections}).changed,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       s.opt.Idle,
		MaxHeaderBytes:    16 << 10,
		// What net/http logs are failed handshakes and aborted answers: anyone can
		// cause them, at will.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(&secureListener{l, TLSConfig(cert), newBuffers()}) }()
	select {
	case err := <-done:
		server.Close()
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	<-done
	stop()
	// What is still at work has lost its connection and ends soon; the rest may not
	// begin.
	wait := context.WithoutCancel(ctx)
	if err := s.requests.Acquire(wait, s.opt.MaxRequests); err != nil {
		return err
	}
	s.requests.Release(s.opt.MaxRequests)
	return nil
}

// A request is one exchange; the handlers answer it, or return why not.
type request struct {
	*Server
	http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	rc      *http.ResponseController
	si      caps.StorageIndex
	kind    storage.ShareKind
	share   int
	secrets map[secretKind][]byte
	read    bool // the body has been read to its end
	turns   []*turn
	ended   atomic.Bool // it held others up
}

// A route is one of the operations.
type route struct {
	method  string
	secrets []secretKind
	serve   func(*request) error
}

var (
	// Answers that no storage error stands for.
	errNotAcceptable = errors.New("gbs: only " + cborType + " is spoken here")
	errMediaType     = errors.New("gbs: the body is not " + cborType)
	errEmptyRange    = errors.New("gbs: nothing in that range")
	errUnknownPath   = errors.New("gbs: no such resource")
	errMethod        = errors.New("gbs: method not allowed")
	errUnauthorized  = errors.New("gbs: wrong or missing Authorization header")
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{Server: s, ResponseWriter: w, r: r, ctx: r.Context(), rc: http.NewResponseController(w)}
	if err := q.handle(); err != nil {
		q.refuse(err)
	}
}

func (q *request) handle() error {
	routes, err := q.parsePath()
	if err != nil {
		return err
	}
	var to *route
	for i := range routes {
		if routes[i].method == q.r.Method {
			to = &routes[i]
		}
	}
	if to == nil {
		return errMethod
	}
	if !authorized(q.r.Header.Get("Authorization"), q.authorization) {
		return errUnauthorized
	}
	if q.secrets, err = parseSecrets(q.r.Header.Values(secretHeader), to.secrets); err != nil {
		return err
	}
	return to.serve(q)
}

// work waits for its turn and does what concerns the storage. The client is not
// waited for meanwhile: those that are slow, as over Tor all are, would keep the
// others from a server that has nothing to do.
func (q *request) work(do func() error) error {
	if err := q.requests.Acquire(q.ctx, 1); err != nil {
		return err
	}
	defer q.requests.Release(1)
	return do()
}

// parsePath finds what may be asked of the path, and the storage index and share
// that it names.
func (q *request) parsePath() ([]route, error) {
	if q.r.URL.Path == watchPath && q.r.URL.RawPath == "" {
		return []route{{"POST", nil, (*request).watch}}, nil
	}
	path, ok := strings.CutPrefix(q.r.URL.Path, "/storage/v1/")
	if !ok || q.r.URL.RawPath != "" {
		return nil, errUnknownPath
	}
	part := strings.Split(path, "/")
	if len(part) == 1 && part[0] == "version" {
		return []route{{"GET", nil, (*request).version}}, nil
	}
	if len(part) < 2 || len(part) > 4 || len(part[1]) != 26 {
		return nil, errUnknownPath
	}
	raw, err := taghash.DecodeBase32(part[1])
	if err != nil || len(raw) != len(q.si) {
		return nil, errUnknownPath
	}
	copy(q.si[:], raw)
	q.kind = storage.ShareKind(part[0])
	lease := []secretKind{leaseRenew, leaseCancel}
	if part[0] == "lease" && len(part) == 2 {
		return []route{{"PUT", lease, (*request).addLease}}, nil
	}
	if q.kind != storage.Immutable && q.kind != storage.Mutable {
		return nil, errUnknownPath
	}
	immutable := q.kind == storage.Immutable
	if len(part) == 2 {
		if immutable {
			return []route{{"POST", append(lease, uploadSecret), (*request).allocate}}, nil
		}
		return nil, errUnknownPath
	}
	if len(part) == 3 && part[2] == "shares" {
		return []route{{"GET", nil, (*request).list}}, nil
	}
	if len(part) == 3 && part[2] == "read-test-write" && !immutable {
		return []route{{"POST", append(lease, writeEnabler), (*request).readTestWrite}}, nil
	}
	if q.share, ok = parseShare(part[2]); !ok {
		return nil, errUnknownPath
	}
	switch {
	case len(part) == 3 && immutable:
		return []route{{"GET", nil, (*request).readShare}, {"PATCH", []secretKind{uploadSecret}, (*request).writeShare}}, nil
	case len(part) == 3:
		return []route{{"GET", nil, (*request).readShare}}, nil
	case part[3] == "corrupt":
		return []route{{"POST", nil, (*request).advise}}, nil
	case part[3] == "abort" && immutable:
		return []route{{"PUT", []secretKind{uploadSecret}, (*request).abort}}, nil
	}
	return nil, errUnknownPath
}

// parseShare reads a share number: plain digits. A number that no share has is as
// unknown as any path.
func parseShare(s string) (int, bool) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= storage.MaxShare
}

// status maps errors to answers.
func status(err error) int {
	for _, m := range []struct {
		err  error
		code int
	}{
		{errEmptyRange, http.StatusNoContent},
		{errSecrets, http.StatusBadRequest},
		{errCBOR, http.StatusBadRequest},
		{storage.ErrMalformed, http.StatusBadRequest},
		{errUnauthorized, http.StatusUnauthorized},
		{storage.ErrUnauthorized, http.StatusUnauthorized},
		{errUnknownPath, http.StatusNotFound},
		{storage.ErrNoShare, http.StatusNotFound},
		{errMethod, http.StatusMethodNotAllowed},
		{storage.ErrComplete, http.StatusMethodNotAllowed},
		{errNotAcceptable, http.StatusNotAcceptable},
		{storage.ErrConflict, http.StatusConflict},
		{storage.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{errMediaType, http.StatusUnsupportedMediaType},
		{errRange, http.StatusRequestedRangeNotSatisfiable},
		{storage.ErrBadRange, http.StatusRequestedRangeNotSatisfiable},
		{storage.ErrNoSpace, http.StatusInsufficientStorage},
		{storage.ErrReadOnlyServer, http.StatusInsufficientStorage},
		{errCrowded, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, m.err) {
			return m.code
		}
	}
	return http.StatusInternalServerError
}

// refuse answers with an error. What the text says is ours: no secret, no path.
func (q *request) refuse(err error) {
	code := status(err)
	text := err.Error()
	if code == http.StatusInternalServerError {
		if q.ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			panic(http.ErrAbortHandler) // the client is gone, or stopped in mid-body
		}
		q.opt.Log.Error("storage request failed", "method", q.r.Method, "storage-index", q.si.Text(), "error", err)
		text = "internal error"
	}
	if code == http.StatusInsufficientStorage {
		text = storage.ErrNoSpace.Error()
	}
	q.extend()
	if q.r.Body != http.NoBody && !q.read {
		// net/http reads a little of what is left, and then closes.
		q.rc.SetReadDeadline(time.Now().Add(q.opt.Stall))
		q.Header().Set("Connection", "close")
	}
	if code == http.StatusNoContent {
		q.WriteHeader(code)
		return
	}
	if q.Header().Get("Content-Type") == "" {
		q.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	q.Header().Set("Content-Length", strconv.Itoa(len(text)))
	q.WriteHeader(code)
	io.WriteString(q, text)
}

// extend gives the client another while to take something. (A connection without
// deadlines, as tests have, answers ErrNotSupported.)
func (q *request) extend() {
	q.rc.SetWriteDeadline(time.Now().Add(q.opt.Stall))
	if q.ended.Load() {
		q.rc.SetWriteDeadline(past)
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// hold takes a turn in a pool, until done.
func (q *request) hold(p *pool, amount int64) (done func(), err error) {
	t, err := p.acquire(q.ctx, amount, q.end)
	if err != nil {
		return nil, err
	}
	q.turns = append(q.turns, t)
	return t.release, nil
}

// end ends the request in the midst of what its client moves.
func (q *request) end() {
	q.ended.Store(true) // first: who sets a deadline looks at it afterwards
	q.rc.SetReadDeadline(past)
	q.rc.SetWriteDeadline(past)
}

// move does what the client is waited for in, and counts the bytes.
func (q *request) move(do func() (int, error)) (int, error) {
	for _, t := range q.turns {
		t.await()
	}
	n, err := do()
	for _, t := range q.turns {
		t.advance(n)
	}
	return n, err
}

// Read reads the request's body; each read may take a while, all of them together
// as long as they like. The deadline goes with the read: net/http reads on to see
// the client leave, and would take a late disk for a client that left.
func (q *request) Read(p []byte) (int, error) {
	q.rc.SetReadDeadline(time.Now().Add(q.opt.Stall))
	if q.ended.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := q.move(func() (int, error) { return q.r.Body.Read(p) })
	if err == nil || err == io.EOF {
		q.rc.SetReadDeadline(time.Time{})
	} // else it stays in the past: net/http tries again, on the way out
	q.read = q.read || err == io.EOF
	return n, err
}

// body reads a CBOR body of at most limit bytes. done says that it is used no more.
func (q *request) body(limit int64) (body []byte, done func(), err error) {
	if !isCBOR(q.r.Header.Get("Content-Type")) {
		return nil, nil, errMediaType
	}
	if q.r.ContentLength > limit {
		return nil, nil, storage.ErrTooLarge
	}
	size := q.r.ContentLength
	if size < 0 {
		size = limit
	}
	memory := q.memory
	if size <= smallBody {
		memory = q.small
	}
	if done, err = q.hold(memory, size); err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	if q.r.ContentLength > 0 {
		// All of it, as it is accounted for: growing would take up to thrice as much.
		b.Grow(int(size) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(q, limit+1))
	if err == nil && n > limit {
		err = storage.ErrTooLarge
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return b.Bytes(), done, nil
}

// send answers with a CBOR message.
func (q *request) send(code int, message []byte) error {
	q.extend()
	q.Header().Set("Content-Type", cborType)
	q.Header().Set("Content-Length", strconv.Itoa(len(message)))
	q.WriteHeader(code)
	q.deliver(message)
	return nil
}

// deliver writes part of an answer. A failure ends the connection: there is no
// other way to say that what was promised does not come.
func (q *request) deliver(b []byte) {
	for part := range slices.Chunk(b, piece) {
		q.extend()
		if _, err := q.move(func() (int, error) { return q.ResponseWriter.Write(part) }); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// leases are the lease secrets of the request.
func (q *request) leases() storage.LeaseSecrets {
	return storage.LeaseSecrets{Renew: storage.Secret(q.secrets[leaseRenew]), Cancel: storage.Secret(q.secrets[leaseCancel])}
}

// upload is the upload secret of the request. It may have any length (Tahoe's have
// 20 bytes), so its hash serves.
func (q *request) upload() storage.Secret {
	return sha256.Sum256(q.secrets[uploadSecret])
}
