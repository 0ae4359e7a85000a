package foolscap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"warren/node/foolscap/banana"
	"warren/node/furl"
)

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)} // long expired: dates mean nothing
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// ordered returns two certificates, the first with the lesser tub id.
func ordered(t testing.TB) (slave, master tls.Certificate) {
	a, b := certificate(t), certificate(t)
	if TubID(a.Certificate[0]) > TubID(b.Certificate[0]) {
		return b, a
	}
	return a, b
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func newTub(t testing.TB, cert tls.Certificate, change func(*Config)) *Tub {
	t.Helper()
	config := Config{Certificate: cert, Dial: dial, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond}
	if change != nil {
		change(&config)
	}
	tub, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tub.Close)
	return tub
}

// listening returns a tub that accepts connections on loopback.
func listening(t testing.TB, cert tls.Certificate, change func(*Config)) *Tub {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tub := newTub(t, cert, func(c *Config) {
		c.Location = []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}}
		if change != nil {
			change(c)
		}
	})
	go tub.Serve(l)
	return tub
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// echo answers "echo" with its arguments, "fail" with a Failure, "break" with an
// error that is nobody's business, "back" by calling its argument.
func echo() *Object {
	return &Object{Interface: "RIEcho.warren", Handler: HandlerFunc(func(ctx context.Context, c Call) (any, error) {
		switch c.Method {
		case "echo":
			return c.Args.Positional, nil
		case "fail":
			return nil, &Failure{Class: "app.Sorry", Message: "no", Parents: []string{"app.Sorry", "app.Base"}}
		case "break":
			return nil, errors.New("a secret")
		case "unsendable":
			return struct{}{}, nil
		case "back":
			r := c.Args.Positional[0].(*Remote)
			defer r.Release()
			return r.Call(ctx, "echo", With(c.Peer))
		}
		return nil, NoMethod()
	})}
}

