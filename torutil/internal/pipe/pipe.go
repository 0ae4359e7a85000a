// Package pipe is a net.Conn in memory, with a buffer each way.
//
// net.Pipe has no buffer: a protocol whose two ends both write first (Foolscap's
// negotiation, TLS closing) would stand still on it. New gives two connected
// ends; a write blocks only while the other side's buffer is full, a closed end
// reads what was written before the close, then io.EOF.
package pipe

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// size is one direction's buffer: what a socket would hold.
const size = 128 << 10

// New returns two connected ends. Each end's local address is the other's remote.
func New(a, b net.Addr) (net.Conn, net.Conn) {
	ab, ba := newHalf(), newHalf()
	return &end{in: ba, out: ab, local: a, remote: b}, &end{in: ab, out: ba, local: b, remote: a}
}

// half is one direction.
type half struct {
	mu       sync.Mutex // guards all below
	readable sync.Cond  // data, or the end
	writable sync.Cond  // room, or the end
	buf      []byte
	closed   bool // no more writes; the rest may be read
	broken   bool // the reader is gone
	reading  deadline
	writing  deadline
}

func newHalf() *half {
	h := &half{}
	h.readable.L, h.writable.L = &h.mu, &h.mu
	return h
}

// deadline wakes a cond when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set is called with the half's mutex held.
func (d *deadline) set(at time.Time, mu *sync.Mutex, wake *sync.Cond) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), func() {
			mu.Lock()
			defer mu.Unlock()
			wake.Broadcast()
		})
	}
	wake.Broadcast()
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.broken:
			return 0, net.ErrClosed
		case h.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[:copy(h.buf, h.buf[n:])]
			h.writable.Broadcast()
			return n, nil
		case h.closed:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		h.readable.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.closed:
			return n, net.ErrClosed
		case h.broken:
			return n, io.ErrClosedPipe
		case h.writing.passed():
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if room := size - len(h.buf); room > 0 {
			k := min(room, len(p))
			h.buf = append(h.buf, p[:k]...)
			n, p = n+k, p[k:]
			h.readable.Broadcast()
			continue
		}
		h.writable.Wait()
	}
}

// shut ends a direction: from the writer's side what was written stays readable.
func (h *half) shut(byReader bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if byReader {
		h.broken, h.buf = true, nil
	} else {
		h.closed = true
	}
	h.readable.Broadcast()
	h.writable.Broadcast()
}

// end is one side's view.
type end struct {
	in, out       *half
	local, remote net.Addr
	once          sync.Once
}

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }

func (e *end) Close() error {
	err := net.ErrClosed
	e.once.Do(func() {
		e.out.shut(false)
		e.in.shut(true)
		// Ours only: the other two belong to the other end.
		e.in.stopTimer(&e.in.reading)
		e.out.stopTimer(&e.out.writing)
		err = nil
	})
	return err
}

func (h *half) stopTimer(d *deadline) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// CloseWrite ends our direction; the other may go on.
func (e *end) CloseWrite() error {
	e.out.shut(false)
	return nil
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.mu.Lock()
	defer e.in.mu.Unlock()
	e.in.reading.set(t, &e.in.mu, &e.in.readable)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	e.out.writing.set(t, &e.out.mu, &e.out.writable)
	return nil
}

// Listener hands out the far ends of connections that Dial makes. Dial waits
// until somebody accepts.
type Listener struct {
	addr   net.Addr
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns an open listener.
func NewListener(addr net.Addr) *Listener {
	return &Listener{addr: addr, queue: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects to the listener, from the address from.
func (l *Listener) Dial(ctx context.Context, from net.Addr) (net.Conn, error) {
	near, far := New(from, l.addr)
	select {
	case l.queue <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.queue:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is what NewListener was given.
func (l *Listener) Addr() net.Addr { return l.addr }

// Done is closed with the listener.
func (l *Listener) Done() <-chan struct{} { return l.closed }
