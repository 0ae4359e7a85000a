package config

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"warren/tests/bounds"
)

func load(t testing.TB, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

type iniCase struct {
	Text   string
	Values any
}

func iniCases(t testing.TB) []iniCase {
	var cases []iniCase
	load(t, "ini.json", &cases)
	if len(cases) < 500 {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

// TestReadsAsPython compares with ConfigParser; see tests/vectors/gen_config.py.
func TestReadsAsPython(t *testing.T) {
	refused := 0
	for _, c := range iniCases(t) {
		p, err := parseIni("x", []byte(c.Text))
		switch want := c.Values.(type) {
		case nil:
			refused++
			if !errors.Is(err, ErrSyntax) {
				t.Errorf("%q: Python refuses it, we say %v", c.Text, err)
			}
		case string: // a [DEFAULT] section with something in it
			if err != nil || len(p.values[defaultSection]) == 0 {
				t.Errorf("%q: no defaults, %v", c.Text, err)
			}
		case map[string]any:
			if err != nil {
				t.Errorf("%q: %v", c.Text, err)
				continue
			}
			delete(p.values, defaultSection)
			if len(p.values) != len(want) {
				t.Errorf("%q: sections %v, want %v", c.Text, p.values, want)
			}
			for section, w := range want {
				keys := w.(map[string]any)
				if len(keys) != len(p.values[section]) {
					t.Errorf("%q: keys %v, want %v", c.Text, p.values[section], keys)
				}
				for key, value := range keys {
					got, ok, err := p.get(section, key)
					switch {
					case !ok:
						t.Errorf("%q: no [%s] %s", c.Text, section, key)
					case value == nil:
						if !errors.Is(err, ErrSyntax) {
							t.Errorf("%q: [%s] %s is %q, Python cannot interpolate it", c.Text, section, key, got)
						}
					case err != nil || got != value:
						t.Errorf("%q: [%s] %s is %q (%v), want %q", c.Text, section, key, got, err, value)
					}
				}
			}
		}
	}
	if refused < 20 {
		t.Errorf("only %d refusals", refused)
	}
}

func TestInterpolationIsBounded(t *testing.T) {
	// Each value is ten times the next: 10^8 characters.
	var b strings.Builder
	b.WriteString("[a]\n")
	for i := range 8 {
		b.WriteString(string(rune('a'+i)) + " = " + strings.Repeat("%("+string(rune('b'+i))+")s", 10) + "\n")
	}
	b.WriteString("i = xxxxxxxxxx\n")
	p, err := parseIni("x", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.get("a", "a"); !errors.Is(err, ErrSyntax) {
		t.Errorf("no error: %v", err)
	}
	if _, err := parseIni("x", make([]byte, maxFile+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long file: %v", err)
	}
	for _, s := range []string{"\xff", "[a]\nk = \xed\xa0\x80\n"} {
		if _, err := parseIni("x", []byte(s)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestEditKeepsTheRest(t *testing.T) {
	const text = "# top\n\n[node]\n# who\nNickName: bob\n\n[client]\nshares.needed = 3\n  # odd\n\n# tail\n\n[storage]\nenabled=true\n"
	p, err := parseIni("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ section, key, value, want string }{
		{"node", "nickname", "eve", strings.Replace(text, "NickName: bob", "nickname = eve", 1)},
		{"node", "web.port", "", strings.Replace(text, "NickName: bob\n", "NickName: bob\nweb.port =\n", 1)},
		{"client", "shares.total", "10", strings.Replace(text, "# tail\n", "# tail\nshares.total = 10\n", 1)},
		{"storage", "enabled", "false", strings.Replace(text, "enabled=true", "enabled = false", 1)},
		{"tor", "enabled", "false", text + "\n[tor]\nenabled = false\n"},
	} {
		q, err := p.set(c.section, c.key, c.value)
		if err != nil {
			t.Errorf("%s: %v", c.key, err)
			continue
		}
		if got := string(q.bytes()); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.key, got, c.want)
		}
	}
}

// checkEdits sets every value of p and some more: what comes back says
// exactly that, or an error.
func checkEdits(t *testing.T, p *ini) {
	t.Helper()
	try := func(section, key, value string) {
		q, err := p.set(section, key, escape(value))
		if err != nil {
			return
		}
		if got, ok, err := q.get(section, strings.ToLower(key)); !ok || err != nil || got != value {
			t.Fatalf("%q: set to %q, reads %q, %v", p.lines, value, got, err)
		}
		back, err := parseIni(p.file, q.bytes())
		if err != nil {
			t.Fatalf("%q: does not parse back: %v", q.lines, err)
		}
		for name := range p.values {
			want, got := maps.Clone(p.values[name]), maps.Clone(back.values[name])
			delete(want, strings.ToLower(key))
			delete(got, strings.ToLower(key))
			if name == section && !maps.Equal(want, got) {
				t.Fatalf("%q: setting %s changed more", p.lines, key)
			}
			if name != section && !maps.Equal(p.values[name], back.values[name]) {
				t.Fatalf("%q: setting %s changed [%s]", p.lines, key, name)
			}
		}
	}
	for section, keys := range p.values {
		for key := range keys {
			try(section, key, "100% # [new]")
		}
		try(section, "brand.new", "")
	}
	try("brand new", "key", "value")
}

func TestEditsOfPythonsCases(t *testing.T) {
	for _, c := range iniCases(t) {
		if p, err := parseIni("x", []byte(c.Text)); err == nil {
			checkEdits(t, p)
		}
	}
}

func FuzzParseIni(f *testing.F) {
	for _, c := range iniCases(f) {
		f.Add([]byte(c.Text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p *ini
		var err error
		bounds.Memory(t, len(data), 256, func() { p, err = parseIni("x", data) })
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T", err)
			}
			return
		}
		if len(data) > 1000 {
			return
		}
		q, err := parseIni("x", p.bytes())
		if err != nil || len(q.values) != len(p.values) {
			t.Fatalf("%q does not parse back: %v", data, err)
		}
		for section := range p.values {
			if !maps.Equal(p.values[section], q.values[section]) {
				t.Fatalf("%q reads differently the second time", data)
			}
			for key := range p.values[section] {
				p.get(section, key)
			}
		}
		checkEdits(t, p)
		readSettings("/x", Client, p, &ini{})
		readSettings("/x", Introducer, &ini{}, p)
	})
}

func TestValuesAsTahoe(t *testing.T) {
	type pair struct {
		Text  string
		Value float64
	}
	var v struct{ Sizes, Durations, Dates []pair }
	load(t, "values.json", &v)
	if len(v.Sizes) < 20 || len(v.Durations) < 15 || len(v.Dates) < 8 {
		t.Fatal("too few values")
	}
	check := func(c pair, got float64, err error) {
		t.Helper()
		if err != nil {
			got = -1
		}
		// Tahoe takes negative durations and the 31st of November.
		if got != c.Value && !(err != nil && (c.Text == "-1 days" || c.Text == "2026-11-31")) {
			t.Errorf("%q: %v (%v), want %v", c.Text, got, err, c.Value)
		}
	}
	for _, c := range v.Sizes {
		n, err := parseSize(c.Text)
		check(c, float64(n), err)
	}
	for _, c := range v.Durations {
		d, err := parseDuration(c.Text)
		check(c, d.Seconds(), err)
	}
	for _, c := range v.Dates {
		d, err := parseDate(c.Text)
		check(c, float64(d.Unix()), err)
	}
	for _, s := range []string{"9999999999999999999", "99999999999E", "20E"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%s: %d", s, n)
		}
	}
	if _, err := parseDuration("2000000000 years"); err == nil {
		t.Error("a duration beyond the calendar")
	}
	if d, err := parseDuration("292 years"); err != nil || d < 290*365*24*time.Hour {
		t.Errorf("292 years: %v, %v", d, err)
	}
}
