package memnettest

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"warren/torutil"
)

func serveEcho(t *testing.T, ln net.Listener) {
	t.Helper()
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(conn, conn); conn.Close() }()
		}
	}()
}

func TestHosts(t *testing.T) {
	n := New()
	server, client := n.Host("server"), n.Host("client")
	ln, err := server.Listen(t.Context(), "tcp:4000")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	onion, err := server.Listen(t.Context(), "listen:tor")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, onion)
	any, err := server.Listen(t.Context(), "tcp:0:interface=127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, any)
	if _, err := client.Listen(t.Context(), "unix:/x"); !errors.Is(err, torutil.ErrRefused) {
		t.Error(err)
	}
	if _, err := server.Listen(t.Context(), "tcp:4000"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	for _, address := range []string{"server:4000", "server.onion:3457", any.Addr().String()} {
		conn, err := client.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("x"))
		if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("%s: %v", address, err)
		}
		conn.Close()
	}
	if _, err := client.DialContext(t.Context(), "tcp", "server:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	if counts := client.Counts(); counts.By[torutil.InProcess] != (torutil.Tally{Made: 3, Failed: 1}) {
		t.Errorf("%+v", counts)
	}
}

func TestDownAndHooks(t *testing.T) {
	broken := errors.New("broken")
	var fail bool
	n := New(Hooks{
		Dial: func(_ context.Context, from, to string) error {
			if to == "server:2" {
				return broken
			}
			return nil
		},
		Write: func(from, to string, n int) error {
			if fail {
				return broken
			}
			return nil
		},
	})
	server, client := n.Host("server"), n.Host("client")
	ln, err := server.Listen(t.Context(), "tcp:1")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	if _, err := client.DialContext(t.Context(), "tcp", "server:2"); !errors.Is(err, broken) {
		t.Error(err)
	}
	conn, err := client.DialContext(t.Context(), "tcp", "server:1")
	if err != nil {
		t.Fatal(err)
	}
	n.Down("server")
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived its host")
	}
	if _, err := client.DialContext(t.Context(), "tcp", "server:1"); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Error(err)
	}
	n.Up("server")
	conn, err = client.DialContext(t.Context(), "tcp", "server:1")
	if err != nil {
		t.Fatal(err)
	}
	fail = true
	if _, err := conn.Write([]byte("x")); !errors.Is(err, broken) {
		t.Error(err)
	}
}
