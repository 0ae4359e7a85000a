package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/webapi"
)

func TestBlacklist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.blacklist")
	b := &blacklist{path: path, log: slog.New(slog.DiscardHandler)}
	bad := caps.SSKWrite{WriteKey: [16]byte{1}}
	good := caps.CHK{Key: [16]byte{2}, Needed: 1, Total: 1}
	si := bad.StorageIndex().Text()
	at := time.Unix(1000, 0)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	all := []caps.Cap{bad, bad.Read(), bad.Verify(), caps.DirWrite{SSKWrite: bad}, caps.DirRead{SSKRead: bad.Read()}}
	prohibited := func(want string) {
		t.Helper()
		for _, c := range all {
			var p *webapi.ProhibitedError
			if err := b.check(c); errors.As(err, &p) != (want != "") || p != nil && p.Reason != want {
				t.Errorf("%s: %v, want %q", c.Kind(), err, want)
			}
		}
		if err := b.check(good); err != nil {
			t.Error(err)
		}
	}
	prohibited("")
	write("# comment\n\n" + si + "  my puppy  told me to \n")
	prohibited("my puppy  told me to")
	write("# " + si + " x\n")
	prohibited("")
	write(si + " again")
	prohibited("again")
	if err := b.check(caps.LIT{Data: []byte("x")}); err != nil {
		t.Error("a literal has no storage index: ", err)
	}
	// What cannot be read allows nothing.
	for _, text := range []string{si, "nonsense reason", si + "x reason", strings.Repeat("#", 70_000), strings.Repeat("# comment\n", maxBlacklist/10+1)} {
		write(text)
		var p *webapi.ProhibitedError
		if err := b.check(good); err == nil || errors.As(err, &p) || strings.Contains(err.Error(), si) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	prohibited("")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if b.check(good) == nil {
		t.Error("a directory is no blacklist")
	}
	if (*blacklist)(nil).check(bad) != nil {
		t.Error("no blacklist prohibits something")
	}
}
