package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
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
func StartOurIntroducer(t testing.TB) *Introducer { t.Helper(); return startIntroducer(t, Warren(t)) }

// StartOurStorage makes and starts our storage server.
func StartOurStorage(t testing.TB, introducerFURL, nickname string, extra ...string) (*Process, string) {
	t.Helper()
	return startStorage(t, Warren(t), introducerFURL, nickname, extra...)
}

// StartOurClient makes and starts our client and waits for servers servers.
func StartOurClient(t testing.TB, introducerFURL string, needed, happy, total, servers int) *WebClient {
	t.Helper()
	return startClient(t, Warren(t), introducerFURL, needed, happy, total, servers)
}
