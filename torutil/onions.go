package torutil

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"

	"warren/node/durable"
	"warren/torutil/onion"
)

// onions opens the onion endpoints of a node.
type onions struct {
	config   Config
	handle   *Handle
	progress func(Progress)
}

// start serves [tor] onion = true: as in Tahoe, from the beginning and whatever
// tub.port says, because Tahoe's own nodes have tub.port = tcp:LOCAL on loopback.
func (o *onions) start() error {
	t := o.config.Tor
	if !t.Onion {
		return nil
	}
	key, err := onion.Load(o.config.path(t.OnionKeyFile))
	if err != nil {
		return fmt.Errorf("[tor] onion.private_key_file: %w", err)
	}
	target := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(t.OnionLocalPort)))
	o.handle.service = onion.Serve(o.handle.tor, key, t.OnionExternalPort, target, o.progress)
	return nil
}

func (o *onions) listen(ctx context.Context, e Endpoint) (net.Listener, error) {
	if e.OnionPort == 0 {
		if o.handle.service == nil {
			return nil, fmt.Errorf("listen:tor needs [tor] onion = true: %w", ErrEndpoint)
		}
		ln, err := listenLoopback(ctx, o.config.Tor.OnionLocalPort)
		if err != nil {
			return nil, err
		}
		return nodeListener{ln, o.handle.service.Addr()}, nil
	}
	key, err := o.key(e)
	if err != nil {
		return nil, err
	}
	ln, err := listenLoopback(ctx, e.LocalPort)
	if err != nil {
		return nil, err
	}
	return onion.Listen(o.handle.tor, key, e.OnionPort, ln, o.progress), nil
}

// key loads the key of an onion: endpoint, and makes it the first time.
func (o *onions) key(e Endpoint) (onion.Key, error) {
	file := e.KeyFile
	if file == "" {
		file = filepath.Join("private", fmt.Sprintf("tor_onion_%d.privkey", e.OnionPort))
	}
	if o.config.NodeDir == "" && !filepath.IsAbs(file) {
		return onion.Key{}, fmt.Errorf("listen on %s: no node directory for its key: %w", e, ErrEndpoint)
	}
	path := o.config.path(file)
	key, err := onion.Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = onion.NewKey(rand.Reader); err != nil {
		return onion.Key{}, err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return onion.Key{}, err
	}
	return key, onion.Save(path, key)
}

// nodeListener is the local end of the node's onion service, which lives as long
// as the Handle.
type nodeListener struct {
	net.Listener
	addr onion.Addr
}

func (l nodeListener) Addr() net.Addr { return l.addr }

func listenLoopback(ctx context.Context, port uint16) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
}

// NewOnion is what create-node --listen=tor decides, in tahoe.cfg's words. No tor
// is needed to decide it.
type NewOnion struct {
	LocalPort    uint16 // [tor] onion.local_port
	ExternalPort uint16 // [tor] onion.external_port
	KeyFile      string // [tor] onion.private_key_file, relative to the node directory
	TubPort      string // [node] tub.port
	TubLocation  string // [node] tub.location
}

// CreateOnion makes a node's onion key in its private directory, which must
// exist, and picks a free local port for it. A key that is there is kept: its
// address may be known already.
func CreateOnion(nodeDir string) (NewOnion, error) {
	file := filepath.Join("private", onionKeyFile)
	path := filepath.Join(nodeDir, file)
	key, err := onion.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = onion.NewKey(rand.Reader); err == nil {
			err = onion.Save(path, key)
		}
	}
	if err != nil {
		return NewOnion{}, err
	}
	local, err := FreePort()
	if err != nil {
		return NewOnion{}, err
	}
	return NewOnion{
		LocalPort:    local,
		ExternalPort: onionDefaultPort,
		KeyFile:      file,
		TubPort:      fmt.Sprintf("tcp:%d:interface=127.0.0.1", local),
		TubLocation:  fmt.Sprintf("tor:%s:%d", key.Address(), onionDefaultPort),
	}, nil
}

// FreePort finds a TCP port that nobody listens on, for a configuration file.
// Somebody may take it before it is used: who wants a listener now asks for port
// 0 instead.
func FreePort() (uint16, error) {
	ln, err := listenLoopback(context.Background(), 0)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return uint16(ln.Addr().(*net.TCPAddr).Port), nil
}
