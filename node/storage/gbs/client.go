package gbs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"warren/node/caps"
	"warren/node/furl"
	"warren/node/storage"
)

// ErrStalled: nothing moved for so long that the server is taken for gone.
var ErrStalled = errors.New("gbs: the server does not answer")

// A StatusError is an answer that no storage error stands for.
type StatusError struct{ Code int }

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("gbs: the server answered %d %s", e.Code, http.StatusText(e.Code))
}

// A DialFunc opens a connection; it decides the transport by the host. (A method
// value of torutil.Network.)
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

const (
	// connections is how many a client has at most, as Tahoe's.
	connections = 10
	// idle is below the minute after which Tahoe's server closes: a request never
	// meets a connection that is just being closed.
	idle = 45 * time.Second
	// stall is how long a server may be silent in the midst of a request; Tahoe's
	// client gives it as long.
	stall = 60 * time.Second
	// maxAnswer bounds what a server can make us hold of one mutable slot.
	maxAnswer = 256 << 20
	// maxError bounds what is read of an error's text, to keep the connection.
	maxError = 10000
)

// Client is a storage.Client over HTTPS. Its errors never hold secrets.
//
// A request ends with its context, or when nothing moves for a minute; the time in
// which it waits for one of the connections does not count. What dies
// with a connection from the pool is sent once more, except mutable writes; nothing
// else is retried.
type Client struct {
	base          string
	authorization string
	http          *http.Client
	transport     *http.Transport
	stall         time.Duration
	slots         *semaphore.Weighted // one a connection
	watching      *semaphore.Weighted // the one that waits for changes
	canWatch      atomic.Bool         // the server said that it can be watched
}

var _ storage.Client = (*Client)(nil)

// NewClient is a client of the server at nurl, over connections that dial opens
// when they are needed. Close it when done.
func NewClient(nurl furl.NURL, dial DialFunc) *Client {
	config, shared := clientTLS(nurl), newBuffers()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		// No proxy: what the environment says of one is none of our business.
		Proxy: nil,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			// The transport goes on dialling for a request that gave up.
			ctx, cancel := context.WithTimeout(ctx, 2*stall)
			defer cancel()
			raw, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			conn := newSecureConn(raw, tls.Client, config, shared)
			if err := conn.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, err
			}
			return conn, nil
		},
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxConnsPerHost:        connections + 1,
		MaxIdleConnsPerHost:    connections + 1,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: 16 << 10,
		WriteBufferSize:        32 << 10,
		ReadBufferSize:         64 << 10,
	}
	return &Client{
		base:          "https://" + nurl.Address(),
		authorization: authorization(nurl.Swissnum),
		transport:     transport,
		stall:         stall,
		slots:         semaphore.NewWeighted(connections),
		watching:      semaphore.NewWeighted(1),
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close closes the connections that are idle; those in use close when their
// request ends and no other follows within 45 seconds.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// call is one request.
type call struct {
	method, path string
	secrets      map[secretKind][]byte
	header       map[string]string
	body         []byte   // nil: none
	pieces       [][]byte // or, of a large body, one after the other
	// once says that the request must not be sent again unless none of it was sent.
	once bool
	// limit bounds the answer's body.
	limit uint64
	// want is the one body type that is taken.
	want string
	// silence is how long the server may take to answer when that is not as usual; it
	// may then wait long, and has a connection beside those of the others.
	silence time.Duration
}

// url is the path below the server's address.
func (q call) url() string {
	if strings.HasPrefix(q.path, "/") {
		return q.path
	}
	return "/storage/v1/" + q.path
}

// answer is what came back, with a code of 200 to 299.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// do makes the call. A refusal is a storage error, or a StatusError.
func (c *Client) do(ctx context.Context, q call) (*answer, error) {
	// Before the clock starts: that the server is busy with our other requests, as
	// for minutes it may be over Tor, is no silence.
	slots, stall := c.slots, c.stall
	if q.silence > 0 {
		slots, stall = c.watching, q.silence
	}
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("gbs: %s: %w", describe(q), context.Cause(ctx))
	}
	defer slots.Release(1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The clock starts anew whenever something moves.
	timer := time.AfterFunc(stall, func() { cancel(ErrStalled) })
	defer timer.Stop()
	moved := func() { timer.Reset(stall) }

	var try attempt
	a, err := c.exchange(ctx, q, moved, &try)
	if err != nil && try.reused && !try.answered && !q.once && ctx.Err() == nil {
		// The connection had died in the pool, as those through Tor do: the others
		// in there may have too.
		c.transport.CloseIdleConnections()
		a, err = c.exchange(ctx, q, moved, &attempt{})
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("gbs: %s: %w", describe(q), err)
	}
	return a, nil
}

// describe names the operation for errors: no host, no secret.
func describe(q call) string { return q.method + " " + q.path }

// attempt is how far an exchange came.
type attempt struct {
	reused   bool // on a connection from the pool
	answered bool
}

func (c *Client) exchange(ctx context.Context, q call, moved func(), try *attempt) (*answer, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { try.reused = info.Reused },
	})
	pieces := q.pieces
	if q.body != nil {
		pieces = [][]byte{q.body}
	}
	whole := func() io.Reader {
		var list []io.Reader
		for _, p := range pieces {
			list = append(list, bytes.NewReader(p))
		}
		return &progress{r: io.MultiReader(list...), moved: moved}
	}
	var body io.Reader
	if pieces != nil {
		body = whole()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, c.base+q.url(), body)
	if err != nil {
		return nil, err
	}
	if pieces != nil {
		for _, p := range pieces {
			r.ContentLength += int64(len(p))
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(whole()), nil }
		if r.ContentLength == 0 {
			r.Body = http.NoBody
		}
	}
	r.Header.Set("Authorization", c.authorization)
	r.Header.Set("Accept", cborType)
	r.Header["User-Agent"] = nil // nobody's business
	for kind, value := range q.secrets {
		r.Header.Add(secretHeader, formatSecret(kind, value))
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	if !q.once {
		// Known to net/http, and not sent: it too may send the request again when the
		// server closed the connection under it.
		r.Header["Idempotency-Key"] = []string{}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	try.answered = true
	moved()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		io.CopyN(io.Discard, resp.Body, maxError)
		return nil, refusal(resp.StatusCode)
	}
	a := &answer{code: resp.StatusCode, header: resp.Header}
	if resp.StatusCode == http.StatusNoContent {
		return a, nil
	}
	if q.want != "" {
		name, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		if !strings.EqualFold(strings.TrimSpace(name), q.want) {
			return nil, fmt.Errorf("gbs: an answer of the wrong type")
		}
	}
	length := resp.ContentLength
	if length < 0 && a.code == http.StatusPartialContent {
		// Tahoe's server sends shares in chunks, but says which range they are.
		if r, err := parseContentRange(a.header.Get("Content-Range")); err == nil && r.End-r.Begin <= q.limit {
			length = int64(min(r.End-r.Begin, math.MaxInt64))
		}
	}
	from := &progress{r: resp.Body, moved: moved}
	if length > 0 && uint64(length) <= q.limit {
		if into := storage.Offered(ctx, uint64(length)); into != nil {
			a.body = into
			return a, readExactly(from, into)
		}
	}
	a.body, err = readBody(from, length, q.limit)
	return a, err
}

