package code

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for _, words := range []int{2, 4} {
		c, err := New(rand.Reader, "123456", words)
		if err != nil {
			t.Fatal(err)
		}
		if c.Words() != words || c.Nameplate() != "123456" {
			t.Errorf("got %d words, nameplate %s", c.Words(), c.Nameplate())
		}
		back, err := Parse(c.Text())
		if err != nil || !back.Equal(c) {
			t.Errorf("Parse(Text) = %v", err)
		}
	}
	// The columns as magic-wormhole draws them: three syllables first.
	c, err := New(bytes.NewReader([]byte{0x00, 0xff}), "7", 2)
	if err != nil || c.Text() != "7-adroitness-zulu" {
		t.Errorf("got %q, %v", c.Text(), err)
	}
	if _, err := New(bytes.NewReader(nil), "7", 2); err == nil {
		t.Error("New without randomness succeeded")
	}
}

func TestParseForgiving(t *testing.T) {
	for _, s := range []string{"7-adroitness-zulu", " 7-Adroitness-ZULU\n", "7-adroitness-zulu"} {
		c, err := Parse(s)
		if err != nil || c.Text() != "7-adroitness-zulu" {
			t.Errorf("Parse(%q) = %q, %v", s, c.Text(), err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", "7", "-", "7-", "7-adroitness", "adroitness-zulu", "7-adroitness-", "7--zulu", "-adroitness-zulu",
		"07-adroitness-zulu", "0-adroitness-zulu", "7a-adroitness-zulu", "٧-adroitness-zulu", "7 -adroitness-zulu",
		"7-adroitness zulu", "7 adroitness zulu", "7-adroitness-zulu-adroitness-zulu-adroitness-zulu-adroitness-zulu-adroitness",
		"7-zulu-adroitness", "7-adroitnes-zulu", "7-adroitness-zulu\x1b[2J", "7-adroitness-zulu\x00", "7-../-zulu",
		"1234567890123456789-adroitness-zulu", strings.Repeat("7", 300), "7_adroitness_zulu", "7-adroitness-zulu\u202e",
	} {
		c, err := Parse(s)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("Parse(%q) = %v", s, err)
		}
		if !c.IsZero() {
			t.Errorf("Parse(%q) gave a code beside its error", s)
		}
	}
}

func TestMistyped(t *testing.T) {
	for _, c := range []struct {
		text      string
		word      int
		misplaced bool
		first     string
	}{
		{"7-adroitnes-zulu", 1, false, "adroitness"},
		{"7-adroitness-zul", 2, false, "zulu"},
		{"7-crosover-clokwork", 1, false, "crossover"},
		{"7-zulu-adroitness", 1, true, ""},
	} {
		_, err := Parse(c.text)
		var wrong *MistypedError
		if !errors.As(err, &wrong) {
			t.Fatalf("Parse(%q) = %v", c.text, err)
		}
		if wrong.Word != c.word || wrong.Misplaced != c.misplaced {
			t.Errorf("%q: %+v", c.text, wrong)
		}
		if c.first != "" && (len(wrong.Nearest) == 0 || wrong.Nearest[0] != c.first) {
			t.Errorf("%q: nearest %q", c.text, wrong.Nearest)
		}
		for _, part := range strings.Split(c.text, "-")[1:] {
			if strings.Contains(err.Error(), part) {
				t.Errorf("the error %q tells a word of the code", err)
			}
		}
	}
}

func TestRedacted(t *testing.T) {
	c, _ := Parse("7-adroitness-zulu")
	l := Link{c, "ws://example.org:4000/v1"}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%#v", c), fmt.Sprintf("%+v", l), fmt.Sprintf("%d", c), fmt.Sprintf("%d", l), fmt.Sprintf("%#v", l), fmt.Sprintf("%v", struct{ L Link }{l})} {
		if strings.Contains(s, "zulu") {
			t.Errorf("%q tells the code", s)
		}
	}
}

