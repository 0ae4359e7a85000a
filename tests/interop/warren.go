package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var (
	buildOnce sync.Once
	built     string
	buildErr  error
)

// Warren returns the path of our binary, built from this tree once a test run.
func Warren(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		var dir string
		if dir, buildErr = os.MkdirTemp("", "warren-bin-"); buildErr != nil {
			return
		}
		built = filepath.Join(dir, "warren")
		cmd := exec.Command("go", "build", "-o", built, "./cmd/warren")
		cmd.Dir = Root(t)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

// RemoveBuilt removes what Warren built. A TestMain calls it last.
func RemoveBuilt() {
	if built != "" {
		os.RemoveAll(filepath.Dir(built))
	}
}

// SecretFile writes a secret (a FURL) to a file of its own and returns "@PATH",
// which our commands take in place of the secret itself.
func SecretFile(t testing.TB, secret string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "secret-*")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(secret + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return "@" + f.Name()
}

// StartOurIntroducer makes and starts our introducer on loopback.
func StartOurIntroducer(t testing.TB) *Introducer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "introducer")
	port := FreePort(t)
	Run(t, time.Minute, Warren(t), "create-introducer", "--listen=tcp",
		fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", port), dir)
	p := Start(t, Warren(t), "run", dir)
	furl := waitForFile(t, p, filepath.Join(dir, "private", "introducer.furl"))
	return &Introducer{Process: p, Dir: dir, FURL: furl}
}

// StartOurStorage makes and starts our storage server.
func StartOurStorage(t testing.TB, introducerFURL, nickname string, extra ...string) (*Process, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), nickname)
	port := FreePort(t)
	args := append([]string{"create-node", "--nickname=" + nickname, "--introducer=" + SecretFile(t, introducerFURL), "--listen=tcp",
		fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", port), "--webport=none"}, extra...)
	Run(t, time.Minute, Warren(t), append(args, dir)...)
	p := Start(t, Warren(t), "run", dir)
	waitForFile(t, p, filepath.Join(dir, "private", "storage.furl"))
	return p, dir
}

// StartOurClient makes and starts our client and waits for servers servers.
func StartOurClient(t testing.TB, introducerFURL string, needed, happy, total, servers int) *WebClient {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "client")
	Run(t, time.Minute, Warren(t), "create-client", "--introducer="+SecretFile(t, introducerFURL),
		fmt.Sprintf("--shares-needed=%d", needed), fmt.Sprintf("--shares-happy=%d", happy), fmt.Sprintf("--shares-total=%d", total),
		fmt.Sprintf("--webport=tcp:%d:interface=127.0.0.1", FreePort(t)), dir)
	return RunClient(t, Warren(t), dir, servers)
}
