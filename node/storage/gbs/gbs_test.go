package gbs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/furl"
	"warren/node/storage"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

const swissnum = "sekritswissnum"

// certificate is a self-signed one, or one that an authority signed; expired, as
// the certificates of old nodes are.
func certificate(t testing.TB, authority bool) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "newpb_thingy"},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     time.Now().Add(-24 * time.Hour),
	}
	parent, signer := template, key
	if authority {
		parent = &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true}
		if signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	node := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	cert, err := gbs.LoadCertificate(node)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// serve runs a server on loopback until the test ends.
func serve(t testing.TB, server *storage.Server, opt gbs.Options, cert tls.Certificate) furl.NURL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gbs.NewServer(server.As(storage.Account{}), swissnum, opt).Serve(ctx, l, cert) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		server.Close()
	})
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	return nurl
}

func dial(t testing.TB, nurl furl.NURL) *gbs.Client {
	var d net.Dialer
	c := gbs.NewClient(nurl, d.DialContext)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestClients(t *testing.T) {
	cert := certificate(t, false)
	storagetest.Clients(t, func(t *testing.T) storage.Client {
		return dial(t, serve(t, storage.NewServer(mem.New(0), storage.Options{}), gbs.Options{}, cert))
	})
}

// TestSharedSlot: a slot is the same over HTTPS and in the process.
func TestSharedSlot(t *testing.T) {
	server := storage.NewServer(mem.New(0), storage.Options{})
	c := dial(t, serve(t, server, gbs.Options{}, certificate(t, false)))
	slot := storage.SlotSecrets{WriteEnabler: storagetest.Secret('w')}
	write := map[int]storage.TestWrite{0: {Write: []storage.WriteVector{{Data: []byte("one")}}}}
	for _, client := range []storage.Client{c, storage.Local(server)} {
		if wrote, _, err := client.ReadTestWrite(t.Context(), caps.StorageIndex{1}, slot, write, nil); err != nil || !wrote {
			t.Errorf("%T: %v, %v", client, wrote, err)
		}
	}
}

func TestPinning(t *testing.T) {
	server := storage.NewServer(mem.New(0), storage.Options{})
	for _, c := range []struct {
		name string
		cert tls.Certificate
		nurl func(furl.NURL) furl.NURL
		want error
	}{
		{"right", certificate(t, false), func(n furl.NURL) furl.NURL { return n }, nil},
		{"another key", certificate(t, false), func(n furl.NURL) furl.NURL { n.SPKIHash = strings.Repeat("A", 43); return n }, gbs.ErrCertificate},
		{"signed by an authority", certificate(t, true), func(n furl.NURL) furl.NURL { return n }, gbs.ErrCertificate},
		{"wrong swissnum", certificate(t, false), func(n furl.NURL) furl.NURL { n.Swissnum = "wrong"; return n }, storage.ErrUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dial(t, c.nurl(serve(t, server, gbs.Options{}, c.cert))).Version(t.Context())
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), swissnum) || strings.Contains(err.Error(), "wrong/")) {
				t.Errorf("the error tells the swissnum: %v", err)
			}
		})
	}
}

