package onion

import (
	"fmt"
	"net"
	"strconv"
	"sync"

	bine "github.com/cretz/bine/control"

	"warren/torutil/control"
)

// Addr is where an onion service is reached: "....onion:port".
type Addr struct {
	Host string
	Port uint16
}

// Network is "onion".
func (Addr) Network() string { return "onion" }

func (a Addr) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))) }

// Keeper is what Listen needs of a *control.Tor.
type Keeper interface {
	Keep(control.Keeper) (release func())
}

// Service is an onion service that a tor serves for us.
type Service struct {
	addr     Addr
	key      Key
	target   string
	progress func(control.Progress)
	release  func()

	mu        sync.Mutex // guards uploads
	uploads   int        // descriptors uploaded since the service was last made
	published chan struct{}
	once      sync.Once
}

// Serve makes the service key at the onion port, which tor forwards to target (a
// loopback "host:port" or "unix:PATH") for as long as the Service is not closed,
// across restarts of tor. It returns at once: publishing takes from seconds to
// half a minute, is reported by progress (which may be nil), and closes
// Published.
func Serve(tor Keeper, key Key, port uint16, target string, progress func(control.Progress)) *Service {
	s := &Service{
		addr: Addr{Host: key.Address(), Port: port}, key: key, target: target,
		progress: progress, published: make(chan struct{}),
	}
	s.release = tor.Keep(control.Keeper{Up: s.up, Down: s.down, Descriptor: s.descriptor})
	return s
}

// Addr is the service's address.
func (s *Service) Addr() Addr { return s.addr }

// Published is closed when the first descriptor was uploaded: from then on others
// can find the service.
func (s *Service) Published() <-chan struct{} { return s.published }

// Close takes the service out of tor.
func (s *Service) Close() error {
	s.release()
	return nil
}

// up is ADD_ONION. Without the Detach flag: the service ends with our control
// connection, so that nobody finds a dead port behind the address.
func (s *Service) up(session *control.Session) error {
	s.mu.Lock()
	s.uploads = 0
	s.mu.Unlock()
	key, err := bine.ED25519KeyFromBlob(s.key.blob())
	if err != nil {
		return fmt.Errorf("ADD_ONION: %w", err)
	}
	err = session.Do(func(c *bine.Conn) error {
		response, err := c.AddOnion(&bine.AddOnionRequest{
			Key:   key,
			Flags: []string{"DiscardPK"},
			Ports: []*bine.KeyVal{bine.NewKeyVal(strconv.Itoa(int(s.addr.Port)), s.target)},
		})
		if err != nil {
			return err
		}
		if response.ServiceID != s.key.ServiceID() {
			return fmt.Errorf("tor serves it as %s, not %s", response.ServiceID, s.key.ServiceID())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ADD_ONION for %s: %w", s.addr, err)
	}
	s.tell("tor serves " + s.addr.String() + "; publishing it")
	return nil
}

func (s *Service) down(session *control.Session) {
	// An error means that it is gone already.
	session.Do(func(c *bine.Conn) error { return c.DelOnion(s.key.ServiceID()) })
}

func (s *Service) descriptor(action, address, _ string) {
	if action != "UPLOADED" || address != s.key.ServiceID() {
		return
	}
	s.mu.Lock()
	s.uploads++
	first := s.uploads == 1
	s.mu.Unlock()
	s.once.Do(func() { close(s.published) })
	if first {
		s.tell(s.addr.String() + " is published")
	}
}

func (s *Service) tell(summary string) {
	if s.progress != nil {
		s.progress(control.Progress{Stage: control.StageOnion, Summary: summary})
	}
}

// Listener accepts what comes to an onion service. Its Addr is the onion address.
type Listener struct {
	net.Listener
	*Service
}

// Listen joins a local listener, on a numeric loopback address, with the onion
// service that forwards to it. Closing the Listener closes both.
func Listen(tor Keeper, key Key, port uint16, local net.Listener, progress func(control.Progress)) *Listener {
	return &Listener{Listener: local, Service: Serve(tor, key, port, local.Addr().String(), progress)}
}

// Addr is the onion address.
func (l *Listener) Addr() net.Addr { return l.Service.Addr() }

// Close takes the service out of tor, then closes the local listener.
func (l *Listener) Close() error {
	l.Service.Close()
	return l.Listener.Close()
}
