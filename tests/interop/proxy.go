package interop

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is the way to one storage server: it counts what passes, says when so much
// has, and can make the server slow or mute, as a bad line would.
type Proxy struct {
	to    string
	l     net.Listener
	wg    sync.WaitGroup
	ended chan struct{}

	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]bool
	up, down int64 // bytes to and from the server since Watch
	limit    int64 // at which reached is called, once
	onUp     bool
	reached  func()
	pace     Pace
}

// Pace is how fast a Proxy passes things on.
type Pace int

const (
	Open    Pace = iota
	Trickle      // a byte a second, both ways
	Mute         // nothing comes or goes
)

// StartProxy listens on loopback and carries what comes to a loopback port.
func StartProxy(t testing.TB, to int) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{to: fmt.Sprintf("127.0.0.1:%d", to), l: l, conns: map[net.Conn]bool{}, ended: make(chan struct{})}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		close(p.ended)
		l.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Port is where the proxy listens.
func (p *Proxy) Port() int { return p.l.Addr().(*net.TCPAddr).Port }

func (p *Proxy) serve() {
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

func (p *Proxy) carry(to io.Writer, from io.Reader, up bool) {
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
			case Trickle:
				select {
				case <-time.After(time.Second):
				case <-p.ended:
					return
				}
				size = 1
			case Mute:
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
func (p *Proxy) count(up bool, n int64) (reached func(), pace Pace) {
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

// Watch counts from zero, and calls reached before it passes on the byte after limit,
// to the server (up) or from it.
func (p *Proxy) Watch(up bool, limit int64, reached func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down, p.onUp, p.limit, p.reached = 0, 0, up, limit, reached
}

// Passed is what went to the server and came from it since Watch.
func (p *Proxy) Passed() (up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down
}

// Set changes the pace.
func (p *Proxy) Set(to Pace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = to
}

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// StandStill starts a program that sends to servers, and returns when limit bytes have
// come for each of them and no more goes to any. GoOn, to be called once, lets the lines
// carry on.
func StandStill(t testing.TB, proxies []*Proxy, limit int64, start func() *Process) (run *Process, goOn func()) {
	t.Helper()
	var all sync.WaitGroup
	stand := make(chan struct{})
	for _, p := range proxies {
		all.Add(1)
		p.Watch(true, limit, func() {
			all.Done()
			<-stand
		})
	}
	run = start()
	reached := make(chan struct{})
	go func() { // ends when all have got so far
		all.Wait()
		close(reached)
	}()
	select {
	case <-reached:
	case <-run.Done():
		t.Fatalf("it ended before %d bytes had come for each server: %s", limit, run.Output())
	case <-time.After(2 * time.Minute):
		t.Fatalf("not each server was sent %d bytes", limit)
	}
	return run, func() { close(stand) }
}
