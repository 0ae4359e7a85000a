package cli

import (
	"path/filepath"
	"testing"
)

func TestFromHome(t *testing.T) {
	home := filepath.FromSlash("/home/bob")
	for in, want := range map[string]string{
		"~": "/home/bob", "~/a b": "/home/bob/a b", "~/": "/home/bob", "~bob/a": "~bob/a", "a/~": "a/~", "/srv/~/a": "/srv/~/a", "": "",
	} {
		if got := fromHome(home, filepath.FromSlash(in)); got != filepath.FromSlash(want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
