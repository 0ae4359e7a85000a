//go:build unix

package fsys

import (
	"errors"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

const nonblock = unix.O_NONBLOCK

func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}

func (r *real) syncDir(dir string) error {
	d, err := r.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// withParents opens both parents below the root, so that the rename itself
// cannot be led outside.
func (r *real) withParents(a, b string, do func(afd int, abase string, bfd int, bbase string) error) error {
	ad, err := r.root.Open(path.Dir(a))
	if err != nil {
		return err
	}
	defer ad.Close()
	bd, err := r.root.Open(path.Dir(b))
	if err != nil {
		return err
	}
	defer bd.Close()
	return do(int(ad.Fd()), path.Base(a), int(bd.Fd()), path.Base(b))
}

func (r *real) exchange(staged, p string) error {
	err := r.withParents(staged, p, exchangeAt)
	if unsupported(err) {
		return r.setAside(staged, p)
	}
	return err
}

func (r *real) renameNew(from, to string) error {
	err := r.withParents(from, to, renameNewAt)
	if unsupported(err) {
		return r.linkNew(from, to)
	}
	return err
}

func unsupported(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP)
}
