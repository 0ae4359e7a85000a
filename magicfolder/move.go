package magicfolder

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"warren/magicfolder/card"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// Removing somebody moves the folder. Who was in it can read the old Collective
// for ever, and write to it where all could; so there is a new one, with the
// entries of those who remain, whose capability the one removed does not get:
//
//  1. The admin makes the new Collective, whole, and then keeps its capability in
//     its own state. A crash before leaves a directory that nobody knows; from here
//     on everything below follows from the state, and is repeated until it stands.
//  2. The admin's card (package card) in its Personal directory, where those who
//     remain look at every poll, has a note for each of them, sealed to its author
//     key: the new Collective, and where the admin's directory is now.
//  3. Each makes a new Personal directory, with what was in the old one, and has it
//     entered in the new Collective: by itself, or by the admin, who reads of it in
//     a note sealed to it. Then who was removed sees no new version of anybody.
//
// Notes are believed of one key: that of the admin, learned with the invite. They
// are numbered (Generation), so that an old one, shown by whomever, leads nowhere;
// the directory of the admin is known from the invite too, so that it does not help
// to remove the admin's entry from the old Collective. Who was away finds the note
// of the newest generation in the directory that it knows: the admin writes its
// card into those of before as well (Membership.Past). Only one node has the
// admin's key, and removes one by one.
//
// A participant on magic-folder 24.3, or one that was invited by it and so knows
// no admin, cannot follow, and must be invited again.

// moveText is the text of a card.KindMove.
type moveText struct {
	Collective remote.Cap `json:"collective"`
	Board      remote.Cap `json:"board"` // readcap of the admin's Personal directory
}

// refresh brings what is known of the participants up to date, see read, and
// follows the folder where it has moved.
func (f *Folder) refresh(ctx context.Context) error {
	err := f.read(ctx)
	if moved, ferr := f.follow(ctx); ferr != nil {
		return ferr
	} else if moved {
		err = f.read(ctx)
	}
	return err
}

func (f *Folder) isAdmin(cfg state.Folder) bool {
	return bytes.Equal(cfg.Membership.Admin, f.AuthorKey())
}

// follow goes where the admin says that the Collective is now. An error is the
// local disk's: that the board cannot be read says nothing.
func (f *Folder) follow(ctx context.Context) (bool, error) {
	cfg := f.config()
	m := cfg.Membership
	if len(m.Admin) != ed25519.PublicKeySize || m.Board == "" {
		f.rumours(m.Generation)
		return false, nil
	}
	if f.isAdmin(cfg) {
		return false, nil
	}
	notes, generation, err := f.adminSays(ctx, m)
	if err != nil {
		return false, err
	}
	var newest uint64
	var text moveText
	for _, n := range notes {
		if n.Kind != card.KindMove || n.Generation <= max(newest, m.Generation) {
			continue
		}
		b, err := card.Open(f.key, m.Admin, n)
		if err != nil {
			continue // somebody else's
		}
		var t moveText
		if json.Unmarshal(b, &t) != nil || remote.KindOf(t.Collective) != remote.MutableDirectory ||
			remote.KindOf(t.Board) != remote.MutableDirectory || f.opt.Grid.Writable(t.Board) {
			continue
		}
		newest, text = n.Generation, t
	}
	if newest == 0 {
		if generation > m.Generation {
			f.alarm("moved", "the folder has moved and its admin does not tell us where: we were removed, or have to be invited again. "+
				"What is written here reaches nobody who has moved with it")
		}
		return false, nil
	}
	err = f.amend(func(cfg *state.Folder) {
		cfg.Collective = text.Collective
		cfg.Membership.Generation, cfg.Membership.Board = newest, text.Board
		// Who has no directory yet has none that anybody could know.
		cfg.Membership.Renew = !cfg.Membership.ReadOnly && cfg.Personal != ""
	})
	if err != nil {
		return false, err
	}
	f.startAnew()
	if err := f.fault("follow.kept"); err != nil {
		return false, err
	}
	f.dropAlarm("moved")
	f.log.Info("somebody was removed: the folder has a new Collective")
	return true, nil
}