// progress tells that data moved.
type progress struct {
	r     io.Reader
	moved func()
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.moved()
	}
	return n, err
}

// readBody reads at most limit bytes. A declared length saves copying; no more than
// a block is allocated on a server's word alone.
func readBody(r io.Reader, declared int64, limit uint64) ([]byte, error) {
	if declared > 0 && uint64(declared) > limit {
		return nil, errLarger
	}
	if declared > 0 && declared <= block+block/16 {
		b := make([]byte, declared)
		return b, readExactly(r, b)
	}
	var b bytes.Buffer
	if declared > 0 {
		b.Grow(block + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r, int64(min(limit, math.MaxInt64-1))+1))
	if err != nil {
		return nil, err
	}
	if uint64(n) > limit {
		return nil, errLarger
	}
	return b.Bytes(), nil
}

var errLarger = errors.New("gbs: an answer larger than asked for")

// readExactly fills b, after which r has to end.
func readExactly(r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	var more [1]byte
	switch _, err := io.ReadFull(r, more[:]); err {
	case io.EOF:
		return nil
	case nil:
		return errLarger
	default:
		return err
	}
}

// refusal is the error that a code stands for.
func refusal(code int) error {
	switch code {
	case http.StatusBadRequest:
		return storage.ErrMalformed
	case http.StatusUnauthorized, http.StatusForbidden:
		return storage.ErrUnauthorized
	case http.StatusNotFound:
		return storage.ErrNoShare
	case http.StatusConflict:
		return storage.ErrConflict
	case http.StatusRequestEntityTooLarge:
		return storage.ErrTooLarge
	case http.StatusRequestedRangeNotSatisfiable:
		return storage.ErrBadRange
	case http.StatusInsufficientStorage:
		return storage.ErrNoSpace
	}
	return &StatusError{code}
}

