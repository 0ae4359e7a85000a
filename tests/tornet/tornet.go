// Package tornet is a private Tor network on loopback, from the system's tor:
// three directory authorities and four relays (three authorities alone are too
// few for onion circuits), with TestingTorNetwork's short intervals. Nothing in
// it reaches the Tor network, or leaves the machine.
//
//	n, err := tornet.Start(ctx, dir, os.Stderr)   // about 15 s
//	defer n.Close()
//	c, err := n.Client(ctx, "alice")              // a tor to attach to
//	c.SOCKS, c.Control                            // its ports
//	n.TorrcFile()                                 // warren.cfg's tor.torrc, for a tor that warren launches
//
// Every tor in it dies with this process, however that ends: each is owned by a
// control connection of ours. The package serve, below, holds a network open for
// programs that are not Go tests.
//
// [Namespace] is a network namespace whose only way out is a tor's SOCKS port.
package tornet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"warren/torutil"
)

// Sizes of the network.
const (
	authorities = 3
	relays      = 4
)

// firstInterval is TestingV3AuthInitialVotingInterval, as short as tor allows.
const firstInterval = 5 * time.Second

// ErrNoTor: the system's tor, or tor-gencert beside it, is not installed.
var ErrNoTor = errors.New("tor is not installed (apt install tor; brew install tor)")

// Available says whether Start can work here: nil, or an error that wraps
// ErrNoTor.
func Available() error {
	for _, exe := range []string{"tor", "tor-gencert"} {
		if _, err := exec.LookPath(exe); err != nil {
			return fmt.Errorf("%w: %w", ErrNoTor, err)
		}
	}
	return nil
}

// Network is a running private Tor network.
type Network struct {
	dir   string
	log   io.Writer
	local *torutil.Local
	auths []string // DirAuthority lines

	mu    sync.Mutex // guards nodes
	nodes []*node
}

// Start makes a network in dir (which should be empty, and on a short path) and
// returns when clients can use it. What it does goes to logw.
func Start(ctx context.Context, dir string, logw io.Writer) (*Network, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Between our finding a free port and tor's taking it, somebody else may: then
	// everything is begun anew.
	for try := 0; ; try++ {
		n, err := start(ctx, filepath.Join(dir, fmt.Sprintf("net%d", try)), logw)
		if err == nil || try == 2 || ctx.Err() != nil {
			return n, err
		}
		fmt.Fprintf(logw, "tornet: once more: %v\n", err)
	}
}

