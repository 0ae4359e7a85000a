package control

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"sync"
	"time"

	bine "github.com/cretz/bine/control"
)

// commandTimeout bounds one command: tor answers at once or is not well.
const commandTimeout = 30 * time.Second

// Session is one control connection's life: with one tor, from authentication
// until it goes away. It has two connections, one for commands and one for
// events, because bine's Conn cannot wait for an event and send a command at once
// without one delaying the other.
type Session struct {
	commands *link
	listener *link
	process  *process // of a launched tor, else nil

	socks   []Address
	version string
	phase   string // the bootstrap phase at the start

	events chan string // raw events, "STATUS_CLIENT NOTICE ..."
	done   chan struct{}
	reason error // set before done is closed
	stop   chan struct{}
	reader sync.WaitGroup
}

// link is one authenticated control connection.
type link struct {
	mu   sync.Mutex // one command at a time
	conn net.Conn
	bine *bine.Conn
}

// Do runs commands on the session's connection, one caller at a time, within a
// deadline. When the connection fails, or an answer comes too late (the next
// command would take it for its own), the session ends and a new one begins.
func (s *Session) Do(f func(*bine.Conn) error) error {
	err := s.commands.do(f)
	var broken net.Error
	if errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.commands.conn.Close()
		s.listener.conn.Close()
	}
	return err
}

func (l *link) do(f func(*bine.Conn) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn.SetDeadline(time.Now().Add(commandTimeout))
	defer l.conn.SetDeadline(time.Time{})
	return f(l.bine)
}

// open launches or attaches, and gives a session that is ready to use.
func (t *Tor) open(ctx context.Context) (*Session, error) {
	if t.cfg.Launch == nil {
		return t.attach(ctx, t.cfg.Control, nil)
	}
	t.tell(Progress{Stage: StageLaunch, Summary: "starting tor"})
	p, err := launch(ctx, *t.cfg.Launch)
	if err != nil {
		return nil, err
	}
	s, err := t.attach(ctx, []Address{p.control}, p)
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("launched tor: %w%s", err, p.lastWords())
	}
	return s, nil
}

func (t *Tor) attach(ctx context.Context, addresses []Address, p *process) (*Session, error) {
	var failures []error
	for _, a := range addresses {
		s, err := t.begin(ctx, a, p)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failures = append(failures, fmt.Errorf("control port %s: %w", a, err))
	}
	return nil, errors.Join(failures...)
}

// begin authenticates both connections and asks what a session needs to know.
func (t *Tor) begin(ctx context.Context, a Address, p *process) (_ *Session, err error) {
	s := &Session{
		process: p,
		events:  make(chan string),
		done:    make(chan struct{}),
		stop:    make(chan struct{}),
	}
	if s.commands, err = t.connect(ctx, a); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.commands.conn.Close()
		}
	}()
	if p != nil {
		// First of all: from here on, tor ends when this connection does.
		if err := s.commands.do((*bine.Conn).TakeOwnership); err != nil {
			return nil, fmt.Errorf("TAKEOWNERSHIP: %w", err)
		}
	}
	if s.listener, err = t.connect(ctx, a); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.listener.conn.Close()
		}
	}()
	err = s.listener.do(func(c *bine.Conn) error {
		_, err := c.SendRequest("SETEVENTS STATUS_CLIENT HS_DESC")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("SETEVENTS: %w", err)
	}
	// Asked after the events were: a change in between is seen twice, not never.
	err = s.Do(func(c *bine.Conn) error {
		listeners, err := getInfo(c, "net/listeners/socks")
		if err != nil {
			return err
		}
		if s.socks, err = parseListeners(listeners, isLocal(a)); err != nil {
			return err
		}
		if s.phase, err = getInfo(c, "status/bootstrap-phase"); err != nil {
			return err
		}
		s.version, err = getInfo(c, "version")
		return err
	})
	if err != nil {
		return nil, err
	}
	s.reader.Add(1)
	go s.read()
	return s, nil
}

// read passes events on until the connection ends.
func (s *Session) read() {
	defer s.reader.Done()
	defer close(s.done)
	for {
		response, err := s.listener.bine.ReadResponse()
		if err != nil {
			s.reason = fmt.Errorf("tor closed the control connection: %w", err)
			return
		}
		if !response.IsAsync() {
			continue
		}
		select {
		case s.events <- response.Reply:
		case <-s.stop:
			return
		}
	}
}

func (s *Session) err() error {
	if s.process != nil {
		select {
		case <-s.process.done:
			return fmt.Errorf("tor exited: %v%s", s.process.result, s.process.lastWords())
		case <-time.After(time.Second):
		}
	}
	return s.reason
}

func (s *Session) pid() int {
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// close ends the connections, and the process of a launched tor.
func (s *Session) close() {
	close(s.stop)
	if s.process != nil {
		// Asked first, so that tor saves its state (its guards, above all).
		s.Do(func(c *bine.Conn) error { return c.Signal("SHUTDOWN") })
	}
	s.commands.conn.Close()
	s.listener.conn.Close()
	s.reader.Wait()
	if s.process != nil {
		s.process.end()
	}
}

// connect dials and authenticates one connection.
func (t *Tor) connect(ctx context.Context, a Address) (*link, error) {
	conn, err := t.cfg.Dial(ctx, a.Network, a.Address)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, bine: bine.NewConn(textproto.NewConn(conn))}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = l.do(func(c *bine.Conn) error { return authenticate(c, t.cfg.Password) })
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

// authenticate uses what tor offers: nothing, the cookie (as SAFECOOKIE, which
// does not tell the cookie to an impostor), or the password.
func authenticate(c *bine.Conn, password string) error {
	info, err := c.ProtocolInfo()
	if err != nil {
		return fmt.Errorf("PROTOCOLINFO: %w", err)
	}
	byPassword := info.HasAuthMethod("HASHEDPASSWORD") && password != ""
	switch {
	case info.HasAuthMethod("NULL"):
	case info.HasAuthMethod("SAFECOOKIE"):
		if byPassword && !readable(info.CookieFile) {
			break
		}
		if err := c.Authenticate(""); err != nil {
			if !readable(info.CookieFile) {
				return fmt.Errorf("%w: its cookie file %s cannot be read (join tor's group: on Debian `adduser USER debian-tor`, then log in again)", ErrAuth, info.CookieFile)
			}
			return fmt.Errorf("%w: %w", ErrAuth, err)
		}
		return nil
	case !byPassword:
		return fmt.Errorf("%w: it wants a password", ErrAuth)
	}
	command := "AUTHENTICATE"
	if byPassword {
		command += " " + hex.EncodeToString([]byte(password))
	}
	if _, err := c.SendRequest("%s", command); err != nil {
		return fmt.Errorf("%w: %w", ErrAuth, err)
	}
	c.Authenticated = true
	return nil
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