func reference(t testing.TB, tub *Tub, f furl.FURL) *Remote {
	t.Helper()
	r, err := tub.Reference(deadline(t), f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCalls(t *testing.T) {
	slave, master := ordered(t)
	for _, c := range []struct {
		name             string
		serving, calling tls.Certificate
	}{{"server is master", master, slave}, {"client is master", slave, master}, {"loopback", slave, slave}} {
		t.Run(c.name, func(t *testing.T) {
			server := listening(t, c.serving, nil)
			client := server
			if c.name != "loopback" {
				client = newTub(t, c.calling, nil)
			}
			ctx := deadline(t)
			r := reference(t, client, server.Register(echo(), "swiss"))
			if r.Peer() != server.ID() || r.Interface() != "RIEcho.warren" {
				t.Errorf("peer %s, interface %s", r.Peer(), r.Interface())
			}
			args := []any{int64(1), "text", []byte("bytes"), nil, true, banana.Dict{{Key: []byte("k"), Value: banana.Tuple{1.5}}}}
			got, err := r.Call(ctx, "echo", With(args...))
			if err != nil || !reflect.DeepEqual(got, args) {
				t.Errorf("echo: %v, %v", got, err)
			}
			// The callee calls us back while we wait, and our object comes home as itself.
			mine := echo()
			got, err = r.Call(ctx, "back", With(mine))
			if err != nil || !reflect.DeepEqual(got, []any{client.ID()}) {
				t.Errorf("back: %v, %v", got, err)
			}
			got, err = r.Call(ctx, "echo", With(mine))
			if err != nil || !reflect.DeepEqual(got, []any{mine}) {
				t.Errorf("echo of an object: %v, %v", got, err)
			}
			var f *Failure
			if _, err = r.Call(ctx, "fail", Args{}); !errors.As(err, &f) || f.Message != "no" || !f.IsClass("app.Base") {
				t.Errorf("fail: %v", err)
			}
			for _, method := range []string{"break", "unsendable"} {
				if _, err = r.Call(ctx, method, Args{}); !errors.As(err, &f) || f.Message != "internal error" {
					t.Errorf("%s: %v", method, err)
				}
			}
			if _, err = r.Call(ctx, "nonsense", Args{}); !errors.As(err, &f) || !f.IsClass(violationClass) {
				t.Errorf("no such method: %v", err)
			}
			if err := r.Tell(ctx, "echo", Args{}); err != nil {
				t.Errorf("tell: %v", err)
			}
			wrong := server.Register(echo(), "x")
			wrong.Swissnum = "y"
			if _, err := client.Reference(ctx, wrong); !errors.As(err, &f) || !f.IsClass("builtins.KeyError") || strings.Contains(err.Error(), "y\"") {
				t.Errorf("wrong swissnum: %v", err)
			}
		})
	}
}

// Foolscap drops the connection over an exception's text that is not UTF-8.
func TestFailuresAreText(t *testing.T) {
	f := &Failure{Class: "a" + strings.Repeat("\u00e9", maxClass), Message: "\xff" + strings.Repeat("\u00e9", maxMessage), Parents: []string{"\xc3"}}
	got, err := parseFailure(f.sequence())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(got.Parents, got.Class, got.Message) {
		if !utf8.ValidString(text) {
			t.Errorf("%q", text)
		}
	}
	if len(got.Class) < maxClass-1 || len(got.Message) < maxMessage-2 {
		t.Errorf("%d bytes of the class and %d of the message are left", len(got.Class), len(got.Message))
	}
}

func TestReferencesAreCounted(t *testing.T) {
	server := listening(t, certificate(t), nil)
	client := newTub(t, certificate(t), nil)
	ctx := deadline(t)
	f := server.Register(echo(), "swiss")
	a, b := reference(t, client, f), reference(t, client, f)
	if !a.Same(b) {
		t.Error("one object is two")
	}
	a.Release()
	a.Release() // once is enough
	if _, err := b.Call(ctx, "echo", Args{}); err != nil {
		t.Errorf("the other reference: %v", err)
	}
	b.Release()
	// Calls are answered in order, so the releases are done when this is.
	again := reference(t, client, f)
	again.Release()
	reference(t, client, f)
	server.mu.Lock()
	c := server.connections[client.ID()]
	server.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.exports) != 1 {
		t.Errorf("%d exports, want 1", len(c.exports))
	}
}

// A peer that sends references and neither reads nor answers makes us keep one
// message for each object, however often it sends it.
func TestReleasesAreBounded(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	c := newConnection(newTub(t, certificate(t), nil), ours, nil, "peer", "", agreed{vocabulary: 1})
	receive := func() *Remote {
		t.Helper()
		v, err := c.myReference([]any{int64(7)})
		if err != nil {
			t.Fatal(err)
		}
		return v.(*Remote)
	}
	const n = 10000
	for range n {
		receive().Release()
	}
	if len(c.queue) > 1000 || len(c.pending) != 1 {
		t.Fatalf("%d bytes wait to be sent, %d calls for their answer", len(c.queue), len(c.pending))
	}
	im := c.imports[7]
	if im.count != 0 || im.owed != n-1 {
		t.Errorf("%+v", im)
	}
	// Each answer lets go what has gathered; an object that came again meanwhile stays.
	held := receive()
	for request := int64(1); len(c.pending) > 0; request++ {
		c.take(request)(nil, nil)
	}
	if im.count != 1 || im.owed != 0 || c.imports[7] != im {
		t.Errorf("%+v", im)
	}
	held.Release()
	c.take(3)(nil, nil)
	if len(c.imports) != 0 || len(c.pending) != 0 {
		t.Errorf("%d objects and %d calls are left", len(c.imports), len(c.pending))
	}
}

// An object that is given back while a call to it runs, and fetched again, still has
// one call after the other.
func TestOneCallAtATime(t *testing.T) {
	server := listening(t, certificate(t), nil)
	client := newTub(t, certificate(t), nil)
	started, finish := make(chan struct{}), make(chan struct{})
	var running atomic.Int32
	f := server.Register(&Object{Handler: HandlerFunc(func(ctx context.Context, c Call) (any, error) {
		defer running.Add(-1)
		if running.Add(1) > 1 {
			return nil, Violation("a second call runs")
		}
		if c.Method == "wait" {
			close(started)
			select {
			case <-finish:
			case <-ctx.Done():
			}
		}
		return nil, nil
	})}, "s")
	first := reference(t, client, f)
	if err := first.Tell(deadline(t), "wait", Args{}); err != nil {
		t.Fatal(err)
	}
	<-started
	first.Release()
	again := reference(t, client, f)
	if !again.Same(first) {
		t.Error("it came back under another number")
	}
	done := make(chan error, 1)
	go func() {
		_, err := again.Call(deadline(t), "go", Args{})
		done <- err
	}()
	close(finish)
	if err := <-done; err != nil {
		t.Error(err)
	}
	again.Release()
	reference(t, client, f).Release()
	server.mu.Lock()
	c := server.connections[client.ID()]
	server.mu.Unlock()
	reference(t, client, f) // what went before has been done
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.exports) != 1 || len(c.exported) != 1 {
		t.Errorf("%d and %d objects are kept, want 1", len(c.exports), len(c.exported))
	}
}

