package foolscap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"warren/node/furl"
)

// Both tubs connect to each other at the same moment, many times: one connection
// remains and both can call.
func TestSimultaneous(t *testing.T) {
	for range 10 {
		a, b := listening(t, certificate(t), nil), listening(t, certificate(t), nil)
		fa, fb := a.Register(echo(), "s"), b.Register(echo(), "s")
		errs := make(chan error, 2)
		for _, way := range []struct {
			tub *Tub
			f   furl.FURL
		}{{a, fb}, {b, fa}} {
			go func() {
				r, err := way.tub.Reference(deadline(t), way.f)
				if err == nil {
					_, err = r.Call(deadline(t), "echo", Args{})
				}
				errs <- err
			}()
		}
		for range 2 {
			// The connection that lost may take an early call with it: it says so.
			if err := <-errs; err != nil && !errors.Is(err, ErrDisconnected) {
				t.Fatal(err)
			}
		}
	}
}

// forget has a client lose its connection without the server noticing. The attempt that
// made it is over then: who comes during one gets its outcome.
func forget(client, server *Tub) {
	client.mu.Lock()
	made := client.attempts[server.ID()]
	client.mu.Unlock()
	if made != nil {
		<-made.done
	}
	client.mu.Lock()
	defer client.mu.Unlock()
	delete(client.connections, server.ID())
}

// A peer that comes back after losing its connection unnoticed replaces it.
func TestReplacesDeadConnection(t *testing.T) {
	slave, master := ordered(t)
	server := listening(t, master, nil)
	f := server.Register(echo(), "s")
	client := newTub(t, slave, nil)
	first := reference(t, client, f)
	forget(client, server)
	second := reference(t, client, f)
	<-first.Done()
	if _, err := second.Call(deadline(t), "echo", Args{}); err != nil {
		t.Fatal(err)
	}
	// A new incarnation of the client does the same.
	third := reference(t, newTub(t, slave, nil), f)
	<-second.Done()
	if _, err := third.Call(deadline(t), "echo", Args{}); err != nil {
		t.Fatal(err)
	}
}

// A peer that never heard the master's decision, because the circuit stalled, is
// not refused for the connection of which it knows nothing.
func TestLostDecision(t *testing.T) {
	slave, master := ordered(t)
	server := listening(t, master, nil)
	f := server.Register(echo(), "s")
	client := newTub(t, slave, nil)
	first := reference(t, client, f)
	forget(client, server)
	client.mu.Lock()
	delete(client.lastHeard, server.ID())
	client.mu.Unlock()
	server.mu.Lock()
	stalled := server.connections[client.ID()]
	stalled.born = time.Now().Add(-decisionLost - time.Second).UnixNano()
	stalled.received.Store(stalled.born)
	server.mu.Unlock()
	second := reference(t, client, f)
	<-first.Done()
	if _, err := second.Call(deadline(t), "echo", Args{}); err != nil {
		t.Fatal(err)
	}
}

// The slower one of two attempts that run at once gives way: it does not tell the
// master that the connection which the faster one made is dead.
func TestSlowerAttempt(t *testing.T) {
	slave, master := ordered(t)
	for _, c := range []struct {
		name             string
		serving, calling tls.Certificate
	}{{"server is master", master, slave}, {"client is master", slave, master}} {
		t.Run(c.name, func(t *testing.T) {
			server := listening(t, c.serving, nil)
			client := newTub(t, c.calling, nil)
			ctx := deadline(t)
			f := server.Register(echo(), "s")
			r := reference(t, client, f)
			conn, err := dial(ctx, "tcp", f.Hints[0].Address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := client.negotiateClient(ctx, conn, server.ID(), f.Hints[0]); !errors.Is(err, ErrDuplicate) {
				t.Error(err)
			}
			if _, err := r.Call(ctx, "echo", Args{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t)
	start := func(l net.Listener) (*Tub, furl.FURL) {
		s := newTub(t, cert, func(c *Config) {
			c.Location = []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}}
		})
		f := s.Register(echo(), "s")
		go s.Serve(l)
		return s, f
	}
	server, f := start(l)
	client := newTub(t, certificate(t), nil)
	connected, lost := make(chan bool), make(chan bool)
	k := client.Keep(f, func(ctx context.Context, r *Remote) {
		_, err := r.Call(ctx, "echo", Args{})
		connected <- err == nil
		<-ctx.Done()
		lost <- true
	})
	if !<-connected || !k.Status().Connected || k.Status().Hint != f.Hints[0].Text() {
		t.Fatalf("%+v", k.Status())
	}
	server.Close()
	<-lost
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	start(l)
	if !<-connected {
		t.Fatal("not connected again")
	}
	go k.Stop()
	<-lost
	k.Stop()
	if k.Status().Connected {
		t.Error("connected after Stop")
	}
}

// Retry does not wait for the next attempt.
func TestRetry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuse := make(chan bool, 1)
	refuse <- true
	server := newTub(t, certificate(t), func(c *Config) {
		c.Location = []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}}
	})
	go server.Serve(l)
	refused := make(chan struct{})
	client := newTub(t, certificate(t), func(c *Config) {
		c.RetryMin, c.RetryMax = time.Hour, time.Hour
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case <-refuse:
				close(refused)
				return nil, errors.New("not yet")
			default:
				return dial(ctx, network, address)
			}
		}
	})
	connected := make(chan bool)
	k := client.Keep(server.Register(echo(), "s"), func(context.Context, *Remote) { connected <- true })
	<-refused
	k.Retry()
	<-connected
}

func TestKeepaliveAndSilence(t *testing.T) {
	server := listening(t, certificate(t), nil)
	client := newTub(t, certificate(t), func(c *Config) { c.Keepalive, c.Disconnect = 20*time.Millisecond, time.Minute })
	r := reference(t, client, server.Register(echo(), "s"))
	before := r.c.received.Load()
	for r.c.received.Load() == before { // a PONG comes without any call
		select {
		case <-r.Done():
			t.Fatal(r.Err())
		case <-time.After(time.Millisecond):
		}
	}
	// Nobody is asked whether it lives; on a busy machine it may end before the
	// reference is there.
	silent := newTub(t, certificate(t), func(c *Config) { c.Keepalive, c.Disconnect = time.Hour, 30*time.Millisecond })
	r, err := silent.Reference(deadline(t), server.Register(echo(), "s"))
	if err == nil {
		<-r.Done()
		err = r.Err()
	}
	if !errors.Is(err, ErrDisconnected) || !strings.Contains(err.Error(), "the peer is silent") {
		t.Errorf("a silent peer: %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	server := listening(t, certificate(t), func(c *Config) { c.MaxConnections = 1 })
	f := server.Register(echo(), "s")
	reference(t, newTub(t, certificate(t), nil), f)
	if _, err := newTub(t, certificate(t), nil).Reference(deadline(t), f); err == nil {
		t.Fatal("a second connection was taken")
	}
}
