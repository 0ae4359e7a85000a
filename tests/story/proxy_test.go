package story

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"warren/tests/interop"
)

// proxy is the way to one storage server: it counts what passes, says when so much
// has, and can make the server slow or mute, as a bad line would.
type proxy struct {
	server *node
	to     string
	l      net.Listener
	wg     sync.WaitGroup
	ended  chan struct{}

	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]bool
	up, down int64 // bytes to and from the server since watch
	limit    int64 // at which reached is called, once
	onUp     bool
	reached  func()
	pace     pace
}

type pace int

const (
	open    pace = iota
	trickle      // a byte a second, both ways
	mute         // nothing comes or goes
)

// behind makes a storage server of the grid, starts it, and puts a proxy before it.
func (h *house) behind(t testing.TB, name string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := interop.FreePort(t)
	p := &proxy{to: fmt.Sprintf("127.0.0.1:%d", port), l: l, conns: map[net.Conn]bool{}, ended: make(chan struct{})}
	p.server = &node{h: h, name: name, dir: h.path(name)}
	h.must(t, "create-node", "--nickname="+name, "--introducer="+h.furlFile, "--webport=none",
		"--shares-needed=1", "--shares-happy=1", "--shares-total=1", fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port),
		fmt.Sprintf("--location=tcp:127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port), p.server.dir)
	p.wg.Go(p.serve)
	h.t.Cleanup(func() {
		close(p.ended)
		l.Close()
		p.cut()
		p.wg.Wait()
	})
	p.server.start(t)
	h.servers = append(h.servers, p.server)
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			defer in.Close()
			out, err := net.Dial("tcp", p.to)
			if err != nil {
				return
			}
			defer out.Close()
			p.mu.Lock()
			p.conns[in], p.conns[out] = true, true
			p.mu.Unlock()
			var both sync.WaitGroup
			both.Go(func() { p.carry(out, in, true); out.Close(); in.Close() })
			both.Go(func() { p.carry(in, out, false); out.Close(); in.Close() })
			both.Wait()
			p.mu.Lock()
			delete(p.conns, in)
			delete(p.conns, out)
			p.mu.Unlock()
		})
	}
}

func (p *proxy) carry(to io.Writer, from io.Reader, up bool) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		reached, pace := p.count(up, int64(n))
		if reached != nil {
			reached() // before what it is about is passed on
		}
		for rest := b[:n]; len(rest) > 0; {
			size := len(rest)
			switch pace {
			case trickle:
				select {
				case <-time.After(time.Second):
				case <-p.ended:
					return
				}
				size = 1
			case mute:
				<-p.ended
				return
			}
			if _, err := to.Write(rest[:size]); err != nil {
				return
			}
			rest = rest[size:]
		}
	}
}

// count counts n bytes.
func (p *proxy) count(up bool, n int64) (reached func(), pace pace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := &p.down
	if up {
		total = &p.up
	}
	*total += n
	if p.reached != nil && p.onUp == up && *total > p.limit {
		reached, p.reached = p.reached, nil
	}
	return reached, p.pace
}

// watch counts from zero, and calls reached before it passes on the byte after limit,
// to the server (up) or from it.
func (p *proxy) watch(up bool, limit int64, reached func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down, p.onUp, p.limit, p.reached = 0, 0, up, limit, reached
}

// passed is what went to the server and came from it since watch.
func (p *proxy) passed() (up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down
}

func (p *proxy) set(to pace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = to
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}
