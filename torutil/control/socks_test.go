package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"
)

// asked is what a SOCKS port was told.
type asked struct {
	user, password, host string
	kind                 byte
	port                 uint16
}

// socksServer is a SOCKS port that answers each request with reply, then echoes.
func socksServer(t *testing.T, reply []byte, got chan<- asked) Address {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if a, ok := serveSOCKS(conn, reply); ok {
					got <- a
					io.Copy(conn, conn)
				}
			}()
		}
	}()
	return Address{"tcp", ln.Addr().String()}
}

func serveSOCKS(conn net.Conn, reply []byte) (a asked, ok bool) {
	take := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(conn, b)
		return b
	}
	if hello := take(3); !bytes.Equal(hello, []byte{5, 1, 2}) {
		return a, false
	}
	conn.Write([]byte{5, 2})
	take(1)
	a.user = string(take(int(take(1)[0])))
	a.password = string(take(int(take(1)[0])))
	conn.Write([]byte{1, 0})
	a.kind = take(4)[3]
	switch a.kind {
	case 1:
		a.host = net.IP(take(4)).String()
	case 4:
		a.host = net.IP(take(16)).String()
	case 3:
		a.host = string(take(int(take(1)[0])))
	}
	a.port = binary.BigEndian.Uint16(take(2))
	conn.Write(reply)
	return a, true
}

func dialer(addresses ...Address) *SOCKS {
	var d net.Dialer
	return NewSOCKS(d.DialContext, func() ([]Address, error) { return addresses, nil })
}

func TestSOCKS(t *testing.T) {
	got := make(chan asked, 10)
	granted := []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	// The first port is dead: the second is used.
	s := dialer(Address{"tcp", "127.0.0.1:1"}, socksServer(t, granted, got))
	seen := map[string]string{}
	for _, c := range []struct {
		host string
		kind byte
	}{{"example.org", 3}, {"192.0.2.1", 1}, {"2001:db8::1", 4}, {"example.net", 3}} {
		conn, err := s.DialContext(t.Context(), c.host, 443)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("ping"))
		b := make([]byte, 4)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
			t.Errorf("%q, %v", b, err)
		}
		if want := net.JoinHostPort(c.host, "443"); conn.RemoteAddr().String() != want {
			t.Errorf("remote address %s, want %s", conn.RemoteAddr(), want)
		}
		conn.Close()
		a := <-got
		if a.host != c.host || a.kind != c.kind || a.port != 443 {
			t.Errorf("asked %+v for %s", a, c.host)
		}
		if other, taken := seen[a.user+"/"+a.password]; taken {
			t.Errorf("%s and %s share circuits", c.host, other)
		}
		seen[a.user+"/"+a.password] = c.host
	}
	// The same destination again has the same credentials; another port, others.
	for _, port := range []uint16{443, 80} {
		conn, err := s.DialContext(t.Context(), "example.org", port)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		a := <-got
		if _, taken := seen[a.user+"/"+a.password]; taken != (port == 443) {
			t.Errorf("port %d: isolation is wrong", port)
		}
	}
	// Another process on the same tor shares nothing with us.
	conn, err := dialer(s.mustAddresses(t)...).DialContext(t.Context(), "example.org", 443)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if a := <-got; seen[a.user+"/"+a.password] != "" {
		t.Error("two processes share circuits")
	}
}

func (s *SOCKS) mustAddresses(t *testing.T) []Address {
	a, err := s.addresses()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSOCKSErrors(t *testing.T) {
	got := make(chan asked, 100)
	for code := range 256 {
		if code == 0 {
			continue
		}
		if e := (SOCKSError{Code: byte(code)}); e.Error() == "" {
			t.Errorf("code %d says nothing", code)
		}
	}
	s := dialer(socksServer(t, []byte{5, 0xf0, 0, 1, 0, 0, 0, 0, 0, 0}, got))
	var code SOCKSError
	if _, err := s.DialContext(t.Context(), "x.onion", 1); !errors.As(err, &code) || code.Code != 0xf0 || errors.Is(err, ErrNotReady) {
		t.Errorf("%v", err)
	}
	for name, reply := range map[string][]byte{"cut short": {5, 0, 0}, "address cut short": {5, 0, 0, 4, 1}} {
		s := dialer(socksServer(t, reply, got))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := s.DialContext(ctx, "example.org", 1); err == nil {
			t.Errorf("%s: no error", name)
		}
		cancel()
	}
	if _, err := dialer(Address{"tcp", "127.0.0.1:1"}).DialContext(t.Context(), "example.org", 1); !errors.Is(err, ErrNotReady) {
		t.Errorf("dead port: %v", err)
	}
	if _, err := s.DialContext(t.Context(), strings.Repeat("a", 256), 1); err == nil {
		t.Error("a name too long for SOCKS was taken")
	}
	// A port that does not want credentials would share circuits.
	for name, answer := range map[string]string{"no authentication": "\x05\x00", "none acceptable": "\x05\xff", "HTTP": "HTTP/1.0 200 OK\r\n", "refused": "\x05\x02\x01\x01"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := ln.Accept()
			if err == nil {
				conn.Write([]byte(answer))
				io.Copy(io.Discard, conn)
			}
		}()
		if _, err := dialer(Address{"tcp", ln.Addr().String()}).DialContext(t.Context(), "example.org", 1); !errors.Is(err, ErrNotReady) {
			t.Errorf("%s: %v", name, err)
		}
		ln.Close()
	}
}

