package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

type checkOptions struct {
	where                    []string // caps, or paths below directories
	verify, repair, addLease bool
}

func (e *env) checkCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "check", Usage: "find out how well files and directories are stored, and repair them",
		ArgsUsage: "[PATH...]",
		Description: "Counts the shares that the connected servers say they hold. Exit code 0: every file is healthy (all of\n" +
			"its shares are there), or --repair made it so. 5: one is not. Others: one could not be checked.\n" +
			"(Tahoe's check ends with 0 whenever it could check.)\n" + places,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "verify", Usage: "read every share and prove every byte of it, instead of asking who holds what"},
			&cli.BoolFlag{Name: "repair", Usage: "make missing shares again (of what can change, with the capability to write it)"},
			&cli.BoolFlag{Name: "add-lease", Usage: "add or renew our lease on all shares"},
			&cli.BoolFlag{Name: "raw", Usage: "like --json"},
		},
		Action: func(c *cli.Context) error {
			e.ui.JSON = e.ui.JSON || c.Bool("raw")
			return e.check(c.Context, checkOptions{orDefault(c), c.Bool("verify"), c.Bool("repair"), c.Bool("add-lease")})
		},
	})
}

// orDefault is the arguments, or, when there is none, the default alias.
func orDefault(c *cli.Context) []string {
	if !c.Args().Present() {
		return []string{""}
	}
	return c.Args().Slice()
}

// query is the options as the web API has them.
func (o checkOptions) query() (q string) {
	for name, set := range map[string]bool{"verify": o.verify, "repair": o.repair, "add-lease": o.addLease} {
		if set {
			q += "&" + name + "=true"
		}
	}
	return q
}

// checkResults is the node's account of one check (Tahoe's, docs/frontends/webapi.rst).
type checkResults struct {
	Index   string `json:"storage-index"`
	Summary string `json:"summary"` // not of a literal
	Results *struct {
		Healthy     bool `json:"healthy"`
		Recoverable bool `json:"recoverable"`

		Good     *int     `json:"count-shares-good"`
		Needed   int      `json:"count-shares-needed"`
		Expected int      `json:"count-shares-expected"`
		Wrong    int      `json:"count-wrong-shares"`
		Corrupt  [][3]any `json:"list-corrupt-shares"`

		// Of our node's account only.
		Incompatible [][3]any `json:"list-incompatible-shares"`
		Troubles     []string `json:"troubles"`
		NoLease      []string `json:"lease-failures"`
	} `json:"results"`

	// With repair=true; Results is not there then, but of a literal.
	Before     *checkResults `json:"pre-repair-results"`
	After      *checkResults `json:"post-repair-results"`
	Attempted  bool          `json:"repair-attempted"`
	Successful bool          `json:"repair-successful"`
	Failure    string        `json:"repair-failure"`
}

// check checks one file after the other, in Tahoe's words. One that cannot be
// checked does not keep the others from it.
func (e *env) check(ctx context.Context, o checkOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	query := "?t=check&output=JSON" + o.query()
	var failed []error
	sick, lost := 0, 0
	for i, where := range o.where {
		r, err := e.checkOne(ctx, node, where, query)
		var known *ui.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &known) && known.Code == ui.ExitNoNode, err != nil && len(o.where) == 1:
			return err
		case err != nil:
			failed = append(failed, fmt.Errorf("argument %d: %w", i+1, err))
		case !r.Results.Healthy:
			sick++
			if !r.Results.Recoverable {
				lost++
			}
		}
	}
	if sick > 0 {
		hint := "--repair makes missing shares again"
		if o.repair || lost > 0 {
			hint = "warren status shows which storage servers are connected"
		}
		failed = append(failed, ui.Fail(ui.ExitUnavailable, hint, fmt.Errorf("not healthy: %d of %d, not recoverable: %d", sick, len(o.where), lost)))
	}
	return errors.Join(failed...)
}

// checkOne tells how one file is, or was before a repair, and returns how it is now.
func (e *env) checkOne(ctx context.Context, node *nodeClient, where, query string) (*checkResults, error) {
	path, err := e.at(where)
	if err != nil {
		return nil, err
	}
	text, err := node.text(ctx, "POST", path+query, nil)
	if err != nil {
		return nil, err
	}
	var r checkResults
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, fmt.Errorf("the node's answer makes no sense: %w", err)
	}
	now, told, summary := &r, &r, r.Summary
	if r.Before != nil && r.After != nil {
		// Of a repair Tahoe tells how it was before.
		now, told, summary = r.After, r.Before, "not healthy"
		if told.Results != nil && told.Results.Healthy {
			summary = "healthy"
		}
	}
	if now.Results == nil || told.Results == nil {
		return nil, errors.New("the node's answer makes no sense: it has no results")
	}
	if e.ui.JSON {
		e.ui.Result("%s", text) // as the node said it, and as Tahoe prints it
		return now, nil
	}
	if summary == "" {
		summary = "Healthy (LIT)"
	}
	e.ui.Result("Summary: %s\n storage index: %s", ui.Clean(summary), ui.Clean(r.Index))
	if c := told.Results; c.Good != nil {
		e.ui.Result(" good-shares: %d (encoding is %d-of-%d)\n wrong-shares: %d", *c.Good, c.Needed, c.Expected, c.Wrong)
	}
	if len(told.Results.Corrupt) > 0 {
		e.ui.Result(" corrupt shares:")
		for _, at := range told.Results.Corrupt {
			e.ui.Result("  %s", located(at))
		}
	}
	switch {
	case r.Attempted && r.Successful:
		e.ui.Result(" repair successful")
	case r.Attempted:
		e.ui.Result(" repair failed")
		e.ui.Say("%s", ui.Clean(r.Failure))
	}
	for _, at := range told.Results.Incompatible {
		e.ui.Say("of an unknown version: %s", located(at))
	}
	for _, trouble := range told.Results.Troubles {
		e.ui.Say("not known: %s", ui.Clean(trouble))
	}
	for _, server := range told.Results.NoLease {
		e.ui.Say("our lease could not be renewed on server %s", ui.Clean(server))
	}
	return now, nil
}

// located is a share's place in Tahoe's words.
func located(at [3]any) string {
	return fmt.Sprintf("server %s, SI %s, shnum %s", ui.Clean(fmt.Sprint(at[0])), ui.Clean(fmt.Sprint(at[1])), ui.Clean(fmt.Sprint(at[2])))
}