// adminSays gives the notes in the admin's cards: the one on the board, and that in
// any other directory in which we see one. A card proves whose it is, notes are sealed
// and numbered, so it matters little who shows them. When the board cannot be read,
// the admin may have lost it and made another, which is the board from then on.
func (f *Folder) adminSays(ctx context.Context, m state.Membership) (notes []card.Note, generation uint64, err error) {
	c, lost := f.boardCard(ctx, m.Board)
	take := func(c *card.Card) bool {
		if c == nil || !bytes.Equal(c.Key, m.Admin) {
			return false
		}
		notes, generation = append(notes, c.Notes...), max(generation, c.Generation)
		return true
	}
	take(c)
	for _, p := range f.allPeers() {
		f.mu.Lock()
		c, dir := p.card, p.dir
		f.mu.Unlock()
		if dir == m.Board || !take(c) || !errors.Is(lost, ErrUnavailable) || c.Generation < m.Generation {
			continue
		}
		lost = nil
		f.mu.Lock()
		f.men.board, f.men.boardCard = "", nil
		f.mu.Unlock()
		if err := f.amend(func(cfg *state.Folder) { cfg.Membership.Board = dir }); err != nil {
			return nil, 0, err
		}
	}
	return notes, generation, nil
}

// rumours alarms when another says that the folder has moved, and we know nobody to
// believe.
func (f *Folder) rumours(generation uint64) {
	for _, p := range f.allPeers() {
		f.mu.Lock()
		name, c := p.name, p.card
		f.mu.Unlock()
		if c != nil && c.Generation > generation {
			f.alarm("moved", fmt.Sprintf("participant %q says that the folder has moved; this node was not told by its invite whom to believe: ask to be invited again", name))
		}
	}
}

// startAnew forgets what was known of the Collective and our directory.
func (f *Folder) startAnew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collective, f.personal, f.ownName = "", "", false
	f.men.board, f.men.boardCard, f.men.said, f.men.posted = "", nil, "", nil
}

// boardCard is the card in the admin's directory: as it was just read, when that is
// a participant's, else read now. nil: it has none, or, with an error, was not read.
func (f *Folder) boardCard(ctx context.Context, board remote.Cap) (*card.Card, error) {
	f.mu.Lock()
	p := f.peers[board.Text()]
	if p != nil && p.read && p.err == nil {
		defer f.mu.Unlock()
		return p.card, nil
	}
	have, c := f.men.board, f.men.boardCard
	f.mu.Unlock()
	v, err := versionOf(ctx, f.opt.Grid, board)
	if err != nil {
		return nil, err
	}
	if v == have {
		return c, nil
	}
	entries, v, err := f.opt.Grid.List(ctx, board)
	if err != nil {
		return nil, err
	}
	c = cardIn(entries, board)
	f.mu.Lock()
	f.men.board, f.men.boardCard = v, c
	f.mu.Unlock()
	return c, nil
}

// cardIn is the card of a directory; nil when there is none.
func cardIn(entries []Entry, dir remote.Cap) *card.Card {
	for _, e := range entries {
		if e.Name == snapshot.MetadataName {
			if c, err := card.Parse(e.Metadata, dir.Text()); err == nil {
				return &c
			}
		}
	}
	return nil
}

// readCard takes a participant's card, which proves whose key is at home there:
// before any file of its is read, and when it has none.
func (f *Folder) readCard(p *peer, entries []Entry) (*card.Card, error) {
	c := cardIn(entries, p.dir)
	if c == nil {
		return nil, nil
	}
	f.mu.Lock()
	name := p.name
	f.mu.Unlock()
	slot, changed, learned := "name:"+snapshot.Key(name), false, false
	err := f.store.Update(func(tx *state.Tx) error {
		changed, learned = false, false
		pin, _, err := tx.Pin(slot)
		switch {
		case err != nil || signedBefore(pin, c.Key):
			return err
		case pin.Own && !bytes.Equal(pin.Key, c.Key):
			changed = true
			return nil
		case pin.Own && pin.Ours:
			return nil
		}
		learned = !pin.Own
		pin.Key, pin.Own, pin.Ours = c.Key, true, true
		return tx.PutPin(slot, pin)
	})
	if changed {
		f.keyChanged(name, c.Key)
	}
	if learned {
		f.lookAtAll()
	}
	return c, err
}

