package onion

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

type vector struct{ By, Key, Address string }

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no vectors")
	}
	return all
}

// Keys and addresses that tor and Tahoe made, read and written back.
func TestVectors(t *testing.T) {
	tahoe := false
	for _, v := range vectors(t) {
		tahoe = tahoe || strings.HasPrefix(v.By, "tahoe")
		k, err := ParseKey(v.Key)
		if err != nil {
			t.Errorf("%s: %v", v.By, err)
			continue
		}
		if k.Text() != v.Key {
			t.Errorf("%s: written back differently", v.By)
		}
		if k.Address() != v.Address {
			t.Errorf("%s: address %s, want %s", v.By, k.Address(), v.Address)
		}
		if err := CheckAddress(v.Address); err != nil {
			t.Error(err)
		}
	}
	if !tahoe {
		t.Error("no vector by Tahoe")
	}
}

func TestKeyFile(t *testing.T) {
	k, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tor_onion.privkey")
	if err := Save(path, k); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != k.Text() || strings.ContainsAny(string(text), "\r\n ") {
		t.Errorf("the file is not the key alone: Tahoe would send the rest to tor as well (%v)", err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := Load(path)
	if err != nil || again != k {
		t.Errorf("loaded another key: %v", err)
	}
	if err := Save(path, k); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key was overwritten: %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestKeyPrintsRedacted(t *testing.T) {
	k, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := k.Text()[len(keyPrefix) : len(keyPrefix)+10]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if out := fmt.Sprintf(verb, k); strings.Contains(out, secret) || !strings.Contains(out, k.Address()) {
			t.Errorf("%s prints %s", verb, out)
		}
		if out := fmt.Sprintf(verb, struct{ K Key }{k}); strings.Contains(out, secret) || strings.Contains(out, fmt.Sprint(k.expanded[:8])) {
			t.Errorf("%s of a struct prints %s", verb, out)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	good := vectors(t)[0].Key
	for _, text := range []string{
		"", "ED25519-V3:", "ED25519-V3", "RSA1024:MIICXQIBAAKBgQ==", "NEW:ED25519-V3",
		good[:len(good)-1], good[:len(good)-4] + "====", good + "AAAA", strings.ToLower(good),
		strings.Replace(good, ":", " ", 1), good + "\nADD_ONION NEW:BEST Port=80", "ED25519-V3:" + strings.Repeat("A", 86) + "==",
		"ED25519-V3:" + strings.Repeat("/", 86) + "==",
	} {
		if _, err := ParseKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		} else if len(text) > 40 && strings.Contains(err.Error(), text[20:40]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if _, err := ParseKey(good + "\n"); err != nil {
		t.Errorf("a line end after the key: %v", err)
	}
}

func TestCheckAddress(t *testing.T) {
	good := vectors(t)[0].Address
	for _, host := range []string{"", "onion", ".onion", "example.org", "expyuzz4wqqyqhjn.onion", good[1:], "a" + good, strings.Replace(good, good[3:4], string('a'+(good[3]-'a'+1)%26), 1), good[:55] + "a.onion"} {
		if CheckAddress(host) == nil {
			t.Errorf("%q passes", host)
		}
	}
	for _, host := range []string{good, strings.ToUpper(good), "www." + good} {
		if err := CheckAddress(host); err != nil {
			t.Error(err)
		}
	}
}

func FuzzKey(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Key)
		f.Add(v.Address)
	}
	f.Fuzz(func(t *testing.T, s string) {
		CheckAddress(s)
		k, err := ParseKey(s)
		if err != nil {
			return
		}
		if k.Text() != strings.TrimSpace(s) {
			t.Fatal("another text")
		}
		if err := CheckAddress(k.Address()); err != nil {
			t.Fatal(err)
		}
	})
}