func TestComplete(t *testing.T) {
	if got := Complete("7", 2); got != nil {
		t.Errorf("offered numbers: %q", got)
	}
	if got := Complete("7-adr", 2); !slices.Equal(got, []string{"7-adroitness-"}) {
		t.Errorf("got %q", got)
	}
	if got := Complete("7-adroitness-zu", 2); !slices.Equal(got, []string{"7-adroitness-zulu"}) {
		t.Errorf("got %q", got)
	}
	if got := Complete("7-adroitness-", 2); len(got) != 256 {
		t.Errorf("got %d words", len(got))
	}
	if got := Complete("7-adroitness-zulu-a", 2); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestLink(t *testing.T) {
	for _, s := range []string{
		"warren:7-adroitness-zulu@ws://example.org:4000/v1",
		"warren:123456-adroitness-zulu-adviser-absurd@wss://mail.example.org/v1",
		"warren:7-adroitness-zulu@ws://vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion/v1",
		"warren:7-adroitness-zulu@ws://127.0.0.1:4000/v1",
		"warren:7-adroitness-zulu@ws://[::1]:4000/v1",
	} {
		l, err := ParseLink(s)
		if err != nil {
			t.Errorf("ParseLink(%q) = %v", s, err)
		} else if l.Text() != s {
			t.Errorf("%q became %q", s, l.Text())
		}
	}
}

func TestLinkRefuses(t *testing.T) {
	for _, s := range []string{
		"", "warren:", "7-adroitness-zulu", "warren:7-adroitness-zulu", "warren:7-adroitness-zulu@", "warren:@ws://example.org/v1",
		"warren:7-adroitness-zulu@http://example.org/v1", "warren:7-adroitness-zulu@ws://", "warren:7-adroitness-zulu@ws://user@example.org/v1",
		"warren:7-adroitness-zulu@ws://example.org:0/v1", "warren:7-adroitness-zulu@ws://example.org:70000/v1", "warren:7-adroitness-zulu@ws://example.org:04000/v1",
		"warren:7-adroitness-zulu@ws://example.org/v1?x=1", "warren:7-adroitness-zulu@ws://example.org/v1#x", "warren:7-adroitness-zulu@ws://exa mple.org/v1",
		"warren:7-adroitness-zulu@ws://example.org/../v1", "warren:7-adroitness-zulu@ws://example.org/%2e", "warren:7-adroitness-zulu@ws://Example.org/v1",
		"warren:7-adroitness-zulu@ws://example.org/v1\x1b[2J", "warren:7-adroitness-zulu@ws://-example.org/v1", "warren:7-adroitness-zulu@ws://[::1/v1",
		"warren:7-adroitness-zulu@ws://[fe80::1%eth0]/v1", "warren:7-adroitness-zulu @ws://example.org/v1", "warren:7-zulu-zulu@ws://example.org/v1",
		"warren:7-adroitness-zulu@ws://" + strings.Repeat("a.", 200) + "org/v1", "warren:7-adroitness-zulu@ws://$(reboot)/v1",
		"warren:7-adroitness-zulu@ws://[127.0.0.1]/v1", "warren:7-adroitness-zulu@ws://[::1]x/v1",
	} {
		if _, err := ParseLink(s); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrMailbox) {
			t.Errorf("ParseLink(%q) = %v", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"7-adroitness-zulu", "7-adroitnes-zulu", "123456-adroitness-zulu-adviser-absurd", "0-", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if again, err := Parse(c.Text()); err != nil || again != c {
			t.Fatalf("%q does not parse back: %v", c.Text(), err)
		}
		if c.Text() != strings.ToLower(strings.Trim(s, " \t\r\n")) {
			t.Fatalf("%q became %q", s, c.Text())
		}
	})
}

func FuzzParseLink(f *testing.F) {
	f.Add("warren:7-adroitness-zulu@ws://example.org:4000/v1")
	f.Add("warren:7-adroitness-zulu@wss://[::1]:4000/v1")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLink(s)
		if err != nil {
			return
		}
		if again, err := ParseLink(l.Text()); err != nil || again != l {
			t.Fatalf("%q does not parse back: %v", l.Text(), err)
		}
	})
}
