package daemon

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"warren/cmd/internal/gateway"
	"warren/invite"
	"warren/invite/message"
	"warren/magicfolder"
	"warren/node/caps"
	"warren/node/config"
	"warren/node/furl"
	"warren/torutil"
)

// invited is what an inviter sends.
func invited(t *testing.T) message.Settings {
	t.Helper()
	f, err := furl.Parse(testIntroducer)
	if err != nil {
		t.Fatal(err)
	}
	writecap, err := caps.Parse("URI:DIR2:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	if err != nil {
		t.Fatal(err)
	}
	board, err := caps.Parse("URI:DIR2-RO:bbbbbbbbbbbbbbbbbbbbbbbbba:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	if err != nil {
		t.Fatal(err)
	}
	alice := ed25519.PublicKey(bytes.Repeat([]byte{7}, ed25519.PublicKeySize))
	return message.Settings{
		Nickname: "grid", Introducer: f, Encoding: message.Encoding{Needed: 1, Happy: 1, Total: 1},
		Ours: &message.Ours{Grid: "grid", Folder: "docs", Participant: "bob", Writecap: writecap, Tor: message.TorOptional,
			Members: &message.FolderOurs{Keys: map[string]ed25519.PublicKey{"alice": alice}, Admin: alice, Board: board, Generation: 2}},
	}
}

func there(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// What a newcomer made is taken back when the inviter refuses, what the inviter
// asks for twice is made once, and what somebody else made meanwhile stays.
func TestNewcomerTakesBackItsOwn(t *testing.T) {
	base := t.TempDir()
	place := filepath.Join(base, "docs")
	full := filepath.Join(base, "full")
	if err := os.MkdirAll(filepath.Join(full, "mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := invited(t)
	newcomer := func() *Newcomer {
		j := &Newcomer{Dir: filepath.Join(base, "node"), Direct: true, WebPort: "none"}
		if err := j.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return j
	}

	j := newcomer()
	if _, err := j.Accept(t.Context(), s, full); !errors.Is(err, ErrNotEmpty) || there(t, j.Dir) {
		t.Errorf("a place that is taken: %v", err)
	}
	late := newcomer() // has seen no node there
	first, err := j.Accept(t.Context(), s, place)
	if err != nil || first.Participant != "bob" || j.Folder != place {
		t.Fatalf("%+v, %v", first, err)
	}
	// Both know the other's author key before anything is read.
	folders, err := magicfolder.NewManager(magicfolder.Options{Grid: gateway.New(nil, nil), StatePath: filepath.Join(j.Dir, "private", "magicfolder.db")})
	if err != nil {
		t.Fatal(err)
	}
	f := folders.Folders()[0]
	in, err := f.Introduction("alice")
	if err != nil || !in.Keys["alice"].Equal(s.Ours.Members.Keys["alice"]) || !in.Admin.Equal(s.Ours.Members.Admin) || in.Board.Text() != s.Ours.Members.Board.Text() || in.Generation != 2 {
		t.Errorf("%+v, %v", in, err)
	}
	if got := first.Keys[authorKey]; got != base64.RawURLEncoding.EncodeToString(f.AuthorKey()) {
		t.Errorf("the inviter is told the author key %q", got)
	}
	if err := folders.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := j.Accept(t.Context(), s, place)
	if err != nil || again.Keys[authorKey] != first.Keys[authorKey] || again.Keys["node"] != first.Keys["node"] {
		t.Errorf("asked again: %v", err)
	}

	other := s
	other.Introducer.Swissnum = "cccccccccccccccccccccccccccccccc"
	if _, err := late.Accept(t.Context(), other, place); !errors.Is(err, ErrOtherGrid) {
		t.Errorf("a node of another grid: %v", err)
	}
	if err := late.Abandon(); err != nil || !there(t, j.Dir) {
		t.Fatalf("another's node was taken away, %v", err)
	}

	if err := j.Abandon(); err != nil || there(t, j.Dir) {
		t.Errorf("refused, and the node is still there: %v", err)
	}
	if err := config.Create(j.Dir, config.DefaultOptions(config.Client, false)); err != nil {
		t.Fatal(err)
	}
	if err := j.Abandon(); err != nil || !there(t, j.Dir) {
		t.Errorf("taken back twice: %v", err)
	}
}

// Without Tor a tor that is named serves for onion services.
func TestNewcomerWithoutTorKeepsItsTor(t *testing.T) {
	j := &Newcomer{Dir: filepath.Join(t.TempDir(), "node"), Direct: true, WebPort: "none", Tor: torutil.TorConfig{SOCKSPort: "tcp:127.0.0.1:9999"}}
	if _, err := j.Accept(t.Context(), invited(t), ""); err == nil {
		t.Fatal("a folder without a place")
	}
	s := invited(t)
	s.Ours.Writecap = nil
	if _, err := j.Accept(t.Context(), s, ""); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Open(j.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := cfg.Settings; n.TCP != "tcp" || !n.RevealIP || n.Tor.SocksPort != "tcp:127.0.0.1:9999" {
		t.Errorf("%+v", n)
	}
	s.HideIP = true
	if _, err := j.Accept(t.Context(), s, ""); !errors.Is(err, ErrTorOnly) || !errors.Is(err, invite.ErrNotNow) {
		t.Errorf("a grid for members on Tor only: %v", err)
	}
}

// A link must name an address that others can dial.
func TestMailboxURL(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1": "ws://127.0.0.1:4000/v1", "2001:db8::1": "ws://[2001:db8::1]:4000/v1", "0.0.0.0": "", "::": ""} {
		got, err := MailboxURL(&net.TCPAddr{IP: net.ParseIP(address), Port: 4000})
		if got != want || errors.Is(err, ErrMailboxLocation) != (want == "") {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
}
