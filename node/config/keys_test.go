package config

import (
	"context"
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"warren/node/furl"
	"warren/node/taghash"
)

func TestKeysStay(t *testing.T) {
	n := created(t)
	type keys struct{ lease, convergence, identity, tub, swissnum, seed string }
	var first keys
	for i := range 2 {
		lease, err1 := n.LeaseSecret()
		conv, err2 := n.ConvergenceSecret()
		id, err3 := n.Identity()
		cert, tub, err4 := n.Tub()
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		public := id.Public().(ed25519.PublicKey)
		seed, err1 := n.PermutationSeed(public, tub, i == 1)
		swissnum, err2 := n.Swissnum("storage.furl", tub)
		err3 = n.SaveFURL("storage.furl", furl.FURL{TubID: tub, Swissnum: swissnum})
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		sum := sha1.Sum(cert.Certificate[0])
		if len(lease) != 32 || len(conv) != 32 || tub != taghash.EncodeBase32(sum[:]) || seed != taghash.EncodeBase32([]byte(taghash.EncodeBase32(public))) || len(swissnum) != 32 {
			t.Errorf("%d %d %s %s %d", len(lease), len(conv), tub, seed, len(swissnum))
		}
		got := keys{string(lease), string(conv), string(id), tub, swissnum, seed}
		if i == 0 {
			first = got
		} else if got != first {
			t.Error("the second reading differs")
		}
		nodeid, err1 := readText(n.Path("my_nodeid"))
		pub, err2 := readText(n.Path("node.pubkey"))
		if err := errors.Join(err1, err2); err != nil || nodeid != tub || pub != "pub-"+NodeID(public) {
			t.Errorf("%s %s %v", nodeid, pub, err)
		}
		for want := 2*i + 1; want <= 2*i+2; want++ {
			if seq, err := n.NextSeqnum(); err != nil || seq != want {
				t.Errorf("sequence number %d, want %d, %v", seq, want, err)
			}
		}
	}
	checkModes(t, n.Dir)
	if _, err := n.Swissnum("storage.furl", strings.Repeat("a", 32)); !errors.Is(err, ErrConflict) {
		t.Errorf("another tub: %v", err)
	}
}

