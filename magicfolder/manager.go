// Package magicfolder keeps directories in step between participants through a
// grid, in the data model of magic-folder 24.3: a Collective directory that names
// the participants, a Personal directory of each that maps paths to Snapshots.
//
// Start with NewManager, which holds all folders of a node; Create or Join makes
// a Folder, Run keeps all of them in step, Status tells the truth about each.
// What it needs of the grid is the Grid interface; it dials nothing itself.
//
// Promises: nothing is written outside a folder; no bytes that a user wrote are
// thrown away by what arrives (they end as the file, a conflict file, or a
// captured version in the stash); an edit that was captured survives a crash at
// any point; edit beats delete; other participants' names, paths and signatures
// are checked before use.
//
// A conflict ends by Folder.Resolve, or by editing the file and deleting the conflict
// file. Folder.History looks back, Restore and Undelete bring back.
//
// Who is in a folder: a newcomer that got the Collective's writecap enters itself
// (Join); one that got the readcap makes its Personal directory (Accept), and who
// holds the writecap enters it (Folder.Admit). Folder.Remove moves the folder away
// from somebody, and move.go says how the others follow. A name stands for one author
// key: that of its invite, else the first one seen in its own directory.
package magicfolder

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"

	"warren/magicfolder/card"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/state"
)

// Manager holds a node's folders. Its methods may be called concurrently.
type Manager struct {
	opt Options
	db  *state.DB

	making sync.Mutex // one Create, Join, Accept or Leave at a time

	mu      sync.Mutex // guards all below
	folders map[string]*running
	ctx     context.Context // of Run; nil when not running
	wg      sync.WaitGroup
}

type running struct {
	*Folder
	stop context.CancelFunc // nil when not running
	done chan struct{}
}

// NewManager opens the database. ErrInUse when another process has it.
func NewManager(o Options) (*Manager, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	db, err := state.Open(o.StatePath)
	if err != nil {
		return nil, err
	}
	m := &Manager{opt: o, db: db, folders: map[string]*running{}}
	all, err := db.Folders()
	if err != nil {
		db.Close()
		return nil, err
	}
	for _, cfg := range all {
		if err := db.Store(cfg).SweepStash(); err != nil {
			db.Close()
			return nil, err
		}
		m.folders[cfg.Name] = &running{Folder: newFolder(o, db, cfg)}
	}
	return m, nil
}

// Close closes the database. Run must have returned.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.folders {
		f.close()
	}
	return m.db.Close()
}

// Run keeps all folders in step, also those made later, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.ctx != nil {
		m.mu.Unlock()
		return errors.New("the folders run already")
	}
	m.ctx = ctx
	for _, f := range m.folders {
		m.start(f)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil
	m.mu.Unlock()
	m.wg.Wait()
	return ctx.Err()
}

// start needs m.mu.
func (m *Manager) start(f *running) {
	if m.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(m.ctx)
	f.stop, f.done = stop, make(chan struct{})
	m.wg.Go(func() {
		defer close(f.done)
		f.Run(ctx)
	})
}

// Retry has every folder ask the grid at once, and go on with what waits: for
// when servers have come back.
func (m *Manager) Retry() {
	for _, f := range m.Folders() {
		f.retryAll()
		poke(f.wakePoll)
		poke(f.wakePush)
	}
}

// Folders lists the folders by name.
func (m *Manager) Folders() []*Folder {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Folder, 0, len(m.folders))
	for _, f := range m.folders {
		out = append(out, f.Folder)
	}
	slices.SortFunc(out, func(a, b *Folder) int { return strings.Compare(a.Name(), b.Name()) })
	return out
}

// Folder gives one folder; ErrNoFolder.
func (m *Manager) Folder(name string) (*Folder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.folders[name]
	if f == nil {
		return nil, ErrNoFolder
	}
	return f.Folder, nil
}

// Status of all folders, by name.
func (m *Manager) Status() []Status {
	out := []Status{}
	for _, f := range m.Folders() {
		out = append(out, f.Status())
	}
	return out
}

