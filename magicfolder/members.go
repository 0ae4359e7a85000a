package magicfolder

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"warren/magicfolder/card"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// Errors of the verbs about members.
var (
	// ErrNoMember: no participant of that name.
	ErrNoMember = errors.New("no such participant")
	// ErrTaken: a participant of that name, or with that directory, is there.
	ErrTaken = errors.New("there is a participant of that name already")
	// ErrNotAdmin: only who holds the Collective's writecap can change who is in it,
	// and only the admin whom the others know can remove somebody.
	ErrNotAdmin = errors.New("only the folder's admin can do that")
	// ErrSameKey: no other key was seen in that participant's directory.
	ErrSameKey = errors.New("that participant signs with the key that is known for it")
	// ErrOtherKey: the key that was seen is not the one that is to be accepted.
	ErrOtherKey = errors.New("that participant's new key has another fingerprint")
)

// Member is one participant, as `folder members` shows it. All strings are safe
// to print.
type Member struct {
	Name     string `json:"name"`
	Self     bool   `json:"self,omitempty"`
	Admin    bool   `json:"admin,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Program is "warren", or "" for one that shows no sign of it: magic-folder, or
	// one whose directory was not read yet.
	Program string `json:"program,omitempty"`
	// Key is the fingerprint of the author key that the name stands for; "" when
	// none is known yet.
	Key   string    `json:"key,omitempty"`
	Since time.Time `json:"since,omitzero"` // when its entry was made
	Files int       `json:"files"`
	// Last is when the newest version in its directory was made, by its author's
	// clock, of those that were read here.
	Last  time.Time `json:"last_version,omitzero"`
	Error string    `json:"error,omitempty"`
	// NewKey is the fingerprint of another key that it signs with now; its versions
	// are ignored until that key is accepted.
	NewKey string `json:"new_key,omitempty"`
}

// Fingerprint is what people compare: 80 bits of the key's SHA-256.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	s := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

// members is what is known of the participants beside what the configuration
// keeps. Folder.mu guards it.
type members struct {
	seats    []seat                       // the entries of the Collective
	former   string                       // our entry, when it names a directory that we had before
	seatedAt bool                         // our entry names Membership.Next
	refused  map[string]ed25519.PublicKey // by participant: a key that is not the one known

	board     Version // of Membership.Board, when it is no participant's directory
	boardCard *card.Card
	posted    *card.Card // our own, as it stands on the grid
	said      string     // what our cards say, see tell
}

type seat struct {
	name  string
	dir   remote.Cap // readcap
	self  bool
	since time.Time
}

func newMembers() members { return members{refused: map[string]ed25519.PublicKey{}} }

// The ways in which an entry can be ours.
const (
	isOther = iota
	isSelf
	isFormer
)

// seat notes an entry of the Collective and says whether it is ours; f.mu is held.
func (f *Folder) seat(e Entry, dir remote.Cap) int {
	m := f.cfg.Membership
	s := seat{name: e.Name, dir: dir, since: since(e.Metadata)}
	what := isOther
	switch {
	case f.cfg.Readcap != "" && dir == f.cfg.Readcap:
		s.self = true
	case m.ReadOnly && snapshot.Key(e.Name) == f.cfg.Author && remote.KindOf(dir) == remote.Directory:
		s.self, what = true, isSelf
	case m.NextRead != "" && dir == m.NextRead:
		s.self, f.men.seatedAt, what = true, true, isSelf
	default:
		for _, w := range slices.Concat(m.Past, m.Lost) {
			if r, err := f.opt.Grid.ReadOnly(w); err == nil && r == dir {
				s.self, f.men.former, what = true, e.Name, isFormer
			}
		}
	}
	f.men.seats = append(f.men.seats, s)
	return what
}

// since is when an entry was made, by Tahoe's record or by ours of before a move.
func since(metadata json.RawMessage) time.Time {
	var m struct {
		Tahoe  struct{ Linkcrtime float64 }
		Warren struct{ Since int64 }
	}
	if json.Unmarshal(metadata, &m) != nil {
		return time.Time{}
	}
	if m.Warren.Since > 0 && m.Warren.Since < 1<<40 {
		return time.Unix(m.Warren.Since, 0)
	}
	if m.Tahoe.Linkcrtime > 0 && m.Tahoe.Linkcrtime < 1<<40 {
		return time.Unix(int64(m.Tahoe.Linkcrtime), 0)
	}
	return time.Time{}
}

// amend changes the configuration, on disk first.
func (f *Folder) amend(change func(*state.Folder)) error {
	f.cfgMu.Lock()
	defer f.cfgMu.Unlock()
	cfg := f.config()
	cfg.Membership = cfg.Membership.Clone()
	change(&cfg)
	if err := f.db.Put(cfg); err != nil {
		return err
	}
	f.mu.Lock()
	f.cfg = cfg
	f.mu.Unlock()
	return nil
}

// AuthorKey is the key that our versions are signed with.
func (f *Folder) AuthorKey() ed25519.PublicKey { return f.key.Public().(ed25519.PublicKey) }

// AdminOnly says that invites to the folder give its Collective's readcap alone.
func (f *Folder) AdminOnly() bool { return f.config().Membership.AdminOnly }

// Writable says whether we hold the Collective's writecap.
func (f *Folder) Writable() bool { return f.opt.Grid.Writable(f.config().Collective) }

// pinned gives the key that a participant's name stands for; nil if unknown.
func (f *Folder) pinned(name string) (state.Pin, error) {
	var p state.Pin
	err := f.store.View(func(tx *state.Tx) (err error) {
		p, _, err = tx.Pin("name:" + snapshot.Key(name))
		return err
	})
	return p, err
}

// signedBefore says that a key is one that the name stood for in earlier times.
func signedBefore(p state.Pin, key []byte) bool {
	return slices.ContainsFunc(p.Past, func(k []byte) bool { return bytes.Equal(k, key) })
}

// setKey makes a name stand for a key, or, when it is nil, for the next new one
// that is seen in that participant's directory. What the key before signed stays
// good.
func (f *Folder) setKey(name string, key ed25519.PublicKey, ours bool) error {
	slot := "name:" + snapshot.Key(name)
	err := f.store.Update(func(tx *state.Tx) error {
		have, _, err := tx.Pin(slot)
		if err != nil || key != nil && bytes.Equal(have.Key, key) && have.Own && (have.Ours || !ours) {
			return err
		}
		if len(have.Key) > 0 && !bytes.Equal(have.Key, key) && !signedBefore(have, have.Key) {
			have.Past = append(have.Past, have.Key)
		}
		have.Past = slices.DeleteFunc(have.Past, func(k []byte) bool { return bytes.Equal(k, key) })
		return tx.PutPin(slot, state.Pin{Key: key, Own: key != nil, Ours: ours, Past: have.Past})
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	delete(f.men.refused, snapshot.Key(name))
	delete(f.stat.alarms, "key:"+snapshot.Key(name))
	delete(f.stat.alarms, "entry:"+name+":")
	f.mu.Unlock()
	f.lookAtAll()
	poke(f.wakePoll)
	return nil
}

// keyChanged alarms: a participant's own directory shows another key than the one
// that its name stands for.
func (f *Folder) keyChanged(name string, key ed25519.PublicKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.men.refused[snapshot.Key(name)] = slices.Clone(key)
	f.raise("key:"+snapshot.Key(name), fmt.Sprintf("participant %q signs with another key (%s) than before: what it writes is ignored. "+
		"If that person has joined anew and confirms this key, accept it: warren folder members %s --accept-key %q; if not, somebody else writes under that name",
		name, Fingerprint(key), f.cfg.Name, name))
}

// AcceptKey has a participant's name stand for the new key that its directory
// shows, and gives the key's fingerprint. ErrSameKey when it shows none, ErrOtherKey
// when it is not of that fingerprint; "": whatever it is.
func (f *Folder) AcceptKey(name, fingerprint string) (string, error) {
	f.mu.Lock()
	key, ok := f.men.refused[snapshot.Key(name)]
	there := slices.ContainsFunc(f.men.seats, func(s seat) bool { return snapshot.Key(s.name) == snapshot.Key(name) })
	f.mu.Unlock()
	switch {
	case !there:
		return "", ErrNoMember
	case !ok:
		return "", ErrSameKey
	case fingerprint != "" && fingerprint != Fingerprint(key):
		return "", fmt.Errorf("%w: it is %s", ErrOtherKey, Fingerprint(key))
	}
	f.log.Info("a participant's new key is accepted", "participant", fsys.Printable(name))
	return Fingerprint(key), f.setKey(name, key, false)
}

// Vouch pins the author key of somebody who was invited and enters the Collective
// later, unless somebody stands there under that name: then the newcomer will take
// another, and its own card says whose key that is.
func (f *Folder) Vouch(name string, key ed25519.PublicKey) error {
	if err := f.await(name, key); err != nil {
		return err
	}
	f.mu.Lock()
	there := slices.ContainsFunc(f.men.seats, func(s seat) bool { return snapshot.Key(s.name) == snapshot.Key(name) })
	f.mu.Unlock()
	if there {
		return nil
	}
	if _, err := f.changesKey(name, key); err != nil {
		return err
	}
	return f.setKey(name, key, true)
}

// Introduction is what a newcomer is told of the others.
type Introduction struct {
	Keys       map[string]ed25519.PublicKey // author keys, by name
	Admin      ed25519.PublicKey            // nil: nobody may move the folder
	Board      Cap                          // readcap of the admin's directory
	Generation uint64
}

// Introduction of the folder's participants to a newcomer. When one of its name was
// here before, that one's key is among the others'.
func (f *Folder) Introduction(newcomer string) (Introduction, error) {
	f.mu.Lock()
	cfg, seats := f.cfg, slices.Clone(f.men.seats)
	f.mu.Unlock()
	in := Introduction{Keys: map[string]ed25519.PublicKey{}, Admin: cfg.Membership.Admin, Board: cfg.Membership.Board, Generation: cfg.Membership.Generation}
	if f.isAdmin(cfg) {
		in.Board = cfg.Readcap
	}
	if in.Board == "" {
		in.Admin = nil
	}
	if cfg.Enrolled && !cfg.Membership.ReadOnly {
		in.Keys[cfg.Author] = f.AuthorKey()
	}
	if p, err := f.pinned(newcomer); err != nil {
		return in, err
	} else if p.Own && snapshot.Key(newcomer) != cfg.Author && foreignName(newcomer) == nil {
		in.Keys[newcomer] = p.Key
	}
	for _, s := range seats {
		if s.self {
			continue
		}
		p, err := f.pinned(s.name)
		if err != nil {
			return in, err
		}
		if p.Own && len(in.Keys) < 256 && foreignName(s.name) == nil {
			in.Keys[s.name] = p.Key
		}
	}
	return in, nil
}

// Meet takes what an inviter says of the others, before anything of theirs is read.
func (f *Folder) Meet(in Introduction) error {
	own := snapshot.Key(f.Participant())
	for name, key := range in.Keys {
		if len(key) != ed25519.PublicKeySize || foreignName(name) != nil {
			continue
		}
		if snapshot.Key(name) == own {
			// Ours from a time before this one: its versions are still there.
			if err := f.setKey(name, key, true); err != nil {
				return err
			}
			if err := f.setKey(name, f.AuthorKey(), true); err != nil {
				return err
			}
			continue
		}
		if err := f.pin("name:"+snapshot.Key(name), state.Pin{Key: key, Own: true}); err != nil {
			return err
		}
	}
	if len(in.Admin) != ed25519.PublicKeySize || remote.KindOf(in.Board) != remote.MutableDirectory || f.opt.Grid.Writable(in.Board) {
		return nil
	}
	return f.amend(func(cfg *state.Folder) {
		m := &cfg.Membership
		m.Admin, m.Board, m.Generation = in.Admin, in.Board, in.Generation
	})
}

// Invitation is what an invite to a folder brings.
type Invitation struct {
	Name, Dir, Participant string
	// Collective is the writecap, or the readcap where the inviter enters us.
	Collective Cap
	ReadOnly   bool
	Introduction
}

// Accept makes a directory a participant of the folder that an invitation is for.
// Unless we are to read only, our Personal directory is made first: it needs the
// grid. The folder runs on return; its Readcap is for the inviter, who enters us in
// the Collective. Accepting the same again gives the same folder.
func (m *Manager) Accept(ctx context.Context, in Invitation) (*Folder, error) {
	m.making.Lock()
	defer m.making.Unlock()
	if remote.KindOf(in.Collective) != remote.MutableDirectory {
		return nil, ErrNotCollective
	}
	read, err := m.opt.Grid.ReadOnly(in.Collective)
	if err != nil {
		return nil, ErrNotCollective
	}
	m.mu.Lock()
	old := m.folders[in.Name]
	m.mu.Unlock()
	if abs, err := filepath.Abs(in.Dir); old != nil && err == nil && old.Dir() == abs {
		if r, err := m.opt.Grid.ReadOnly(old.Collective()); err == nil && r == read && old.config().Membership.ReadOnly == in.ReadOnly {
			return old.Folder, nil
		}
	}
	cfg, err := m.prepare(in.Name, in.Dir, in.Participant)
	if err != nil {
		return nil, err
	}
	cfg.Collective = in.Collective
	cfg.Membership.ReadOnly = in.ReadOnly
	cfg.Membership.Generation = in.Generation
	if len(in.Admin) == ed25519.PublicKeySize {
		cfg.Membership.Admin = in.Admin // the card says so
	}
	if !in.ReadOnly {
		m.opt.Gather(ctx)
		if cfg.Personal, cfg.Readcap, err = makePersonal(ctx, m.opt.Grid, cfg); err != nil {
			return nil, err
		}
	}
	return m.rememberAfter(cfg, func(f *Folder) error { return f.Meet(in.Introduction) })
}

// Readcap is that of our Personal directory, which others find us by; "" when we
// have none.
func (f *Folder) Readcap() Cap { return f.config().Readcap }

// ReadOnlyCollective is the cap that an admin-only folder gives to newcomers.
func (f *Folder) ReadOnlyCollective() (Cap, error) { return f.opt.Grid.ReadOnly(f.config().Collective) }

// Admission is a newcomer that is to be entered in the Collective.
type Admission struct {
	Name     string
	Personal Cap               // readcap; "" for one that only reads
	Key      ed25519.PublicKey // nil when its program does not say
	// Again: one of that name is there, or was, and the newcomer takes its place.
	Again bool
}

// Admit enters a newcomer. Doing so again is harmless. ErrTaken when the name or
// the directory is somebody else's.
func (f *Folder) Admit(ctx context.Context, a Admission) error {
	name, err := CheckParticipant(a.Name)
	if err != nil {
		return err
	}
	if a.Personal != "" && (remote.KindOf(a.Personal) != remote.MutableDirectory || f.opt.Grid.Writable(a.Personal)) {
		return fmt.Errorf("%w: its directory is not the readcap of a mutable one", ErrNotCollective)
	}
	cfg := f.config()
	if !f.opt.Grid.Writable(cfg.Collective) {
		return ErrNotAdmin
	}
	if a.Personal == "" {
		// What magic-folder enters for one that only reads.
		if a.Personal, err = f.opt.Grid.PutDirectory(ctx, nil); err != nil {
			return err
		}
	}
	for range 20 {
		entries, _, err := f.opt.Grid.List(ctx, cfg.Collective)
		if err != nil {
			return fmt.Errorf("reading the Collective: %w", err)
		}
		if err := f.checkModel(ctx, entries); err != nil {
			return err
		}
		there, stands := "", false
		for _, e := range entries {
			same := snapshot.Key(e.Name) == snapshot.Key(name)
			switch {
			case same && e.Read == a.Personal:
				stands = true
			case same && (e.Read == cfg.Readcap || !a.Again):
				return ErrTaken
			case same:
				there = e.Name
			case e.Read == a.Personal && remote.KindOf(a.Personal) == remote.MutableDirectory:
				return fmt.Errorf("%w: %q has that directory", ErrTaken, e.Name)
			}
		}
		if err := f.vouch(ctx, name, a.Key); err != nil {
			return err
		}
		if stands {
			if err := f.setKey(name, a.Key, a.Key != nil); err != nil {
				return err
			}
			f.mu.Lock()
			f.collective = "" // read anew
			f.mu.Unlock()
			return nil
		}
		changes := []Change{{Entry: Entry{Name: name, Read: a.Personal}, Absent: there != name}}
		if there != "" && there != name {
			changes = append(changes, Change{Entry: Entry{Name: there}, Delete: true})
		}
		if err := f.opt.Grid.Update(ctx, cfg.Collective, changes); err != nil && !errors.Is(err, ErrExists) {
			return fmt.Errorf("entering %q: %w", name, err)
		}
		// Read it back: only what stands there counts.
	}
	return errors.New("the newcomer's entry in the Collective does not stand")
}

// Members lists the participants by name, ourselves among them.
func (f *Folder) Members() ([]Member, error) {
	f.mu.Lock()
	cfg, seats := f.cfg, slices.Clone(f.men.seats)
	type known struct {
		heads map[string]remote.Cap
		ours  bool
		err   error
	}
	peers := map[remote.Cap]known{}
	for _, p := range f.peers {
		heads := make(map[string]remote.Cap, len(p.heads))
		for k, c := range p.heads {
			heads[k] = c
		}
		peers[p.dir] = known{heads, p.card != nil, p.err}
	}
	refused := map[string]ed25519.PublicKey{}
	for k, v := range f.men.refused {
		refused[k] = v
	}
	f.mu.Unlock()
	out := []Member{}
	self := false
	for _, s := range seats {
		m := Member{Name: fsys.Printable(s.name), Self: s.self, Since: s.since, ReadOnly: remote.KindOf(s.dir) == remote.Directory}
		err := f.store.View(func(tx *state.Tx) error {
			p, _, err := tx.Pin("name:" + snapshot.Key(s.name))
			if err != nil {
				return err
			}
			if s.self {
				p = state.Pin{Key: f.AuthorKey(), Own: true, Ours: true}
			}
			if p.Own {
				m.Key = Fingerprint(p.Key)
				m.Admin = bytes.Equal(p.Key, cfg.Membership.Admin)
			}
			k := peers[s.dir]
			if p.Ours || k.ours {
				m.Program = "warren"
			}
			if k.err != nil {
				m.Error = fsys.Printable(k.err.Error())
			}
			heads := k.heads
			if s.self {
				heads = map[string]remote.Cap{}
				if err := tx.Files(func(key string, rec state.File) error {
					if rec.Linked != "" {
						heads[key] = rec.Linked
					}
					return nil
				}); err != nil {
					return err
				}
			}
			for _, c := range heads {
				v, ok, err := tx.Known(c)
				if err != nil {
					return err
				}
				if !ok || v.Content != "" {
					m.Files++ // one that was not read yet counts
				}
				if at := time.Unix(v.Modified, 0); ok && v.Modified > 0 && at.After(m.Last) {
					m.Last = at
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if key, ok := refused[snapshot.Key(s.name)]; ok && !s.self {
			m.NewKey = Fingerprint(key)
		}
		self = self || s.self
		out = append(out, m)
	}
	if !self {
		out = append(out, Member{Name: cfg.Author, Self: true, ReadOnly: cfg.Membership.ReadOnly, Program: "warren", Key: Fingerprint(f.AuthorKey()), Error: "not entered in the Collective yet"})
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// SetAdminOnly says what invites to the folder give out from now on.
func (f *Folder) SetAdminOnly(only bool) error {
	return f.amend(func(cfg *state.Folder) { cfg.Membership.AdminOnly = only })
}
