package gbs_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// bubble is a server in a synctest bubble, where minutes are short. What it is asked
// through is a pipe that holds nothing: who does not read is noticed at once.
type bubble struct {
	*testing.T
	pipes
	wg sync.WaitGroup
}

// patience is how long a hostile client goes on.
const patience = 5 * time.Minute

// conn is a TLS connection to the server.
func (b *bubble) conn() *tls.Conn {
	ours, theirs := net.Pipe()
	b.pipes <- theirs
	return tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
}

// client is a good one, on a connection of its own.
func (b *bubble) client(cert tls.Certificate) *gbs.Client {
	nurl, err := gbs.NURL(cert, "pipe", 1, false, swissnum)
	if err != nil {
		b.Fatal(err)
	}
	return gbs.NewClient(nurl, func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		b.pipes <- theirs
		return newEager(ours), nil
	})
}

// eager takes what the server says as it comes, as a system's buffers do.
type eager struct {
	net.Conn
	mu   sync.Mutex
	more *sync.Cond
	// mu guards what follows.
	buf bytes.Buffer
	err error
}

func newEager(c net.Conn) *eager {
	e := &eager{Conn: c}
	e.more = sync.NewCond(&e.mu)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			e.mu.Lock()
			e.buf.Write(b[:n])
			e.err = err
			e.more.Broadcast()
			e.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return e
}

func (e *eager) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.buf.Len() == 0 && e.err == nil {
		e.more.Wait()
	}
	if e.buf.Len() == 0 {
		return 0, e.err
	}
	return e.buf.Read(p)
}

// request is the text of one, of which the body is to come.
func request(method, path string, length int, headers ...string) string {
	all := append([]string{method + " /storage/v1/" + path + " HTTP/1.1", "Host: pipe", "Authorization: " + gbs.Authorization(swissnum)}, headers...)
	if method != "GET" {
		all = append(all, fmt.Sprintf("Content-Length: %d", length))
	}
	return strings.Join(all, "\r\n") + "\r\n\r\n"
}

// secretText is a secret of 32 bytes, as headers have it.
var secretText = strings.Repeat("QUFB", 10) + "QUE="

func secretHeaders(names ...string) (all []string) {
	for _, n := range names {
		all = append(all, "X-Tahoe-Authorization: "+n+" "+secretText)
	}
	return all
}

// slowly sends text at once, and then a byte a second for as long as it may. It says
// after how long it was shown out; never: its patience came to its end.
func (b *bubble) slowly(text string) (after time.Duration) {
	c := b.conn()
	defer c.Close()
	started := time.Now()
	if _, err := io.WriteString(c, text); err != nil {
		return time.Since(started)
	}
	for time.Since(started) < patience {
		time.Sleep(time.Second)
		if _, err := c.Write([]byte{0xa2}); err != nil {
			return time.Since(started)
		}
	}
	return 0
}

// silent asks for something long and reads nothing of it.
func (b *bubble) silent(text string) (after time.Duration) {
	c := b.conn()
	defer c.Close()
	started := time.Now()
	if _, err := io.WriteString(c, text); err != nil {
		b.Error(err)
	}
	time.Sleep(patience)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err == nil {
		b.Error("the server waited for ever for a client that takes nothing")
	}
	return time.Since(started)
}

// largest is the largest body: two of them take all the memory of a server that has the
// least that it can have.
const largest = 64 << 20

// shareSize is what the good clients write and read.
const shareSize = 1<<20 + 1<<18

func indexed(n byte) caps.StorageIndex { return caps.StorageIndex{n} }

// hostiles are the clients that nobody should wait for. all: so many of them hold all
// that a server has for their kind; 0: no number does.
var hostiles = []struct {
	name string
	all  int
	run  func(b *bubble, n byte)
}{
	{"half a header", 0, func(b *bubble, n byte) {
		text := request("GET", "version", 0)
		b.slowly(text[:len(text)-2] + "X-Slow: ")
	}},
	{"half a handshake", 0, func(b *bubble, n byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		b.pipes <- theirs
		for range int(patience / time.Second) {
			time.Sleep(time.Second)
			if _, err := ours.Write([]byte{22}); err != nil {
				return
			}
		}
	}},
	{"a share", 4, func(b *bubble, n byte) {
		b.slowly(request("PATCH", "immutable/"+indexed(n).Text()+"/0", shareSize, append(secretHeaders("upload-secret"), fmt.Sprintf("Content-Range: bytes 0-%d/*", shareSize-1))...))
	}},
	{"a small body", 0, func(b *bubble, n byte) {
		b.slowly(request("POST", "immutable/"+indexed(n).Text(), 8192, secretHeaders("lease-renew-secret", "lease-cancel-secret", "upload-secret")...))
	}},
	{"a body of unknown length", 2, func(b *bubble, n byte) {
		text := request("POST", "mutable/"+indexed(n).Text()+"/read-test-write", 0, secretHeaders("lease-renew-secret", "lease-cancel-secret", "write-enabler")...)
		b.slowly(strings.Replace(text, "Content-Length: 0", "Transfer-Encoding: chunked", 1) + "ffffff\r\n")
	}},
	{"a body of the largest size", 2, func(b *bubble, n byte) {
		b.slowly(request("POST", "mutable/"+indexed(n).Text()+"/read-test-write", largest, secretHeaders("lease-renew-secret", "lease-cancel-secret", "write-enabler")...))
	}},
	{"reading nothing of a share", 4, func(b *bubble, n byte) {
		b.silent(request("GET", "immutable/"+indexed(200).Text()+"/0", 0))
	}},
	{"reading nothing of a slot", 4, func(b *bubble, n byte) {
		b.silent(request("GET", "mutable/"+indexed(201).Text()+"/0", 0))
	}},
}

