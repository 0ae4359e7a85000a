package interop

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// said is what a command printed, and how it ended.
type said struct {
	Code     int
	Out, Err string
}

// commandLine runs command lines in one directory, with one node directory.
type commandLine func(dir string, args ...string) (said, error)

// tahoeCommandLine is the real tahoe command, without its half second of start for
// each command line. It is not for concurrent use.
func tahoeCommandLine(t testing.TB) commandLine {
	t.Helper()
	cmd := exec.Command(Python(t), Script(t, "tahoe_commands.py"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		killGroup(cmd)
		cmd.Wait()
	})
	answers := json.NewDecoder(bufio.NewReader(out))
	return func(dir string, args ...string) (s said, err error) {
		err = json.NewEncoder(in).Encode(map[string]any{"cwd": dir, "args": args})
		if err == nil {
			err = answers.Decode(&s)
		}
		if err != nil {
			err = fmt.Errorf("tahoe's commands ended: %w\n%s", err, errOut.String())
		}
		return s, err
	}
}

func ourCommandLine(t testing.TB) commandLine {
	t.Helper()
	warren := Warren(t)
	return func(dir string, args ...string) (said, error) {
		cmd := exec.Command(warren, args...)
		var out, errOut bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errOut
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return said{}, err
		}
		return said{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}, nil
	}
}

// cliSteps are the command lines, w: and the default alias being directories that
// the first of them make. ours is our exit code where Tahoe's is not 0; of what we
// refuse, Tahoe's words are not ours.
var cliSteps = []struct {
	line string
	ours int
}{
	{"create-alias w", 0},
	{"create-alias tahoe:", 0},
	{"create-alias w", 1},
	{"create-alias a:b", 2},
	{"add-alias lit: URI:DIR2-LIT:", 0},
	{"add-alias file URI:LIT:nbswy3dp", 2},
	{"list-aliases", 0},
	{"list-aliases --readonly-uri", 0},
	{"list-aliases --json", 0},

	{"put big w:big", 0},
	{"put tree/one", 0},
	{"put - w:empty", 0},
	{"put --mutable big w:sub/mut", 0},
	{"put --format=mdmf tree/one w:mdmf", 0},
	{"put --mutable --private-key-path=key.pem tree/one keyed", 0},
	{"put --private-key-path=key.pem tree/one w:nokey", 2},
	{"put tree/one w:mdmf", 0}, // in place
	{"put big w:/x", 2},
	{"put --format=XYZ big", 2},
	{"put nothing w:x", 3},
	{"put big nobody:x", 3},

	{"mkdir", 0},
	{"mkdir w:dir/a/b", 0},
	{"mkdir --format=mdmf w:mdir", 0},

	{"ls", 0},
	{"ls w:", 0},
	{"ls -l w:sub", 0},
	{"ls -F w:", 0},
	{"ls --uri --readonly-uri w:sub/", 0},
	{"ls w:big", 0},
	{"ls lit:", 0},
	{"ls --dir-cap=URI:DIR2-LIT:", 0},
	{"ls w:nothing", 3},

	{"get w:big got", 0},
	{"get w:mdmf", 0},
	{"get w:nothing got2", 3},

	{"cp big w:cp/file", 0},
	{"cp tree/one big w:cp", 0},
	{"cp tree w:cp", 2},
	{"cp -r tree w:cp", 0},
	{"cp -r tree w:cp/new", 0},
	{"cp -r w:cp/new w:linked", 0},
	{"cp -r w:cp tree w:merged", 0},
	{"cp big w:noslash/", 2},
	{"cp big w:sub/mut", 0}, // in place
	{"cp w:sub/mut w:frozen", 0},
	{"cp -r tree w:big", 2},
	{"cp big tree/a/big w:cp", 2},
	{"cp nothing w:cp", 3},
	{"cp w:nothing .", 3},
	{"cp big/ w:cp", 2},
	{"cp -r w:cp out", 0},
	{"cp w:cp/file out/file", 0},
	{"cp w:cp/file tree/one out", 0},
	{"cp -r --caps-only w:cp/tree caps", 0},
	{"cp big here", 0},

	{"mv w:cp/one w:cp/moved", 0},
	{"mv w:cp/moved w:dir/", 0},
	{"mv w:cp/file w:dir", 1},
	{"mv w:nothing w:x", 3},
	{"ln w:big w:dir/", 0},
	{"ln w:dir/a w:dir/c", 0},
	{"unlink w:dir/c", 0},
	{"unlink w:nothing", 3},
	{"unlink w:", 2},

	{"manifest w:", 0},
	{"manifest --verify-cap w:cp", 0},
	{"manifest --repair-cap w:sub", 0},
	{"manifest -s w:dir", 0},
	{"manifest w:nothing", 3},
	{"stats w:", 0},
	{"check w:big w:dir", 0},
	{"check --verify tahoe:keyed", 0},
	{"check --repair w:mdmf", 0},
	{"deep-check --verbose w:", 0},
	{"deep-check --repair --add-lease w:dir", 0},
	{"deep-check w:big", 2},

	{"backup --exclude=a --exclude-vcs tree w:backup", 2}, // 2 for the link
	{"backup -v --exclude-from-utf-8=patterns tree w:backup", 2},
	{"ls w:backup/Latest", 0},
	{"cp -r w:backup/Latest restored", 0},
}

