package magicfolder

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"

	"warren/magicfolder/card"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// What members state about others, in their cards:
//
// Who was invited again, and comes with another author key, is vouched for by the
// folder's admin, whose key the members have from their invites: they take the new key
// in place of the old one, and say so. The statement names both keys, and author keys
// are never used twice, so that it is good once: shown again later it changes nothing.
// Whatever anybody else states of a key is not listened to.
//
// Who was invited and has not entered yet is not among those to whom the admin tells
// where the folder has moved. So the admin remembers whom it invited itself, and the
// others state it of those whom they invited. Whoever may do so has the Collective's
// capability anyway, as have those whom it invites. Not so those who were removed:
// their keys are remembered.

// maxKept bounds each list of state.Membership that is stated or kept.
const maxKept = 200

func keep[T any](list []T) []T { return list[max(0, len(list)-maxKept):] }

// statements are what our card has to say to all.
func (f *Folder) statements(cfg state.Folder) []card.Statement {
	var out []card.Statement
	if f.isAdmin(cfg) {
		for _, k := range cfg.Membership.NewKeys {
			out = append(out, card.State(f.key, card.StatesKey, k.Name, k.Was, k.Key))
		}
		return out
	}
	for _, a := range cfg.Membership.Awaited {
		out = append(out, card.State(f.key, card.StatesInvited, a.Name, nil, a.Key))
	}
	return out
}

func sameStatements(a, b []card.Statement) bool {
	return slices.EqualFunc(a, b, func(a, b card.Statement) bool { return bytes.Equal(a.Sig, b.Sig) })
}

// restate has the next poll compare our card with what it is to say.
func (f *Folder) restate() {
	f.mu.Lock()
	f.personal = ""
	f.mu.Unlock()
	poke(f.wakePoll)
}

// await notes that somebody was invited who enters the Collective later.
func (f *Folder) await(name string, key ed25519.PublicKey) error {
	err := f.amend(func(cfg *state.Folder) {
		m := &cfg.Membership
		is := func(k []byte) bool { return bytes.Equal(k, key) }
		m.Out = slices.DeleteFunc(m.Out, is)
		m.Awaited = slices.DeleteFunc(m.Awaited, func(a state.Awaited) bool { return is(a.Key) })
		m.Awaited = keep(append(m.Awaited, state.Awaited{Name: name, Key: slices.Clone(key)}))
	})
	f.restate()
	return err
}

// changesKey notes, where we are the admin, that a participant comes with another key
// than the one that its name stands for; it says whether the others have to be told.
func (f *Folder) changesKey(name string, key ed25519.PublicKey) (bool, error) {
	cfg := f.config()
	pin, err := f.pinned(name)
	if err != nil || key == nil || !f.isAdmin(cfg) || !pin.Own || bytes.Equal(pin.Key, key) || signedBefore(pin, key) {
		return false, err
	}
	now := state.NewKey{Name: snapshot.Key(name), Was: pin.Key, Key: slices.Clone(key)}
	if slices.ContainsFunc(cfg.Membership.NewKeys, func(k state.NewKey) bool {
		return k.Name == now.Name && bytes.Equal(k.Was, now.Was) && bytes.Equal(k.Key, now.Key)
	}) {
		return true, nil
	}
	return true, f.amend(func(cfg *state.Folder) { cfg.Membership.NewKeys = keep(append(cfg.Membership.NewKeys, now)) })
}

// vouch tells the others of another key before its participant is entered.
func (f *Folder) vouch(ctx context.Context, name string, key ed25519.PublicKey) error {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	tell, err := f.changesKey(name, key)
	if err != nil || !tell {
		return err
	}
	if err := f.writeCard(ctx, f.config().Personal); err != nil {
		return fmt.Errorf("telling the others of the new key: %w", err)
	}
	return nil
}

