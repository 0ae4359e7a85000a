package cli

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/cmd/internal/backupdb"
)

// What was stored three months ago is looked at before it is used again, and stored
// again when it is not well; a second backup in one second gets another name.
func TestBackupLooksAgain(t *testing.T) {
	const fileCap, dirCap = "URI:CHK:file", "URI:DIR2-CHK:dir"
	for _, healthy := range []bool{true, false} {
		asked := map[string]int{}
		var archives []string
		e, out := answer(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, at, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/uri"), "/")
			_, at, _ = strings.Cut(at, "/")
			what := r.URL.Query().Get("t")
			asked[what]++
			switch {
			case what == "json":
				io.WriteString(w, `["dirnode", {"rw_uri": "URI:DIR2:x"}]`)
			case what == "check":
				fmt.Fprintf(w, `{"results": {"healthy": %v}}`, healthy)
			case what == "uri" && strings.HasPrefix(at, "Archives/"):
				if archives = append(archives, at); len(archives) == 1 {
					http.Error(w, "There was already a child by that name", http.StatusConflict)
				}
			case what == "uri" && (at != "Latest" || string(body) != dirCap):
				t.Errorf("%s is to be %s", at, body)
			case what == "mkdir-immutable":
				if !strings.Contains(string(body), `"f":["filenode",{"ro_uri":"`+fileCap+`","metadata":{"ctime":`) {
					t.Errorf("a directory of %s", body)
				}
				io.WriteString(w, dirCap)
			case what == "":
				io.WriteString(w, fileCap)
			}
		})
		dir := t.TempDir()
		file := filepath.Join(dir, "f")
		stat, err := localStat{}, errors.Join(os.WriteFile(file, []byte("text"), 0o600), os.Mkdir(filepath.Join(e.dir, "private"), 0o700))
		if err == nil {
			stat, err = statLocal(file)
		}
		if err != nil {
			t.Fatal(err)
		}
		db, err := backupdb.Open(filepath.Join(e.dir, "private", "warren_backup.db"), func() time.Time { return time.Now().AddDate(0, -3, 0) }, rand.Float64)
		if err != nil {
			t.Fatal(err)
		}
		hash := backupdb.Hash(map[string]string{"f": fileCap})
		if err := errors.Join(db.StoredFile(file, stat.Attributes, fileCap), db.StoredDirectory(hash, dirCap), db.Close()); err != nil {
			t.Fatal(err)
		}
		for try, want := range map[bool][]string{true: {"0 files uploaded (1 reused), 0 files skipped, 0 directories created (1 reused)", "0 files uploaded (1 reused)"},
			false: {"1 files uploaded (0 reused), 0 files skipped, 1 directories created (0 reused)", "0 files uploaded (1 reused)"}}[healthy] {
			out.Reset()
			if err := e.backup(t.Context(), backupOptions{from: dir, to: "URI:DIR2:x", verbose: true}); err != nil {
				t.Fatal(err)
			}
			checked := fmt.Sprintf(" %d files checked, %d directories checked\n", 1-try, 1-try)
			if !strings.Contains(out.String(), want) || !strings.Contains(out.String(), checked) {
				t.Errorf("healthy %v, try %d: %s", healthy, try, out)
			}
		}
		stored := 1
		if healthy {
			stored = 0
		}
		if asked["check"] != 2 || asked[""] != stored || asked["mkdir-immutable"] != stored || len(archives) != 3 || archives[0] == archives[1] {
			t.Errorf("healthy %v: asked %v, archives %v", healthy, asked, archives)
		}
		if out.Reset(); e.backup(t.Context(), backupOptions{from: dir, to: "URI:DIR2:x", ignoreTimestamps: true}) != nil || asked[""] != stored+1 {
			t.Errorf("without the times: %s", out)
		}
	}
}

// What the patterns match is what Python's fnmatch said of them.
func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"*.o", []string{"a.o", ".o", "a\n.o"}, []string{"a.oo", "a.O", "o"}},
		{"a?c", []string{"abc", "aüc"}, []string{"ac", "abbc"}},
		{"[a-c]x", []string{"ax", "cx"}, []string{"dx", "-x"}},
		{"[!a-c]x", []string{"dx", "!x"}, []string{"ax", "x"}},
		{"[]]x", []string{"]x"}, []string{"x", "[]]x"}},
		{"[!]]x", []string{"ax"}, []string{"]x"}},
		{"[^a]", []string{"^", "a"}, []string{"b"}},
		{`[\d]`, []string{`\`, "d"}, []string{"1"}},
		{"[ab", []string{"[ab"}, []string{"a"}},
		{"{arch}", []string{"{arch}"}, []string{"arch"}},
		{"a.b", []string{"a.b"}, []string{"axb"}},
		{"[", []string{"["}, nil},
		{"[[:digit:]]", []string{"d]", ":]"}, []string{"1", "1]"}},
	} {
		re, err := glob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for _, s := range c.yes {
			if !re.MatchString(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if re.MatchString(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
	if _, err := glob("[z-a]"); err == nil {
		t.Error("a range backwards")
	}
}
