package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
	"warren/node/webapi"
)

// files is the grid as the web API wants it.
type files struct {
	immutable *immutable.Client
	slots     *mutable.Store
	dirs      *dirnode.Dirs
	// prohibited is what is neither read nor changed; nil: nothing.
	prohibited *blacklist
}

// dirFormat is how directories are kept that nobody asked to be kept otherwise, by
// tahoe.cfg's mutable.format.
func dirFormat(setting string) mutable.Format {
	if setting == mutable.MDMF.String() {
		return mutable.MDMF
	}
	return mutable.SDMF
}

// WebGrid is the grid as the web API wants it, from a client's parts.
func WebGrid(im *immutable.Client, slots *mutable.Store, dirs *dirnode.Dirs) webapi.Grid {
	return recorded{files{immutable: im, slots: slots, dirs: dirs}, newHistory()}
}

func (f files) PutFile(ctx context.Context, r io.Reader, size int64) (immutable.Result, error) {
	return f.immutable.Upload(ctx, r, size)
}

func (f files) PutMutable(ctx context.Context, kind mutable.Kind, contents []byte) (caps.Cap, error) {
	return f.slots.Create(ctx, kind, func(caps.MutableWrite) ([]byte, error) { return contents, nil })
}

func (f files) Overwrite(ctx context.Context, c caps.Cap, contents []byte) error {
	if err := f.prohibited.check(c); err != nil {
		return err
	}
	w, ok := c.(caps.MutableWrite)
	if !ok || caps.IsDir(c) {
		return unsupported(c)
	}
	return f.slots.Overwrite(ctx, w, contents)
}

func (f files) Update(ctx context.Context, c caps.Cap, offset uint64, data []byte) error {
	if err := f.prohibited.check(c); err != nil {
		return err
	}
	w, ok := c.(caps.MutableWrite)
	if !ok || caps.IsDir(c) {
		return unsupported(c)
	}
	return f.slots.Update(ctx, w, offset, data)
}

// Open reads any file.
func (f files) Open(ctx context.Context, c caps.Cap) (webapi.File, error) {
	if err := f.prohibited.check(c); err != nil {
		return nil, err
	}
	switch v := c.(type) {
	case caps.LIT, caps.CHK:
		file, err := f.immutable.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		return openedFile{file}, nil
	case caps.SSKWrite:
		return f.Open(ctx, v.Read())
	case caps.MDMFWrite:
		return f.Open(ctx, v.Read())
	case caps.SSKRead, caps.MDMFRead:
		file, err := f.slots.Open(ctx, v.(caps.MutableRead))
		if err != nil {
			return nil, err
		}
		return openedFile{file}, nil
	}
	return nil, unsupported(c)
}

func (f files) List(ctx context.Context, dir caps.Cap) ([]dirnode.Entry, error) {
	if err := f.prohibited.check(dir); err != nil {
		return nil, err
	}
	entries, _, err := f.dirs.List(ctx, dir)
	return entries, err
}

func (f files) Edit(ctx context.Context, dir caps.Cap, changes []dirnode.Change) error {
	if err := f.prohibited.check(dir); err != nil {
		return err
	}
	w, ok := dir.(caps.WriteDir)
	if !ok {
		if caps.IsDir(dir) && caps.IsReadOnly(dir) {
			return webapi.ErrReadOnly
		}
		return unsupported(dir)
	}
	return f.dirs.Edit(ctx, w, changes)
}

func (f files) MakeDir(ctx context.Context, kind mutable.Kind, entries []dirnode.Entry) (caps.Cap, error) {
	return f.dirs.MakeIn(ctx, kind, entries)
}

func (f files) MakeImmutableDir(ctx context.Context, entries []dirnode.Entry) (caps.Cap, error) {
	return f.dirs.MakeImmutable(ctx, entries)
}

func (f files) Walk(ctx context.Context, dir caps.Cap, visit func(dirnode.Step) error) error {
	if err := f.prohibited.check(dir); err != nil {
		return err
	}
	return f.dirs.Walk(ctx, dir, func(s dirnode.Step) error {
		err := visit(s)
		if c := s.Entry.Cap(); err == nil && caps.IsDir(c) && f.prohibited.check(c) != nil {
			return fs.SkipDir
		}
		return err
	})
}

func unsupported(c caps.Cap) error {
	return fmt.Errorf("a capability of kind %s: %w", c.Kind(), webapi.ErrUnsupported)
}

// openedFile fits immutable.File and mutable.File to the web API.
type openedFile struct{ file openFile }

// openFile is what they do.
type openFile interface {
	Size() uint64
	WriteRange(ctx context.Context, w io.Writer, off, n int64) error
	Close() error
}

func (f openedFile) Size() int64 { return int64(f.file.Size()) }
func (f openedFile) WriteRange(ctx context.Context, w io.Writer, offset, size int64) error {
	return f.file.WriteRange(ctx, w, offset, size)
}
func (f openedFile) Close() error { return f.file.Close() }

// offline is the grid of a node without one: an introducer.
type offline struct{}

var errNoGrid = fmt.Errorf("an introducer stores nothing: %w", errors.ErrUnsupported)

func (offline) PutFile(context.Context, io.Reader, int64) (immutable.Result, error) {
	return immutable.Result{}, errNoGrid
}
func (offline) PutMutable(context.Context, mutable.Kind, []byte) (caps.Cap, error) {
	return nil, errNoGrid
}
func (offline) Update(context.Context, caps.Cap, uint64, []byte) error  { return errNoGrid }
func (offline) Overwrite(context.Context, caps.Cap, []byte) error       { return errNoGrid }
func (offline) Open(context.Context, caps.Cap) (webapi.File, error)     { return nil, errNoGrid }
func (offline) List(context.Context, caps.Cap) ([]dirnode.Entry, error) { return nil, errNoGrid }
func (offline) Edit(context.Context, caps.Cap, []dirnode.Change) error  { return errNoGrid }
func (offline) MakeDir(context.Context, mutable.Kind, []dirnode.Entry) (caps.Cap, error) {
	return nil, errNoGrid
}
func (offline) MakeImmutableDir(context.Context, []dirnode.Entry) (caps.Cap, error) {
	return nil, errNoGrid
}
