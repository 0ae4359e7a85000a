package sharedport

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"warren/node/foolscap"
	"warren/node/furl"
)

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newPort(t testing.TB, timeout time.Duration) (*Port, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := start(l, timeout)
	t.Cleanup(func() { p.Close() })
	return p, l.Addr().String()
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// A tub and an HTTPS server answer on the same port.
func TestBothProtocols(t *testing.T) {
	p, address := newPort(t, time.Minute)
	cert := certificate(t)
	tub, err := foolscap.New(foolscap.Config{Certificate: cert,
		Location: []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: p.TLS().Addr().(*net.TCPAddr).Port}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	f := tub.Register(&foolscap.Object{Handler: foolscap.HandlerFunc(func(context.Context, foolscap.Call) (any, error) {
		return "foolscap", nil
	})}, "s")
	go tub.Serve(p.Foolscap())
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "https") })}
	defer web.Close()
	go web.Serve(tls.NewListener(p.TLS(), &tls.Config{Certificates: []tls.Certificate{cert}}))

	client := &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 3 {
		resp, err := client.Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "https" {
			t.Errorf("%q", b)
		}
		caller, err := foolscap.New(foolscap.Config{Certificate: certificate(t), Dial: dial})
		if err != nil {
			t.Fatal(err)
		}
		r, err := caller.Reference(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := r.Call(ctx, "x", foolscap.Args{}); err != nil || v != "foolscap" {
			t.Errorf("%v, %v", v, err)
		}
		caller.Close()
	}
}

// What is neither is closed, and what comes in pieces is understood.
func TestPrefixes(t *testing.T) {
	p, address := newPort(t, time.Minute)
	go func() {
		for {
			c, err := p.Foolscap().Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, _ := bufio.NewReader(c).ReadString('\n')
				io.WriteString(c, "foolscap:"+line)
			}()
		}
	}()
	for _, c := range []struct {
		pieces []string
		want   string
	}{
		{[]string{"GET /id/x\n"}, "foolscap:GET /id/x\n"},
		{[]string{"G", "ET ", "/i", "d", "/x", "\n"}, "foolscap:GET /id/x\n"},
		{[]string{"GET / HTTP/1.1\r\n"}, ""},
		{[]string{"GET /ie/"}, ""},
		{[]string{"POST /id/x"}, ""},
		{[]string{"\x16\x01"}, ""},
		{[]string{"\x00"}, ""},
		{[]string{"SSH-2.0"}, ""},
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range c.pieces {
			io.WriteString(conn, piece)
		}
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		got, err := io.ReadAll(conn)
		var timeout net.Error
		if string(got) != c.want || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: %q, %v; want %q", strings.Join(c.pieces, "|"), got, err, c.want)
		}
		conn.Close()
	}
}

func TestSilenceAndClose(t *testing.T) {
	p, address := newPort(t, 20*time.Millisecond)
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.SetReadDeadline(time.Now().Add(time.Minute))
	var timeout net.Error
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("a silent connection: %v", err)
	}
	// Nobody accepts HTTPS: such a connection is closed, too.
	unserved, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer unserved.Close()
	io.WriteString(unserved, "\x16\x03\x01")
	unserved.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := unserved.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("an unserved connection: %v", err)
	}
	p.Foolscap().Close()
	if _, err := p.Foolscap().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed side: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.TLS().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("still listening")
	}
}
