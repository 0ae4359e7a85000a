package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"warren/node/config"
	"warren/node/furl"
	"warren/node/grid"
	"warren/node/introducer"
	"warren/node/sharedport"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/gbs"
	"warren/node/taghash"
)

// Files in private/ that keep our services' addresses.
const (
	storageFURL    = "storage.furl"
	introducerFURL = "introducer.furl"
)

// openIntroducer makes this node the introducer of a grid.
func (n *Node) openIntroducer() error {
	swissnum, err := n.Config.Swissnum(introducerFURL, n.secrets.tubID)
	if err != nil {
		return err
	}
	n.introducer = introducer.NewServer(n.opts.Program, n.opts.Log)
	return n.Config.SaveFURL(introducerFURL, n.introducer.Register(n.tub, swissnum))
}

// openStorage makes the storage server, which this node's own client reaches in
// this process.
func (n *Node) openStorage() error {
	s := n.Config.Settings.Storage
	// Asked before anything makes a directory there, and answered on disk before the
	// first share of ours: others look for shares where they were put.
	seed, err := n.permutationSeed(s.Dir)
	if err != nil {
		return err
	}
	backend, err := disk.Open(s.Dir)
	if err != nil {
		return err
	}
	tub, err := taghash.DecodeBase32(n.secrets.tubID)
	if err != nil {
		return err
	}
	n.server = storage.NewServer(backend, storage.Options{
		NodeID: container.NodeID(tub), ReservedSpace: s.Reserved, ReadOnly: s.ReadOnly, Application: n.opts.Program, Log: n.opts.Log,
	})
	swissnum, err := n.Config.Swissnum(storageFURL, n.secrets.tubID)
	if err != nil {
		return err
	}
	hints, err := n.location()
	if err != nil {
		return err
	}
	n.address = furl.FURL{TubID: n.secrets.tubID, Hints: hints, Swissnum: swissnum}
	if err := n.Config.SaveFURL(storageFURL, n.address); err != nil {
		return err
	}
	n.seed = seed
	raw, err := taghash.DecodeBase32(seed)
	if err != nil {
		return fmt.Errorf("permutation-seed: %w", err)
	}
	n.openHouse()
	n.Grid.AddLocal(grid.Server{
		ID: n.secrets.keyID, Nickname: n.Config.Settings.Nickname, PermutationSeed: raw, LeaseSeed: tub,
		ReadOnly: s.ReadOnly, Client: storage.Local(n.server),
	})
	return nil
}

// permutationSeed fixes this server's place at its first call. A server from before
// Tahoe-LAFS 1.10 has shares, and a place by its tub id that is recorded nowhere.
func (n *Node) permutationSeed(storageDir string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(storageDir, "shares"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	shares := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != "incoming" })
	return n.Config.PermutationSeed(n.secrets.key.Public().(ed25519.PublicKey), n.secrets.tubID, shares)
}

// listen opens the shared port: Foolscap, and HTTPS where storage is served.
func (n *Node) listen(ctx context.Context) error {
	s := n.Config.Settings
	if !s.Listening || n.server == nil && n.Config.Kind != config.Introducer {
		return nil // a client needs no port of its own
	}
	ports, err := n.ports()
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return errors.New("tub.port is not set: create-node with --port and --location, or --hostname, or --listen=tor, or set it in tahoe.cfg")
	}
	var https func(net.Listener)
	if n.server != nil {
		handler := gbs.NewServer(n.server.As(storage.Account{}), n.address.Swissnum, gbs.Options{Log: n.opts.Log})
		https = func(l net.Listener) {
			if err := handler.Serve(n.ctx, l, n.secrets.certificate); err != nil {
				n.opts.Log.Error("the storage port stopped", "error", err)
			}
		}
	}
	for _, endpoint := range ports {
		l, err := n.opts.Network.Listen(ctx, endpoint)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTubPort, err)
		}
		port := sharedport.New(l)
		n.running.Go(func() {
			if err := n.tub.Serve(port.Foolscap()); err != nil && n.ctx.Err() == nil {
				n.opts.Log.Error("the Foolscap port stopped", "error", err)
			}
		})
		if https != nil {
			n.running.Go(func() { https(port.TLS()) })
		} else if err := port.TLS().Close(); err != nil {
			return err
		}
		n.running.Go(func() {
			<-n.ctx.Done()
			if err := port.Close(); err != nil {
				n.opts.Log.Debug("closing the shared port", "error", err)
			}
		})
	}
	return nil
}