// Create makes a new folder of a directory: a Collective, our Personal directory
// and our entry. Files that are in the directory are uploaded once it runs. On
// return it stands on the grid and is remembered here.
func (m *Manager) Create(ctx context.Context, name, dir, participant string) (*Folder, error) {
	m.making.Lock()
	defer m.making.Unlock()
	cfg, err := m.prepare(name, dir, participant)
	if err != nil {
		return nil, err
	}
	m.opt.Gather(ctx)
	if cfg.Collective, _, err = m.opt.Grid.MakeDirectory(ctx); err != nil {
		return nil, fmt.Errorf("making the Collective: %w", err)
	}
	if err := writeModel(ctx, m.opt.Grid, cfg.Collective, nil); err != nil {
		return nil, fmt.Errorf("making the Collective: %w", err)
	}
	cfg.Membership.Admin = ed25519.NewKeyFromSeed(cfg.Seed).Public().(ed25519.PublicKey)
	return m.enter(ctx, cfg)
}

// Join makes a directory a participant of the folder whose Collective's writecap
// is given. It asks the grid nothing, so that a newcomer can join before there is
// one: the folder makes its Personal directory and enters the Collective when it
// runs and enough servers are there, and reads what others wrote meanwhile.
// Calling Join again with the same arguments gives the same folder. The name may
// get a number added; see Folder.Participant.
func (m *Manager) Join(ctx context.Context, name, dir, participant string, collective Cap) (*Folder, error) {
	m.making.Lock()
	defer m.making.Unlock()
	if !m.opt.Grid.Writable(collective) {
		return nil, ErrNotWritable
	}
	m.mu.Lock()
	old := m.folders[name]
	m.mu.Unlock()
	if abs, err := filepath.Abs(dir); old != nil && err == nil && old.Dir() == abs && old.Collective() == collective {
		return old.Folder, nil
	}
	cfg, err := m.prepare(name, dir, participant)
	if err != nil {
		return nil, err
	}
	cfg.Collective = collective
	return m.remember(cfg)
}

func (m *Manager) prepare(name, dir, participant string) (state.Folder, error) {
	var cfg state.Folder
	if err := checkFolderName(name); err != nil {
		return cfg, err
	}
	participant, err := CheckParticipant(participant)
	if err != nil {
		return cfg, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return cfg, err
	}
	m.mu.Lock()
	_, exists := m.folders[name]
	m.mu.Unlock()
	if exists {
		return cfg, ErrFolder
	}
	if own, err := filepath.Abs(m.opt.StatePath); err != nil || in(resolved(abs), resolved(own)) {
		return cfg, errors.Join(err, ErrOwnFiles)
	}
	for _, f := range m.Folders() {
		if overlap(resolved(f.Dir()), resolved(abs)) {
			return cfg, fmt.Errorf("%w: it is, holds or lies in that of the folder %q", ErrDirectory, f.Name())
		}
	}
	if m.opt.OpenFS == nil {
		if err := fsys.Make(abs); err != nil {
			return cfg, fmt.Errorf("making the folder's directory: %w", err)
		}
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return cfg, err
	}
	return state.Folder{ID: rand.Text(), Name: name, Dir: abs, Author: participant, Seed: key.Seed(),
		Made: m.opt.Clock.Now().Unix()}, nil
}

// remember records a folder and starts it, when the others run.
func (m *Manager) remember(cfg state.Folder) (*Folder, error) {
	return m.rememberAfter(cfg, func(*Folder) error { return nil })
}