// among serves, has so many of each of some hostile clients come, and a good one do
// everything a few times amid them. It says for how long that one waited at most.
func (b *bubble) among(cert tls.Certificate, opt gbs.Options, count int, run ...func(b *bubble, n byte)) (waited time.Duration) {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Error(err)
		}
	}
	server := storage.NewServer(mem.New(0), storage.Options{})
	ctx, stop := context.WithCancel(b.Context())
	served := make(chan error, 1)
	go func() {
		served <- gbs.NewServer(server.As(storage.Account{}), swissnum, opt).Serve(ctx, b.pipes, cert)
	}()
	good := b.client(cert)
	upload := storagetest.Secret('u')
	data := bytes.Repeat([]byte("data"), shareSize/4)
	put := func(n byte) {
		_, _, err := good.CreateImmutable(b.Context(), indexed(n), upload, storage.LeaseSecrets{}, []int{0}, shareSize)
		must(err)
		done, err := good.WriteImmutable(b.Context(), indexed(n), 0, upload, 0, data)
		must(err)
		if !done {
			b.Error("a share is not complete")
		}
	}
	write := func(n byte) {
		_, _, err := good.ReadTestWrite(b.Context(), indexed(n), storage.SlotSecrets{WriteEnabler: storagetest.Secret('w')}, map[int]storage.TestWrite{0: {Write: []storage.WriteVector{{Data: data}}}}, nil)
		must(err)
	}
	read := func(kind storage.ShareKind, n byte) {
		got, err := good.ReadShare(b.Context(), kind, indexed(n), 0, 0, shareSize)
		must(err)
		if !bytes.Equal(got, data) {
			b.Errorf("read %d bytes, not what was written", len(got))
		}
	}
	put(200)
	write(201)
	secret, err := base64.StdEncoding.DecodeString(secretText)
	must(err)
	for n := range byte(count) {
		// The secret of those who send a share slowly; the server keeps its hash.
		_, _, err := storage.Local(server).CreateImmutable(b.Context(), indexed(n), sha256.Sum256(secret), storage.LeaseSecrets{}, []int{0}, shareSize)
		must(err)
		for _, run := range run {
			b.wg.Go(func() { run(b, n) })
		}
	}
	synctest.Wait()
	for n := range byte(3) {
		for _, do := range []func(){
			func() { _, err := good.Version(b.Context()); must(err) },
			func() { put(100 + n) },
			func() { write(150 + n) },
			func() { read(storage.Immutable, 200) },
			func() { read(storage.Mutable, 201) },
			func() {
				must(good.AddLease(b.Context(), indexed(200), storage.LeaseSecrets{Renew: storagetest.Secret(n)}))
				must(good.AdviseCorrupt(b.Context(), storage.Immutable, indexed(200), 0, "reason"))
			},
		} {
			started := time.Now()
			do()
			waited = max(waited, time.Since(started))
		}
		time.Sleep(17 * time.Second)
	}
	good.Close()
	b.wg.Wait()
	stop()
	close(b.pipes)
	if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
		b.Error(err)
	}
	must(server.Close())
	return waited
}

// TestHostilePace: clients that send a byte a second, and that never read, cost the
// others no time: one of each kind, and a server that does one thing at a time.
func TestHostilePace(t *testing.T) {
	cert := certificate(t, false)
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, pipes: make(pipes)}
		var all []func(b *bubble, n byte)
		for _, h := range hostiles {
			all = append(all, h.run)
		}
		if waited := b.among(cert, gbs.Options{MaxRequests: 1, MaxMutableWrite: largest, BodyMemory: 4 * largest}, 1, all...); waited > 0 {
			t.Errorf("the others waited for %v", waited)
		}
	})
}

// TestEndAmidSilence: a server that is to end does not wait for those that take
// nothing, beyond its second of grace.
func TestEndAmidSilence(t *testing.T) {
	cert := certificate(t, false)
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, pipes: make(pipes)}
		server := storage.NewServer(mem.New(0), storage.Options{})
		local := storage.Local(server)
		if _, _, err := local.CreateImmutable(t.Context(), indexed(200), storage.Secret{}, storage.LeaseSecrets{}, []int{0}, shareSize); err != nil {
			t.Fatal(err)
		}
		if _, err := local.WriteImmutable(t.Context(), indexed(200), 0, storage.Secret{}, 0, make([]byte, shareSize)); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{}).Serve(ctx, b.pipes, cert)
		}()
		for range 10 {
			b.wg.Go(func() { b.silent(request("GET", "immutable/"+indexed(200).Text()+"/0", 0)) })
		}
		synctest.Wait()
		started := time.Now()
		stop()
		close(b.pipes)
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if took := time.Since(started); took > 2*time.Second {
			t.Errorf("the server ended after %v", took)
		}
		b.wg.Wait()
	})
}

// TestHostileCrowd: when they hold all that there is to hold, the others are served
// after a while.
func TestHostileCrowd(t *testing.T) {
	cert := certificate(t, false)
	for _, h := range hostiles {
		t.Run(h.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bubble{T: t, pipes: make(pipes)}
				waited := b.among(cert, gbs.Options{MaxRequests: 1, MaxStreams: 4, MaxMutableWrite: largest, BodyMemory: 2 * largest}, cmp.Or(h.all, 20), h.run)
				if waited >= time.Minute || h.all == 0 && waited > 0 {
					t.Errorf("the others waited for %v", waited)
				}
			})
		})
	}
}
