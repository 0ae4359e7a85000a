package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/cmd/internal/ui"
	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/disk"
	"warren/node/storage/storagetest"
)

// TestExpireDryRun: what would go is shown, and stays; while a server has the
// directory open.
func TestExpireDryRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tahoe-client.tac", "")
	cfg := "[node]\ntub.port = tcp:1\ntub.location = tcp:127.0.0.1:1\n[storage]\n"
	write("tahoe.cfg", cfg)
	run := func(args ...string) (int, string, string) {
		t.Helper()
		var out, errOut bytes.Buffer
		code := Main("0", append([]string{"warren", "-d", dir, "storage", "expire"}, args...), nil, &out, &errOut)
		return code, out.String(), errOut.String()
	}
	if code, _, said := run(); code != ui.ExitUsage || !strings.Contains(said, "--dry-run") {
		t.Errorf("without --dry-run: %d, %s", code, said)
	}
	if code, _, said := run("--dry-run"); code != ui.ExitNotFound || !strings.Contains(said, "create-node") {
		t.Errorf("without shares: %d, %s", code, said)
	}

	backend, err := disk.Open(filepath.Join(dir, "storage"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	server := storage.NewServer(backend, storage.Options{Now: func() time.Time { return now }})
	defer server.Close()
	client := storage.Local(server)
	put := func(si caps.StorageIndex, ago time.Duration) {
		t.Helper()
		now = time.Now().Add(-ago)
		if _, _, err := client.CreateImmutable(t.Context(), si, storagetest.Secret('u'), storage.LeaseSecrets{}, []int{0, 1}, 5000); err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			if done, err := client.WriteImmutable(t.Context(), si, n, storagetest.Secret('u'), 0, make([]byte, 5000)); err != nil || !done {
				t.Fatal(done, err)
			}
		}
	}
	const day = 24 * time.Hour
	put(caps.StorageIndex{1}, 40*day)
	put(caps.StorageIndex{2}, 20*day)
	put(caps.StorageIndex{3}, 0)
	if err := os.WriteFile(filepath.Join(dir, "storage", "shares", caps.StorageIndex{3}.Text()[:2], caps.StorageIndex{3}.Text(), "9"), []byte("no share"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, settings string
		going          uint64
		say            string
	}{
		{"off", "", 2, "would go: 2 shares, 10.2 kB"},
		{"on", "expire.enabled = true\nexpire.mode = age\n", 2, "go while the node runs: 2 shares"},
		{"longer", "expire.mode = age\nexpire.override_lease_duration = 2 months\n", 0, "leases older than 62 days"},
		{"shorter", "expire.mode = age\nexpire.override_lease_duration = 7days\n", 4, "leases older than 7 days"},
		{"by date", "expire.mode = cutoff-date\nexpire.cutoff_date = " + time.Now().Add(-30*day).UTC().Format(time.DateOnly) + "\n", 2, "leases from before"},
		{"slots alone", "expire.immutable = false\n", 0, "exempt"},
	} {
		write("tahoe.cfg", cfg+c.settings)
		code, out, said := run("--dry-run")
		if code != 0 || !strings.Contains(out, c.say) || !strings.Contains(out, "unknown    1 share, 8 B") || !strings.Contains(said, "unreadable: share 9 of "+caps.StorageIndex{3}.Text()) {
			t.Errorf("%s: %d, %s%s", c.name, code, out, said)
		}
		code, out, said = run("--dry-run", "--json")
		var r dryRun
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if code != 0 || said != "" || r.Going.Shares != c.going || r.Total.Shares != 7 || r.Buckets != 3 || r.Failures != 0 || len(r.Unreadable) != 1 {
			t.Errorf("%s: %d, %s%s", c.name, code, out, said)
		}
	}
	for n := byte(1); n < 4; n++ {
		if held, err := client.ListShares(t.Context(), storage.Immutable, caps.StorageIndex{n}); err != nil || len(held) != 2 {
			t.Errorf("afterwards: %v, %v", held, err)
		}
	}
}

func TestByteText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 10240: "10.2 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1 << 40: "1.1 TB", 1<<64 - 1: "18.4 EB"} {
		if got := byteText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
