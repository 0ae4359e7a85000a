package scan

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"warren/magicfolder/fsys"
)

// Patterns mean what they mean to git: asked of the real one.
func TestIgnoreAsGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("SKIP: no git here")
	}
	patterns := []string{"a", "a/", "/a", "b*", "*.o", "!x.o", "a/b", "a/*", "**/b", "a/**", "a/**/b", "!a", "!b/", "*", "!*/", "?", "[ab]", "[!a]*",
		"\\!a", "\\#b", "# comment", "", "   ", "a  ", "a\\ ", "{a,b}", "*{*", "d/e/f", "/d/**/f", "**", "**/", "x**o", "é", "[a-c]x", "\\a", "/", "//", "!", "b/../a", "[", "a\\", "*/", "/*", "/*/x.o"}
	names := []string{"a", "b", "x.o", "{a,b}", "!a", "#b", "a ", "d", "e", "f", "bx"} // in ASCII: to git "?" is a byte, to us a character
	rng := rand.New(rand.NewSource(6))
	pick := func(from []string) string { return from[rng.Intn(len(from))] }
	checked, ignored := 0, 0
	for round := range 30 {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(round))
		if err := fsys.Make(dir); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(git, "-C", dir, "init", "-q").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var all []string
		for range 60 {
			p := pick(names)
			for range rng.Intn(4) {
				p += "/" + pick(names)
			}
			full := filepath.Join(dir, p)
			if os.MkdirAll(filepath.Dir(full), 0o755) != nil || os.WriteFile(full, nil, 0o644) != nil {
				continue // a file stands where a directory would
			}
			all = append(all, p)
		}
		slices.Sort(all)
		for _, sub := range []string{"", "a", "b", "d/e"} {
			if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || !info.IsDir() || sub != "" && rng.Intn(2) == 0 {
				continue
			}
			var text strings.Builder
			for range 1 + rng.Intn(5) {
				text.WriteString(pick(patterns) + pick([]string{"\n", "\n", "\r\n"}))
			}
			for _, name := range []string{IgnoreFile, ".gitignore"} {
				if err := os.WriteFile(filepath.Join(dir, sub, name), []byte(text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd := exec.Command(git, "-C", dir, "-c", "core.excludesFile=", "check-ignore", "--no-index", "-z", "--stdin")
		cmd.Stdin = strings.NewReader(strings.Join(all, "\x00"))
		out, err := cmd.Output()
		if e, ok := err.(*exec.ExitError); err != nil && (!ok || e.ExitCode() != 1) {
			t.Fatalf("git: %v", err)
		}
		want := map[string]bool{}
		for _, p := range bytes.Split(out, []byte{0}) {
			want[string(p)] = true
		}
		disk, err := fsys.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		var g Ignore
		is := g.Look(disk)
		for _, p := range all {
			if checked++; want[p] {
				ignored++
			}
			if got := is(p); got != want[p] {
				var rules []string
				for d, r := range g.files {
					rules = append(rules, fmt.Sprintf("%s: %+v", d, r.list))
				}
				t.Errorf("%q: ignored %v, git says %v; %s", p, got, want[p], rules)
			}
		}
		disk.Close()
	}
	if checked < 500 || ignored < checked/10 {
		t.Errorf("%d paths, %d of them ignored: too few to tell", checked, ignored)
	}
}
