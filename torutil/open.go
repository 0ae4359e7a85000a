package torutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"warren/torutil/control"
	"warren/torutil/onion"
)

// Config is what tahoe.cfg says about the network, with Tahoe's meaning. The
// zero value is refused (it hides the address and dials directly): callers say
// what Tahoe's defaults are.
type Config struct {
	// NodeDir is where relative paths start and where tor's data goes.
	NodeDir string

	// TCP is [connections] tcp: "tcp" (and ""), "tor" or "disabled".
	TCP string

	// RevealIP is [node] reveal-IP-address, whose default is true.
	RevealIP bool

	// Tor is the [tor] section, and our own torrc settings.
	Tor TorConfig

	// Ledger counts; Open makes one when it is nil.
	Ledger *Ledger
}

// TorConfig is tahoe.cfg's [tor], key by key.
type TorConfig struct {
	Disabled    bool   // enabled = false
	SOCKSPort   string // socks.port
	ControlPort string // control.port
	Launch      bool   // launch
	Executable  string // tor.executable

	Onion             bool   // onion
	OnionLocalPort    uint16 // onion.local_port
	OnionExternalPort uint16 // onion.external_port
	OnionKeyFile      string // onion.private_key_file

	// Ours (warren.cfg).
	TorrcFile       string   // tor.torrc: more lines for a tor that we launch: bridges
	Torrc           []string // more lines still
	ControlPassword string   // for a tor with HashedControlPassword
}

// Progress reports what Tor is doing; see control.Progress.
type Progress = control.Progress

// Tahoe's names inside a node directory, and its port for a node's onion.
const (
	torStateDir      = "tor-statedir"
	onionKeyFile     = "tor_onion.privkey"
	onionDefaultPort = 3457
)

// Handle is Open's other result: what belongs to the network and is no
// connection. Close ends the onion services and a launched tor.
type Handle struct {
	Ledger *Ledger
	Local  *Local

	tor     *control.Tor // nil: none that we control
	socks   *control.SOCKS
	ports   func() ([]control.Address, error)
	reach   control.DialFunc
	service *onion.Service // of [tor] onion = true
}

// Close ends what Open began.
func (h *Handle) Close() error {
	var errs []error
	if h.service != nil {
		errs = append(errs, h.service.Close())
	}
	if h.tor != nil {
		errs = append(errs, h.tor.Close())
	}
	return errors.Join(errs...)
}

// Tor is the state of the tor that we control; ok is false when there is none.
func (h *Handle) Tor() (status control.Status, ok bool) {
	if h.tor == nil {
		return control.Status{}, false
	}
	return h.tor.Status(), true
}

// WaitReady waits until connections through Tor can be expected to work: at once
// where there is no Tor. It wraps ErrTorNotReady when ctx ends first.
func (h *Handle) WaitReady(ctx context.Context) error {
	switch {
	case h.tor != nil:
		return h.tor.WaitReady(ctx)
	case h.socks == nil:
		return nil
	}
	// A SOCKS port alone: all that can be known is whether it is there.
	ports, err := h.ports()
	if err != nil {
		return err
	}
	var failures []error
	for _, a := range ports {
		conn, err := h.reach(ctx, a.Network, a.Address)
		if err == nil {
			conn.Close()
			return nil
		}
		failures = append(failures, err)
	}
	return fmt.Errorf("%w: nothing answers at its SOCKS port: %w", ErrTorNotReady, errors.Join(failures...))
}

// Watch calls f each time that Tor has become ready, for the first time or again,
// until ctx ends; it returns at once where there is no tor that we control.
func (h *Handle) Watch(ctx context.Context, f func()) {
	if h.tor != nil {
		h.tor.Watch(ctx, f)
	}
}

// Published is closed when the node's onion service can be found by others; nil
// when it has none.
func (h *Handle) Published() <-chan struct{} {
	if h.service == nil {
		return nil
	}
	return h.service.Published()
}

// Open gives the process its Network. ErrPrivacy and other contradictions in the
// settings fail here, as does a tor that should be launched and cannot be. A tor
// that should be running and is not does not: the node starts, what needs Tor
// fails with ErrTorNotReady, and works once Tor is there.
func Open(ctx context.Context, c Config, progress func(Progress)) (Network, *Handle, error) {
	h := &Handle{Ledger: c.Ledger}
	if h.Ledger == nil {
		h.Ledger = &Ledger{}
	}
	h.Local = NewLocal(h.Ledger)
	p := &policy{ledger: h.Ledger, hidden: !c.RevealIP}
	if err := p.setMode(c); err != nil {
		return nil, nil, err
	}
	if c.Tor.Disabled {
		p.noTor = errors.New("[tor] enabled = false")
		return p, h, nil
	}
	if err := h.findTor(ctx, c, progress); err != nil {
		return nil, nil, err
	}
	p.tor = h.socks
	if h.tor != nil {
		o := &onions{config: c, handle: h, progress: progress}
		if err := o.start(); err != nil {
			h.Close()
			return nil, nil, err
		}
		p.onions = o.listen
	}
	return p, h, nil
}

