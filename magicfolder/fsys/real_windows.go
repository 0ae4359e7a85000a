package fsys

import "os"

const nonblock = 0

// inode: Windows keeps the file index behind an open handle; size and time
// have to do.
func inode(os.FileInfo) uint64 { return 0 }

// syncDir: Windows has no such call, NTFS journals its directories.
func (r *real) syncDir(string) error { return nil }

func (r *real) exchange(staged, p string) error { return r.setAside(staged, p) }

func (r *real) renameNew(from, to string) error { return r.linkNew(from, to) }
