package node

import (
	"path/filepath"
	"time"

	"warren/node/config"
	"warren/node/storage"
	"warren/node/storage/expire"
	"warren/node/webapi"
)

// checkerState is where the lease checker keeps its place, in the storage directory;
// Tahoe, which has a checker of its own, takes no notice.
const checkerState = "warren_lease_checker.json"

// ExpireSettings are the lease checker's, as a node directory's settings have them.
func ExpireSettings(s config.StorageSettings) expire.Settings {
	e := expire.Settings{
		Enabled: s.Expire.Enabled, Mode: expire.Mode(s.Expire.Mode),
		Immutable: s.Expire.Immutable, Mutable: s.Expire.Mutable,
	}
	if e.Mode == expire.CutoffDate {
		e.Cutoff = s.Expire.CutoffDate.Unix()
	} else {
		e.Override = int64(s.Expire.OverrideDuration / time.Second)
	}
	return e
}

// openHouse makes the one who looks after the leases.
func (n *Node) openHouse() {
	s := n.Config.Settings.Storage
	settings := ExpireSettings(s)
	if settings.Enabled {
		n.opts.Log.Info("shares whose leases have ended are removed", "mode", settings.Mode, "immutable", settings.Immutable, "mutable", settings.Mutable)
		if settings.Cutoff > time.Now().Unix() {
			n.opts.Log.Warn("expire.cutoff_date is in the future: until then even new shares are removed; set an earlier date in tahoe.cfg")
		}
	}
	n.checker = expire.New(n.server, expire.Options{
		Settings: settings, State: filepath.Join(s.Dir, checkerState), Log: n.opts.Log,
	})
}

// House is how the storage that this node offers stands.
type House struct {
	Directory string `json:"directory"`
	ReadOnly  bool   `json:"readonly"`
	// Available is what others may still store, beside Reserved.
	Available uint64          `json:"available_bytes"`
	Reserved  uint64          `json:"reserved_bytes"`
	Expire    expire.Settings `json:"expire"`
	// Checked is the lease checker's latest finished round, Checking the one under way.
	Checked  *expire.Results `json:"checked,omitempty"`
	Checking *expire.Results `json:"checking,omitempty"`
}

// House says how the storage stands that this node offers; false: it offers none.
func (n *Node) House() (House, bool) {
	if n.server == nil {
		return House{}, false
	}
	s := n.Config.Settings.Storage
	h := House{Directory: s.Dir, ReadOnly: s.ReadOnly, Reserved: s.Reserved, Expire: ExpireSettings(s)}
	if v, err := storage.Local(n.server).Version(n.ctx); err == nil {
		h.Available = v.AvailableSpace
	} else {
		n.opts.Log.Warn("asking the storage for free space", "error", err)
	}
	state := n.checker.State()
	if last, ok := state.Last(); ok {
		h.Checked = &last
	}
	h.Checking = state.Current
	return h, true
}

// storageStatus is what the page of the storage server says.
func (n *Node) storageStatus() (webapi.Storage, bool) {
	if n.server == nil {
		return webapi.Storage{}, false
	}
	return webapi.Storage{
		Nickname: n.Config.Settings.Nickname, NodeID: n.secrets.keyID, Statistics: n.statistics(),
		Expire: ExpireSettings(n.Config.Settings.Storage), Checker: n.checker.State(),
	}, true
}

// statistics are this node's figures, as Tahoe's /statistics has them.
func (n *Node) statistics() storage.Statistics {
	if n.server == nil {
		s := storage.Statistics{Counters: map[string]uint64{}, Stats: map[string]*float64{}}
		n.usage.addTo(s)
		return s
	}
	s := n.server.Statistics()
	n.usage.addTo(s)
	if last, ok := n.checker.State().Last(); ok {
		s.Set("storage_server.total_bucket_count", float64(last.Buckets))
	}
	return s
}
