package message

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"warren/node/caps"
)

func folderSample() FolderInvite {
	w := caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{1}, Fingerprint: [32]byte{2}}}
	board := caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{3}}}.Read()
	key := ed25519.PublicKey(bytes.Repeat([]byte{7}, 32))
	return FolderInvite{Folder: "made by us", Participant: "Zoë", Collective: w.Read(),
		Ours: &FolderOurs{Writecap: w, Keys: map[string]ed25519.PublicKey{"alice": key}, Admin: key, Board: board, Generation: 3}}
}

// members is what an invite to the grid tells of a folder's participants.
func members() *FolderOurs {
	m := *folderSample().Ours
	m.Writecap = nil
	return &m
}

func TestMembersInSettings(t *testing.T) {
	s := sample(t)
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseSettings(b); err != nil || !reflect.DeepEqual(got.Ours.Members, members()) {
		t.Errorf("%s came back otherwise: %v", b, err)
	}
	// A writecap has its own place, where it is checked as one.
	s.Ours.Members.Writecap = s.Ours.Writecap
	if b, err = s.Encode(); err != nil || bytes.Count(b, []byte("writecap")) != 1 {
		t.Errorf("%s, %v", b, err)
	}
}

func TestFolderInvite(t *testing.T) {
	full := folderSample()
	plain, readOnly := full, full
	plain.Ours = nil
	readOnly.ReadOnly, readOnly.Ours = true, &FolderOurs{Keys: map[string]ed25519.PublicKey{}}
	for _, f := range []FolderInvite{full, plain, readOnly} {
		b, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseFolderInvite(b); err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%s came back otherwise: %v", b, err)
		}
		if f.Ours == nil && bytes.Contains(b, []byte("warren")) {
			t.Error("magic-folder gets what is not for it")
		}
		for _, shown := range []string{fmt.Sprint(f), fmt.Sprintf("%+v", f), fmt.Sprintf("%#v", f.Ours)} {
			if strings.Contains(shown, "URI:") || strings.Contains(shown, "WriteKey") {
				t.Errorf("%s shows a capability", shown)
			}
		}
	}
}

func TestFolderInviteRefuses(t *testing.T) {
	good := folderSample()
	w, read := good.Ours.Writecap.Text(), good.Collective.Text()
	b, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	stranger := caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{9}}}.Text()
	for _, c := range []struct{ old, new string }{
		{`"kind":"join-folder"`, `"kind":"join-folder-ack"`},
		{`"kind":"join-folder"`, `"kind":7`},
		{`invite-v1`, `invite-v2`},
		{`"collective":"` + read, `"collective":"` + w},
		{`"collective":"` + read, `"collective":"URI:DIR2-LIT:`},
		{`"collective":"` + read, `"collective":"URI:LIT:`},
		{`"collective":"` + read, `"collective":" ` + read},
		{`"collective"`, `"collectiv"`},
		{`"Zoë"`, `"../../x"`}, {`"Zoë"`, `"@metadata"`}, {`"Zoë"`, `"a\u0000b"`}, {`"Zoë"`, `""`}, {`"Zoë"`, `["x"]`},
		{`"Zoë"`, `"` + strings.Repeat("x", 200) + `"`},
		{`"made by us"`, `"a\nb"`}, {`"made by us"`, `"` + strings.Repeat("x", 300) + `"`},
		{`"mode":"read-write"`, `"mode":true`}, {`"mode"`, `"mod"`},
		{`"writecap":"` + w, `"writecap":"` + stranger},
		{`"writecap":"` + w, `"writecap":"` + read},
		{`"generation":3`, `"generation":-3`}, {`"generation":3`, `"generation":"3"`},
		{`"alice":"BwcH`, `"alice":"BwcHx`}, {`"alice"`, `"al\u202eice"`},
		{`"admin":"BwcH`, `"admin":"Bwc`}, {`"board":"URI:DIR2-RO:`, `"board":"URI:DIR2:`},
	} {
		changed := strings.Replace(string(b), c.old, c.new, 1)
		if changed == string(b) {
			t.Fatalf("%q is not in %s", c.old, b)
		}
		var field *FieldError
		if _, err := ParseFolderInvite([]byte(changed)); !errors.As(err, &field) {
			t.Errorf("%s -> %s: %v", c.old, c.new, err)
		}
	}
}