// Version implements storage.Client.
func (c *Client) Version(ctx context.Context) (storage.Version, error) {
	a, err := c.do(ctx, call{method: "GET", path: "version", limit: 1 << 16, want: cborType})
	if err != nil {
		return storage.Version{}, err
	}
	c.noteWatch(a.header)
	return decode(a.body, readVersion)
}

func leaseHeaders(l storage.LeaseSecrets) map[secretKind][]byte {
	return map[secretKind][]byte{leaseRenew: l.Renew[:], leaseCancel: l.Cancel[:]}
}

// CreateImmutable implements storage.Client.
func (c *Client) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) (already, allocated []int, err error) {
	asked := slices.Clone(shares)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	secrets := leaseHeaders(lease)
	secrets[uploadSecret] = upload[:]
	a, err := c.do(ctx, call{
		method: "POST", path: "immutable/" + si.Text(), secrets: secrets,
		header: map[string]string{"Content-Type": cborType},
		body:   allocation{asked, size}.encode(),
		limit:  1 << 16, want: cborType,
	})
	if err != nil {
		return nil, nil, err
	}
	answer, err := decode(a.body, readAllocated)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(answer.AlreadyHave)
	allocated = slices.DeleteFunc(asked, func(n int) bool { return !slices.Contains(answer.Allocated, n) })
	return slices.Compact(answer.AlreadyHave), allocated, nil
}

// WriteImmutable implements storage.Client.
func (c *Client) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (done bool, err error) {
	missing, err := c.Write(ctx, si, share, upload, offset, data)
	return err == nil && len(missing) == 0, err
}

// Write implements storage.Resumer.
func (c *Client) Write(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (missing []storage.Range, err error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: GBS has no empty writes", storage.ErrMalformed)
	}
	if offset > math.MaxInt64-uint64(len(data)) {
		return nil, storage.ErrBadRange
	}
	a, err := c.do(ctx, call{
		method: "PATCH", path: sharePath(storage.Immutable, si, share),
		secrets: map[secretKind][]byte{uploadSecret: upload[:]},
		header:  map[string]string{"Content-Range": byteRange{offset, offset + uint64(len(data))}.contentRange()},
		body:    data,
		limit:   1 << 20, want: cborType,
	})
	if err != nil {
		return nil, err
	}
	missing, err = decode(a.body, readRequired)
	switch {
	case err != nil:
		return nil, err
	case a.code == http.StatusCreated:
		return nil, nil
	case len(missing) == 0: // the status decides whether the share is complete
		return []storage.Range{{Begin: offset + uint64(len(data)), End: math.MaxUint64}}, nil
	}
	return missing, nil
}

func sharePath(kind storage.ShareKind, si caps.StorageIndex, share int) string {
	return fmt.Sprintf("%s/%s/%d", kind, si.Text(), share)
}

// AbortImmutable implements storage.Client.
func (c *Client) AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret) error {
	_, err := c.do(ctx, call{
		method: "PUT", path: sharePath(storage.Immutable, si, share) + "/abort",
		secrets: map[secretKind][]byte{uploadSecret: upload[:]},
		limit:   maxError,
	})
	var s *StatusError
	if errors.As(err, &s) && s.Code == http.StatusMethodNotAllowed {
		return storage.ErrComplete
	}
	return err
}

// ListShares implements storage.Client.
func (c *Client) ListShares(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex) ([]int, error) {
	a, err := c.do(ctx, call{method: "GET", path: string(kind) + "/" + si.Text() + "/shares", limit: 1 << 16, want: cborType})
	if err != nil {
		return nil, err
	}
	all, err := decode(a.body, readShares)
	slices.Sort(all)
	return slices.Compact(all), err
}

// ReadShare implements storage.Client.
func (c *Client) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	// An empty range cannot be said; asking for a byte tells whether there is a share.
	want := byteRange{min(offset, math.MaxInt64-2), 0}
	want.End = want.Begin + min(max(size, 1), math.MaxInt64-1-want.Begin)
	a, err := c.do(ctx, call{
		method: "GET", path: sharePath(kind, si, share),
		header: map[string]string{"Range": want.header()},
		limit:  want.End - want.Begin, want: "application/octet-stream",
	})
	if err != nil {
		return nil, err
	}
	switch a.code {
	case http.StatusNoContent:
		return []byte{}, nil
	case http.StatusPartialContent:
		got, err := parseContentRange(a.header.Get("Content-Range"))
		if err != nil || got.Begin != want.Begin || got.End > want.End || got.End-got.Begin != uint64(len(a.body)) {
			return nil, fmt.Errorf("gbs: an answer to another range than asked for")
		}
		return a.body[:min(uint64(len(a.body)), size)], nil
	}
	return nil, &StatusError{a.code}
}

