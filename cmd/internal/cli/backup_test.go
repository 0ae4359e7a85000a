package cli

import "testing"

// What the patterns match is what Python's fnmatch said of them.
func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"*.o", []string{"a.o", ".o", "a\n.o"}, []string{"a.oo", "a.O", "o"}},
		{"a?c", []string{"abc", "aüc"}, []string{"ac", "abbc"}},
		{"[a-c]x", []string{"ax", "cx"}, []string{"dx", "-x"}},
		{"[!a-c]x", []string{"dx", "!x"}, []string{"ax", "x"}},
		{"[]]x", []string{"]x"}, []string{"x", "[]]x"}},
		{"[!]]x", []string{"ax"}, []string{"]x"}},
		{"[^a]", []string{"^", "a"}, []string{"b"}},
		{`[\d]`, []string{`\`, "d"}, []string{"1"}},
		{"[ab", []string{"[ab"}, []string{"a"}},
		{"{arch}", []string{"{arch}"}, []string{"arch"}},
		{"a.b", []string{"a.b"}, []string{"axb"}},
		{"[", []string{"["}, nil},
		{"[[:digit:]]", []string{"d]", ":]"}, []string{"1", "1]"}},
	} {
		re, err := glob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for _, s := range c.yes {
			if !re.MatchString(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if re.MatchString(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
	if _, err := glob("[z-a]"); err == nil {
		t.Error("a range backwards")
	}
}
