package tornet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"warren/torutil"
)

// Namespace is a network namespace from which nothing can be reached but what was
// forwarded into it: each forward is a listener on the namespace's loopback,
// whose connections this process carries to an address outside.
//
// It has an interface sink0 with default routes (IPv4 and IPv6) to a gateway that
// does not exist, so that a stray connection or DNS query is really sent, and
// seen, instead of failing for want of a route. Every packet in the namespace is
// watched; Stray lists those that should not be.
type Namespace struct {
	calls chan func()
	stop  chan struct{}
	done  sync.WaitGroup

	sink    int // index of sink0
	lo      int
	capture int // packet socket

	mu      sync.Mutex // guards all below
	allowed map[uint16]bool
	stray   map[Packet]int
	seen    int // all packets
	idle    chan struct{}

	listeners []net.Listener
}

// NewNamespace makes one. forwards maps loopback addresses inside ("127.0.0.1:9050")
// to addresses outside. The error wraps ErrNoNamespace where none can be made.
func NewNamespace(forwards map[string]string) (*Namespace, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: it needs root", ErrNoNamespace)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: it needs iproute2: %w", ErrNoNamespace, err)
	}
	n := &Namespace{
		calls:   make(chan func()),
		stop:    make(chan struct{}),
		allowed: make(map[uint16]bool),
		stray:   make(map[Packet]int),
		idle:    make(chan struct{}),
		capture: -1,
	}
	ready := make(chan error)
	go n.thread(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoNamespace, err)
	}
	if err := n.do(n.setUp); err != nil {
		n.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoNamespace, err)
	}
	n.done.Add(1)
	go n.watch()
	local := torutil.NewLocal(&torutil.Ledger{})
	for inside, outside := range forwards {
		at, err := netip.ParseAddrPort(inside)
		if err == nil && !at.Addr().IsLoopback() {
			err = errors.New("not on loopback")
		}
		var ln net.Listener
		if err == nil {
			n.Allow(at.Port())
			// A socket belongs to the namespace that it was made in, whoever
			// accepts on it.
			err = n.do(func() error {
				ln, err = local.Listen(context.Background(), fmt.Sprintf("tcp:%d:interface=%s", at.Port(), at.Addr()))
				return err
			})
		}
		if err != nil {
			n.Close()
			return nil, fmt.Errorf("forward %s: %w", inside, err)
		}
		n.listeners = append(n.listeners, ln)
		n.done.Add(1)
		go n.forward(local, ln, outside)
	}
	return n, nil
}

// thread is an OS thread of its own, in a namespace of its own. It can never be
// given back, and must not end either: it may have started programs before it
// became ours, and those with a parent-death signal die with the thread that
// started them, not with the process. So Close leaves it parked.
func (n *Namespace) thread(ready chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		ready <- fmt.Errorf("unshare: %w", err)
		return
	}
	ready <- nil
	for {
		select {
		case f := <-n.calls:
			f()
		case <-n.stop:
			select {}
		}
	}
}

// do runs f on the namespace's thread. What f starts stays in the namespace.
func (n *Namespace) do(f func() error) error {
	result := make(chan error)
	n.calls <- func() { result <- f() }
	return <-result
}

