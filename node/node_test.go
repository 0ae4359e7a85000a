package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"warren/node/config"
	"warren/node/mutable"
	"warren/node/taghash"
)

// loopback is a Network that reaches nobody, and notes where the node listens.
type loopback struct{ listened []string }

func (*loopback) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nobody is reached here")
}

func (l *loopback) Listen(_ context.Context, endpoint string) (net.Listener, error) {
	l.listened = append(l.listened, endpoint)
	return net.Listen("tcp", "127.0.0.1:0")
}

// directory makes the directory of a storage server.
func directory(t *testing.T, settings ...config.Setting) *config.Node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	o := config.DefaultOptions(config.Client, true)
	o.Port, o.Location, o.WebPort, o.Settings = "tcp:3457:interface=127.0.0.1", "tcp:127.0.0.1:3457", "none", settings
	if err := config.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	return reopened(t, dir)
}

func reopened(t *testing.T, dir string) *config.Node {
	t.Helper()
	cfg, err := config.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// open opens a node, which ends with the test.
func open(t *testing.T, cfg *config.Node, o Options) *Node {
	t.Helper()
	n, _ := opened(t, cfg, o)
	return n
}

// opened is open for a node that ends before the test does.
func opened(t *testing.T, cfg *config.Node, o Options) (n *Node, end func()) {
	t.Helper()
	n, err := Open(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return n, end
}

// A server that has shares and no recorded place is from before Tahoe-LAFS 1.10:
// those who put the shares there look for them by its tub id.
func TestPlaceInTheRing(t *testing.T) {
	cfg := directory(t)
	shares := filepath.Join(cfg.Settings.Storage.Dir, "shares")
	if err := os.MkdirAll(filepath.Join(shares, "incoming"), 0o700); err != nil {
		t.Fatal(err)
	}
	n, end := opened(t, cfg, Options{Network: &loopback{}})
	fresh := taghash.EncodeBase32([]byte(strings.TrimPrefix(n.secrets.keyID, "v0-")))
	if n.seed != fresh {
		t.Errorf("a new server's seed is %s, want %s", n.seed, fresh)
	}
	if err := os.MkdirAll(filepath.Join(shares, "aa", "aaaaaaaaaaaaaaaaaaaaaaaaaa"), 0o700); err != nil {
		t.Fatal(err)
	}
	end()
	if n, end = opened(t, reopened(t, cfg.Dir), Options{Network: &loopback{}}); n.seed != fresh {
		t.Errorf("the seed changed to %s when there were shares", n.seed)
	}
	end()
	if err := os.Remove(cfg.Path("permutation-seed")); err != nil {
		t.Fatal(err)
	}
	if n := open(t, reopened(t, cfg.Dir), Options{Network: &loopback{}}); n.seed != n.secrets.tubID {
		t.Errorf("an old server's seed is %s, want its tub id %s", n.seed, n.secrets.tubID)
	}
}

// What the owner of a server forbids is not done all the same.
func TestStorageIsNotOffered(t *testing.T) {
	for _, key := range []string{"anonymous", "force_foolscap"} {
		value := map[string]string{"anonymous": "false", "force_foolscap": "true"}[key]
		network := &loopback{}
		n := open(t, directory(t, config.Setting{Section: "storage", Key: key, Value: value}), Options{Network: network})
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.server != nil || len(network.listened) > 0 || len(n.Grid.Servers()) > 0 {
			t.Errorf("%s = %s: storage is offered at %q", key, value, network.listened)
		}
	}
	network := &loopback{}
	if err := open(t, directory(t), Options{Network: network}).Start(t.Context()); err != nil || len(network.listened) != 1 {
		t.Errorf("without either: listens at %q, %v", network.listened, err)
	}
}

// A directory without tub.port keeps the port that was chosen once in client.port:
// it is where the node listens, and what AUTO announces.
func TestPortThatWasChosenOnce(t *testing.T) {
	cfg := directory(t)
	for name, text := range map[string]string{"tahoe.cfg": "[node]\nnickname = old\n", "client.port": "tcp:46373\n"} {
		if err := os.WriteFile(cfg.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	network := &loopback{}
	n := open(t, reopened(t, cfg.Dir), Options{Network: network, Addresses: func() []string { return []string{"192.0.2.1", "2001:db8::1"} }})
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(network.listened) != 1 || network.listened[0] != "tcp:46373" {
		t.Errorf("listens at %q", network.listened)
	}
	if len(n.address.Hints) != 1 || n.address.Hints[0].Text() != "tcp:192.0.2.1:46373" {
		t.Errorf("announces %d hints", len(n.address.Hints))
	}
}

// mutable.format is read from tahoe.cfg as Tahoe reads it.
func TestMutableFormat(t *testing.T) {
	for value, want := range map[string]mutable.Format{"": mutable.SDMF, "sdmf": mutable.SDMF, "mdmf": mutable.MDMF, "MDMF": mutable.MDMF, "new": mutable.SDMF} {
		var settings []config.Setting
		if value != "" {
			settings = append(settings, config.Setting{Section: "client", Key: "mutable.format", Value: value})
		}
		if got := dirFormat(directory(t, settings...).Settings.Client.MutableFormat); got != want {
			t.Errorf("mutable.format = %q: %v", value, got)
		}
	}
}
