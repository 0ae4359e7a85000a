package interop

import (
	"bytes"
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
	delay    time.Duration
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
			both.Go(func() { p.carry(p.far(out, &both), in, true); out.Close(); in.Close() })
			both.Go(func() { p.carry(p.far(in, &both), out, false); out.Close(); in.Close() })
			both.Wait()
			p.mu.Lock()
			delete(p.conns, in)
			delete(p.conns, out)
			p.mu.Unlock()
		})
	}
}

func (p *Proxy) carry(to io.WriteCloser, from io.Reader, up bool) {
	defer to.Close()
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

// Far makes each byte on connections made from now on come later, each way: a round
// trip takes twice as long. As on a long line, what follows does not wait for it.
func (p *Proxy) Far(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// far is the other end of the line.
func (p *Proxy) far(to io.Writer, wg *sync.WaitGroup) io.WriteCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &line{to: to, delay: p.delay, ended: p.ended, failed: make(chan struct{}), way: make(chan parcel, 1<<12)}
	if p.delay > 0 {
		wg.Go(l.deliver)
	}
	return l
}

// line delivers what is written a while later.
type line struct {
	to     io.Writer
	delay  time.Duration
	ended  <-chan struct{}
	failed chan struct{} // closed when nothing can be delivered any more
	way    chan parcel
}

type parcel struct {
	due  time.Time
	data []byte
}

func (l *line) Write(b []byte) (int, error) {
	if l.delay == 0 {
		return l.to.Write(b)
	}
	select {
	case l.way <- parcel{time.Now().Add(l.delay), bytes.Clone(b)}:
		return len(b), nil
	case <-l.failed:
		return 0, io.ErrClosedPipe
	case <-l.ended:
		return 0, io.ErrClosedPipe
	}
}

// Close ends the line when all has been delivered.
func (l *line) Close() error {
	close(l.way)
	if l.delay > 0 {
		<-l.failed
	}
	return nil
}

func (l *line) deliver() {
	defer close(l.failed)
	for b := range l.way {
		select {
		case <-time.After(time.Until(b.due)):
		case <-l.ended:
			return
		}
		if _, err := l.to.Write(b.data); err != nil {
			return
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
