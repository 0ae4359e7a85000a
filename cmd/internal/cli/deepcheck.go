package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

func (e *env) deepCheckCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "deep-check", Usage: "check all files and directories below a directory, and repair them",
		ArgsUsage: "[PATH...]",
		Description: "Exit code 0: all are healthy, or --repair made them so. 5: one is not. Others: not all could be checked.\n" +
			"(Tahoe's deep-check ends with 0 whenever it could check.) --json is like --raw.\n" + places,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "verify", Usage: "read every share and prove every byte of it, instead of asking who holds what"},
			&cli.BoolFlag{Name: "repair", Usage: "make missing shares again"},
			&cli.BoolFlag{Name: "add-lease", Usage: "add or renew our lease on all shares"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "a line for each file and directory"},
			&cli.BoolFlag{Name: "raw", Usage: "what the node says: lines of JSON"},
		},
		Action: func(c *cli.Context) error {
			o := checkOptions{orDefault(c), c.Bool("verify"), c.Bool("repair"), c.Bool("add-lease")}
			return e.deepCheck(c.Context, o, c.Bool("verbose"), c.Bool("raw") || e.ui.JSON)
		},
	})
}

// deepCheck checks one tree after the other, in Tahoe's words.
func (e *env) deepCheck(ctx context.Context, o checkOptions, verbose, raw bool) error {
	sick, lost, seen := 0, 0, 0
	for _, where := range o.where {
		at, err := e.at(where)
		if err != nil {
			return err
		}
		t := deepTally{ui: e.ui, repair: o.repair, verbose: verbose, quiet: raw}
		err = e.walk(ctx, at+"?t=stream-deep-check"+o.query(), raw, t.unit)
		if err != nil {
			return err
		}
		t.end()
		sick, lost, seen = sick+t.sickAfter, lost+t.lost, seen+t.objects
	}
	if sick == 0 {
		return nil
	}
	hint := "--repair makes missing shares again"
	if o.repair || lost > 0 {
		hint = "warren status shows which storage servers are connected"
	}
	return ui.Fail(ui.ExitUnavailable, hint, fmt.Errorf("not healthy: %d of %d, not recoverable: %d", sick, seen, lost))
}

// deepTally counts what a deep check finds, and tells of it.
type deepTally struct {
	ui                     *ui.UI
	repair, verbose, quiet bool

	objects, wellBefore, sickBefore, wellAfter, sickAfter, lost, tried, done int
}

// unit reads one line of the node's account.
func (t *deepTally) unit(line []byte) error {
	var u struct {
		Type     string
		Path     []string
		Index    string        `json:"storage-index"`
		Check    *checkResults `json:"check-results"`
		Repaired *checkResults `json:"check-and-repair-results"`
	}
	if err := json.Unmarshal(line, &u); err != nil {
		return err
	}
	if u.Type != "file" && u.Type != "directory" {
		return nil
	}
	before, after, told := u.Check, u.Check, u.Check
	if t.repair {
		told = u.Repaired
		if told != nil {
			before, after = told.Before, told.After
		}
	}
	// What lies in its capability is always well, and Tahoe gives no account of a
	// repair of it.
	literal := t.repair && u.Index == ""
	if told == nil || !literal && (before == nil || before.Results == nil || after == nil || after.Results == nil) {
		return errors.New("it has no results")
	}
	t.objects++
	if t.objects%100 == 0 {
		t.say("%d objects checked..", t.objects)
	}
	well := literal || before.Results.Healthy
	count(&t.wellBefore, &t.sickBefore, well)
	count(&t.wellAfter, &t.sickAfter, literal || after.Results.Healthy)
	if !literal && !after.Results.Recoverable {
		t.lost++
	}
	if t.verbose {
		path := strings.Join(u.Path, "/")
		if path == "" {
			path = "<root>"
		}
		summary := told.Summary
		switch {
		case t.repair && well:
			summary = "healthy"
		case t.repair:
			summary = "not healthy"
		case summary == "":
			summary = "Healthy (LIT)"
		}
		t.say("%s: %s", ui.Clean(quote(path, true)), quoted(summary))
	}
	if before != nil && before.Results != nil {
		for _, at := range before.Results.Corrupt {
			t.say(" corrupt: %s", located(at))
		}
	}
	if told.Attempted {
		t.tried++
		if told.Successful {
			t.done++
			t.say(" repair successful")
		} else {
			t.say(" repair failed")
		}
	}
	return nil
}

func count(well, sick *int, isWell bool) {
	if isWell {
		*well++
	} else {
		*sick++
	}
}

func (t *deepTally) say(format string, args ...any) {
	if !t.quiet {
		t.ui.Result(format, args...)
	}
}

// end says what came together.
func (t *deepTally) end() {
	if !t.repair {
		t.say("done: %d objects checked, %d healthy, %d unhealthy", t.objects, t.wellBefore, t.sickBefore)
		return
	}
	t.say("done: %d objects checked", t.objects)
	t.say(" pre-repair: %d healthy, %d unhealthy", t.wellBefore, t.sickBefore)
	t.say(" %d repairs attempted, %d successful, %d failed", t.tried, t.done, t.tried-t.done)
	t.say(" post-repair: %d healthy, %d unhealthy", t.wellAfter, t.sickAfter)
}