func TestFolderReply(t *testing.T) {
	dir := folderSample().Collective
	key := ed25519.PublicKey(bytes.Repeat([]byte{7}, 32))
	for _, c := range []struct {
		reply          FolderReply
		ours, readOnly bool
	}{{FolderReply{dir, key}, true, false}, {FolderReply{dir, nil}, false, false}, {FolderReply{}, false, true}, {FolderReply{}, false, false}, {FolderReply{Key: key}, true, true}} {
		b, err := c.reply.Encode(c.ours)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseFolderReply(b, c.readOnly); err != nil || !reflect.DeepEqual(got, c.reply) {
			t.Errorf("%s: %v, %v", b, got, err)
		}
	}
	withDir, err := FolderReply{Personal: dir}.Encode(false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseFolderReply(withDir, true); err == nil {
		t.Error("a read-only newcomer sent a directory, and it was taken")
	}
	for _, bad := range []string{`{}`, `[]`, `{"kind":"join-folder-accept"}`, `{"kind":"join-folder-accept","protocol":"invite-v1","personal":"URI:DIR2-LIT:"}`,
		`{"kind":"join-folder-accept","protocol":"invite-v1","personal":7}`, `{"kind":"join-folder-accept","protocol":"invite-v1","warren-v1":{"key":"x"}}`} {
		if _, err := ParseFolderReply([]byte(bad), false); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	var refusal *Refusal
	if _, err := ParseFolderReply(EncodeFolderReject("no\x1b[2J room"), false); !errors.As(err, &refusal) || refusal.Reason != "no [2J room" {
		t.Errorf("%v", err)
	}
	if err := ParseFolderAck(EncodeFolderAck("bob", "")); err != nil {
		t.Error(err)
	}
	if err := ParseFolderAck(EncodeFolderAck("bob", "full")); !errors.As(err, &refusal) || refusal.Reason != "full" {
		t.Errorf("%v", err)
	}
	if _, err := ParseFolderInvite(EncodeFolderAck("bob", "gave up")); !errors.As(err, &refusal) {
		t.Errorf("%v", err)
	}
	if err := ParseFolderAck([]byte(`{"kind":"join-folder-ack","protocol":"invite-v1","success":1}`)); err == nil || errors.As(err, &refusal) {
		t.Errorf("%v", err)
	}
}

func TestFolderVersions(t *testing.T) {
	for text, want := range map[string]bool{string(FolderVersions()): true, `{"magic-folder": {"supported-messages": ["invite-v0", "invite-v1"]}}`: false} {
		if ours, err := ParseFolderVersions([]byte(text)); err != nil || ours != want {
			t.Errorf("%s: %v, %v", text, ours, err)
		}
	}
	for _, text := range []string{`{}`, `null`, `{"magic-folder": {}}`, `{"magic-folder": {"supported-messages": "invite-v1"}}`, `{"magic-folder": {"supported-messages": ["x"]}}`, `{"warren-v1": {}}`} {
		if _, err := ParseFolderVersions([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func FuzzFolder(f *testing.F) {
	b, err := folderSample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(EncodeFolderReject("no"))
	f.Add(EncodeFolderAck("bob", ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseFolderVersions(b)
		ParseFolderAck(b)
		if r, err := ParseFolderReply(b, false); err == nil {
			if _, err := r.Encode(true); err != nil {
				t.Fatalf("what was accepted does not encode: %v", err)
			}
		}
		v, err := ParseFolderInvite(b)
		if err != nil {
			return
		}
		out, err := v.Encode()
		if err != nil {
			t.Fatalf("what was accepted does not encode: %v", err)
		}
		if back, err := ParseFolderInvite(out); err != nil || !reflect.DeepEqual(back, v) {
			t.Fatalf("%s came back otherwise (%v)", out, err)
		}
	})
}