// cardStands says whether an @metadata entry of our Personal directory has our card.
func (f *Folder) cardStands(e Entry) bool {
	cfg := f.config()
	c, err := card.Parse(e.Metadata, cfg.Readcap.Text())
	if err != nil || !bytes.Equal(c.Key, f.AuthorKey()) || c.Generation != cfg.Membership.Generation || !bytes.Equal(c.Admin, cfg.Membership.Admin) || !sameStatements(c.Statements, f.statements(cfg)) {
		return false
	}
	f.mu.Lock()
	f.men.posted = &c
	f.mu.Unlock()
	return true
}

func (f *Folder) makePersonal(ctx context.Context) (write, read Cap, err error) {
	return makePersonal(ctx, f.opt.Grid, f.config())
}

// writeCard writes our card, with all notes, into a directory of ours.
func (f *Folder) writeCard(ctx context.Context, dir remote.Cap) error {
	cfg := f.config()
	read, err := f.opt.Grid.ReadOnly(dir)
	if err != nil {
		return err
	}
	letters, err := f.letters(cfg)
	if err != nil {
		return err
	}
	var notes []card.Note
	for _, l := range letters {
		b, err := json.Marshal(l.text)
		if err != nil {
			return errors.New("encoding a note") // the encoder's words may quote it
		}
		n, err := card.Seal(f.key, l.to, l.kind, cfg.Membership.Generation, b)
		if err != nil {
			f.log.Warn("a participant's key cannot be sealed to", "key", Fingerprint(l.to))
			continue
		}
		notes = append(notes, n)
	}
	c, err := card.Encode(f.key, read.Text(), card.Card{Generation: cfg.Membership.Generation, Admin: cfg.Membership.Admin, Notes: notes, Statements: f.statements(cfg)})
	if err != nil {
		return err
	}
	return writeModel(ctx, f.opt.Grid, dir, c)
}

// letter is a note that is not sealed yet.
type letter struct {
	to   ed25519.PublicKey
	kind string
	text any
}

// letters are what our card has to say, and to whom.
func (f *Folder) letters(cfg state.Folder) ([]letter, error) {
	m := cfg.Membership
	var out []letter
	if m.NextRead != "" && len(m.Admin) == ed25519.PublicKeySize {
		out = append(out, letter{m.Admin, card.KindPersonal, m.NextRead.Text()})
	}
	if !f.isAdmin(cfg) || m.Generation == 0 {
		return out, nil
	}
	read, err := f.opt.Grid.ReadOnly(cfg.Collective)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	seats, seated := slices.Clone(f.men.seats), map[string]bool{}
	f.mu.Unlock()
	for _, s := range seats {
		pin, err := f.pinned(s.name)
		if err != nil {
			return nil, err
		}
		if s.self || !pin.Own {
			continue
		}
		t := moveText{Collective: cfg.Collective, Board: cfg.Readcap}
		if m.AdminOnly || remote.KindOf(s.dir) == remote.Directory {
			t.Collective = read
		}
		out = append(out, letter{pin.Key, card.KindMove, t})
		seated[string(pin.Key)] = true
	}
	return append(out, f.awaitedLetters(cfg, read, seated)...), nil
}

// plan is letters in a form to compare.
func plan(m state.Membership, letters []letter) string {
	var to []string
	for _, l := range letters {
		to = append(to, l.kind+" "+string(l.to))
	}
	slices.Sort(to)
	return fmt.Sprintf("%d %d %q", m.Generation, len(m.Past), to)
}

// attend does what a folder that has moved needs of us. It holds up nothing else:
// what does not succeed is said, and repeated. f.linkMu is held.
func (f *Folder) attend(ctx context.Context) error {
	for _, step := range []struct {
		key, what string
		do        func(context.Context) error
	}{
		{"expect", "who was invited and is not here yet is not known", f.expect},
		{"seats", "a participant's new directory is not entered yet", f.seatOthers},
		{"renew", "who was removed can still read what is published here: the new directory is not made yet", f.renew},
		{"tell", "the remaining participants are not told yet where the folder is", f.tell},
	} {
		err := step.do(ctx)
		switch {
		case err == nil:
			f.dropAlarm("attend:" + step.key)
		case ctx.Err() != nil || errors.Is(err, errCrash):
			return err
		default:
			f.alarm("attend:"+step.key, step.what+": "+err.Error())
		}
	}
	return nil
}

