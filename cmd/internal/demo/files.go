package demo

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The operator's folder holds this many files and bytes of the source tree at most.
const (
	maxFiles = 2000
	maxBytes = 64 << 20
)

// copyTree copies the regular files below from, leaving out what is hidden or
// built, and returns how many files and bytes it copied.
func copyTree(to, from string) (files int, size int64, err error) {
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 != 0 && info.Size() > 1<<20 || size+info.Size() > maxBytes || files >= maxFiles {
			return nil
		}
		if err := copyFile(filepath.Join(to, rel), path); err != nil {
			return err
		}
		files, size = files+1, size+info.Size()
		return nil
	})
	return files, size, err
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// randomFile writes size random bytes: nothing that could be compressed or had before.
func randomFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	return errors.Join(err, f.Close())
}

// hashes returns the SHA-256 of every regular file below dir, by slash-separated
// path. Conflict copies and hidden files are left out: they are each device's own.
func hashes(dir string) (map[string][32]byte, error) {
	list := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") && path != dir {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() || strings.Contains(d.Name(), ".conflict-") {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		list[filepath.ToSlash(rel)] = [32]byte(h.Sum(nil))
		return nil
	})
	return list, err
}

// sameFiles says how have differs from want; nil when it does not.
func sameFiles(want, have map[string][32]byte) error {
	missing, differ := 0, 0
	example := ""
	for name, sum := range want {
		switch got, ok := have[name]; {
		case !ok:
			missing++
			example = name
		case got != sum:
			differ++
			example = name
		}
	}
	extra := len(have) + missing - len(want)
	if missing+differ+extra == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d files missing, %d differ, %d too many (for example %s)", missing, len(want), differ, extra, example)
}