// heed takes what the admin's cards that were read say of others' keys.
func (f *Folder) heed() error {
	cfg := f.config()
	if len(cfg.Membership.Admin) != ed25519.PublicKeySize || f.isAdmin(cfg) {
		return nil
	}
	f.mu.Lock()
	cards := []*card.Card{f.men.boardCard}
	for _, p := range f.peers {
		cards = append(cards, p.card)
	}
	f.mu.Unlock()
	for _, c := range cards {
		if c == nil || !bytes.Equal(c.Key, cfg.Membership.Admin) {
			continue
		}
		for _, s := range c.Statements {
			if err := f.believe(s, cfg.Author); err != nil {
				return err
			}
		}
		// The newest first: what a key of before took the place of.
		for _, s := range slices.Backward(c.Statements) {
			if err := f.lookBack(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// believe has a name stand for the key that it changed to.
func (f *Folder) believe(s card.Statement, own string) error {
	if s.Kind != card.StatesKey || foreignName(s.Name) != nil || snapshot.Key(s.Name) == own {
		return nil
	}
	pin, err := f.pinned(s.Name)
	if err != nil || !pin.Own || !bytes.Equal(pin.Key, s.Was) || signedBefore(pin, s.Key) {
		return err
	}
	if err := f.setKey(s.Name, s.Key, true); err != nil {
		return err
	}
	f.notice(fmt.Sprintf("participant %q was invited again by the folder's admin and has another key now: %s, before %s",
		s.Name, Fingerprint(s.Key), Fingerprint(s.Was)))
	return nil
}

// lookBack learns the keys that a name stood for before we came: what they signed is
// good.
func (f *Folder) lookBack(s card.Statement) error {
	if s.Kind != card.StatesKey || foreignName(s.Name) != nil {
		return nil
	}
	news := func(p state.Pin) bool {
		known := bytes.Equal(p.Key, s.Key) || signedBefore(p, s.Key)
		return p.Own && known && !bytes.Equal(p.Key, s.Was) && !signedBefore(p, s.Was)
	}
	if pin, err := f.pinned(s.Name); err != nil || !news(pin) {
		return err // as nearly always, without a write
	}
	slot := "name:" + snapshot.Key(s.Name)
	err := f.store.Update(func(tx *state.Tx) error {
		pin, _, err := tx.Pin(slot)
		if err != nil || !news(pin) {
			return err
		}
		pin.Past = append(pin.Past, s.Was)
		return tx.PutPin(slot, pin)
	})
	f.lookAtAll()
	return err
}

// notice is for status and the log: nothing that is wrong.
func (f *Folder) notice(text string) {
	const most = 20
	text = fsys.Printable(text)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.notices = append(f.stat.notices, text)
	f.stat.notices = f.stat.notices[max(0, len(f.stat.notices)-most):]
	f.log.Info("notice", "what", text)
}

// expect brings the list of those who are awaited up to date: who stands in the
// Collective is awaited no more, and the admin hears of those whom others invited.
func (f *Folder) expect(context.Context) error {
	cfg := f.config()
	m := cfg.Membership
	here, heard := map[string]bool{}, map[string]state.Awaited{}
	for _, p := range f.allPeers() {
		f.mu.Lock()
		name, c := p.name, p.card
		f.mu.Unlock()
		if c == nil {
			continue
		}
		pin, err := f.pinned(name)
		if err != nil {
			return err
		}
		if !pin.Own || !bytes.Equal(pin.Key, c.Key) {
			continue
		}
		here[string(c.Key)] = true
		for _, s := range c.Statements {
			if f.isAdmin(cfg) && s.Kind == card.StatesInvited && foreignName(s.Name) == nil && len(heard) < maxKept {
				heard[string(s.Key)] = state.Awaited{Name: s.Name, Key: s.Key}
			}
		}
	}
	for _, a := range m.Awaited {
		delete(heard, string(a.Key))
	}
	for _, k := range m.Out {
		delete(heard, string(k))
	}
	delete(heard, string(f.AuthorKey()))
	for k := range here {
		delete(heard, k)
	}
	if len(heard) == 0 && !slices.ContainsFunc(m.Awaited, func(a state.Awaited) bool { return here[string(a.Key)] }) {
		return nil
	}
	err := f.amend(func(cfg *state.Folder) {
		m := &cfg.Membership
		m.Awaited = slices.DeleteFunc(m.Awaited, func(a state.Awaited) bool { return here[string(a.Key)] })
		for _, a := range heard {
			m.Awaited = append(m.Awaited, a)
		}
		m.Awaited = keep(m.Awaited)
	})
	f.restate()
	return err
}

// awaitedLetters tells those who are awaited where the folder is. seated are the keys
// that have a letter already.
func (f *Folder) awaitedLetters(cfg state.Folder, read remote.Cap, seated map[string]bool) (out []letter) {
	for _, a := range cfg.Membership.Awaited {
		if len(a.Key) != ed25519.PublicKeySize || seated[string(a.Key)] {
			continue
		}
		t := moveText{Collective: cfg.Collective, Board: cfg.Readcap}
		if cfg.Membership.AdminOnly {
			t.Collective = read
		}
		out = append(out, letter{a.Key, card.KindMove, t})
	}
	return out
}
