package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"warren/magicfolder/snapshot"
)

// isA waits until a path is what form says: "x" and "-" for files, "/" for a directory,
// "" for nothing, else a link's target.
func isA(t testing.TB, dir, name, form string) {
	t.Helper()
	Eventually(t, 2*time.Minute, name+" in "+dir, func() error {
		got := ""
		full := filepath.Join(dir, name)
		if info, err := os.Lstat(full); err == nil {
			switch {
			case info.IsDir():
				got = "/"
			case info.Mode()&os.ModeSymlink != 0:
				if got, err = os.Readlink(full); err != nil {
					return err
				}
			case info.Mode()&0o100 != 0:
				got = "x"
			default:
				got = "-"
			}
		}
		if got != form {
			return fmt.Errorf("it is %q, want %q", got, form)
		}
		return nil
	})
}

// Links, modes, directories and ignored files of ours beside magic-folder 24.3, which
// knows of none of them: to it all are plain files, and what it makes of those comes
// back as what they are.
func TestFormsWithMagicFolder(t *testing.T) {
	t.Parallel()
	NeedPeers(t)
	const folder = "forms"
	f := shareAmongThree(t, folder)
	alice, bob, carol, a, b, c := f.alice, f.bob, f.carol, f.a, f.b, f.c
	calm := func() {
		t.Helper()
		carol.idle(t, folder)
		alice.current(t, folder)
		bob.current(t, folder)
		if got := carol.conflicts(t, folder); len(got) > 0 {
			t.Errorf("magic-folder is in a conflict: %v", got)
		}
		carol.noErrors(t, folder)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	writeIn(t, a, "script", "#!/bin/sh")
	must(os.Chmod(filepath.Join(a, "script"), 0o755))
	must(os.Symlink("script", filepath.Join(a, "link")))
	must(os.MkdirAll(filepath.Join(a, "empty", "too"), 0o755))
	writeIn(t, a, ".warrenignore", "*.o\n")
	writeIn(t, a, "made.o", "not for others")
	isA(t, b, "script", "x")
	isA(t, b, "link", "script")
	isA(t, b, "empty/too", "/")
	// Nothing but plain files, one of them a hidden one that holds its directory.
	arrives(t, c, "script", "#!/bin/sh")
	arrives(t, c, "link", "script")
	arrives(t, c, "empty/too/"+snapshot.DirectoryMark, "")
	isA(t, c, "script", "-")
	isA(t, c, "link", "-")
	calm()

	// It edits the script and the text of the link, and sends what is ignored here.
	writeIn(t, c, "script", "#!/bin/bash")
	writeIn(t, c, "link", "a file now")
	writeIn(t, c, "theirs.o", "ignored by ours")
	for _, dir := range []string{a, b} {
		arrives(t, dir, "script", "#!/bin/bash")
		isA(t, dir, "script", "x")
		arrives(t, dir, "link", "a file now")
		isA(t, dir, "link", "-")
	}
	// Modes and links again; the directory fills, and goes with its mark, removed by
	// magic-folder.
	must(os.Chmod(filepath.Join(b, "script"), 0o644))
	must(os.Remove(filepath.Join(b, "link")))
	must(os.Symlink("empty", filepath.Join(b, "link")))
	writeIn(t, b, "empty/too/file", "in it")
	isA(t, a, "script", "-")
	isA(t, a, "link", "empty")
	arrives(t, c, "link", "empty")
	arrives(t, c, "empty/too/file", "in it")
	calm()
	remove(t, c, "empty/too/file")
	vanishes(t, a, "empty/too/file")
	isA(t, b, "empty/too", "/")
	calm()
	must(os.RemoveAll(filepath.Join(c, "empty")))
	isA(t, a, "empty/too", "")
	isA(t, b, "empty/too", "")
	calm()
	for _, dir := range []string{a, b} {
		if _, err := os.Lstat(filepath.Join(dir, "theirs.o")); err == nil {
			t.Errorf("%s: what is ignored was taken", dir)
		}
	}
	if _, err := os.Lstat(filepath.Join(c, "made.o")); err == nil {
		t.Error("what is ignored was sent")
	}
	told := false
	st := alice.current(t, folder)
	for _, n := range st.Notes {
		told = told || n.Path == "theirs.o"
	}
	if !told {
		t.Errorf("nothing is said of theirs.o: %+v", st.Notes)
	}
}
