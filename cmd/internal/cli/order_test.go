package cli

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestFlagsFirst(t *testing.T) {
	app := newApp("test", strings.NewReader(""), io.Discard, io.Discard)
	for _, c := range []struct{ in, want string }{
		{"warren invite bob --folder F", "warren invite --folder F bob"},
		{"warren -d D invite bob --folder=F --json", "warren -d D invite --folder=F --json bob"},
		{"warren invite list --json", "warren invite list --json"},
		{"warren invite cancel bob -d D", "warren invite cancel -d D bob"},
		{"warren folder add DIR --name N", "warren folder add --name N DIR"},
		{"warren join 7-crossover-clamshell DIR --yes -d D --direct", "warren join --yes -d D --direct 7-crossover-clamshell DIR"},
		{"warren put - URI:X -- -x", "warren put - URI:X -- -x"},
		{"warren cp w: out -rv -dD", "warren cp -r -v -d=D w: out"},
		{"warren ls -lF w: -ld D", "warren ls -l -F -l -d D w:"},
		{"warren ls -lX w:", "warren ls -lX w:"},
		{"warren run", "warren run"},
		{"warren", "warren"},
		{"warren nonsense --x", "warren --x nonsense"},
	} {
		if got := flagsFirst(app, strings.Fields(c.in)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s\n got %s\nwant %s", c.in, strings.Join(got, " "), c.want)
		}
	}
}
