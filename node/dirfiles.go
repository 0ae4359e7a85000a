package node

import (
	"bytes"
	"context"
	"fmt"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
)

// maxDirectory bounds an immutable directory that is read into memory.
const maxDirectory = 64 << 20

// NewDirs keeps immutable directories in files and mutable ones in slots. tempDir is
// that of long walks; "": the system's.
func NewDirs(files *immutable.Client, slots *mutable.Store, tempDir string) *dirnode.Dirs {
	return &dirnode.Dirs{Files: dirFiles{files}, Mutable: slots, TempDir: tempDir}
}

// dirFiles stores immutable directories as the files that they are.
type dirFiles struct{ client *immutable.Client }

func (d dirFiles) Put(ctx context.Context, data []byte) (caps.Cap, error) {
	res, err := d.client.Upload(ctx, bytes.NewReader(data), int64(len(data)))
	return res.Cap, err
}

func (d dirFiles) Get(ctx context.Context, c caps.Cap) ([]byte, error) {
	var size uint64
	switch v := caps.File(c).(type) {
	case caps.CHK:
		size = v.Size
	case caps.LIT:
		size = uint64(len(v.Data))
	}
	if size > maxDirectory {
		return nil, fmt.Errorf("an immutable directory of %d bytes: %w", size, dirnode.ErrUnsupported)
	}
	var b bytes.Buffer
	b.Grow(int(min(size, 1<<20)))
	err := d.client.Fetch(ctx, c, &b)
	return b.Bytes(), err
}