var aSecret = regexp.MustCompile(`URI:[A-Z0-9-]+:[a-z2-7]`)

// alike are the parts of what is printed that no two runs have in common.
var alike = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`URI:(DIR2|DIR2-RO|DIR2-CHK|DIR2-MDMF|DIR2-MDMF-RO|SSK|SSK-RO|MDMF|MDMF-RO|CHK|[A-Z0-9-]+-Verifier):[a-z0-9:]+`), "URI:$1"},
	{regexp.MustCompile(`\b[a-z2-7]{26}\b`), "INDEX"},
	{regexp.MustCompile(`[A-Z][a-z][a-z] \d\d \d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\d+h \d+m \d+s|\d:\d\d:\d\d`), "DURATION"},
	// Metadata hold times, in as many digits as they have.
	{regexp.MustCompile(`(size-directories|largest-directory): \d+ .*`), "$1: SIZE"},
}

// world is one program on one node.
type world struct {
	name string
	run  commandLine
	dir  string // where it runs; the node directory is node below it
	said []said
}

// newWorld makes the files that the steps use, and a node directory that names a node.
func newWorld(t *testing.T, name string, run commandLine, url string) *world {
	w := &world{name: name, run: run, dir: t.TempDir()}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{
		"node/node.url":        []byte(url + "/\n"),
		"node/private/aliases": []byte("# mine\n"),
		"big":                  body(7, 5000),
		"key.pem":              pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"tree/one":             []byte("one\n"),
		"tree/a/big":           body(8, 3000),
		"tree/.git/x":          []byte("x"),
		"tree/b/ü $'x":         []byte("odd"),
		"patterns":             []byte("*.git\n\nb*\n"),
	} {
		path := filepath.Join(w.dir, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("one", filepath.Join(w.dir, "tree", "link")); err != nil {
		t.Fatal(err)
	}
	return w
}

// play runs all steps.
func (w *world) play(t *testing.T) {
	for _, step := range cliSteps {
		verb, rest, _ := strings.Cut(step.line, " ")
		s, err := w.run(w.dir, append([]string{"-d", "node", verb}, strings.Fields(rest)...)...)
		if err != nil {
			t.Errorf("%s, %s: %v", w.name, step.line, err)
			return
		}
		s.Out = strings.ReplaceAll(s.Out, w.dir, "DIR")
		for _, a := range alike {
			s.Out = a.what.ReplaceAllString(s.Out, a.as)
		}
		if verb == "manifest" || verb == "deep-check" || verb == "backup" { // no order is promised
			lines := strings.Split(s.Out, "\n")
			slices.Sort(lines)
			s.Out = strings.Join(lines, "\n")
		}
		w.said = append(w.said, s)
	}
}

// files are the names below the world's directory with what is in them, without what
// belongs to the program.
func (w *world) files(t *testing.T) (found []string) {
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(w.dir, path)
		switch {
		case errors.Join(err, rerr) != nil:
			return errors.Join(err, rerr)
		case rel == "node":
			return fs.SkipDir
		case d.Type().IsRegular() && rel != "key.pem":
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text := string(content)
			for _, a := range alike {
				text = a.what.ReplaceAllString(text, a.as)
			}
			rel += fmt.Sprintf(" %q", text)
		}
		found = append(found, rel)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// fakeBrowser has both programs open pages with one that notes what it is given: an
// address, or a page that sends a browser on to it.
func fakeBrowser(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\ncase \"$1\" in http*) printf %s \"$1\" ;; *) cat \"$1\" ;; esac >opened\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("BROWSER", filepath.Join(bin, "xdg-open")+" %s")
}

var sentOn = regexp.MustCompile(`<a href="([^"]+)">`)

// opened is the address that a command sends the browser to, unescaped and without a
// slash at the end of its path.
func opened(t *testing.T, run commandLine, dir string, args []string) string {
	t.Helper()
	note := filepath.Join(dir, "opened")
	s, err := run(dir, args...)
	if err != nil || s.Code != 0 {
		t.Errorf("%q: %+v, %v", args, s, err)
		return ""
	}
	b, err := os.ReadFile(note)
	if err := errors.Join(err, os.Remove(note)); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	if m := sentOn.FindSubmatch(b); m != nil {
		b = []byte(html.UnescapeString(string(m[1])))
	}
	address, err := url.Parse(string(b))
	if err != nil {
		t.Errorf("%q: %v", args, err)
		return ""
	}
	return fmt.Sprintf("%s://%s%s?%s", address.Scheme, address.Host, strings.TrimSuffix(address.Path, "/"), address.RawQuery)
}

// The tahoe command and ours do the same, on Tahoe's node and on ours.
func TestCommandsAsTahoes(t *testing.T) {
	NeedPeers(t)
	fakeBrowser(t)
	introducer := StartOurIntroducer(t)
	StartOurStorage(t, introducer.FURL, "house")
	var theirs, ours *WebClient
	Together(t, func() { theirs = StartClient(t, introducer.FURL, 1, 1, 1, 1) }, func() { ours = StartOurClient(t, introducer.FURL, 1, 1, 1, 1) })
	worlds := []*world{
		newWorld(t, "tahoe on Tahoe's node", tahoeCommandLine(t), theirs.URL),
		newWorld(t, "warren on Tahoe's node", ourCommandLine(t), theirs.URL),
		newWorld(t, "tahoe on our node", tahoeCommandLine(t), ours.URL),
		newWorld(t, "warren on our node", ourCommandLine(t), ours.URL),
	}
	var plays []func()
	for _, w := range worlds {
		plays = append(plays, func() { w.play(t) })
	}
	Together(t, plays...)
	reference := worlds[0]
	for i, step := range cliSteps {
		want := reference.said[i]
		if (want.Code == 0) != (step.ours == 0) {
			t.Errorf("%s: tahoe ends with %d: %s%s", step.line, want.Code, want.Out, want.Err)
		}
		for _, w := range worlds[1:] {
			got, code := w.said[i], want.Code
			if strings.HasPrefix(w.name, "warren") {
				code = step.ours
			}
			if got.Code != code {
				t.Errorf("%s: %s ends with %d, not with %d: %s", step.line, w.name, got.Code, code, got.Err)
			}
			// Of what is refused Tahoe says how it is used, and we nothing.
			if refused := strings.HasPrefix(w.name, "warren") && want.Code == 1; refused && got.Out != "" || !refused && got.Out != want.Out {
				t.Errorf("%s: %s says\n%s\nand tahoe on Tahoe's node\n%s", step.line, w.name, got.Out, want.Out)
			}
			if strings.HasPrefix(w.name, "warren") && aSecret.MatchString(got.Err) {
				t.Errorf("%s: %s gives a capability away: %s", step.line, w.name, got.Err)
			}
		}
	}
	want := reference.files(t)
	if len(want) < 40 {
		t.Errorf("few files: %q", want)
	}
	for _, w := range worlds[1:] {
		if got := w.files(t); !slices.Equal(got, want) {
			t.Errorf("%s leaves\n%s\nand tahoe on Tahoe's node\n%s", w.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// What is for machines is the same to the byte, of one directory on one node.
	for _, i := range []int{0, 2} {
		for _, line := range []string{"ls --json w:sub", "list-aliases --json --readonly-uri", "manifest --raw w:cp", "stats --raw w:", "check --raw w:big w:dir", "deep-check --raw w:sub"} {
			args := append([]string{"-d", "node"}, strings.Fields(line)...)
			a, err1 := worlds[i].run(worlds[i].dir, args...)
			b, err2 := worlds[1].run(worlds[i].dir, args...)
			if err := errors.Join(err1, err2); err != nil || a != b {
				t.Errorf("%s, %s: %v\n%+v\nand warren's\n%+v", line, worlds[i].name, err, a, b)
			}
		}
	}
	// The browser is sent to the same page.
	for _, i := range []int{0, 2} {
		dir := worlds[i].dir
		for _, line := range []string{"webopen", "webopen --info", "webopen w:", "webopen w:cp/file", "webopen -i w:cp/tree", "webopen tahoe:", "webopen w:backup/Latest/"} {
			args := append([]string{"-d", "node"}, strings.Fields(line)...)
			a, b := opened(t, worlds[i].run, dir, args), opened(t, worlds[1].run, dir, args)
			if a != b || !strings.HasPrefix(a, "http://127.0.0.1:") {
				t.Errorf("%s, %s: tahoe opens %q and warren %q", line, worlds[i].name, a, b)
			}
		}
		if s, err := worlds[1].run(dir, "-d", "node", "webopen", "nobody:x"); err != nil || s.Code != 3 {
			t.Errorf("an unknown alias: %+v, %v", s, err)
		}
	}
	// The aliases file of each is one that the other program reads and adds to.
	for i, w := range worlds {
		other := worlds[(i+1)%2].run
		if s, err := other(w.dir, "-d", "node", "create-alias", "more"); err != nil || s.Code != 0 {
			t.Errorf("%s: %+v, %v", w.name, s, err)
		}
		text, err := os.ReadFile(filepath.Join(w.dir, "node", "private", "aliases"))
		if err != nil || !regexp.MustCompile(`^# mine\nw: URI:DIR2:\S+\ntahoe: URI:DIR2:\S+\nlit: URI:DIR2-LIT:\nmore: URI:DIR2:\S+\n$`).Match(text) {
			t.Errorf("%s: the aliases file has %d lines, %v", w.name, bytes.Count(text, []byte("\n")), err)
		}
	}
}