// setMode is create_default_connection_handlers of Tahoe's node.py.
func (p *policy) setMode(c Config) error {
	switch tcp := strings.ToLower(strings.TrimSpace(c.TCP)); tcp {
	case "", "tcp":
		if !c.RevealIP {
			return fmt.Errorf("%w: reveal-IP-address = false needs [connections] tcp = tor (or disabled)", ErrPrivacy)
		}
		p.mode, p.clear, p.direct = ModeDirect, ViaDirect, directDialer()
	case "tor":
		if c.Tor.Disabled {
			return errors.New("[connections] tcp = tor, but [tor] enabled = false")
		}
		p.mode, p.clear = ModeTor, ViaTor
	case "disabled":
		// tor: hints still work in Tahoe.
		if !c.Tor.Disabled {
			p.mode = ModeTor
		}
	default:
		return fmt.Errorf("[connections] tcp = %q: it is tcp, tor or disabled", tcp)
	}
	if o := c.Tor; o.Onion && !o.Disabled {
		switch {
		case !o.Launch && o.ControlPort == "":
			return errors.New("[tor] onion = true needs launch = true or a control.port")
		case o.OnionLocalPort == 0:
			return errors.New("[tor] onion = true, but onion.local_port is missing")
		case o.OnionExternalPort == 0:
			return errors.New("[tor] onion = true, but onion.external_port is missing")
		case o.OnionKeyFile == "":
			return errors.New("[tor] onion = true, but onion.private_key_file is missing")
		}
	}
	return nil
}

// findTor follows Tahoe's order: launch, then socks.port, then control.port,
// then the usual SOCKS ports.
func (h *Handle) findTor(ctx context.Context, c Config, progress func(Progress)) error {
	ports := &torPorts{allowed: make(map[control.Address]bool)}
	config := control.Config{Dial: ports.dialControl(h.Ledger), Password: c.Tor.ControlPassword, Progress: progress}
	var fixed []control.Address // SOCKS ports that the settings name
	switch {
	case c.Tor.Launch:
		if c.NodeDir == "" {
			return errors.New("[tor] launch = true needs a node directory")
		}
		config.Launch = &control.Launch{
			Executable: c.Tor.Executable,
			DataDir:    filepath.Join(c.NodeDir, "private", torStateDir),
			TorrcFile:  c.path(c.Tor.TorrcFile),
			Torrc:      c.Tor.Torrc,
		}
	default:
		if c.Tor.SOCKSPort != "" {
			a, err := ports.allow(c.Tor.SOCKSPort)
			if err != nil {
				return fmt.Errorf("[tor] socks.port: %w", err)
			}
			fixed = []control.Address{a}
		}
		if c.Tor.ControlPort != "" {
			a, err := ports.allow(c.Tor.ControlPort)
			if err != nil {
				return fmt.Errorf("[tor] control.port: %w", err)
			}
			config.Control = []control.Address{a}
		}
		if fixed == nil && config.Control == nil {
			fixed = []control.Address{
				{Network: "tcp", Address: "127.0.0.1:9050"}, // tor
				{Network: "tcp", Address: "127.0.0.1:9150"}, // Tor Browser
			}
		}
	}
	if config.Launch != nil || config.Control != nil {
		tor, err := control.Start(ctx, config)
		if err != nil {
			return err
		}
		h.tor = tor
	}
	h.ports = func() ([]control.Address, error) { return fixed, nil }
	if fixed == nil {
		h.ports = h.tor.SOCKS
	}
	h.reach = ports.dial
	h.socks = control.NewSOCKS(ports.dial, h.ports)
	return nil
}

func (c Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.NodeDir, p)
}

// torPorts dials Tor's own ports: on this machine, and the very addresses that
// the settings name (Tor may live in a machine next door: Whonix, a container).
type torPorts struct {
	allowed map[control.Address]bool // fixed before the first dial
}

func (t *torPorts) allow(endpoint string) (control.Address, error) {
	network, address, err := ParseClientEndpoint(endpoint)
	if err != nil {
		return control.Address{}, err
	}
	a := control.Address{Network: network, Address: address}
	t.allowed[a] = true
	return a, nil
}

func (t *torPorts) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "unix" && !numericLoopback(address) && !t.allowed[control.Address{Network: network, Address: address}] {
		return nil, fmt.Errorf("dial tor at %s: not on this machine, and not in the settings: %w", address, ErrRefused)
	}
	return (&net.Dialer{Timeout: directTimeout}).DialContext(ctx, network, address)
}

// dialControl counts control connections as local; a stream is counted where it
// is asked for.
func (t *torPorts) dialControl(ledger *Ledger) control.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := t.dial(ctx, network, address)
		ledger.Dialed(ViaLocal, err)
		return conn, err
	}
}

var _ io.Closer = (*Handle)(nil)