// tell posts our card where those who were away look for it.
func (f *Folder) tell(ctx context.Context) error {
	cfg := f.config()
	letters, err := f.letters(cfg)
	if err != nil {
		return err
	}
	now := plan(cfg.Membership, letters)
	f.mu.Lock()
	said, posted := f.men.said, f.men.posted
	f.mu.Unlock()
	if said == now || cfg.Personal == "" {
		return nil
	}
	missing := slices.ContainsFunc(letters, func(l letter) bool {
		return posted == nil || !slices.ContainsFunc(posted.Notes, func(o card.Note) bool {
			return o.Kind == l.kind && o.For.Equal(l.to) && o.Generation == cfg.Membership.Generation
		})
	})
	if missing {
		// The newest last: when that stands, all do.
		for _, dir := range append(slices.Clone(cfg.Membership.Past), cfg.Personal) {
			if err := f.writeCard(ctx, dir); err != nil {
				if dir != cfg.Personal && errors.Is(err, ErrUnavailable) {
					if gone, lerr := f.opt.Lost(ctx, dir); lerr == nil && gone {
						continue // nobody can look there either
					}
				}
				return err
			}
			if err := f.fault("tell.posted"); err != nil {
				return err
			}
		}
	}
	f.mu.Lock()
	f.men.said = now
	f.mu.Unlock()
	return nil
}

// renew makes our Personal directory anew, after somebody was removed.
func (f *Folder) renew(ctx context.Context) error {
	cfg := f.config()
	m := cfg.Membership
	if m.Next != "" {
		f.mu.Lock()
		seated := f.men.seatedAt
		f.mu.Unlock()
		if !seated {
			return nil // the admin has not entered it yet
		}
		return f.moveIn(ctx, cfg.Personal, m.Next, m.NextRead)
	}
	if !m.Renew || !cfg.Enrolled || cfg.Personal == "" {
		return nil
	}
	writable := f.opt.Grid.Writable(cfg.Collective)
	if !writable && len(m.Admin) == 0 {
		return f.amend(func(cfg *state.Folder) { cfg.Membership.Renew = false })
	}
	f.opt.Gather(ctx)
	write, read, err := f.makePersonal(ctx)
	if err != nil {
		return err
	}
	if err := f.fault("renew.made"); err != nil {
		return err
	}
	if !writable {
		return f.amend(func(cfg *state.Folder) {
			cfg.Membership.Renew, cfg.Membership.Next, cfg.Membership.NextRead = false, write, read
		})
	}
	return f.moveIn(ctx, cfg.Personal, write, read)
}

// moveIn goes from one Personal directory of ours to another, with all entries, and
// into the Collective with it.
func (f *Folder) moveIn(ctx context.Context, from, write, read remote.Cap) error {
	entries, _, err := f.opt.Grid.List(ctx, from)
	if err != nil {
		return err
	}
	var changes []Change
	for _, e := range entries {
		if e.Name != snapshot.MetadataName && e.Write == "" {
			changes = append(changes, Change{Entry: Entry{Name: e.Name, Read: e.Read, Metadata: e.Metadata}})
		}
	}
	return f.moveWith(ctx, changes, write, read, func(m *state.Membership) {
		m.Past = append(m.Past, from)
		m.Past = m.Past[max(0, len(m.Past)-state.MaxPast):]
	})
}

// moveWith is moveIn with these entries; left notes where we were.
func (f *Folder) moveWith(ctx context.Context, changes []Change, write, read remote.Cap, left func(*state.Membership)) error {
	if len(changes) > 0 {
		if err := f.opt.Grid.Update(ctx, write, changes); err != nil {
			return err
		}
	}
	if err := f.fault("renew.filled"); err != nil {
		return err
	}
	err := f.amend(func(cfg *state.Folder) {
		m := &cfg.Membership
		left(m)
		cfg.Personal, cfg.Readcap = write, read
		m.Renew, m.Next, m.NextRead = false, "", ""
	})
	if err != nil {
		return err
	}
	if err := f.fault("renew.kept"); err != nil {
		return err
	}
	f.mu.Lock()
	f.personal, f.ownName, f.men.seatedAt, f.men.posted, f.men.said = "", false, false, nil, ""
	if f.collective == "" {
		f.collective = "?" // enter takes an unknown Collective for one that has us
	}
	f.mu.Unlock()
	return f.enter(ctx)
}

