package alias

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warren/node/caps"
)

const (
	dir1 = "URI:DIR2:2pwdkwvjf3yhfpuyluwlfdprlm:s5yxzfwybvfbn2ajjd3hkqyp2wbmqapmzvqqqd4eydz3ctuqhhea"
	dir2 = "URI:DIR2-LIT:"
	file = "URI:LIT:nbswy3dp"
)

func nodeDir(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		if err := os.WriteFile(File(dir), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parsed(t *testing.T, text string) caps.Cap {
	t.Helper()
	c, err := caps.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAddKeepsTheRest(t *testing.T) {
	for _, before := range []string{"", "a: " + dir2 + "\n", "# comment\r\n\r\nnonsense\n  b :  " + dir2 + "  \nlast: " + dir2} {
		dir := nodeDir(t, before)
		if err := Add(dir, "näme", parsed(t, dir1)); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(File(dir))
		want := before
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if err != nil || string(after) != want+"näme: "+dir1+"\n" {
			t.Errorf("%q became %q, %v", before, after, err)
		}
		if info, err := os.Stat(File(dir)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		got, err := Read(dir)
		if err != nil || got["näme"] != dir1 {
			t.Errorf("read back: %d aliases, %v", len(got), err)
		}
		if err := Add(dir, "näme", parsed(t, dir2)); !errors.Is(err, ErrExists) {
			t.Errorf("a second one of that name: %v", err)
		}
		if again, err := os.ReadFile(File(dir)); err != nil || string(again) != string(after) {
			t.Errorf("a refused one changed the file: %v", err)
		}
	}
}

func TestNamesThatWouldBeLost(t *testing.T) {
	dir := nodeDir(t, "")
	for _, name := range []string{"", "a:b", "a b", "#a", "a/b", "a\nb", "a\tb", "\u00a0a", "\xff", "URI"} {
		if err := Add(dir, name, parsed(t, dir1)); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := Add(dir, "file", parsed(t, file)); !errors.Is(err, ErrCap) {
		t.Errorf("a file: %v", err)
	}
	if _, err := os.Stat(File(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

func TestRead(t *testing.T) {
	dir := nodeDir(t, "#c: x\n\n no colon\nb :"+dir2+"\nd:"+dir2+"\n  d: "+dir1+"  \n")
	got, err := Read(dir)
	if err != nil || len(got) != 2 || got["b "] != dir2 || got["d"] != dir1 {
		t.Errorf("%d aliases, %v", len(got), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "private", "root_dir.cap"), []byte(dir2+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir); err != nil || len(got) != 3 || got[Default] != dir2 {
		t.Errorf("%d aliases, %v", len(got), err)
	}
	if got, err := Read(t.TempDir()); err != nil || len(got) != 0 {
		t.Errorf("of no node: %d aliases, %v", len(got), err)
	}
}

// The places are those of get_alias in allmydata/scripts/common.py.
func TestFind(t *testing.T) {
	known := map[string]string{"tahoe": dir1, "näme": "ro." + dir2, "bad": file, "C": dir2}
	for _, c := range []struct{ arg, cap, path string }{
		{"", dir1, ""},
		{"tahoe:", dir1, ""},
		{"a/b", dir1, "a/b"},
		{" a/b: ", dir1, "a/b:"},
		{"näme:a:b/c/", dir2, "a:b/c/"},
		{"näme:/a", dir2, "/a"},
		{"C:a", dir2, "a"},
		{"URI:x:y", "URI:x:y", ""},
		{"URI:x:y/a/b:./c", "URI:x:y/a/b", "c"},
		{"URI:x:y:./a", "URI:x:y", "a"},
		{"ro.URI:x/a/b", "ro.URI:x", "a/b"},
		{"imm.URI:x/", "imm.URI:x", ""},
	} {
		if got, err := Find(known, c.arg); err != nil || got != (Place{c.cap, c.path}) {
			t.Errorf("%q is below %.9s, %q, %v", c.arg, got.Cap, got.Path, err)
		}
	}
	for arg, want := range map[string]error{"other:a": ErrUnknown, ":a": ErrUnknown, "bad:a": ErrCap} {
		if _, err := Find(known, arg); !errors.Is(err, want) {
			t.Errorf("%q: %v", arg, err)
		}
	}
	if _, err := Find(nil, "a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("without the default: %v", err)
	}
}

func TestSplitLocal(t *testing.T) {
	for _, c := range []struct {
		arg    string
		drives bool
		named  bool
	}{
		{"file", false, false}, {"./a:b", false, false}, {"/a/b:c", false, false}, {`C:\a`, true, false}, {"C:a", false, true}, {"work:a", true, true}, {"URI:x", true, true},
	} {
		if _, _, named := Split(c.arg, c.drives); named != c.named {
			t.Errorf("%q, %v: %v", c.arg, c.drives, named)
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, arg := range []string{"a:b", "URI:x:./y", "ro.URI:/", " : ", "a/b:c"} {
		f.Add(arg)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		at, err := Find(map[string]string{"tahoe": dir1}, arg)
		if err == nil && at.Cap == "" {
			t.Errorf("%q is below nothing", arg)
		}
	})
}