// TestPermutationSeed: the two lines are what Tahoe 1.20 wrote in a directory of ours.
func TestPermutationSeed(t *testing.T) {
	const pubkey = "4whacow7vbewnj3lgv6wvwwrercgmrlzdl77rij2xk2n37pgqdgq"
	const want = "gr3wqyldn53to5tcmv3w42rtnrtxmntxoz3xo4tfojrwo3lsnr5gi3bxg5zgs2rspbvte3rtg5ygo4lem5yq"
	key, err := taghash.DecodeBase32(pubkey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := created(t).PermutationSeed(key, "", false); got != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	tub := strings.Repeat("a", 32)
	if got, err := created(t).PermutationSeed(key, tub, true); got != tub || err != nil {
		t.Errorf("with shares: %s, %v", got, err)
	}
}

func TestAPIToken(t *testing.T) {
	n := created(t)
	if _, err := n.APIToken(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	a, err1 := n.NewAPIToken()
	b, err2 := n.NewAPIToken()
	c, err3 := n.APIToken()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if !b.Equal(c.Text()) || a.Equal(b.Text()) || b.Equal("") || (Token{}).Equal("") || len(c.Text()) != 44 {
		t.Error("tokens do not compare")
	}
	secret := Secret("sesame")
	for _, x := range []any{b, &b, secret, []any{b, secret}} {
		out := fmt.Sprintf("%v %+v %#v %s %x %q", x, x, x, x, x, x)
		if strings.Contains(out, b.Text()) || strings.Contains(out, "sesame") || strings.Contains(out, "736573") {
			t.Errorf("%T prints as %s", x, out)
		}
		if j, err := json.Marshal(x); err == nil {
			t.Errorf("%T marshals as %s", x, j)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	n := created(t)
	for _, c := range []struct {
		name, text string
		read       func() error
	}{
		{"secret", "not base32!", func() error { _, err := n.LeaseSecret(); return err }},
		{"secret", "", func() error { _, err := n.LeaseSecret(); return err }},
		{"convergence", "a", func() error { _, err := n.ConvergenceSecret(); return err }},
		{"node.privkey", "priv-v0-aa", func() error { _, err := n.Identity(); return err }},
		{"node.privkey", "", func() error { _, err := n.Identity(); return err }},
		{"node.pem", "", func() error { _, _, err := n.Tub(); return err }},
		{"node.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", func() error { _, _, err := n.Tub(); return err }},
		{"storage.furl", "pb://x", func() error { _, err := n.Swissnum("storage.furl", "x"); return err }},
		{"api_auth_token", "", func() error { _, err := n.APIToken(); return err }},
		{"api_auth_token", "a\x00b", func() error { _, err := n.APIToken(); return err }},
		{"../permutation-seed", "0", func() error { _, err := n.PermutationSeed(nil, "", false); return err }},
		{"../announcement-seqnum", "x", func() error { _, err := n.NextSeqnum(); return err }},
	} {
		if err := os.WriteFile(n.PrivatePath(c.name), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.read(); !errors.Is(err, ErrValue) {
			t.Errorf("%s %q: %v", c.name, c.text, err)
		}
		got, err := os.ReadFile(n.PrivatePath(c.name))
		if err != nil || string(got) != c.text {
			t.Errorf("%s: was written over", c.name)
		}
	}
	// An empty convergence secret is a choice.
	if err := n.WritePrivate("convergence", []byte("\n")); err != nil {
		t.Fatal(err)
	}
	if s, err := n.ConvergenceSecret(); err != nil || len(s) != 0 {
		t.Errorf("%d bytes, %v", len(s), err)
	}
}

func TestSmallFiles(t *testing.T) {
	n := created(t)
	if p, err := n.ListenPort(); p != "" || err != nil {
		t.Errorf("%q %v", p, err)
	}
	if err := errors.Join(os.WriteFile(n.Path("client.port"), []byte("1234\n"), 0o600), n.SetNodeURL("http://127.0.0.1:3456/")); err != nil {
		t.Fatal(err)
	}
	if p, err := n.ListenPort(); p != "tcp:1234" || err != nil {
		t.Errorf("%q %v", p, err)
	}
	if u, err := readText(n.Path("node.url")); u != "http://127.0.0.1:3456/" || err != nil {
		t.Errorf("%q %v", u, err)
	}
	if err := n.SetNodeURL("a\nb"); !errors.Is(err, ErrValue) {
		t.Errorf("%v", err)
	}
	if runtime.GOOS != "windows" {
		if err := errors.Join(os.WriteFile(n.PrivatePath("loose"), nil, 0o644), os.Chmod(n.PrivatePath("loose"), 0o755),
			os.Mkdir(n.PrivatePath("sub"), 0o755), os.Symlink("/etc/passwd", n.PrivatePath("link")), os.Chmod(n.PrivatePath(), 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := n.SecurePrivate(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(n.PrivatePath("link")); err != nil {
			t.Fatal(err)
		}
		checkModes(t, n.Dir)
	}
}

func TestLock(t *testing.T) {
	ctx := context.Background()
	n := created(t)
	l, err := n.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text, err := readText(n.Path(pidFile))
	pid, start, perr := parsePID(text)
	if err != nil || perr != nil || pid != os.Getpid() || start < 1e9 {
		t.Errorf("%q %v %v", text, err, perr)
	}
	var e *RunningError
	if _, err := n.Lock(ctx); !errors.As(err, &e) || !errors.Is(err, ErrRunning) || e.PID != os.Getpid() {
		t.Errorf("locked twice: %v", err)
	}
	if pid, running, err := Running(ctx, n.Dir); pid != os.Getpid() || !running || err != nil {
		t.Errorf("%d %v %v", pid, running, err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if _, running, err := Running(ctx, n.Dir); running || err != nil {
		t.Errorf("%v %v", running, err)
	}
	if _, err := os.Stat(n.Path(pidFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestStaleRecords: what a dead node leaves keeps nobody out, what may be a living
// one's does.
func TestStaleRecords(t *testing.T) {
	ctx := context.Background()
	n := created(t)
	sleeper := exec.Command("sleep", "60") // a living process that is no node
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	alivePID, deadPID := sleeper.Process.Pid, gone.ProcessState.Pid()

	for _, c := range []struct {
		name, record, copied string
		running              bool
	}{
		{"a dead process", fmt.Sprintf("%d 1000.5\n", deadPID), "", false},
		{"a living one", fmt.Sprintf("%d %f\n", alivePID, startTime(alivePID)), "", true},
		{"ours, killed, its number taken since", fmt.Sprintf("%d 1000.5\n", alivePID), fmt.Sprintf("%d 1000.5\n", alivePID), false},
		{"Tahoe's with the number that ours had", fmt.Sprintf("%d %f\n", alivePID, startTime(alivePID)), fmt.Sprintf("%d 1000.5\n", alivePID), true},
		{"Tahoe's, its number taken by what is no node", fmt.Sprintf("%d 1000.5\n", alivePID), "", runtime.GOOS != "linux"},
	} {
		os.Remove(n.Path(lifeFile))
		if err := os.WriteFile(n.Path(pidFile), []byte(c.record), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.copied != "" {
			if err := os.WriteFile(n.Path(lifeFile), []byte(c.copied), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, running, err := Running(ctx, n.Dir); running != c.running || err != nil {
			t.Errorf("%s: running %v, %v", c.name, running, err)
		}
		l, err := n.Lock(ctx)
		if errors.Is(err, ErrRunning) != c.running {
			t.Errorf("%s: %v", c.name, err)
		}
		if l != nil {
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, text := range []string{"", "x y\n", "1\n", "-1 2\n", "0 1\n", "1 nan\n", "1 2 3\n", "99999999999999999999 1\n"} {
		if err := os.WriteFile(filepath.Join(n.Dir, pidFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Lock(ctx); !errors.Is(err, ErrValue) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