// AddLease implements storage.Client.
func (c *Client) AddLease(ctx context.Context, si caps.StorageIndex, lease storage.LeaseSecrets) error {
	_, err := c.do(ctx, call{method: "PUT", path: "lease/" + si.Text(), secrets: leaseHeaders(lease), limit: maxError})
	return err
}

// AdviseCorrupt implements storage.Client.
func (c *Client) AdviseCorrupt(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, reason string) error {
	_, err := c.do(ctx, call{
		method: "POST", path: sharePath(kind, si, share) + "/corrupt",
		header: map[string]string{"Content-Type": cborType},
		body:   encodeReason(reason),
		limit:  maxError,
	})
	return err
}

// ReadTestWrite implements storage.Client. It is sent once: repeating it after it
// took effect would fail its own tests.
func (c *Client) ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets storage.SlotSecrets, tw map[int]storage.TestWrite, read []storage.ReadVector) (wrote bool, reads map[int][][]byte, err error) {
	headers := leaseHeaders(secrets.LeaseSecrets)
	headers[writeEnabler] = secrets.WriteEnabler[:]
	limit := uint64(1 << 20)
	for _, v := range read {
		limit = min(limit+min(v.Size, maxAnswer)*maxShares, maxAnswer)
	}
	a, err := c.do(ctx, call{
		method: "POST", path: "mutable/" + si.Text() + "/read-test-write", secrets: headers,
		header: map[string]string{"Content-Type": cborType},
		pieces: readTestWrite{tw, read}.pieces(),
		once:   true,
		limit:  limit, want: cborType,
	})
	if err != nil {
		return false, nil, err
	}
	result, err := decode(a.body, readReadTestWriteResult)
	if err != nil {
		return false, nil, err
	}
	for _, parts := range result.Data {
		if len(parts) != len(read) {
			return false, nil, malformed("not one answer a vector")
		}
		for i, p := range parts {
			if uint64(len(p)) > read[i].Size {
				return false, nil, malformed("an answer larger than asked for")
			}
		}
	}
	return result.Success, result.Data, nil
}

// ReadSlot implements storage.Client: a request for each share and vector, as many
// at once as there are connections. Which shares there are is asked beside reading
// those that are expected (storage.Expecting).
func (c *Client) ReadSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []storage.ReadVector) (map[int][][]byte, error) {
	if shares != nil && len(read) > 0 {
		return c.readShares(ctx, si, shares, read)
	}
	early := map[int][][]byte{}
	var wg sync.WaitGroup
	defer wg.Wait()
	listing, cancel := context.WithCancel(ctx)
	defer cancel()
	if expected := storage.Expected(ctx); shares == nil && len(read) > 0 && len(expected) > 0 {
		wg.Go(func() {
			// What goes wrong with it comes again, if it is of any account.
			if got, err := c.readShares(listing, si, expected, read); err == nil {
				early = got
			}
		})
	}
	held, err := c.ListShares(ctx, storage.Mutable, si)
	if err != nil {
		return nil, err
	}
	if shares != nil {
		held = slices.DeleteFunc(held, func(n int) bool { return !slices.Contains(shares, n) })
	}
	wg.Wait()
	maps.DeleteFunc(early, func(n int, _ [][]byte) bool { return !slices.Contains(held, n) })
	more, err := c.readShares(ctx, si, slices.DeleteFunc(held, func(n int) bool { return early[n] != nil }), read)
	if err != nil {
		return nil, err
	}
	maps.Copy(more, early)
	return more, nil
}

// readShares is ReadSlot of named shares.
func (c *Client) readShares(ctx context.Context, si caps.StorageIndex, shares []int, read []storage.ReadVector) (map[int][][]byte, error) {
	answers := make(map[int][][]byte, len(shares))
	for _, n := range shares {
		answers[n] = make([][]byte, len(read))
	}
	var mu sync.Mutex
	absent := map[int]bool{} // mu guards it
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for n, parts := range answers {
		for i, v := range read {
			group.Go(func() (err error) {
				parts[i], err = c.ReadShare(ctx, storage.Mutable, si, n, v.Offset, v.Size)
				if errors.Is(err, storage.ErrNoShare) {
					mu.Lock()
					defer mu.Unlock()
					absent[n] = true
					return nil
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	maps.DeleteFunc(answers, func(n int, _ [][]byte) bool { return absent[n] })
	return answers, nil
}
