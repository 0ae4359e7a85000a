package furl_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"warren/node/furl"
)

type vectors struct {
	Furls []struct {
		Furl, TubID, Swissnum string
		Hints                 []string
	}
	Nurls []struct {
		Nurl, Scheme, User, Host, Swissnum, Fragment string
		Port                                         int
	}
}

// load reads what foolscap and Tahoe say; see tests/vectors/gen_caps.py.
func load(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/furl.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Furls) < 15 || len(v.Nurls) < 4 {
		t.Fatal("too few vectors")
	}
	return v
}

func TestAgreesWithFoolscap(t *testing.T) {
	for _, v := range load(t).Furls {
		f, err := furl.Parse(v.Furl)
		if err != nil {
			t.Errorf("%s: %v", v.Furl, err)
			continue
		}
		if f.TubID != v.TubID || f.Swissnum != v.Swissnum || f.Text() != v.Furl || len(f.Hints) != len(v.Hints) {
			t.Errorf("%s: parsed as %q %q, %d hints", v.Furl, f.TubID, f.Swissnum, len(f.Hints))
			continue
		}
		for i, h := range f.Hints {
			if h.Text() != v.Hints[i] {
				t.Errorf("%s: hint %q", v.Furl, h.Text())
			}
		}
	}
}

func TestAgreesWithTahoesNURLs(t *testing.T) {
	for _, v := range load(t).Nurls {
		n, err := furl.ParseNURL(v.Nurl)
		if err != nil {
			t.Errorf("%s: %v", v.Nurl, err)
			continue
		}
		want := furl.NURL{SPKIHash: v.User, Host: v.Host, Port: v.Port, Tor: v.Scheme == "pb+tor", Swissnum: v.Swissnum, Version: 1}
		if n != want || n.Text() != v.Nurl || v.Fragment != "v=1" {
			t.Errorf("%s: parsed as %#v", v.Nurl, n)
		}
	}
}

const (
	tub   = "sisi4zenj7cxncgvdog7szg3yxbrnamy"
	spki  = "EQhmSc0-XRiSIApCALFlu-pcn5tHyoN5LU-aHvDciSE"
	onion = "a2dfr3i2nxt7ucb4p6nlvy7pnz4c4nchnxxhkuhknaasxdwxvvuxpxad.onion"
)

