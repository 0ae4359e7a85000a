package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/magicfolder"
	"warren/node/caps"
)

// webGrid is a folder's grid through the web API of a node, so that folders are
// tested against magic-folder on a grid that is Tahoe's alone.
type webGrid struct{ url string }

func (g webGrid) do(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, g.url+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusConflict:
		return nil, magicfolder.ErrExists
	case strings.Contains(string(b), "UploadUnhappinessError"):
		return nil, magicfolder.ErrUnhappy
	case strings.Contains(string(b), "NotEnoughShares") || strings.Contains(string(b), "NoShares") || resp.StatusCode == http.StatusGone:
		return nil, magicfolder.ErrUnavailable
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("the web API answers %d", resp.StatusCode)
	}
	return b, nil
}

func (g webGrid) PutFile(ctx context.Context, r io.Reader, size int64) (magicfolder.Cap, error) {
	b, err := g.do(ctx, "PUT", "/uri", io.LimitReader(r, size))
	return magicfolder.Cap(b), err
}

type webNode struct {
	Read     *string         `json:"ro_uri"`
	Write    string          `json:"rw_uri,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

func (g webGrid) PutDirectory(ctx context.Context, entries []magicfolder.Entry) (magicfolder.Cap, error) {
	children := map[string][2]any{}
	for _, e := range entries {
		n := webNode{Metadata: e.Metadata}
		if read := e.Read.Text(); read != "" {
			n.Read = &read
		}
		children[e.Name] = [2]any{"filenode", n}
	}
	raw, err := json.Marshal(children)
	if err != nil {
		return "", err
	}
	b, err := g.do(ctx, "POST", "/uri?t=mkdir-immutable", bytes.NewReader(raw))
	return magicfolder.Cap(b), err
}

func (g webGrid) MakeDirectory(ctx context.Context) (write, read magicfolder.Cap, err error) {
	b, err := g.do(ctx, "POST", "/uri?t=mkdir", nil)
	if err != nil {
		return "", "", err
	}
	read, err = g.ReadOnly(magicfolder.Cap(b))
	return magicfolder.Cap(b), read, err
}

func (g webGrid) Get(ctx context.Context, file magicfolder.Cap, w io.Writer) error {
	b, err := g.do(ctx, "GET", "/uri/"+url.PathEscape(file.Text()), nil)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

func (g webGrid) List(ctx context.Context, dir magicfolder.Cap) ([]magicfolder.Entry, magicfolder.Version, error) {
	b, err := g.do(ctx, "GET", "/uri/"+url.PathEscape(dir.Text())+"?t=json", nil)
	if err != nil {
		return nil, "", err
	}
	var top []json.RawMessage
	var body struct {
		Children map[string][]json.RawMessage
	}
	if err := json.Unmarshal(b, &top); err != nil || len(top) != 2 {
		return nil, "", errors.New("not a directory's JSON")
	}
	if err := json.Unmarshal(top[1], &body); err != nil {
		return nil, "", err
	}
	var out []magicfolder.Entry
	for name, c := range body.Children {
		var n webNode
		if err := json.Unmarshal(c[1], &n); err != nil {
			return nil, "", err
		}
		e := magicfolder.Entry{Name: name, Write: magicfolder.Cap(n.Write), Metadata: n.Metadata}
		if n.Read != nil {
			e.Read = magicfolder.Cap(*n.Read)
		}
		out = append(out, e)
	}
	sum := sha256.Sum256(b)
	return out, magicfolder.Version(hex.EncodeToString(sum[:])), nil
}

func (g webGrid) Update(ctx context.Context, dir magicfolder.Cap, changes []magicfolder.Change) error {
	children := map[string][2]any{}
	overwrite := "true"
	for _, ch := range changes {
		if ch.Delete {
			if _, err := g.do(ctx, "DELETE", "/uri/"+url.PathEscape(dir.Text())+"/"+url.PathEscape(ch.Entry.Name), nil); err != nil {
				return err
			}
			continue
		}
		if ch.Absent {
			overwrite = "false"
		}
		read := ch.Entry.Read.Text()
		children[ch.Entry.Name] = [2]any{"filenode", webNode{Read: &read, Metadata: ch.Entry.Metadata}}
	}
	if len(children) == 0 {
		return nil
	}
	raw, err := json.Marshal(children)
	if err != nil {
		return err
	}
	_, err = g.do(ctx, "POST", "/uri/"+url.PathEscape(dir.Text())+"?t=set_children&overwrite="+overwrite, bytes.NewReader(raw))
	return err
}

func (g webGrid) Version(ctx context.Context, dir magicfolder.Cap) (magicfolder.Version, error) {
	_, v, err := g.List(ctx, dir)
	return v, err
}

func (g webGrid) ReadOnly(c magicfolder.Cap) (magicfolder.Cap, error) {
	p, err := caps.Parse(c.Text())
	if err != nil {
		return "", err
	}
	return magicfolder.Cap(caps.ReadOnly(p).Text()), nil
}

func (g webGrid) Writable(c magicfolder.Cap) bool {
	p, err := caps.Parse(c.Text())
	return err == nil && caps.IsDir(p) && caps.IsMutable(p) && !caps.IsReadOnly(p)
}

// realFolder is the real magic-folder with one folder.
type realFolder struct {
	t      testing.TB
	config string
	dir    string
}

func startMagicFolder(t testing.TB, client *WebClient) *realFolder {
	t.Helper()
	m := &realFolder{t: t, config: filepath.Join(t.TempDir(), "mf"), dir: filepath.Join(t.TempDir(), "real")}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	port := FreePort(t)
	program := filepath.Join(NeedPeers(t), "magic-folder")
	Run(t, time.Minute, program, "--config", m.config, "init", "-l", fmt.Sprintf("tcp:%d:interface=127.0.0.1", port),
		"-c", fmt.Sprintf("tcp:127.0.0.1:%d", port), "-n", client.Dir)
	WaitPort(t, Start(t, program, "--config", m.config, "run"), port)
	Eventually(t, time.Minute, "a folder in magic-folder", func() error {
		_, err := TryRun(t, time.Minute, program, "--config", m.config, "add", "-A", "alice", "-n", "docs", "-p", "1", "-s", "1", m.dir)
		return err
	})
	return m
}

func (m *realFolder) collective() magicfolder.Cap {
	m.t.Helper()
	out := Run(m.t, time.Minute, Python(m.t), "-c", `
import glob, sqlite3, sys
for p in glob.glob(sys.argv[1] + "/**/*.sqlite", recursive=True):
    try:
        print(sqlite3.connect(p).execute("SELECT collective_dircap FROM config").fetchone()[0])
    except sqlite3.OperationalError:
        pass
`, m.config)
	return magicfolder.Cap(strings.TrimSpace(out))
}

func writeIn(t testing.TB, dir, name, data string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func arrives(t testing.TB, dir, name, want string) {
	t.Helper()
	Eventually(t, time.Minute, name, func() error {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && string(got) != want {
			err = fmt.Errorf("it holds %.40q", got)
		}
		return err
	})
}

func vanishes(t testing.TB, dir, name string) {
	t.Helper()
	Eventually(t, time.Minute, name+" deleted", func() error {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}

// A folder that the real magic-folder 24.3 made on the real Tahoe, shared with
// ours: create, edit, delete both ways; many files; our delete against its edit.
func TestFolderWithMagicFolder(t *testing.T) {
	NeedPeers(t)
	intro := StartIntroducer(t)
	StartStorage(t, intro.FURL, "storage")
	client := StartClient(t, intro.FURL, 1, 1, 1, 1)
	real := startMagicFolder(t, client)

	m, err := magicfolder.NewManager(magicfolder.Options{Grid: webGrid{client.URL}, StatePath: filepath.Join(t.TempDir(), "folders.db"),
		Poll: time.Second, Workers: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	defer wg.Wait()
	defer stop()
	ours := t.TempDir()
	f, err := m.Join(t.Context(), "docs", ours, "bob", real.collective())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%+v", f.Status())
		}
	})

	writeIn(t, real.dir, "from-real", "made by magic-folder")
	writeIn(t, real.dir, "dir/@sub/ü", strings.Repeat("longer ", 50))
	writeIn(t, ours, "from-ours", "made by us")
	writeIn(t, ours, "deep/er/@x", strings.Repeat("ours ", 50))
	arrives(t, ours, "from-real", "made by magic-folder")
	arrives(t, ours, "dir/@sub/ü", strings.Repeat("longer ", 50))
	arrives(t, real.dir, "from-ours", "made by us")
	arrives(t, real.dir, "deep/er/@x", strings.Repeat("ours ", 50))

	writeIn(t, real.dir, "from-ours", "edited by magic-folder")
	arrives(t, ours, "from-ours", "edited by magic-folder")
	writeIn(t, ours, "from-real", "edited by us")
	arrives(t, real.dir, "from-real", "edited by us")
	writeIn(t, ours, "from-ours", "edited again by us")
	arrives(t, real.dir, "from-ours", "edited again by us")

	if err := os.Remove(filepath.Join(ours, "from-real")); err != nil {
		t.Fatal(err)
	}
	vanishes(t, real.dir, "from-real")
	if err := os.Remove(filepath.Join(real.dir, "from-ours")); err != nil {
		t.Fatal(err)
	}
	vanishes(t, ours, "from-ours")

	for i := range 30 {
		writeIn(t, ours, fmt.Sprintf("many/%d", i), fmt.Sprintf("small file %d", i))
	}
	for i := range 30 {
		arrives(t, real.dir, fmt.Sprintf("many/%d", i), fmt.Sprintf("small file %d", i))
	}

	// We delete while magic-folder edits; whoever is first, the edit stands and
	// the folder goes on.
	writeIn(t, real.dir, "many/7", "edited while we delete it")
	if err := os.Remove(filepath.Join(ours, "many/7")); err != nil {
		t.Fatal(err)
	}
	arrives(t, ours, "many/7", "edited while we delete it")
	writeIn(t, ours, "unrelated", "still flowing")
	arrives(t, real.dir, "unrelated", "still flowing")
	writeIn(t, real.dir, "unrelated back", "both ways")
	arrives(t, ours, "unrelated back", "both ways")

	// Both edit at once: nobody's bytes are lost.
	writeIn(t, real.dir, "many/8", "real's edit")
	writeIn(t, ours, "many/8", "our edit!")
	Eventually(t, time.Minute, "both versions", func() error {
		var all strings.Builder
		for _, dir := range []string{ours, real.dir} {
			files, err := filepath.Glob(filepath.Join(dir, "many", "8*"))
			if err != nil {
				return err
			}
			for _, p := range files {
				data, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				all.Write(data)
			}
		}
		for _, want := range []string{"real's edit", "our edit!"} {
			if !strings.Contains(all.String(), want) {
				return fmt.Errorf("%q is nowhere: %q", want, all.String())
			}
		}
		if !strings.Contains(all.String(), "our edit!") {
			return errors.New("not settled")
		}
		return nil
	})
	writeIn(t, ours, "last", "the end")
	arrives(t, real.dir, "last", "the end")
	Eventually(t, time.Minute, "up to date", func() error {
		if st := f.Status(); st.State != magicfolder.StateCurrent || len(st.Alarms) > 0 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}
