package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/magicfolder"
)

// code makes an invite to a folder with `warren folder invite`.
func (m *ourMember) code(t testing.TB, mailbox, folder, name string, flags ...string) string {
	t.Helper()
	var is struct{ Code string }
	out := m.do(t, append(append([]string{"folder", "invite", "--json", "--mailbox", mailbox}, flags...), folder, name)...)
	if err := json.Unmarshal([]byte(out), &is); err != nil || is.Code == "" {
		t.Fatalf("%v: %s", err, out)
	}
	return is.Code
}

func (m *ourMember) members(t testing.TB, folder string) map[string]magicfolder.Member {
	t.Helper()
	var list []magicfolder.Member
	if err := json.Unmarshal([]byte(m.do(t, "folder", "members", "--json", folder)), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]magicfolder.Member{}
	for _, v := range list {
		out[v.Name] = v
	}
	return out
}

// joinFolder is `warren folder join`.
func (m *ourMember) joinFolder(t testing.TB, mailbox, code, folder, dir string) {
	t.Helper()
	Run(t, 2*time.Minute, Warren(t), "-d", m.dir, "folder", "join", "--mailbox", mailbox, "--name", folder, code, dir)
}

// takes has magic-folder accept an invite.
func (m *realMember) takes(t testing.TB, folder, code, author string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := <-m.join(within(t, 2*time.Minute), folder, code, author, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fine waits until magic-folder has completed a poll of the folder, and fails the
// test when it tells of errors then.
func (m *realMember) fine(t testing.TB, folder string) {
	t.Helper()
	Eventually(t, 2*time.Minute, "magic-folder completes a poll of "+folder, func() error {
		for _, e := range m.events(t) {
			if e["folder"] == folder && e["kind"] == "poll-completed" {
				return nil
			}
		}
		return errors.New("not yet")
	})
	m.noErrors(t, folder)
}

// Who is in a folder, with magic-folder 24.3: its invites both ways, participants who
// only read, and what becomes of one that runs it when somebody else is removed.
func TestMembersWithMagicFolder(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	intro := StartOurIntroducer(t)
	StartOurStorage(t, intro.FURL, "store")
	var nodes [3]*WebClient
	Together(t,
		func() { nodes[0] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) },
		func() { nodes[1] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) },
		func() { nodes[2] = StartOurClient(t, intro.FURL, 1, 1, 1, 1) })
	alice, bob, carol := &ourMember{dir: nodes[0].Dir}, &ourMember{dir: nodes[1].Dir}, &ourMember{dir: nodes[2].Dir}
	mailbox := ourMailbox(t)
	real := startRealMember(t, nodes[1], mailbox)
	place := func(name string) string { return filepath.Join(t.TempDir(), name) }

	// Ours invites: two of ours, and magic-folder to read and write and to read only.
	dirs := map[string]string{"alice": place("alice"), "bob": place("bob"), "carol": place("carol")}
	alice.do(t, "folder", "add", "--admin-only", "--name", "docs", "--author", "alice", dirs["alice"])
	for name, m := range map[string]*ourMember{"bob": bob, "carol": carol} {
		m.joinFolder(t, mailbox, alice.code(t, mailbox, "docs", name), "docs", dirs[name])
	}
	dirs["zoe"] = real.takes(t, "docs", alice.code(t, mailbox, "docs", "zoe"), "zoe")
	dirs["rita"] = real.takes(t, "read only", alice.code(t, mailbox, "docs", "rita", "--read-only"), "rita")
	if _, err := TryRun(t, time.Minute, Warren(t), "-d", alice.dir, "folder", "invite", "--mailbox", mailbox, "docs", "zoe"); err == nil || !strings.Contains(err.Error(), "participant of that name") {
		t.Errorf("inviting a name twice: %v", err)
	}
	for name, dir := range dirs {
		if name != "rita" {
			writeIn(t, dir, "by "+name, "from "+name)
		}
	}
	for _, dir := range dirs {
		for _, name := range []string{"alice", "bob", "carol", "zoe"} {
			arrives(t, dir, "by "+name, "from "+name)
		}
	}
	Eventually(t, 2*time.Minute, "all members known", func() error {
		got := alice.members(t, "docs")
		for name, program := range map[string]string{"alice": "warren", "bob": "warren", "carol": "warren", "zoe": "", "rita": ""} {
			m, ok := got[name]
			if !ok || m.Program != program || m.ReadOnly != (name == "rita") || m.Since.IsZero() || (m.Key == "") != m.ReadOnly || m.Admin != (name == "alice") {
				return fmt.Errorf("%s is %+v", name, m)
			}
			if m.Files < 4 && name != "rita" {
				return fmt.Errorf("%s has %d files", name, m.Files)
			}
		}
		return nil
	})

	// Carol is removed. Bob follows, magic-folder is invited again.
	var gone magicfolder.Removal
	if err := json.Unmarshal([]byte(alice.do(t, "folder", "remove-member", "--json", "docs", "carol")), &gone); err != nil {
		t.Fatal(err)
	}
	if gone.Removed != "carol" || gone.Waits != "" || !slices.Equal(gone.Follow, []string{"bob"}) || !slices.Equal(gone.Again, []string{"rita", "zoe"}) {
		t.Errorf("%+v", gone)
	}
	again := real.takes(t, "docs again", alice.code(t, mailbox, "docs", "zoe", "--again"), "zoe")
	for name, m := range map[string]*ourMember{"alice": alice, "bob": bob} {
		Eventually(t, 2*time.Minute, name+" has moved", func() error {
			if _, ok := m.members(t, "docs")["carol"]; ok {
				return fmt.Errorf("carol is still there")
			}
			if a := m.current(t, "docs").Alarms; len(a) > 0 {
				return fmt.Errorf("alarms %q", a)
			}
			return nil
		})
	}
	// Bob's new directory has been entered when alice sees it: then carol is blind.
	writeIn(t, dirs["bob"], "after", "without carol")
	writeIn(t, again, "from the second zoe", "with a new key")
	// Alice has invited her again; bob asks her on the phone.
	Eventually(t, 2*time.Minute, "bob sees zoe's new key", func() error {
		if m := bob.members(t, "docs")["zoe"]; m.NewKey == "" {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	// A key that nobody has confirmed is not believed.
	key, accept := bob.members(t, "docs")["zoe"].NewKey, []string{"folder", "members", "--accept-key", "zoe", "docs"}
	if out, err := TryRun(t, time.Minute, Warren(t), append([]string{"-d", bob.dir}, accept...)...); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "is not confirmed") {
		t.Errorf("without a terminal: %q (%v)", out, err)
	}
	if out, err := bob.answers(t, "yes or no", "", accept...); err == nil || !strings.Contains(out, key) || !strings.Contains(out, "is not accepted") {
		t.Errorf("without an answer: %q (%v)", out, err)
	}
	if m := bob.members(t, "docs")["zoe"]; m.NewKey != key {
		t.Errorf("%+v", m)
	}
	if out, err := bob.answers(t, "yes or no", "yes", accept...); err != nil || !strings.Contains(out, "stands for the key "+key) {
		t.Errorf("accepted: %q (%v)", out, err)
	}
	for _, dir := range []string{dirs["alice"], dirs["bob"], again} {
		arrives(t, dir, "after", "without carol")
		arrives(t, dir, "from the second zoe", "with a new key")
		arrives(t, dir, "by carol", "from carol")
	}
	alice.current(t, "docs")
	real.fine(t, "docs again")
	carol.do(t, "folder", "scan", "docs")
	Eventually(t, 2*time.Minute, "carol is told", func() error {
		st, err := carol.status(t, "docs")
		if err == nil && !slices.ContainsFunc(st.Alarms, func(a string) bool { return strings.Contains(a, "we were removed") }) {
			err = fmt.Errorf("alarms %q", st.Alarms)
		}
		return err
	})
	if _, err := os.Stat(filepath.Join(dirs["carol"], "from the second zoe")); err == nil {
		t.Error("carol got a file after she was removed")
	}

	// Magic-folder invites ours, to write and to read only.
	theirs := t.TempDir()
	real.add(t, "theirs", "zoe", theirs)
	writeIn(t, theirs, "first", "by magic-folder")
	var took []string
	for i, m := range []*ourMember{alice, carol} {
		p := Start(t, filepath.Join(NeedPeers(t), "magic-folder"), "--config", real.config, "invite", "-n", "theirs", "-m", []string{"read-write", "read-only"}[i], []string{"alice", "carol"}[i])
		dir := place("theirs")
		m.joinFolder(t, mailbox, p.Printed(`invite code: (\S+)`), "theirs", dir)
		p.Ends()
		if said := p.Output(); !strings.Contains(said, "Successfully added as") {
			t.Errorf("magic-folder says %q", said)
		}
		took = append(took, dir)
	}
	writeIn(t, took[0], "second", "by ours")
	for _, dir := range append(took, theirs) {
		arrives(t, dir, "first", "by magic-folder")
		arrives(t, dir, "second", "by ours")
	}
	if st := carol.current(t, "theirs"); !st.ReadOnly {
		t.Errorf("%+v", st)
	}
	if st := alice.current(t, "theirs"); st.ReadOnly {
		t.Errorf("%+v", st)
	}
	real.fine(t, "theirs")
	if got := alice.members(t, "theirs"); len(got) != 3 || got["zoe"].Admin || !got["carol"].ReadOnly || got["alice"].ReadOnly || !got["alice"].Self {
		t.Errorf("%+v", got)
	}
}
