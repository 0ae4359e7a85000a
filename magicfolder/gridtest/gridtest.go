// Package gridtest is a grid in memory for the tests of magic folders: one
// store, seen by each participant through a Client with its own convergence
// secret, its own failures and its own count of calls.
package gridtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"warren/magicfolder/remote"
)

// Grid is the store that all clients share.
type Grid struct {
	mu    sync.Mutex // guards all below
	files map[remote.Cap][]byte
	dirs  map[remote.Cap][]remote.Entry
	slots map[string]*slot // by the readcap's text
	write map[remote.Cap]string
}

type slot struct {
	entries map[string]remote.Entry
	version int
	watched map[*watch]bool // told once of the next change
}

// watch is closed once, by whoever deletes it from its slots, under the Grid's mutex.
type watch struct{ changed chan struct{} }

// New makes an empty grid.
func New() *Grid {
	return &Grid{files: map[remote.Cap][]byte{}, dirs: map[remote.Cap][]remote.Entry{},
		slots: map[string]*slot{}, write: map[remote.Cap]string{}}
}

// Client is one participant's way to the grid.
type Client struct {
	g      *Grid
	secret string
	// Fail, when set, is asked before each call, with the method's name, and
	// after it with "after NAME"; its error becomes the call's.
	Fail func(op string) error

	mu    sync.Mutex // guards calls
	calls map[string]int
}

// Client makes a client.
func (g *Grid) Client(secret string) *Client {
	return &Client{g: g, secret: secret, calls: map[string]int{}}
}

