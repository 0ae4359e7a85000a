package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"warren/node/foolscap"
	"warren/node/foolscap/banana"
	"warren/node/furl"
)

// tubCertificate makes certificates until one has a tub id that suits.
func tubCertificate(t testing.TB, suits func(id string) bool) tls.Certificate {
	t.Helper()
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if suits(foolscap.TubID(der)) {
			return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		}
	}
}

func anyTub(string) bool { return true }

// startTub starts a tub of ours that listens on loopback.
func startTub(t testing.TB, cert tls.Certificate) *foolscap.Tub {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tub, err := foolscap.New(foolscap.Config{
		Certificate: cert,
		Location:    []furl.Hint{{Type: "tcp", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		Limits:   banana.Limits{String: 1 << 20, Message: 4 << 20, Depth: 32},
		RetryMin: 100 * time.Millisecond, RetryMax: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	go tub.Serve(l) // ends with the tub
	t.Cleanup(tub.Close)
	return tub
}

func parseFURL(t testing.TB, s string) furl.FURL {
	t.Helper()
	f, err := furl.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// startFoolscap starts the program on the real Foolscap and returns its FURL. call
// is a FURL for it to exercise, or "".
func startFoolscap(t testing.TB, pem, call string) (*Process, furl.FURL) {
	t.Helper()
	args := []string{Script(t, "foolscap_peer.py"), pem, fmt.Sprint(FreePort(t)), "swissnum"}
	if call != "" {
		args = append(args, call)
	}
	p := Start(t, Python(t), args...)
	return p, parseFURL(t, p.Printed(`(?m)^FURL (.*)$`))
}

// Each side connects, each side is master: calls both ways, with values of every
// kind.
func TestFoolscap(t *testing.T) {
	t.Parallel()
	pem := filepath.Join(t.TempDir(), "peer.pem")
	p, f := startFoolscap(t, pem, "")
	p.Kill() // it has made its certificate
	for name, suits := range map[string]func(string) bool{
		"we are master": func(id string) bool { return id > f.TubID },
		"we are slave":  func(id string) bool { return id < f.TubID },
	} {
		t.Run(name+", we connect", func(t *testing.T) {
			_, f := startFoolscap(t, pem, "")
			callFoolscap(t, startTub(t, tubCertificate(t, suits)), f)
		})
		t.Run(name+", it connects", func(t *testing.T) {
			tub := startTub(t, tubCertificate(t, suits))
			p, f := startFoolscap(t, pem, tub.Register(callee(t), "ourswiss").Text())
			var got map[string]any
			if err := json.Unmarshal([]byte(p.Printed(`(?m)^(?:RESULT|FAILED) (.*)$`)), &got); err != nil {
				t.Fatalf("%v\n%s", err, p.Output())
			}
			want := map[string]any{
				"echo": true, "large": true, "fail": "raised", "nonsense": "raised", "same": true, "count": 300.0, "wrong": "refused",
				"back":  []any{[]any{"bytes:from", "go"}, map[string]any{"n": 7.0}},
				"named": []any{1.0, "bytes:2"},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			callFoolscap(t, tub, f) // over the connection that it made
		})
	}
}

// callee is what the real Foolscap calls.
func callee(t testing.TB) *foolscap.Object {
	count := int64(0)
	return &foolscap.Object{Handler: foolscap.HandlerFunc(func(ctx context.Context, c foolscap.Call) (any, error) {
		switch c.Method {
		case "echo":
			return c.Args.Positional, nil
		case "fail":
			// Cut to what Foolscap takes, it must still be UTF-8.
			return nil, &foolscap.Failure{Class: "app.Sorry", Message: "\xff!" + strings.Repeat("\u00e9", 600)}
		case "back":
			r, ok := c.Args.Positional[0].(*foolscap.Remote)
			if !ok {
				return nil, foolscap.Violation("no reference")
			}
			defer r.Release()
			return r.Call(ctx, "echo", foolscap.Args{Positional: []any{[]byte("from"), "go"}, Keyword: map[string]any{"n": 7}})
		case "count":
			if c.Args.Positional[0] == count {
				count++
			}
			return nil, nil
		case "counted":
			return count, nil
		case "named":
			return c.Args.Bind("one", "two")
		}
		return nil, foolscap.NoMethod()
	})}
}

// callFoolscap calls the real Foolscap.
func callFoolscap(t *testing.T, tub *foolscap.Tub, f furl.FURL) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := tub.Reference(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	big1 := new(big.Int).Lsh(big.NewInt(1), 70)
	rich := []any{
		int64(1), int64(-1), int64(1) << 31, int64(-1) << 40, big1, 1.5, nil, true, []byte("bytes"), "h\u00e9", []any{int64(1), []any{}},
		banana.Tuple{[]byte("t"), int64(3)}, banana.Dict{{Key: []byte("k"), Value: []any{}}}, banana.Set{int64(1)}, make([]byte, 200000),
	}
	call := func(method string, args ...any) any {
		t.Helper()
		v, err := r.Call(ctx, method, foolscap.With(args...))
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
		return v
	}
	if got := call("echo", rich...); !reflect.DeepEqual(got, []any{rich, banana.Dict{}}) {
		t.Errorf("echo: %v", got)
	}
	if got := call("set"); !reflect.DeepEqual(got, banana.Set{banana.Tuple{[]byte("one"), []byte("two")}}) {
		t.Errorf("set: %v", got)
	}
	if got := call("shared"); !reflect.DeepEqual(got, []any{[]any{int64(1), int64(2)}, []any{int64(1), int64(2)}}) {
		t.Errorf("shared: %v", got)
	}
	mine := callee(t)
	if got := call("back", mine); !reflect.DeepEqual(got, []any{[]byte("from"), "python"}) {
		t.Errorf("back: %v", got)
	}
	if got := call("echo", mine); !reflect.DeepEqual(got, []any{[]any{mine}, banana.Dict{}}) {
		t.Errorf("our object came back as %v", got)
	}
	call("hold", mine)
	if got := call("give_back"); got != mine {
		t.Errorf("the object that it held came back as %v", got)
	}
	call("drop")
	if got := call("give_back"); got != nil {
		t.Errorf("dropped: %v", got)
	}
	var failure *foolscap.Failure
	if _, err := r.Call(ctx, "fail", foolscap.Args{}); !errors.As(err, &failure) || !failure.IsClass("builtins.ValueError") || failure.Message != "sorry" {
		t.Errorf("fail: %v", err)
	}
	if _, err := r.Call(ctx, "nonsense", foolscap.Args{}); !errors.As(err, &failure) {
		t.Errorf("no such method: %v", err)
	}
	wrong := f
	wrong.Swissnum += "_"
	if _, err := tub.Reference(ctx, wrong); !errors.As(err, &failure) {
		t.Errorf("wrong swissnum: %v", err)
	}
	r.Release()
	again, err := tub.Reference(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Call(ctx, "echo", foolscap.With(1)); err != nil {
		t.Errorf("after the release: %v", err)
	}
	// The program pings after a second of silence; we answer and stay.
	select {
	case <-again.Done():
		t.Errorf("disconnected: %v", again.Err())
	case <-time.After(1500 * time.Millisecond):
	}
}

// The certificate that Foolscap makes (RSA, in one file with its key) is one that
// our tub runs with, under the same id.
func TestFoolscapCertificate(t *testing.T) {
	t.Parallel()
	pem := filepath.Join(t.TempDir(), "peer.pem")
	p, f := startFoolscap(t, pem, "")
	p.Kill()
	b, err := os.ReadFile(pem)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		t.Fatal(err)
	}
	tub := startTub(t, cert)
	if tub.ID() != f.TubID {
		t.Errorf("tub id %s, want %s", tub.ID(), f.TubID)
	}
	_, other := startFoolscap(t, filepath.Join(t.TempDir(), "other.pem"), "")
	callFoolscap(t, tub, other)
}