func TestHints(t *testing.T) {
	for _, c := range []struct {
		text string
		want furl.Hint
		addr string
		tor  bool
	}{
		{"tcp:127.0.0.1:1", furl.Hint{Type: "tcp", Host: "127.0.0.1", Port: 1}, "127.0.0.1:1", false},
		{"tcp:127.1:34399", furl.Hint{Type: "tcp", Host: "127.1", Port: 34399}, "127.1:34399", false},
		{"tcp:[::1]:65535", furl.Hint{Type: "tcp", Host: "::1", Port: 65535}, "[::1]:65535", false},
		{"tcp:[::ffff:1.2.3.4]:7", furl.Hint{Type: "tcp", Host: "::ffff:1.2.3.4", Port: 7}, "[::ffff:1.2.3.4]:7", false},
		{"tcp:[fe80::1%eth0]:7", furl.Hint{Type: "tcp", Host: "fe80::1%eth0", Port: 7}, "[fe80::1%eth0]:7", false},
		{"localhost:47877", furl.Hint{Type: "tcp", Host: "localhost", Port: 47877}, "localhost:47877", false},
		{"tor:" + onion + ":80", furl.Hint{Type: "tor", Host: onion, Port: 80}, onion + ":80", true},
		{"tcp:" + onion + ":80", furl.Hint{Type: "tcp", Host: onion, Port: 80}, onion + ":80", true},
		{"tcp:ABC.ONION.:80", furl.Hint{Type: "tcp", Host: "ABC.ONION.", Port: 80}, "ABC.ONION.:80", true},
		{"i2p:abc.b32.i2p", furl.Hint{Type: "i2p", Host: "abc.b32.i2p"}, "", false},
		{"i2p:abc.b32.i2p:9", furl.Hint{Type: "i2p", Host: "abc.b32.i2p", Port: 9}, "abc.b32.i2p:9", false},
		{"unix:fd=3", furl.Hint{Type: "unix"}, "", false},
		{"quic:x:y=z", furl.Hint{Type: "quic"}, "", false},
	} {
		h, err := furl.ParseHint(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		c.want.Raw = c.text
		if h != c.want || h.Address() != c.addr || h.IsOnion() != c.tor || h.Text() != c.text {
			t.Errorf("%s: got %+v, address %q, onion %v", c.text, h, h.Address(), h.IsOnion())
		}
		// Made by hand, it is the same text, the old form apart.
		if h.Host != "" && c.text != "localhost:47877" {
			h.Raw = ""
			if h.Text() != c.text {
				t.Errorf("%s: formats as %s", c.text, h.Text())
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	at := func(hints string) string { return "pb://" + tub + "@" + hints + "/swiss" }
	for _, c := range []struct {
		text string
		want error
	}{
		{"", furl.ErrScheme},
		{"http://x@y/z", furl.ErrScheme},
		{"PB://" + tub + "@/x", furl.ErrScheme},
		{" " + at(""), furl.ErrScheme},
		{"pb+tor://" + tub + "@a:1/x", furl.ErrScheme},
		{"pb://" + tub, furl.ErrShape},
		{"pb://" + tub + "@tcp:a:1", furl.ErrShape},
		{"pb://" + tub + "/x", furl.ErrShape},
		{"pb://@tcp:a:1/x", furl.ErrTubID},
		{"pb://" + tub[:31] + "@/x", furl.ErrTubID},
		{"pb://" + tub + "a@/x", furl.ErrTubID},
		{"pb://" + strings.ToUpper(tub) + "@/x", furl.ErrTubID},
		{"pb://" + tub[:31] + "1@/x", furl.ErrTubID},
		{"pb://" + tub[:31] + "\n@/x", furl.ErrTubID},
		{"pb://" + tub + "@/", furl.ErrSwissnum},
		{"pb://" + tub + "@/a b", furl.ErrSwissnum},
		{"pb://" + tub + "@/a\n", furl.ErrSwissnum},
		{"pb://" + tub + "@/a\r\n[node]", furl.ErrSwissnum},
		{"pb://" + tub + "@/\u00e4", furl.ErrSwissnum},
		{"pb://" + tub + "@/" + strings.Repeat("a", furl.MaxSwissnum+1), furl.ErrSwissnum},
		{"pb://" + tub + "@/" + strings.Repeat("a", furl.MaxText), furl.ErrTooLong},
		{at(","), furl.ErrHint},
		{at("tcp:a:1,"), furl.ErrHint},
		{at("tcp:a"), furl.ErrHint},
		{at("tcp"), furl.ErrHint},
		{at("tcp:a:0"), furl.ErrPort},
		{at("tcp:a:65536"), furl.ErrPort},
		{at("tcp:a:01"), furl.ErrPort},
		{at("tcp:a:-1"), furl.ErrPort},
		{at("tcp::1"), furl.ErrHost},
		{at("tcp:::1:80"), furl.ErrHost},
		{at("tcp:[::1:80"), furl.ErrHost},
		{at("tcp:[1.2.3.4]:80"), furl.ErrHost},
		{at("tor:[::1]:80"), furl.ErrHost},
		{at("tcp:a_b:80"), furl.ErrHost},
		{at("tcp:a..b:80"), furl.ErrHost},
		{at("tcp:-a:80"), furl.ErrHost},
		{at("tcp:a b:80"), furl.ErrHint},
		{at("tcp:a\x1b[31m:80"), furl.ErrHint},
		{at("tcp:" + strings.Repeat("a", 254) + ":80"), furl.ErrHost},
		{at("i2p:"), furl.ErrHost},
		{at("i2p:a b"), furl.ErrHint},
		{at("x y:z"), furl.ErrHint},
		{at(":z"), furl.ErrHint},
		{at("unix:"), furl.ErrHint},
		{at("a.b:80x"), furl.ErrHint},
		{at(strings.Repeat("a:1,", furl.MaxHints) + "a:1"), furl.ErrHints},
	} {
		f, err := furl.Parse(c.text)
		if !errors.Is(err, c.want) || !reflect.DeepEqual(f, furl.FURL{}) {
			t.Errorf("%.90q: %v, want %v", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "swiss") && !errors.Is(err, furl.ErrSwissnum) && !errors.Is(err, furl.ErrShape) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}

func TestRefusesNURLs(t *testing.T) {
	for _, c := range []struct {
		text string
		want error
	}{
		{"", furl.ErrScheme},
		{"https://" + spki + "@a:1/x#v=1", furl.ErrScheme},
		{"pb+i2p://" + spki + "@a:1/x#v=1", furl.ErrScheme},
		{"pb+tor:" + spki + "@a:1/x#v=1", furl.ErrScheme},
		{"pb://" + spki + "@a:1/x", furl.ErrVersion},
		{"pb://" + spki + "@a:1/x#v=2", furl.ErrVersion},
		{"pb://" + spki + "@a:1/x#v=1 ", furl.ErrVersion},
		{"pb://" + spki + "@a:1/x#V=1", furl.ErrVersion},
		{"pb://" + spki + "#v=1", furl.ErrShape},
		{"pb://" + spki + "@a:1#v=1", furl.ErrShape},
		{"pb://@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + spki[:42] + "@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + spki + "=@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + spki[:42] + "F@a:1/x#v=1", furl.ErrSPKI}, // stray bits
		{"pb://" + strings.Replace(spki, "-", "+", 1) + "@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + spki[:20] + "\n" + spki[20:] + "@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + spki + ":pw@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + tub + "@a:1/x#v=1", furl.ErrSPKI},
		{"pb://" + spki + "@a/x#v=1", furl.ErrPort},
		{"pb://" + spki + "@a:0/x#v=1", furl.ErrPort},
		{"pb://" + spki + "@a:99999/x#v=1", furl.ErrPort},
		{"pb://" + spki + "@:1/x#v=1", furl.ErrHost},
		{"pb://" + spki + "@tcp:a:1/x#v=1", furl.ErrHost},
		{"pb://" + spki + "@a:1,b:2/x#v=1", furl.ErrHost},
		{"pb://" + spki + "@::1:1/x#v=1", furl.ErrHost},
		{"pb://" + spki + "@a:1/#v=1", furl.ErrSwissnum},
		{"pb://" + spki + "@a:1/x/y#v=1", furl.ErrSwissnum},
		{"pb://" + spki + "@a:1/x?y#v=1", furl.ErrSwissnum},
		{"pb://" + spki + "@a:1/%41#v=1", furl.ErrSwissnum},
		{"pb://" + spki + "@a:1/x#v=1#v=1", furl.ErrSwissnum},
		{"pb://" + spki + "@a:1/x\ny#v=1", furl.ErrSwissnum},
		{"pb://" + spki + "@a:1/" + strings.Repeat("x", furl.MaxText) + "#v=1", furl.ErrTooLong},
	} {
		n, err := furl.ParseNURL(c.text)
		if !errors.Is(err, c.want) || n != (furl.NURL{}) {
			t.Errorf("%.90q: %v, want %v", c.text, err, c.want)
		}
	}
}

func TestNeverPrints(t *testing.T) {
	f, err := furl.Parse("pb://" + tub + "@tcp:example.org:80/sesame")
	if err != nil {
		t.Fatal(err)
	}
	n, err := furl.ParseNURL("pb://" + spki + "@example.org:80/sesame#v=1")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []any{f, n, &f, &n, []any{f, n}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if out := fmt.Sprintf(verb, x); strings.Contains(out, "sesame") || strings.Contains(out, "736573616d65") || strings.Contains(out, "example") {
				t.Errorf("%s of %T prints %s", verb, x, out)
			}
		}
		if b, err := json.Marshal(x); err == nil {
			t.Errorf("%T marshals as %s", x, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range load(f).Furls {
		f.Add(v.Furl)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := furl.Parse(s)
		if err != nil {
			return
		}
		if got.Text() != s {
			t.Fatalf("%q became %q", s, got.Text())
		}
		for i := range got.Hints {
			got.Hints[i].Raw = ""
			if h := got.Hints[i]; h.Host != "" {
				if back, err := furl.ParseHint(h.Text()); err != nil || back.Host != h.Host || back.Port != h.Port || back.Type != h.Type {
					t.Fatalf("hint %q does not survive: %v", h.Text(), err)
				}
			}
		}
	})
}

func FuzzParseNURL(f *testing.F) {
	for _, v := range load(f).Nurls {
		f.Add(v.Nurl)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := furl.ParseNURL(s); err == nil && got.Text() != s {
			t.Fatalf("%q became %q", s, got.Text())
		}
	})
}