func TestSOCKSCancel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := ln.Accept() // and never answer
		if err == nil {
			io.ReadFull(conn, make([]byte, 3))
			cancel()
		}
	}()
	if _, err := dialer(Address{"tcp", ln.Addr().String()}).DialContext(ctx, "example.org", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A stream that hangs costs one circuit's patience: another circuit is tried, and
// later dials begin with the one that worked.
func TestSOCKSStuckCircuit(t *testing.T) {
	const name = "example.org:1"
	for _, stuck := range []int{1, 2} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		s := dialer(Address{"tcp", ln.Addr().String()})
		s.patience = 50 * time.Millisecond
		hangs := map[string]bool{}
		for way := range stuck {
			_, password := s.isolation(name, way)
			hangs[password] = true
		}
		given, closed := make(chan string, 10), make(chan string, 10)
		go func() { // ends with the listener
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					a, _ := serveSOCKS(conn, nil)
					if hangs[a.password] {
						io.Copy(io.Discard, conn)
						closed <- a.password
						return
					}
					given <- a.password
					conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
					io.Copy(conn, conn)
				}()
			}
		}()
		conn, err := s.DialContext(t.Context(), "example.org", 1)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("ping"))
		b := make([]byte, 4)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
			t.Errorf("%q, %v", b, err)
		}
		left := maps.Clone(hangs)
		for range stuck {
			delete(left, <-closed)
		}
		if len(left) > 0 {
			t.Error("a stuck stream stays open, or was not tried")
		}
		conn.Close()
		way := s.ways[name]
		if way < stuck {
			t.Errorf("later dials begin with circuit %d, which hangs", way)
		}
		for len(given) > 0 {
			<-given
		}
		s.patience = time.Hour
		if conn, err = s.DialContext(t.Context(), "example.org", 1); err != nil {
			t.Fatal(err)
		}
		_, want := s.isolation(name, way)
		late := time.After(time.Minute)
		for got := ""; got != want; { // on a slow machine the first dial may have tried a circuit more
			select {
			case got = <-given:
			case <-late:
				t.Fatal("the next dial does not begin with the circuit that worked")
			}
		}
		conn.Close()
	}
}

// Every circuit hangs: the dial ends with its context, and nothing stays open.
func TestSOCKSAllStuck(t *testing.T) {
	asked := make(chan struct{}, 10)
	closed := make(chan struct{}, 10)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				serveSOCKS(conn, nil)
				asked <- struct{}{}
				io.Copy(io.Discard, conn)
				conn.Close()
				closed <- struct{}{}
			}()
		}
	}()
	s := dialer(Address{"tcp", ln.Addr().String()})
	s.patience = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range maxWays {
			<-asked
		}
		cancel()
	}()
	if _, err := s.DialContext(ctx, "example.org", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for range maxWays {
		<-closed
	}
}

func FuzzSOCKSAnswer(f *testing.F) {
	f.Add([]byte{5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{5, 2, 1, 0, 5, 0, 0, 3, 2, 'a', 'b', 0, 0})
	f.Add([]byte{5, 2, 1, 0, 5, 0xf1, 0, 1})
	f.Fuzz(func(t *testing.T, answer []byte) {
		request, err := connectRequest("example.org", 443)
		if err != nil {
			t.Fatal(err)
		}
		conn := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(answer), io.Discard}
		handshake(conn, "user", "password", request)
	})
}
