package gbs

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// atOnce is how much goes to the system in one call, and receiveSize how much
	// comes from it. TLS alone makes a call for each record of 16 KB, and each of
	// them wakes the peer up.
	atOnce      = 128 << 10
	receiveSize = 64 << 10
	record      = 16 << 10
	// sealed is room for as much when it is encrypted.
	sealed = atOnce + (atOnce/record+1)*256
)

// buffers are what the connections of a client or server share: each holds one only
// while data moves.
type buffers struct{ plain, sealed, received sync.Pool }

func newBuffers() *buffers {
	return &buffers{
		plain:    sync.Pool{New: func() any { return new([atOnce]byte) }},
		sealed:   sync.Pool{New: func() any { return new([sealed]byte) }},
		received: sync.Pool{New: func() any { return new([receiveSize]byte) }},
	}
}

// secureConn is a TLS connection that hands to the system in one piece what one
// Write makes.
type secureConn struct {
	*tls.Conn
	raw     *rawConn
	writing atomic.Int32 // Writes under way
}

// newSecureConn speaks TLS over raw; side is tls.Client or tls.Server.
func newSecureConn(raw net.Conn, side func(net.Conn, *tls.Config) *tls.Conn, config *tls.Config, b *buffers) *secureConn {
	r := &rawConn{Conn: raw, buffers: b}
	return &secureConn{Conn: side(r, config), raw: r}
}

// Write writes p. After an error, how much of it has left is not known.
func (c *secureConn) Write(p []byte) (int, error) {
	// A handshake must not be held back.
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	c.writing.Add(1)
	defer c.writing.Add(-1)
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), atOnce)
		c.raw.hold()
		_, err := c.Conn.Write(p[:n])
		if err = errors.Join(err, c.raw.release()); err != nil {
			return 0, err
		}
		p = p[n:]
	}
	return total, nil
}

// Close closes the connection. TLS says goodbye first, and waits until the other side
// takes it, for five seconds: not behind a Write that waits for that already. (TLS
// looks for one by itself, and does not know of what is held back here.)
func (c *secureConn) Close() error {
	if c.writing.Load() > 0 {
		return c.raw.Conn.Close()
	}
	return c.Conn.Close()
}

// ReadFrom writes what r has, in large pieces (net/http would make small ones) once
// small ones have left quickly: whoever looks after a slow line at r sees that it moves.
func (c *secureConn) ReadFrom(r io.Reader) (total int64, err error) {
	buf := c.raw.plain.Get().(*[atOnce]byte)
	defer c.raw.plain.Put(buf)
	size := record
	for {
		n, err := io.ReadFull(r, buf[:size])
		if n > 0 {
			started := time.Now()
			w, err := c.Write(buf[:n])
			total += int64(w)
			if err != nil {
				return total, err
			}
			if time.Since(started) < time.Second {
				size = min(2*size, atOnce)
			} else {
				size = record
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// rawConn is what TLS is spoken over: between hold and release writes are
// collected, and reads take what is there once a record has filled one.
type rawConn struct {
	net.Conn
	*buffers

	mu sync.Mutex
	// mu guards what follows; TLS may have something to say (that it closes, that a
	// key changes) while a Write is under way.
	held    *[sealed]byte // nil: writes pass
	waiting int           // bytes of held

	// The reader's own; TLS has one at a time.
	in   *[receiveSize]byte // holds left, nil if there is none
	left []byte
	bulk bool // the last read brought so much that there will be more
}

func (c *rawConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.waiting = c.sealed.Get().(*[sealed]byte), 0
}

func (c *rawConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.send()
	c.sealed.Put(c.held)
	c.held = nil
	return err
}

// send writes what waits; mu is held.
func (c *rawConn) send() error {
	if c.waiting == 0 {
		return nil
	}
	n := c.waiting
	c.waiting = 0
	_, err := c.Conn.Write(c.held[:n])
	return err
}

// Write implements net.Conn.
func (c *rawConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	if c.waiting+len(p) > sealed {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	if len(p) > sealed {
		return c.Conn.Write(p)
	}
	c.waiting += copy(c.held[c.waiting:], p)
	return len(p), nil
}

// Read implements net.Conn.
func (c *rawConn) Read(p []byte) (int, error) {
	if len(c.left) > 0 {
		n := copy(p, c.left)
		if c.left = c.left[n:]; len(c.left) == 0 {
			c.received.Put(c.in)
			c.in = nil
		}
		return n, nil
	}
	if !c.bulk || len(p) >= receiveSize {
		n, err := c.Conn.Read(p)
		c.bulk = n >= record
		return n, err
	}
	in := c.received.Get().(*[receiveSize]byte)
	n, err := c.Conn.Read(in[:])
	c.bulk = n >= record
	m := copy(p, in[:n])
	if m == n {
		c.received.Put(in)
		return n, err
	}
	c.in, c.left = in, in[m:n]
	return m, nil // an error will come again
}

// secureListener speaks TLS on the connections of a listener.
type secureListener struct {
	net.Listener
	config  *tls.Config
	buffers *buffers
}

// Accept implements net.Listener.
func (l *secureListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newSecureConn(raw, tls.Server, l.config, l.buffers), nil
}