// Calls says how often a method was called.
func (c *Client) Calls(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

func (c *Client) enter(ctx context.Context, op string) error {
	if !strings.HasPrefix(op, "after ") {
		c.mu.Lock()
		c.calls[op]++
		c.mu.Unlock()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Fail != nil {
		return c.Fail(op)
	}
	return nil
}

func b32(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

func chk(seed []byte, size int) string {
	h := sha256.Sum256(seed)
	h2 := sha256.Sum256(h[:])
	return fmt.Sprintf("%s:%s:3:5:%d", b32(h[:16]), b32(h2[:]), size)
}

// PutFile implements remote.Grid.
func (c *Client) PutFile(ctx context.Context, r io.Reader, size int64) (remote.Cap, error) {
	if err := c.enter(ctx, "PutFile"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	if int64(len(data)) != size {
		return "", errors.New("gridtest: the size is not what was said")
	}
	var name remote.Cap
	if len(data) <= 55 {
		name = remote.Cap("URI:LIT:" + b32(data))
	} else {
		name = remote.Cap("URI:CHK:" + chk(append([]byte(c.secret+"|"), data...), len(data)))
	}
	c.g.mu.Lock()
	c.g.files[name] = data
	c.g.mu.Unlock()
	return name, c.enter(ctx, "after PutFile")
}

// PutDirectory implements remote.Grid.
func (c *Client) PutDirectory(ctx context.Context, entries []remote.Entry) (remote.Cap, error) {
	if err := c.enter(ctx, "PutDirectory"); err != nil {
		return "", err
	}
	var seed bytes.Buffer
	for _, e := range entries {
		if e.Write != "" || (e.Read != "" && remote.KindOf(e.Read) != remote.File && remote.KindOf(e.Read) != remote.Directory) {
			return "", errors.New("gridtest: not deeply immutable")
		}
		fmt.Fprintf(&seed, "%q%q%q", e.Name, e.Read.Text(), e.Metadata)
	}
	name := remote.Cap("URI:DIR2-CHK:" + chk(append([]byte(c.secret+"|dir|"), seed.Bytes()...), seed.Len()))
	c.g.mu.Lock()
	c.g.dirs[name] = slices.Clone(entries)
	c.g.mu.Unlock()
	return name, c.enter(ctx, "after PutDirectory")
}

// Plant makes an immutable directory hold what its capability does not say, as no grid
// can: a history that leads to itself, say.
func (g *Grid) Plant(dir remote.Cap, entries []remote.Entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dirs[dir] = slices.Clone(entries)
}

// Lose has the servers forget a mutable directory, given its readcap.
func (g *Grid) Lose(dir remote.Cap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.slots, dir.Text())
}

// Lost is what magicfolder.Options.Lost is to tell, on a grid whose servers are all
// there.
func (c *Client) Lost(ctx context.Context, dir remote.Cap) (bool, error) {
	if err := c.enter(ctx, "Lost"); err != nil {
		return false, err
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.slot(dir) == nil, nil
}

// MakeDirectory implements remote.Grid.
func (c *Client) MakeDirectory(ctx context.Context) (remote.Cap, remote.Cap, error) {
	if err := c.enter(ctx, "MakeDirectory"); err != nil {
		return "", "", err
	}
	var k [16]byte
	rand.Read(k[:])
	h := sha256.Sum256(k[:])
	w := remote.Cap("URI:DIR2:" + b32(k[:]) + ":" + b32(h[:]))
	rk := sha256.Sum256(h[:])
	r := remote.Cap("URI:DIR2-RO:" + b32(rk[:16]) + ":" + b32(h[:]))
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.write[w] = r.Text()
	c.g.slots[r.Text()] = &slot{entries: map[string]remote.Entry{}, watched: map[*watch]bool{}}
	return w, r, nil
}

// literal gives the content that stands in a capability itself, however long: a node
// stores only what is longer than 55 bytes, and reads any.
func literal(file remote.Cap) ([]byte, bool) {
	text, ok := strings.CutPrefix(file.Text(), "URI:LIT:")
	if !ok {
		return nil, false
	}
	data, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(text))
	return data, err == nil
}

// Get implements remote.Grid.
func (c *Client) Get(ctx context.Context, file remote.Cap, w io.Writer) error {
	if err := c.enter(ctx, "Get"); err != nil {
		return err
	}
	data, ok := literal(file)
	if !ok {
		c.g.mu.Lock()
		data, ok = c.g.files[file]
		c.g.mu.Unlock()
	}
	if !ok {
		return remote.ErrUnavailable
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return c.enter(ctx, "after Get")
}

func (c *Client) slot(dir remote.Cap) *slot {
	if r, ok := c.g.write[dir]; ok {
		return c.g.slots[r]
	}
	return c.g.slots[dir.Text()]
}

// List implements remote.Grid.
func (c *Client) List(ctx context.Context, dir remote.Cap) ([]remote.Entry, remote.Version, error) {
	if err := c.enter(ctx, "List"); err != nil {
		return nil, "", err
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if entries, ok := c.g.dirs[dir]; ok {
		return slices.Clone(entries), "", nil
	}
	s := c.slot(dir)
	if s == nil {
		return nil, "", remote.ErrUnavailable
	}
	var out []remote.Entry
	for _, e := range s.entries {
		out = append(out, e)
	}
	return out, remote.Version(fmt.Sprint(s.version)), nil
}

// Update implements remote.Grid.
func (c *Client) Update(ctx context.Context, dir remote.Cap, changes []remote.Change) error {
	if err := c.enter(ctx, "Update"); err != nil {
		return err
	}
	c.g.mu.Lock()
	r, ok := c.g.write[dir]
	if !ok {
		c.g.mu.Unlock()
		return errors.New("gridtest: no writecap")
	}
	s := c.g.slots[r]
	if s == nil {
		c.g.mu.Unlock()
		return remote.ErrUnavailable
	}
	for _, ch := range changes {
		if _, there := s.entries[ch.Entry.Name]; there && ch.Absent {
			c.g.mu.Unlock()
			return remote.ErrExists
		}
	}
	for _, ch := range changes {
		if ch.Delete {
			delete(s.entries, ch.Entry.Name)
		} else {
			s.entries[ch.Entry.Name] = ch.Entry
		}
	}
	s.version++
	for w := range s.watched {
		c.g.forget(w)
		close(w.changed)
	}
	c.g.mu.Unlock()
	return c.enter(ctx, "after Update")
}

// Versions implements remote.Grid. Each directory counts, and may fail, as a "Version".
func (c *Client) Versions(ctx context.Context, dirs []remote.Cap) []remote.Asked {
	out := make([]remote.Asked, len(dirs))
	for i, dir := range dirs {
		out[i].Version, out[i].Err = c.version(ctx, dir)
	}
	return out
}

func (c *Client) version(ctx context.Context, dir remote.Cap) (remote.Version, error) {
	if err := c.enter(ctx, "Version"); err != nil {
		return "", err
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	s := c.slot(dir)
	if s == nil {
		return "", remote.ErrUnavailable
	}
	return remote.Version(fmt.Sprint(s.version)), nil
}

// Watch implements remote.Grid. It may fail as "Watch".
func (c *Client) Watch(ctx context.Context, dirs []remote.Cap, have []remote.Version) (<-chan struct{}, error) {
	if err := c.enter(ctx, "Watch"); err != nil {
		return nil, err
	}
	changed := make(chan struct{})
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	for i, dir := range dirs {
		s := c.slot(dir)
		if s == nil {
			return nil, remote.ErrUnwatched
		}
		if remote.Version(fmt.Sprint(s.version)) != have[i] {
			close(changed)
			return changed, nil
		}
	}
	w := &watch{changed}
	for _, dir := range dirs {
		c.slot(dir).watched[w] = true
	}
	context.AfterFunc(ctx, func() {
		c.g.mu.Lock()
		defer c.g.mu.Unlock()
		c.g.forget(w)
	})
	return changed, nil
}

// forget takes a watch from all slots; g.mu is held.
func (g *Grid) forget(w *watch) {
	for _, s := range g.slots {
		delete(s.watched, w)
	}
}

// ReadOnly implements remote.Grid.
func (c *Client) ReadOnly(dir remote.Cap) (remote.Cap, error) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if r, ok := c.g.write[dir]; ok {
		return remote.Cap(r), nil
	}
	return dir, nil
}

// Writable implements remote.Grid.
func (c *Client) Writable(dir remote.Cap) bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	_, ok := c.g.write[dir]
	return ok
}
