package cli

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/cmd/internal/ui"
)

// shelf is a web API of directories whose names and kinds a node of ours would not
// give, and that refuses what it is told to.
type shelf struct {
	mu     sync.Mutex                // guards what follows
	dirs   map[string]map[string]any // by capability
	refuse string                    // uploads that hold this text
	linked map[string]string         // name -> capability, by set_children
	gone   []string                  // what was deleted
}

const (
	shelfDir = "URI:DIR2:2pwdkwvjf3yhfpuyluwlfdprlm:s5yxzfwybvfbn2ajjd3hkqyp2wbmqapmzvqqqd4eydz3ctuqhhea"
	subDir   = "URI:DIR2-RO:sub:x"
)

func fileEntry() any { return []any{"filenode", map[string]any{"ro_uri": someCap, "size": 5}} }

func dirEntry(cap string) any {
	return []any{"dirnode", map[string]any{"ro_uri": "URI:DIR2-RO:of:" + cap, "rw_uri": cap, "mutable": true}}
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cap, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/uri/"), "/")
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case r.Method == "GET" && s.dirs[cap] != nil && rest == "":
		json.NewEncoder(w).Encode([]any{"dirnode", map[string]any{"ro_uri": "URI:DIR2-RO:of:" + cap, "rw_uri": cap, "mutable": true, "children": s.dirs[cap]}})
	case r.Method == "GET" && s.dirs[cap] != nil:
		if entry, ok := s.dirs[cap][rest]; ok {
			json.NewEncoder(w).Encode(entry)
			return
		}
		http.Error(w, "No such child: "+rest, http.StatusNotFound)
	case r.Method == "GET" && r.URL.Query().Get("t") == "json":
		json.NewEncoder(w).Encode(fileEntry())
	case r.Method == "GET":
		io.WriteString(w, "fetched")
	case r.Method == "PUT" && s.refuse != "" && strings.Contains(string(body), s.refuse):
		http.Error(w, "the grid is full", http.StatusServiceUnavailable)
	case r.Method == "PUT":
		io.WriteString(w, someCap)
	case r.Method == "DELETE":
		s.gone = append(s.gone, rest)
	case r.URL.Query().Get("t") == "set_children":
		var entries map[string][2]json.RawMessage
		if err := json.Unmarshal(body, &entries); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
		for name, entry := range entries {
			s.linked[name] = string(entry[1])
		}
	default:
		http.Error(w, "not on this shelf", http.StatusBadRequest)
	}
}

func newShelf(t *testing.T) (*shelf, *env) {
	s := &shelf{dirs: map[string]map[string]any{}, linked: map[string]string{}}
	e, _ := answer(t, s.ServeHTTP)
	return s, e
}

// tree is what is in a directory: path -> content, "/" of a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || rel == ".":
			return err
		case d.IsDir():
			found[rel] = "/"
			return nil
		case d.Type() == fs.ModeSymlink:
			found[rel], err = os.Readlink(path)
			return err
		}
		b, err := os.ReadFile(path)
		found[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever the names of a directory are, and whatever links stand in the target,
// nothing is written outside, nothing of another kind is overwritten, and all else
// comes.
func TestCopyOfHostileNames(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: makes links, which not everybody may on Windows")
	}
	s, e := newShelf(t)
	s.dirs[shelfDir] = map[string]any{
		"ok": fileEntry(), "..": fileEntry(), ".": fileEntry(), "": fileEntry(), "a/b": fileEntry(), "../x": fileEntry(), "/etc/x": fileEntry(),
		"nul\x00": fileEntry(), "strange": []any{"unknown", map[string]any{"ro_uri": "URI:NEW:x"}},
		"isdir": fileEntry(), "isfile": dirEntry(subDir), "link": fileEntry(), "linkdir": dirEntry(subDir), "sub": dirEntry(subDir),
	}
	s.dirs[subDir] = map[string]any{"inner": fileEntry(), "../../y": dirEntry(subDir)}
	top := t.TempDir()
	dir, outside := filepath.Join(top, "dir"), filepath.Join(top, "outside")
	write(t, top, map[string]string{"outside/file": "theirs", "dir/isdir/x": "mine", "dir/isfile": "mine"})
	if err := errors.Join(os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "link")), os.Symlink(outside, filepath.Join(dir, "linkdir"))); err != nil {
		t.Fatal(err)
	}
	err := e.cp(t.Context(), cpOptions{from: []string{shelfDir}, to: dir, recursive: true})
	var fail *ui.Error
	if !errors.As(err, &fail) || fail.Code != ui.ExitFailed || !strings.HasSuffix(err.Error(), "not copied: 12") || strings.Contains(err.Error(), "URI:") {
		t.Errorf("%v", err)
	}
	want := map[string]string{
		"outside": "/", "outside/file": "theirs", "dir": "/", "dir/isdir": "/", "dir/isdir/x": "mine", "dir/isfile": "mine",
		"dir/ok": "fetched", "dir/link": "fetched", "dir/linkdir": outside, "dir/sub": "/", "dir/sub/inner": "fetched",
	}
	if got := tree(t, top); !maps.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestNamesOnWindows(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "C:", "a:b", "nul", "COM1.txt", "a.", "a ", "a\x00", "a\x1f"} {
		if badName(name, true) == "" {
			t.Errorf("%q", name)
		}
	}
	for _, name := range []string{"a", "a.b", ".a", "nulls", "ü"} {
		if why := badName(name, true); why != "" {
			t.Errorf("%q: %s", name, why)
		}
	}
}

