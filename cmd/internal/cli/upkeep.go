package cli

import (
	"context"
	"fmt"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/node/upkeep"
)

// upkeepOptions of `warren upkeep`.
type upkeepOptions struct {
	upkeep.Request
	wait bool
}

func (e *env) upkeepCommand() *cli.Command {
	var o upkeepOptions
	return &cli.Command{
		Name: "upkeep", Usage: "renew the leases on everything that must live, now",
		Description: "The running node renews by itself what the aliases and folders need, once a day as far as\n" +
			"it is due, and repairs what is on too few servers; [upkeep] in warren.cfg changes that:\n" +
			"enabled, repair and history, each true or false. This command begins a round at once and\n" +
			"faster; warren status shows how far it is, and what is at risk.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "renew every lease, however young", Destination: &o.All},
			&cli.BoolFlag{Name: "repair", Usage: "repair what is at risk at once", Destination: &o.Repair},
			&cli.BoolFlag{Name: "wait", Usage: "return when all was visited once", Destination: &o.wait},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return e.upkeep(c.Context, o)
		},
	}
}

func (e *env) upkeep(ctx context.Context, o upkeepOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var begun daemon.UpkeepRound
	if err := node.control(ctx, "POST", "upkeep", o.Request, &begun); err != nil {
		return err
	}
	var s upkeep.Status
	for said := ""; ; {
		if err := node.control(ctx, "GET", "upkeep", nil, &s); err != nil {
			return err
		}
		if !o.wait || s.Last != nil && s.Last.Number >= begun.Number {
			break
		}
		if s.Waiting != said && s.Waiting != "" {
			e.ui.Say("waiting: %s", ui.Clean(s.Waiting))
		}
		said = s.Waiting
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	if e.ui.JSON {
		if err := e.ui.Data(s); err != nil {
			return err
		}
	} else {
		e.upkeepLines(s)
	}
	if o.wait && s.AtRisk > 0 {
		hint := "--repair makes missing shares again"
		if o.Repair {
			hint = "warren status shows which storage servers are connected"
		}
		return ui.Fail(ui.ExitUnavailable, hint, fmt.Errorf("at risk: %d of %s", s.AtRisk, plural(s.Known, "item", "items")))
	}
	return nil
}

// upkeepLines say how upkeep stands.
func (e *env) upkeepLines(s upkeep.Status) {
	say := e.ui.Result
	line := "upkeep: "
	switch {
	case s.Current != nil && s.Waiting != "":
		line += "waiting, " + ui.Clean(s.Waiting)
	case s.Current != nil:
		line += fmt.Sprintf("%d visited, %d left so far", s.Current.Done, s.Current.Open)
	case s.Last == nil && !s.Automatic:
		line += "off; warren upkeep renews leases"
	case s.Last == nil:
		line += "begins soon"
	case !s.Automatic:
		line += "off"
	default:
		line += "next " + local(s.Next)
	}
	if l := s.Last; l != nil {
		line += fmt.Sprintf("; last %s: %s kept alive, %s renewed", local(l.Finished), plural(s.Known, "item", "items"), plural(l.Renewed, "lease", "leases"))
		if l.Repaired > 0 {
			line += fmt.Sprintf(", %d repaired", l.Repaired)
		}
	}
	say("%s", line)
	if r := s.Current; r != nil && r.Unnamed != "" {
		say("  not known: %s", ui.Clean(r.Unnamed))
	} else if r := s.Last; r != nil && r.Unnamed != "" {
		say("  not known: %s", ui.Clean(r.Unnamed))
	}
	if s.AtRisk > 0 {
		say("  at risk: %s", plural(s.AtRisk, "item is on too few servers", "items are on too few servers"))
	}
	for _, r := range s.Risks {
		state := fmt.Sprintf("%d of %d shares, %d needed, on %s", r.Shares, r.Total, r.Needed, plural(r.Servers, "server", "servers"))
		if !r.Readable() {
			state = fmt.Sprintf("cannot be read now: %d of the %d shares that are needed", r.Shares, r.Needed)
		}
		if r.Repair != "" {
			state += "; repair failed: " + ui.Clean(r.Repair)
		}
		say("    %s: %s", ui.Clean(r.Path), state)
	}
	if n := s.AtRisk - len(s.Risks); n > 0 {
		say("    and %d more", n)
	}
	for _, f := range s.Failures {
		say("  not looked after: %s: %s", ui.Clean(f.Path), ui.Clean(f.Reason))
	}
	if n := s.Failed - len(s.Failures); n > 0 {
		say("  and %d more", n)
	}
}

// local is a time for people.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