func TestOrder(t *testing.T) {
	server := listening(t, certificate(t), nil)
	client := newTub(t, certificate(t), nil)
	var seen []int64
	o := &Object{Handler: HandlerFunc(func(_ context.Context, c Call) (any, error) {
		if c.Method == "seen" {
			return int64(len(seen)), nil
		}
		seen = append(seen, c.Args.Positional[0].(int64)) // one call at a time: no lock
		return nil, nil
	})}
	r := reference(t, client, server.Register(o, "s"))
	ctx := deadline(t)
	const n = 2000 // more than may wait at once
	for i := range n {
		if err := r.Tell(ctx, "note", With(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.Call(ctx, "seen", Args{}); err != nil || got != int64(n) {
		t.Fatalf("%v, %v", got, err)
	}
	for i, v := range seen {
		if v != int64(i) {
			t.Fatalf("call %d came at place %d", v, i)
		}
	}
}

func TestContextGivesUp(t *testing.T) {
	server := listening(t, certificate(t), nil)
	client := newTub(t, certificate(t), nil)
	started, ended := make(chan struct{}), make(chan struct{})
	o := &Object{Handler: HandlerFunc(func(ctx context.Context, c Call) (any, error) {
		close(started)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})}
	r := reference(t, client, server.Register(o, "s"))
	ctx, cancel := context.WithCancel(deadline(t))
	go func() { <-started; cancel() }()
	if _, err := r.Call(ctx, "wait", Args{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	client.Close()
	<-ended // the handler's context ends with the connection
	<-r.Done()
	if _, err := r.Call(context.Background(), "wait", Args{}); !errors.Is(err, ErrDisconnected) {
		t.Fatal(err)
	}
}

func TestWrongTub(t *testing.T) {
	server := listening(t, certificate(t), nil)
	client := newTub(t, certificate(t), nil)
	f := server.Register(echo(), "s")
	f.TubID = TubID(certificate(t).Certificate[0])
	if _, err := client.Reference(deadline(t), f); !errors.Is(err, ErrNegotiation) {
		t.Fatal(err)
	}
}

// A server that answers for the right id with another certificate is found out.
func TestImpostor(t *testing.T) {
	honest := certificate(t)
	impostor := listening(t, certificate(t), nil)
	f := impostor.Register(echo(), "s")
	impostor.mu.Lock()
	impostor.id = TubID(honest.Certificate[0])
	impostor.mu.Unlock()
	f.TubID = impostor.id
	client := newTub(t, certificate(t), nil)
	_, err := client.Reference(deadline(t), f)
	if !errors.Is(err, ErrNegotiation) || !strings.Contains(err.Error(), "another tub") {
		t.Fatal(err)
	}
}

func TestNoHints(t *testing.T) {
	client := newTub(t, certificate(t), nil)
	id := TubID(certificate(t).Certificate[0])
	for _, hints := range [][]furl.Hint{nil, {{Type: "tor", Host: "example.com", Port: 80}}, {{Type: "i2p", Host: "x.i2p"}}} {
		if _, err := client.Reference(deadline(t), furl.FURL{TubID: id, Hints: hints, Swissnum: "s"}); !errors.Is(err, ErrNoHints) {
			t.Errorf("%v: %v", hints, err)
		}
	}
}

// A dead first hint does not keep the second one waiting.
func TestSecondHint(t *testing.T) {
	server := listening(t, certificate(t), nil)
	f := server.Register(echo(), "s")
	good := f.Hints[0]
	client := newTub(t, certificate(t), func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "black.hole:1" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, address)
		}
	})
	f.Hints = []furl.Hint{{Type: "tcp", Host: "black.hole", Port: 1}, good}
	if r := reference(t, client, f); r.Hint() != good.Text() {
		t.Errorf("hint %q", r.Hint())
	}
}
