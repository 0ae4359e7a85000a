package invite

import (
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/invite/message"
	"warren/node/caps"
)

var (
	testCollective = caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{5}}}
	testPersonal   = caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{6}}}.Read()
	testKey        = ed25519.PublicKey(strings.Repeat("k", ed25519.PublicKeySize))
)

// folders has the house invite to folders; admitted gets what comes of it.
func (h *house) folders(t *testing.T, admitted chan message.FolderReply, admit error) {
	t.Helper()
	if err := h.Inviter.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.Inviter.config.Folder = func(_ context.Context, v Invite) (message.FolderInvite, error) {
		return message.FolderInvite{Folder: v.Folder, Participant: v.Name, Collective: testCollective.Read(), ReadOnly: v.ReadOnly,
			Ours: &message.FolderOurs{Writecap: testCollective, Keys: map[string]ed25519.PublicKey{"alice": testKey}}}, nil
	}
	h.Inviter.config.Admit = func(_ context.Context, v Invite, r message.FolderReply) error {
		if admit == nil {
			admitted <- r
		}
		return admit
	}
}

func TestFolderInvite(t *testing.T) {
	h, admitted := newHouse(t), make(chan message.FolderReply, 1)
	h.folders(t, admitted, nil)
	for _, readOnly := range []bool{false, true} {
		issued := h.offer(Options{Folder: "photos", FolderOnly: true, ReadOnly: readOnly, OwnMailbox: true, Expires: 7 * 24 * time.Hour})
		// The node is started again before anybody comes.
		h.folders(t, admitted, nil)
		want := message.FolderReply{Key: testKey}
		if !readOnly {
			want.Personal = testPersonal
		}
		state := filepath.Join(t.TempDir(), "join.json")
		tries := 0
		take := func(_ context.Context, v message.FolderInvite) (message.FolderReply, error) {
			if tries++; tries == 1 {
				return message.FolderReply{}, ErrNotNow
			}
			if v.Folder != "photos" || v.Participant != "bob" || v.ReadOnly != readOnly || v.Ours == nil || v.Ours.Writecap.Text() != testCollective.Text() {
				t.Errorf("received %v", v)
			}
			return want, nil
		}
		o := AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: dial, Wait: soon, StateFile: state}
		if _, err := AcceptFolder(deadline(t), o, take); !errors.Is(err, ErrNotNow) {
			t.Fatalf("a newcomer that is not ready: %v", err)
		}
		// It comes again, and goes on.
		if _, err := AcceptFolder(deadline(t), o, take); err != nil {
			t.Fatal(err)
		}
		got := <-admitted
		if (got.Personal == nil) != readOnly || !readOnly && got.Personal.Text() != testPersonal.Text() || !got.Key.Equal(testKey) {
			t.Error("the inviter got another answer")
		}
		if v := h.until(issued.ID, Done); !v.FolderOnly || v.ReadOnly != readOnly {
			t.Errorf("%+v", v)
		}
	}
}

func TestFolderInviteRefused(t *testing.T) {
	h := newHouse(t)
	h.folders(t, nil, errors.New("the name is taken"))
	ok := func(context.Context, message.FolderInvite) (message.FolderReply, error) {
		return message.FolderReply{Personal: testPersonal}, nil
	}
	issued := h.offer(Options{Folder: "photos", FolderOnly: true})
	if _, err := AcceptFolder(deadline(t), AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: dial, Wait: soon}, ok); !errors.Is(err, message.ErrRefused) {
		t.Errorf("an inviter that cannot take in: %v", err)
	}
	if v := h.until(issued.ID, Failed); !strings.Contains(v.Reason, "the name is taken") {
		t.Errorf("%+v", v)
	}

	issued = h.offer(Options{Folder: "photos", FolderOnly: true})
	broken := errors.New("no room")
	if _, err := AcceptFolder(deadline(t), AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: dial, Wait: soon}, func(context.Context, message.FolderInvite) (message.FolderReply, error) {
		return message.FolderReply{}, broken
	}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if v := h.until(issued.ID, Failed); !strings.Contains(v.Reason, "refused") {
		t.Errorf("%+v", v)
	}

	// A node without folders makes no such invite.
	h.restart()
	if _, err := h.Offer(deadline(t), Options{Name: "bob", Folder: "photos", FolderOnly: true, Mailbox: h.url}); err == nil {
		t.Error("offered")
	}
}

// A newcomer of the other kind of invite, at a folder's code, meets nobody: the
// mailbox server keeps applications apart. The code is not spent by it.
func TestFolderCodeIsNoGridCode(t *testing.T) {
	h, admitted := newHouse(t), make(chan message.FolderReply, 1)
	h.folders(t, admitted, nil)
	issued := h.offer(Options{Folder: "photos", FolderOnly: true})
	if _, err := accept(t, issued.Link.Text()); err == nil {
		t.Fatal("accepted as an invite to a grid")
	}
	if _, err := AcceptFolder(deadline(t), AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: dial, Wait: soon}, func(context.Context, message.FolderInvite) (message.FolderReply, error) {
		return message.FolderReply{Personal: testPersonal}, nil
	}); err != nil {
		t.Fatal(err)
	}
	<-admitted
}