// TestBigShare goes through several blocks on both sides.
func TestBigShare(t *testing.T) {
	c := dial(t, serve(t, storage.NewServer(mem.New(0), storage.Options{}), gbs.Options{}, certificate(t, false)))
	data := make([]byte, 5<<20+17)
	rand.Read(data)
	si, up := caps.StorageIndex{4}, storagetest.Secret('u')
	if _, _, err := c.CreateImmutable(t.Context(), si, up, storage.LeaseSecrets{}, []int{0}, uint64(len(data))); err != nil {
		t.Fatal(err)
	}
	if done, err := c.WriteImmutable(t.Context(), si, 0, up, 0, data); err != nil || !done {
		t.Fatalf("%v, %v", done, err)
	}
	got, err := c.ReadShare(t.Context(), storage.Immutable, si, 0, 0, 1<<40)
	if err != nil || string(got) != string(data) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	slot := storage.SlotSecrets{WriteEnabler: up}
	wrote, _, err := c.ReadTestWrite(t.Context(), caps.StorageIndex{5}, slot, map[int]storage.TestWrite{0: {Write: []storage.WriteVector{{Data: data}}}}, nil)
	if err != nil || !wrote {
		t.Fatalf("%v, %v", wrote, err)
	}
	_, reads, err := c.ReadTestWrite(t.Context(), caps.StorageIndex{5}, slot, nil, []storage.ReadVector{{Size: 1 << 30}})
	if err != nil || string(reads[0][0]) != string(data) {
		t.Fatalf("read %d shares, %v", len(reads), err)
	}
	often := slices.Repeat([]storage.ReadVector{{Size: 1 << 30}}, 30)
	if _, _, err := c.ReadTestWrite(t.Context(), caps.StorageIndex{5}, slot, nil, often); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("the share thirty times over: %v", err)
	}
}

// silent is a server that takes a connection's bytes and never answers.
func silent(t *testing.T, cert tls.Certificate) furl.NURL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(c, gbs.TLSConfig(cert))
			conn.Handshake()
			t.Cleanup(func() { conn.Close() })
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	return nurl
}

func TestStall(t *testing.T) {
	c := dial(t, silent(t, certificate(t, false)))
	gbs.SetStall(c, 50*time.Millisecond)
	if _, err := c.Version(t.Context()); !errors.Is(err, gbs.ErrStalled) {
		t.Errorf("a silent server: %v", err)
	}
	gbs.SetStall(c, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Version(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server and a deadline: %v", err)
	}
}

// TestServerStall: a client that stops in the midst of a body is cut off.
func TestServerStall(t *testing.T) {
	cert := certificate(t, false)
	server := storage.NewServer(mem.New(0), storage.Options{})
	nurl := serve(t, server, gbs.Options{Stall: 50 * time.Millisecond}, cert)
	conn, err := tls.Dial("tcp", nurl.Address(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("POST /storage/v1/immutable/" + caps.StorageIndex{}.Text() + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n" +
		"Authorization: " + gbs.Authorization(swissnum) + "\r\n" +
		"X-Tahoe-Authorization: lease-renew-secret MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\r\n" +
		"X-Tahoe-Authorization: lease-cancel-secret MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\r\n" +
		"X-Tahoe-Authorization: upload-secret MDEy\r\n\r\nonly this")); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("still connected: %v", err)
	}
	// An answer would mean that it did not come to waiting.
	if len(got) > 0 {
		t.Errorf("answered %q", got)
	}
}

// pipes is a listener whose connections are made in this process: time stands
// still while they wait.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error { return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestWaitingIsNoStall: a server that is busy with ten slow requests of ours is not
// taken for gone by those that wait for their end.
func TestWaitingIsNoStall(t *testing.T) {
	cert := certificate(t, false)
	synctest.Test(t, func(t *testing.T) {
		l := make(pipes)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Range", "bytes 0-9/*")
			w.WriteHeader(http.StatusPartialContent)
			for range 10 { // five minutes
				time.Sleep(30 * time.Second)
				w.Write([]byte("x"))
				http.NewResponseController(w).Flush()
			}
		})}
		config := gbs.TLSConfig(cert)
		config.SessionTicketsDisabled = true // a pipe holds nothing: both would write, and nobody read
		served := make(chan error, 1)
		go func() { served <- server.Serve(tls.NewListener(l, config)) }()
		nurl, err := gbs.NURL(cert, "pipe", 1, false, swissnum)
		if err != nil {
			t.Fatal(err)
		}
		c := gbs.NewClient(nurl, func(ctx context.Context, _, _ string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			l <- theirs
			return ours, nil
		})
		var wg sync.WaitGroup
		for range 25 {
			wg.Go(func() {
				if got, err := c.ReadShare(t.Context(), storage.Immutable, caps.StorageIndex{}, 0, 0, 10); err != nil || len(got) != 10 {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		c.Close()
		close(l)
		server.Close()
		<-served
	})
}