// rememberAfter does so after before has succeeded with it.
func (m *Manager) rememberAfter(cfg state.Folder, before func(*Folder) error) (*Folder, error) {
	if _, err := m.db.Add(cfg); err != nil {
		return nil, err
	}
	f := &running{Folder: newFolder(m.opt, m.db, cfg)}
	if err := before(f.Folder); err != nil {
		return nil, errors.Join(err, m.db.Remove(cfg))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.folders[cfg.Name] = f
	m.start(f)
	return f.Folder, nil
}

// enter makes the Personal directory of a folder that has just been made,
// remembers it and enrols.
func (m *Manager) enter(ctx context.Context, cfg state.Folder) (*Folder, error) {
	var err error
	if cfg.Personal, cfg.Readcap, err = makePersonal(ctx, m.opt.Grid, cfg); err != nil {
		return nil, err
	}
	f, err := m.remember(cfg)
	if err != nil {
		return nil, err
	}
	if err := f.enrol(ctx); err != nil {
		m.opt.Logger.Warn("not enrolled yet", "folder", cfg.Name, "error", err.Error())
	}
	return f, nil
}

func makePersonal(ctx context.Context, grid Grid, cfg state.Folder) (write, read Cap, err error) {
	if write, read, err = grid.MakeDirectory(ctx); err != nil {
		return "", "", fmt.Errorf("making our directory: %w", err)
	}
	own, err := card.Encode(ed25519.NewKeyFromSeed(cfg.Seed), read.Text(), card.Card{Generation: cfg.Membership.Generation, Admin: cfg.Membership.Admin})
	if err != nil {
		return "", "", err
	}
	if err := writeModel(ctx, grid, write, own); err != nil {
		return "", "", fmt.Errorf("making our directory: %w", err)
	}
	return write, read, nil
}

// Leave stops a folder and forgets it. The files stay. withdraw also removes our
// entry from the Collective, so that the others stop seeing our versions.
func (m *Manager) Leave(ctx context.Context, name string, withdraw bool) error {
	m.making.Lock()
	defer m.making.Unlock()
	m.mu.Lock()
	f := m.folders[name]
	if f == nil {
		m.mu.Unlock()
		return ErrNoFolder
	}
	stop, done := f.stop, f.done
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	if withdraw {
		// After it stopped, or it would put its entry back.
		if err := m.withdraw(ctx, f.config()); err != nil {
			m.mu.Lock()
			m.start(f)
			m.mu.Unlock()
			return err
		}
	}
	// Opening finishes what is half done; if that fails, the staging area may hold
	// bytes of the user's that nobody knows of afterwards.
	f.close()
	_, open := f.open()
	f.close()
	if err := m.db.Remove(f.config()); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.folders, name)
	m.mu.Unlock()
	if m.opt.OpenFS != nil || errors.Is(open, ErrMissing) {
		return nil
	}
	if open != nil {
		return fmt.Errorf("the folder is left, and its %s stays, since there may be files in it: %w", fsys.Staging, open)
	}
	return fsys.Unmake(f.Dir())
}

func (m *Manager) withdraw(ctx context.Context, cfg state.Folder) error {
	if cfg.Readcap == "" {
		return nil // it has never entered
	}
	if !m.opt.Grid.Writable(cfg.Collective) {
		return fmt.Errorf("%w: ask for warren folder remove-member, and leave without withdrawing", ErrNotAdmin)
	}
	entries, _, err := m.opt.Grid.List(ctx, cfg.Collective)
	if err != nil {
		return fmt.Errorf("reading the Collective: %w", err)
	}
	for _, e := range entries {
		if e.Read != cfg.Readcap {
			continue
		}
		err := m.opt.Grid.Update(ctx, cfg.Collective, []Change{{Entry: remote.Entry{Name: e.Name}, Delete: true}})
		if err != nil {
			return fmt.Errorf("leaving the Collective: %w", err)
		}
	}
	return nil
}

func checkFolderName(name string) error {
	if name == "" || len(name) > 255 || strings.TrimSpace(name) != name || strings.ContainsAny(name, `/\`) || name == "." || name == ".." {
		return fmt.Errorf("%w: folder names have 1 to 255 bytes and no slash", ErrName)
	}
	for _, r := range name {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar {
			return fmt.Errorf("%w: a control character in it", ErrName)
		}
	}
	return nil
}

// resolved gives a path without symlinks, also when its last parts are missing.
func resolved(dir string) string {
	missing := ""
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if r, err := filepath.EvalSymlinks(d); err == nil {
			return filepath.Join(r, missing)
		}
		if d == filepath.Dir(d) {
			return filepath.Clean(dir)
		}
		missing = filepath.Join(filepath.Base(d), missing)
	}
}

// in says whether y is x or lies below it.
func in(x, y string) bool {
	rel, err := filepath.Rel(x, y)
	return err == nil && filepath.IsLocal(rel)
}

func overlap(a, b string) bool { return in(a, b) || in(b, a) }