func (n *Namespace) setUp() error {
	const gateway = "02:00:00:00:00:01"
	for _, line := range []string{
		"link set lo up",
		"link add sink0 type veth peer name sink1",
		"link set sink1 up",
		"link set sink0 up",
		"addr add 192.0.2.2/24 dev sink0",
		"neigh add 192.0.2.1 lladdr " + gateway + " dev sink0 nud permanent",
		"route add default via 192.0.2.1",
		"-6 addr add 2001:db8::2/64 dev sink0 nodad",
		"-6 neigh add 2001:db8::1 lladdr " + gateway + " dev sink0 nud permanent",
		"-6 route add default via 2001:db8::1",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	for name, index := range map[string]*int{"sink0": &n.sink, "lo": &n.lo} {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		*index = i.Index
	}
	// All protocols, without the link layer's header.
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	n.capture = fd
	// Large, because a transfer's own packets pass here too.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
}

// Allow says that programs in the namespace may talk to a port on its loopback:
// their own services.
func (n *Namespace) Allow(port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.allowed[port] = true
}

// Start starts a command inside.
func (n *Namespace) Start(cmd *exec.Cmd) error { return n.do(cmd.Start) }

// Stray lists the packets so far that went elsewhere than to allowed ports on
// loopback, each kind once, and how many packets there were in all.
func (n *Namespace) Stray() (stray []Packet, all int) {
	// Until the socket was empty twice, so that nothing sent before is missed.
	for range 2 {
		n.mu.Lock()
		idle := n.idle
		n.mu.Unlock()
		<-idle
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.stray {
		stray = append(stray, p)
	}
	stats, err := unix.GetsockoptTpacketStats(n.capture, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || stats.Drops != 0 {
		stray = append(stray, Packet{"?", fmt.Sprintf("packets were missed: %+v, %v", stats, err)})
	}
	return stray, n.seen
}

// Close ends the forwards and the watching. Programs inside must have ended.
func (n *Namespace) Close() error {
	for _, ln := range n.listeners {
		ln.Close()
	}
	close(n.stop)
	n.done.Wait()
	if n.capture >= 0 {
		unix.Close(n.capture)
	}
	return nil
}

func (n *Namespace) forward(local *torutil.Local, ln net.Listener, outside string) {
	defer n.done.Done()
	var carried sync.WaitGroup
	defer carried.Wait()
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		out, err := local.DialContext(context.Background(), "tcp", outside)
		if err != nil {
			in.Close()
			continue
		}
		carried.Go(func() {
			ended := make(chan struct{}, 2)
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					io.Copy(pair[0], pair[1])
					ended <- struct{}{}
				}()
			}
			select {
			case <-ended:
			case <-n.stop:
				ended <- struct{}{}
			}
			in.Close()
			out.Close()
			<-ended
		})
	}
}

func (n *Namespace) watch() {
	defer n.done.Done()
	buf := make([]byte, 128) // enough for the headers; the rest is dropped
	for {
		select {
		case <-n.stop:
			return
		default:
		}
		size, from, err := unix.Recvfrom(n.capture, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // nothing for a while
			n.mu.Lock()
			close(n.idle)
			n.idle = make(chan struct{})
			n.mu.Unlock()
			continue
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		n.packet(link, buf[:size])
	}
}

func (n *Namespace) packet(link *unix.SockaddrLinklayer, b []byte) {
	protocol := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, link.Protocol))
	p := Packet{Interface: "sink1"}
	switch link.Ifindex {
	case n.sink:
		p.Interface = "sink0"
	case n.lo:
		p.Interface = "lo"
	}
	what, ports, own := describe(protocol, b)
	if own {
		return
	}
	p.What = what
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen++
	if p.Interface == "lo" && (n.allowed[ports[0]] || n.allowed[ports[1]]) && strings.HasPrefix(what, "TCP") {
		return
	}
	n.stray[p]++
}

// describe reads the headers of a packet. own is true for what the kernel sends by
// itself when an interface comes up (neighbour and router discovery, MLD).
func describe(protocol uint16, b []byte) (what string, ports [2]uint16, own bool) {
	var next byte
	var src, dst netip.Addr
	switch {
	case protocol == unix.ETH_P_IP && len(b) >= 20:
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		next, b = b[9], b[min(len(b), int(b[0]&15)*4):]
	case protocol == unix.ETH_P_IPV6 && len(b) >= 40:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		next, b = b[6], b[40:]
		if next == 0 && len(b) >= 8 { // hop-by-hop options: MLD has them
			next, b = b[0], b[min(len(b), 8+int(b[1])*8):]
		}
	default:
		return fmt.Sprintf("ethertype %#04x", protocol), ports, false
	}
	if (next == unix.IPPROTO_TCP || next == unix.IPPROTO_UDP) && len(b) >= 4 {
		ports = [2]uint16{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
		name := "TCP"
		if next == unix.IPPROTO_UDP {
			name = "UDP"
		}
		return fmt.Sprintf("%s %s > %s", name, src, netip.AddrPortFrom(dst, ports[1])), ports, false
	}
	if next == unix.IPPROTO_ICMPV6 && len(b) >= 1 {
		switch b[0] {
		case 130, 131, 132, 133, 134, 135, 136, 143:
			return "", ports, true
		}
	}
	return fmt.Sprintf("protocol %d %s > %s", next, src, dst), ports, false
}
