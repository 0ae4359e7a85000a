package daemon

import (
	"context"
	"fmt"

	"warren/node/config"
	"warren/torutil"
	"warren/torutil/control"
)

// NetworkConfig is what a node directory says about the network.
func NetworkConfig(cfg *config.Node) torutil.Config {
	s := cfg.Settings
	return torutil.Config{
		NodeDir: cfg.Dir, TCP: s.TCP, RevealIP: s.RevealIP,
		Tor: torutil.TorConfig{
			Disabled: !s.Tor.Enabled, SOCKSPort: s.Tor.SocksPort, ControlPort: s.Tor.ControlPort, Launch: s.Tor.Launch,
			Executable: s.Tor.Executable, Onion: s.Tor.Onion,
			OnionLocalPort: uint16(s.Tor.OnionLocalPort), OnionExternalPort: uint16(s.Tor.OnionExternalPort), OnionKeyFile: s.Tor.OnionKeyFile,
			TorrcFile: s.Tor.TorrcFile,
		},
	}
}

// OpenNetwork gives a node directory's process its one Network.
func OpenNetwork(ctx context.Context, cfg *config.Node, progress func(torutil.Progress)) (torutil.Network, *torutil.Handle, error) {
	return torutil.Open(ctx, NetworkConfig(cfg), progress)
}

// TorState is the state of a tor that we control, in words.
func TorState(s control.Status) string {
	switch {
	case s.Err != nil:
		return s.Err.Error()
	case !s.Attached:
		return "not connected to tor"
	case s.Percent < 100:
		return fmt.Sprintf("tor %s starting: %d %% %s", s.Version, s.Percent, s.Summary)
	}
	return "tor " + s.Version + " ready"
}