// announcement is what our storage server tells the grid.
func (n *Node) announcement() (map[string]any, error) {
	// A Tahoe client that sees any NURL uses HTTPS only and never falls back: only
	// what others can reach is named.
	var nurls []furl.NURL
	for _, h := range n.address.Hints {
		if h.Host == "" {
			continue // a kind of hint that is for others to know
		}
		u, err := gbs.NURL(n.secrets.certificate, h.Host, h.Port, h.Type == "tor", n.address.Swissnum)
		if err != nil {
			return nil, err
		}
		nurls = append(nurls, u)
	}
	return introducer.StorageAnnouncement(n.address, nurls, n.seed), nil
}

// connect lists the ways to a storage server, for the grid.
func (n *Node) connect(a grid.Announced) ([]grid.Candidate, string) {
	if n.surveying {
		return nil, "it is counted only"
	}
	if n.Config.Settings.Client.ForceFoolscap {
		return nil, "[client] force_foolscap is set, and storage over Foolscap is not supported by this version"
	}
	var ways []grid.Candidate
	for _, u := range a.NURLs {
		via := "HTTPS"
		if u.Tor {
			via = "HTTPS over Tor"
		}
		c := gbs.NewClient(u, n.opts.Network.DialContext)
		ways = append(ways, grid.Candidate{Client: c, Via: via, Close: c.Close})
	}
	return ways, "it speaks Foolscap only, which this version does not speak to storage servers"
}

// startClients connects to the introducers and announces our storage to them.
func (n *Node) startClients() error {
	static, warnings, err := n.Config.StaticServers()
	if err != nil {
		return err
	}
	for _, w := range warnings {
		n.opts.Log.Warn(w.String())
	}
	for _, s := range static {
		n.announced(s.ID, s.Announcement, grid.Static)
	}
	var ours map[string]any
	if n.server != nil && n.Config.Settings.Listening {
		if ours, err = n.announcement(); err != nil {
			return err
		}
	}
	return n.startIntroducers(ours)
}

// startIntroducers subscribes to every introducer and announces ours, when it is
// not nil, to each.
func (n *Node) startIntroducers(ours map[string]any) error {
	known, err := n.Config.Introducers()
	if err != nil {
		return err
	}
	for _, k := range known {
		c, err := introducer.NewClient(n.tub, k.FURL, introducer.ClientOptions{
			Nickname: n.Config.Settings.Nickname, Version: n.opts.Program, CachePath: k.CacheFile, Key: n.secrets.key,
			Sequence: n.nextSeqnum, Log: n.opts.Log,
		})
		if err != nil {
			n.opts.Log.Warn("the cached announcements cannot be used", "introducer", k.Petname, "error", err)
		}
		n.clients = append(n.clients, c)
		c.Subscribe(introducer.Storage, func(a introducer.Announcement) { n.announced(a.KeyID, a.Values, k.Petname) })
		if ours != nil {
			if err := c.Publish(introducer.Storage, ours); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Node) nextSeqnum() (int64, error) {
	seq, err := n.Config.NextSeqnum()
	return int64(seq), err
}

// introducerSummary says in one sentence how the connection to an introducer stands.
func introducerSummary(s introducer.ClientStatus) string {
	switch {
	case s.Ready:
		return "Connected to " + s.Hint
	case s.Connected && s.LastError != nil:
		// Something answers there, and not as an introducer does, or not yet.
		return "Trying to connect: " + s.LastError.Error()
	case s.Trying, s.Connected:
		return "Trying to connect"
	case s.LastError != nil:
		return "Not connected: " + s.LastError.Error()
	}
	return "Not connected"
}

// announced passes a storage server on to the grid.
func (n *Node) announced(id string, values map[string]any, source string) {
	a, err := grid.ParseAnnouncement(id, values, source)
	if err != nil {
		n.opts.Log.Warn("an announcement cannot be used", "server", id, "from", source, "error", err)
		return
	}
	n.Grid.Announce(a)
}