// What came to the grid before an error has its name there.
func TestCopyThatFails(t *testing.T) {
	s, e := newShelf(t)
	s.dirs[shelfDir], s.refuse = map[string]any{}, "too much"
	dir := t.TempDir()
	write(t, dir, map[string]string{"1": "one", "2": "too much", "3": "three"})
	err := e.cp(t.Context(), cpOptions{from: []string{filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "3")}, to: shelfDir})
	var fail *ui.Error
	if !errors.As(err, &fail) || fail.Code != ui.ExitUnavailable || !strings.Contains(err.Error(), "2: the grid is full") {
		t.Errorf("%v", err)
	}
	if got := slices.Collect(maps.Keys(s.linked)); !slices.Equal(got, []string{"1"}) {
		t.Errorf("linked are %v", got)
	}
}

// A directory is not copied into itself, without end.
func TestCopyIntoItself(t *testing.T) {
	_, e := newShelf(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"d/file": "x", "d/sub/old": "y"})
	err := e.cp(t.Context(), cpOptions{from: []string{filepath.Join(dir, "d")}, to: filepath.Join(dir, "d", "sub"), recursive: true})
	if err == nil || !strings.Contains(err.Error(), "into itself") {
		t.Errorf("%v", err)
	}
	want := map[string]string{"d": "/", "d/file": "x", "d/sub": "/", "d/sub/old": "y", "d/sub/d": "/", "d/sub/d/file": "x"}
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Several directories of one name become one, as long as no file is in two of them.
func TestCopyOfSeveral(t *testing.T) {
	_, e := newShelf(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/d/s/1": "a1", "b/d/s/2": "b2", "c/d/s/2": "c2", "c/d/x": "x"})
	from := func(names ...string) (all []string) {
		for _, name := range names {
			all = append(all, filepath.Join(dir, name, "d"))
		}
		return all
	}
	to := filepath.Join(dir, "to")
	var fail *ui.Error
	if err := e.cp(t.Context(), cpOptions{from: from("a", "b", "c"), to: to, recursive: true}); !errors.As(err, &fail) || fail.Code != ui.ExitUsage {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	if err := e.cp(t.Context(), cpOptions{from: from("a", "b"), to: to, recursive: true}); err != nil {
		t.Error(err)
	}
	if got := tree(t, to); !maps.Equal(got, map[string]string{"d": "/", "d/s": "/", "d/s/1": "a1", "d/s/2": "b2"}) {
		t.Errorf("%q", got)
	}
}

// mv onto itself, by whatever name, removes nothing.
func TestMoveOntoItself(t *testing.T) {
	s, e := newShelf(t)
	s.dirs[shelfDir] = map[string]any{"é": fileEntry(), "d": dirEntry(subDir)}
	if err := os.Mkdir(filepath.Join(e.dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "private", "aliases"), []byte("w: "+shelfDir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []mvOptions{{"w:é", "w:é", false}, {"w:é", shelfDir + "/e\u0301", false}, {"w:é", "w:", false}, {"w:d", "w:./d/", false}, {"w:d", "w:d/d/d", false}, {shelfDir, "w:d/x", false}} {
		err := e.mv(t.Context(), o)
		if refused := strings.HasPrefix(o.from, "w:d") || o.from == shelfDir; (err != nil) != refused {
			t.Errorf("%s: %v", o.to, err)
		}
	}
	if len(s.gone) > 0 {
		t.Errorf("removed %q", s.gone)
	}
	if err := e.mv(t.Context(), mvOptions{"w:é", "w:f", false}); err != nil || !slices.Equal(s.gone, []string{"é"}) {
		t.Errorf("%v, removed %q", err, s.gone)
	}
}
