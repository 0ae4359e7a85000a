package interop

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/node/config"
	"warren/node/furl"
)

func configPeer(t testing.TB) string { return Script(t, "config_peer.py") }

// TestTahoeReadsOurDirectories: every setting, key and address that we write is the
// same to Tahoe.
func TestTahoeReadsOurDirectories(t *testing.T) {
	t.Parallel()
	python := Python(t)
	intro, err := furl.Parse("pb://sisi4zenj7cxncgvdog7szg3yxbrnamy@tcp:127.0.0.1:9/introducer")
	if err != nil {
		t.Fatal(err)
	}
	port := func() (int, error) { return 4321, nil }
	storage := config.DefaultOptions(config.Client, true)
	storage.Nickname, storage.Hostname, storage.FreePort = "100% B\u00f6b's [node] # = : ;", "example.org", port
	storage.Introducers = map[string]furl.FURL{"default": intro, "no": intro, "1": intro, "a #b": intro}
	storage.StorageDir, storage.Needed, storage.Happy, storage.Total = "/srv/a %(b)s c", 2, 3, 5
	client := config.DefaultOptions(config.Client, false)
	client.HideIP, client.TorLaunch = true, true
	client.Settings = []config.Setting{{Section: "grid", Key: "name", Value: "G"}}
	introducer := config.DefaultOptions(config.Introducer, false)
	introducer.Listen, introducer.TorControlPort, introducer.FreePort = []string{"tor"}, "tcp:127.0.0.1:9051", port
	introducer.Onion = &config.Onion{Host: strings.Repeat("a", 56) + ".onion", Port: 3457, Key: "ED25519-V3:x"}

	for name, o := range map[string]config.CreateOptions{"storage": storage, "client": client, "introducer": introducer} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "node")
			if err := config.Create(dir, o); err != nil {
				t.Fatal(err)
			}
			n, err := config.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if name == "storage" {
				if err := n.Set(config.Setting{Section: "storage", Key: "readonly", Value: "true"}); err != nil {
					t.Fatal(err)
				}
			}
			_, tub, err1 := n.Tub()
			lease, err2 := n.LeaseSecret()
			convergence, err3 := n.ConvergenceSecret()
			id, err4 := n.Identity()
			token, err5 := n.NewAPIToken()
			if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Kind, Nickname, TubID, Secret, Convergence, Public, Token string
				Sections                                                  map[string]map[string]string
				Introducers                                               map[string]string
			}
			if err := json.Unmarshal([]byte(Run(t, time.Minute, python, configPeer(t), "read", dir)), &got); err != nil {
				t.Fatal(err)
			}
			if got.Kind != string(o.Kind) || got.Nickname != o.Nickname || got.TubID != tub || got.Secret != hex.EncodeToString(lease) ||
				got.Convergence != hex.EncodeToString(convergence) || got.Public != "pub-"+config.NodeID(id.Public().(ed25519.PublicKey)) || !token.Equal(got.Token) {
				t.Errorf("Tahoe reads %q", got.Nickname)
			}
			if len(got.Introducers) != len(o.Introducers) {
				t.Errorf("introducers: %d", len(got.Introducers))
			}
			for name, f := range o.Introducers {
				if got.Introducers[name] != f.Text() {
					t.Errorf("introducer %s differs", name)
				}
			}
			s := got.Sections
			switch name {
			case "storage":
				if s["storage"]["storage_dir"] != o.StorageDir || s["storage"]["readonly"] != "true" || s["client"]["shares.total"] != "5" || s["node"]["tub.port"] != "tcp:4321" {
					t.Errorf("%v", s)
				}
			case "client":
				if s["connections"]["tcp"] != "tor" || s["node"]["reveal-ip-address"] != "false" || s["node"]["tub.port"] != "disabled" || s["grid"] != nil {
					t.Errorf("%v", s)
				}
			case "introducer":
				if s["tor"]["onion.private_key_file"] != "private/tor_onion.privkey" || s["client"] != nil {
					t.Errorf("%v", s)
				}
			}
		})
	}
}

// hold starts a Python process that holds something until it is let go.
func hold(t testing.TB, verb, dir string) *Process {
	t.Helper()
	p := Start(t, Python(t), configPeer(t), verb, dir)
	p.Printed("(?m)^held$")
	return p
}

func letGo(p *Process) {
	p.CloseInput()
	p.Ends()
}

// TestOneNodeAtATime: Tahoe's node and ours keep each other out, in both directions.
func TestOneNodeAtATime(t *testing.T) {
	t.Parallel()
	python := Python(t)
	dir := filepath.Join(t.TempDir(), "node")
	if err := config.Create(dir, config.DefaultOptions(config.Client, false)); err != nil {
		t.Fatal(err)
	}
	n, err := config.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()

	l, err := n.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("in the way: A process is already running as PID %d\n", os.Getpid())
	if got := Run(t, time.Minute, python, configPeer(t), "try", dir); got != want {
		t.Errorf("while ours runs, Tahoe says %q", got)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if got := Run(t, time.Minute, python, configPeer(t), "try", dir); got != "held\n" {
		t.Errorf("when ours has ended, Tahoe says %q", got)
	}

	theirs := hold(t, "hold", dir)
	var e *config.RunningError
	if _, err := n.Lock(ctx); !errors.As(err, &e) || e.PID != theirs.Pid() {
		t.Errorf("while Tahoe's runs: %v", err)
	}
	if pid, running, err := config.Running(ctx, dir); pid != theirs.Pid() || !running || err != nil {
		t.Errorf("while Tahoe's runs: %d %v %v", pid, running, err)
	}
	letGo(theirs)
	if l, err = n.Lock(ctx); err != nil {
		t.Fatalf("when Tahoe's has ended: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}

	killed := hold(t, "hold", dir)
	killed.Kill()
	if l, err = n.Lock(ctx); err != nil {
		t.Fatalf("when Tahoe's was killed: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}

	// The lock file itself is the same lock to both.
	short := hold(t, "lock", dir)
	if _, err := n.Lock(ctx); !errors.Is(err, config.ErrRunning) {
		t.Errorf("while Tahoe writes running.process: %v", err)
	}
	letGo(short)
}
