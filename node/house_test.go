package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/config"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/expire"
)

func TestExpireSettings(t *testing.T) {
	for _, c := range []struct {
		set  []config.Setting
		want expire.Settings
	}{
		{nil, expire.Settings{Mode: expire.Age, Immutable: true, Mutable: true}},
		{[]config.Setting{{Section: "storage", Key: "expire.enabled", Value: "true"}, {Section: "storage", Key: "expire.mode", Value: "age"}, {Section: "storage", Key: "expire.override_lease_duration", Value: "2 mo"}},
			expire.Settings{Enabled: true, Mode: expire.Age, Override: 62 * 24 * 3600, Immutable: true, Mutable: true}},
		{[]config.Setting{{Section: "storage", Key: "expire.enabled", Value: "true"}, {Section: "storage", Key: "expire.mode", Value: "cutoff-date"}, {Section: "storage", Key: "expire.cutoff_date", Value: "2009-01-16"}, {Section: "storage", Key: "expire.mutable", Value: "false"}},
			expire.Settings{Enabled: true, Mode: expire.CutoffDate, Cutoff: 1232064000, Immutable: true}},
	} {
		if got := ExpireSettings(directory(t, c.set...).Settings.Storage); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.set, got, c.want)
		}
	}
}

// TestHouse: what the lease checker has found survives a restart of the node, and is
// in its figures; a share that ended is gone.
func TestHouse(t *testing.T) {
	cfg := directory(t, config.Setting{Section: "storage", Key: "expire.enabled", Value: "true"}, config.Setting{Section: "storage", Key: "expire.mode", Value: "age"})
	n, end := opened(t, cfg, Options{Network: &loopback{}})
	h, ok := n.House()
	if !ok || h.Checked != nil || h.Checking != nil || h.Available == 0 || !h.Expire.Enabled || h.Directory != cfg.Settings.Storage.Dir {
		t.Errorf("a new server: %+v", h)
	}
	long, si := time.Now().Add(-40*24*time.Hour), caps.StorageIndex{1}
	layout, err := container.NewImmutable(0, container.Lease{Expires: uint32(long.Unix())})
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(cfg.Settings.Storage.Dir, "shares", si.Text()[:2], si.Text())
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	var share []byte
	for _, p := range layout {
		share = append(share, p.Data...)
	}
	if err := os.WriteFile(filepath.Join(at, "0"), share, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	expire.New(n.server, expire.Options{
		Settings: ExpireSettings(cfg.Settings.Storage), State: filepath.Join(cfg.Settings.Storage.Dir, checkerState),
		Sleep: func(ctx context.Context, d time.Duration) error {
			if d > time.Hour {
				cancel()
			}
			return ctx.Err()
		},
	}).Run(ctx)
	if _, err := os.Stat(at); !os.IsNotExist(err) {
		t.Errorf("the share that ended: %v", err)
	}
	end()
	again := open(t, reopened(t, cfg.Dir), Options{Network: &loopback{}})
	h, _ = again.House()
	if h.Checked == nil || h.Checked.Removed[storage.Immutable].Shares != 1 || h.Checked.Buckets != 1 {
		t.Errorf("after a restart: %+v", h.Checked)
	}
	if v := again.statistics().Stats["storage_server.total_bucket_count"]; v == nil || *v != 1 {
		t.Errorf("bucket count %v", v)
	}
	if _, ok := open(t, directory(t, config.Setting{Section: "storage", Key: "anonymous", Value: "false"}), Options{Network: &loopback{}}).House(); ok {
		t.Error("a node that offers no storage has a house")
	}
}