func start(ctx context.Context, dir string, logw io.Writer) (_ *Network, err error) {
	n := &Network{dir: dir, log: logw, local: torutil.NewLocal(&torutil.Ledger{})}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	began := time.Now()
	var all []*node
	var made errgroup.Group
	n.auths = make([]string, authorities)
	for i := range authorities {
		made.Go(func() (err error) {
			n.auths[i], err = n.makeAuthority(ctx, fmt.Sprintf("auth%d", i))
			return err
		})
	}
	if err := made.Wait(); err != nil {
		return nil, err
	}
	for i := range relays {
		r, err := n.newNode(fmt.Sprintf("relay%d", i))
		if err != nil {
			return nil, err
		}
		// Clients use an exit only if it takes nearly every address. That it reaches
		// loopback alone is seen to by the address that it connects from; that it
		// asks no name server outside, by one that is not there.
		resolv := r.path("resolv.conf")
		if err := os.WriteFile(resolv, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
			return nil, err
		}
		r.torrc = append(r.torrc, "ORPort 127.0.0.1:auto", "Nickname "+r.name, "ExitRelay 1",
			"ExitPolicy accept *:*", "OutboundBindAddressExit 127.0.0.1",
			"ServerDNSResolvConfFile "+resolv, "ServerDNSDetectHijacking 0", "ServerDNSAllowBrokenConfig 1")
	}
	if err := os.WriteFile(n.TorrcFile(), []byte(strings.Join(n.TorrcLines(), "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	n.mu.Lock()
	all = append(all, n.nodes...)
	n.mu.Unlock()
	// The first consensus is the one that counts: a relay that comes too late for
	// it waits 10 s for the next. The authorities vote 2 s before each full 5 s,
	// so all begin just after a vote.
	const offset = firstInterval - 1500*time.Millisecond
	if err := pauseUntil(ctx, time.Now().Add(-offset).Truncate(firstInterval).Add(firstInterval+offset)); err != nil {
		return nil, err
	}
	var started errgroup.Group
	for _, node := range all {
		started.Go(func() error { return node.start(ctx) })
	}
	if err := started.Wait(); err != nil {
		return nil, err
	}
	fmt.Fprintf(logw, "tornet: %d tors run after %.1f s; waiting for their first consensus\n", len(all), time.Since(began).Seconds())
	// The authorities have the consensus first; a client must find the others usable.
	for _, node := range all[:authorities] {
		if err := node.waitBootstrapped(ctx); err != nil {
			return nil, err
		}
	}
	probe, err := n.Client(ctx, "probe")
	if err != nil {
		return nil, err
	}
	probe.Kill()
	fmt.Fprintf(logw, "tornet: ready after %.1f s\n", time.Since(began).Seconds())
	return n, nil
}

func pauseUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TorrcLines are what a tor needs to be a client of this network.
func (n *Network) TorrcLines() []string {
	lines := []string{
		"TestingTorNetwork 1",
		"AssumeReachable 1",
		"PathsNeededToBuildCircuits 0.67",
		"ClientRejectInternalAddresses 0",
	}
	return append(lines, n.auths...)
}

// TorrcFile is a file of TorrcLines.
func (n *Network) TorrcFile() string { return filepath.Join(n.dir, "client.torrc") }

// Close kills every tor of the network and waits for them. The directory stays.
func (n *Network) Close() error {
	n.mu.Lock()
	nodes := n.nodes
	n.nodes = nil
	n.mu.Unlock()
	for _, node := range nodes {
		node.kill()
	}
	return nil
}

// Client is a tor that is a client of the network, for programs to attach to.
type Client struct {
	SOCKS   string // "127.0.0.1:port"
	Control string // "127.0.0.1:port", with a cookie that our user can read
	node    *node
}

// Client starts a tor and waits until it has bootstrapped. Extra torrc lines may
// say more, such as further SocksPorts.
func (n *Network) Client(ctx context.Context, name string, extra ...string) (*Client, error) {
	node, err := n.newNode("client-" + name)
	if err != nil {
		return nil, err
	}
	socks, err := freePort()
	if err != nil {
		return nil, err
	}
	control, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &Client{SOCKS: fmt.Sprintf("127.0.0.1:%d", socks), Control: fmt.Sprintf("127.0.0.1:%d", control), node: node}
	node.controlPort = c.Control
	// The port alone, which means the same: Foolscap takes nothing but a number.
	node.torrc = append(node.torrc, "ClientOnly 1", fmt.Sprintf("SocksPort %d ExtendedErrors", socks))
	node.torrc = append(node.torrc, extra...)
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Kill ends the tor as kill -9 does, and waits until it is gone.
func (c *Client) Kill() { c.node.kill() }

// PID is the tor's process id while it runs.
func (c *Client) PID() int { return c.node.pid() }

// Start starts a killed tor again, on the same ports, and waits until it has
// bootstrapped.
func (c *Client) Start(ctx context.Context) error {
	if err := c.node.start(ctx); err != nil {
		return err
	}
	return c.node.waitBootstrapped(ctx)
}

// Ask sends a command to the tor's control port and gives the answer's lines,
// without their codes.
func (c *Client) Ask(command string) (string, error) {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	if c.node.control == nil {
		return "", errors.New("tornet: " + c.node.name + " is not running")
	}
	return c.node.ask(command)
}