// seatOthers enters the new directories of which others who cannot do it
// themselves have told us.
func (f *Folder) seatOthers(ctx context.Context) error {
	cfg := f.config()
	if !f.isAdmin(cfg) || cfg.Membership.Generation == 0 {
		return nil
	}
	for _, p := range f.allPeers() {
		f.mu.Lock()
		name, c := p.name, p.card
		f.mu.Unlock()
		if c == nil {
			continue
		}
		for _, n := range c.Notes {
			if n.Kind != card.KindPersonal || n.Generation != cfg.Membership.Generation {
				continue
			}
			pin, err := f.pinned(name)
			if err != nil {
				return err
			}
			if !pin.Own {
				continue
			}
			b, err := card.Open(f.key, pin.Key, n)
			if err != nil {
				continue
			}
			var text string
			if json.Unmarshal(b, &text) != nil {
				continue
			}
			dir := remote.Cap(text)
			f.mu.Lock()
			taken := slices.ContainsFunc(f.men.seats, func(s seat) bool { return s.dir == dir })
			f.mu.Unlock()
			if taken || remote.KindOf(dir) != remote.MutableDirectory || f.opt.Grid.Writable(dir) {
				continue
			}
			if err := f.opt.Grid.Update(ctx, cfg.Collective, []Change{{Entry: Entry{Name: name, Read: dir}}}); err != nil {
				return err
			}
			if _, err := f.lookIn(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Removal says what became of removing somebody.
type Removal struct {
	Removed string `json:"removed"`
	// Follow are those whose program moves with the folder by itself.
	Follow []string `json:"follow"`
	// Again are those who must be invited again: they run another program, or
	// nothing is known of them that could be sealed to.
	Again []string `json:"invite_again"`
	// Waits says why the others are not told yet; it goes on by itself.
	Waits string `json:"waits,omitempty"`
}

// Remove removes a participant: the folder moves to a new Collective, which the one
// removed is not told of. On return our own folder has moved, for good; the rest
// follows, see Removal. What was published before can still be read by who was
// removed, and by whom it was passed on.
func (f *Folder) Remove(ctx context.Context, name string) (Removal, error) {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	var out Removal
	if err := f.enter(ctx); err != nil {
		return out, err
	}
	cfg := f.config()
	if !f.opt.Grid.Writable(cfg.Collective) || len(cfg.Membership.Admin) > 0 && !f.isAdmin(cfg) {
		return out, f.askAdmin(cfg, name)
	}
	if err := f.read(ctx); err != nil {
		return out, err
	}
	entries, _, err := f.opt.Grid.List(ctx, cfg.Collective)
	if err != nil {
		return out, fmt.Errorf("reading the Collective: %w", err)
	}
	var gone []remote.Cap
	for _, e := range entries {
		if snapshot.Key(e.Name) != snapshot.Key(name) || e.Name == snapshot.MetadataName {
			continue
		}
		if e.Read == cfg.Readcap {
			return out, fmt.Errorf("%w: that is ourselves; warren folder leave leaves", ErrNoMember)
		}
		gone, out.Removed = append(gone, e.Read), fsys.Printable(e.Name)
	}
	if gone == nil {
		// Who was invited has the capability before the entry is there.
		i := slices.IndexFunc(cfg.Membership.Awaited, func(a state.Awaited) bool { return snapshot.Key(a.Name) == snapshot.Key(name) })
		if i < 0 {
			return out, ErrNoMember
		}
		out.Removed = fsys.Printable(cfg.Membership.Awaited[i].Name)
	}
	pin, err := f.pinned(name)
	if err != nil {
		return out, err
	}
	var changes []Change
	for _, e := range entries {
		read := e.Read
		if e.Write != "" {
			if read, err = f.opt.Grid.ReadOnly(e.Write); err != nil {
				continue
			}
		}
		// The same directory under another name is the same person's; the empty one
		// of those who only read is everybody's.
		theirs := slices.Contains(gone, read) && remote.KindOf(read) == remote.MutableDirectory
		if e.Name == snapshot.MetadataName || read == "" || theirs || snapshot.Key(e.Name) == snapshot.Key(name) || foreignName(e.Name) != nil {
			continue
		}
		var kept json.RawMessage
		if at := since(e.Metadata); !at.IsZero() {
			if kept, err = json.Marshal(map[string]any{"warren": map[string]int64{"since": at.Unix()}}); err != nil {
				return out, err
			}
		}
		changes = append(changes, Change{Entry: Entry{Name: e.Name, Read: read, Metadata: kept}})
	}
	f.opt.Gather(ctx)
	next, _, err := f.opt.Grid.MakeDirectory(ctx)
	if err != nil {
		return out, fmt.Errorf("making the new Collective: %w", err)
	}
	if err := writeModel(ctx, f.opt.Grid, next, nil); err != nil {
		return out, fmt.Errorf("making the new Collective: %w", err)
	}
	if err := f.opt.Grid.Update(ctx, next, changes); err != nil {
		return out, fmt.Errorf("making the new Collective: %w", err)
	}
	if err := f.fault("rekey.made"); err != nil {
		return out, err
	}
	err = f.amend(func(cfg *state.Folder) {
		cfg.Collective = next
		cfg.Membership.Generation++
		m := &cfg.Membership
		m.Admin, m.Board, m.Renew = f.AuthorKey(), "", true
		m.Awaited = slices.DeleteFunc(m.Awaited, func(a state.Awaited) bool {
			if snapshot.Key(a.Name) != snapshot.Key(name) && !bytes.Equal(a.Key, pin.Key) {
				return false
			}
			m.Out = append(m.Out, a.Key)
			return true
		})
		for _, k := range append(pin.Past, pin.Key) {
			if len(k) > 0 {
				m.Out = append(m.Out, k)
			}
		}
		m.Out = keep(m.Out)
	})
	if err != nil {
		return out, err
	}
	f.startAnew()
	if err := f.fault("rekey.kept"); err != nil {
		return out, err
	}
	f.log.Info("a participant is removed: the folder has a new Collective", "participant", out.Removed)
	waits := f.read(ctx)
	if waits == nil {
		waits = f.attend(ctx)
	}
	if waits == nil {
		f.mu.Lock()
		for _, key := range []string{"attend:tell", "attend:renew"} {
			if a, ok := f.stat.alarms[key]; ok {
				waits = errors.New(a)
			}
		}
		f.mu.Unlock()
	}
	if waits != nil {
		out.Waits = waits.Error()
	}
	poke(f.wakePoll)
	return out, f.sortOut(&out, cfg.Membership.Admin != nil)
}

// askAdmin is the refusal of removing somebody, with who can do it and how.
func (f *Folder) askAdmin(cfg state.Folder, name string) error {
	who := "whoever made the folder"
	f.mu.Lock()
	seats := slices.Clone(f.men.seats)
	f.mu.Unlock()
	for _, s := range seats {
		pin, err := f.pinned(s.name)
		if err != nil {
			return err
		}
		if pin.Own && bytes.Equal(pin.Key, cfg.Membership.Admin) {
			who = fmt.Sprintf("%q, who made the folder,", fsys.Printable(s.name))
		}
	}
	return fmt.Errorf("%w: the others follow only the node that made the folder. Ask %s to run there: warren folder remove-member FOLDER %q. "+
		"If that node is gone for good, make a new folder and invite to it those who are to stay", ErrNotAdmin, who, fsys.Printable(name))
}

// sortOut says who follows and who does not; known: invites have told who the admin
// is.
func (f *Folder) sortOut(out *Removal, known bool) error {
	out.Follow, out.Again = []string{}, []string{}
	list, err := f.Members()
	unaware := map[string]bool{}
	for _, p := range f.allPeers() {
		f.mu.Lock()
		unaware[fsys.Printable(p.name)] = p.card != nil && !bytes.Equal(p.card.Admin, f.AuthorKey())
		f.mu.Unlock()
	}
	for _, m := range list {
		switch {
		case m.Self:
		case m.Program == "warren" && m.Key != "" && m.NewKey == "" && known && !unaware[m.Name]:
			out.Follow = append(out.Follow, m.Name)
		default:
			out.Again = append(out.Again, m.Name)
		}
	}
	return err
}
