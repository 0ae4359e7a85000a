package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
	"warren/node"
	"warren/node/config"
	"warren/node/storage"
	"warren/node/storage/disk"
	"warren/node/storage/expire"
)

func (e *env) storageCommand() *cli.Command {
	var dry bool
	return &cli.Command{
		Name: "storage", Usage: "look after the shares that this node keeps for others",
		Subcommands: []*cli.Command{{
			Name: "expire", Usage: "show which shares go when their leases have ended", ArgsUsage: "--dry-run",
			Description: "Counts, with the settings expire.* in [storage] of tahoe.cfg, the shares that a node\n" +
				"removes while it runs with expire.enabled = true. Nothing is removed by this command;\n" +
				"the node may be running meanwhile.",
			Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "count, and remove nothing", Destination: &dry}},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 0, 0); err != nil {
					return err
				}
				if !dry {
					return ui.Fail(ui.ExitUsage, "warren storage expire --dry-run shows what goes; expire.enabled = true in [storage] of tahoe.cfg lets it go",
						errors.New("shares are removed by the running node alone"))
				}
				return e.expireDryRun(c.Context)
			},
		}},
	}
}

// dryRun is what expire --dry-run answers under --json.
type dryRun struct {
	Directory string `json:"directory"`
	// Going is what would be removed; Shares in Results says why.
	Going expire.Tally `json:"going"`
	Total expire.Tally `json:"total"`
	expire.Results
}

func (e *env) expireDryRun(ctx context.Context) error {
	cfg, err := config.Open(e.dir)
	if err != nil {
		return ui.Fail(ui.ExitUsage, "-d names another node directory", err)
	}
	s := cfg.Settings.Storage
	shelf, err := disk.Browse(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ui.Fail(ui.ExitNotFound, "shares come to a node that offers storage: warren create-node makes one", fmt.Errorf("there are no shares in %s", s.Dir))
	}
	if err != nil {
		return err
	}
	settings := node.ExpireSettings(s)
	bar := e.ui.Progress("looking at shares", int64(len(storage.Prefixes())))
	defer bar.Finish()
	r, err := expire.Examine(ctx, shelf, settings, time.Now(), func(int, int) { bar.Write([]byte{0}) })
	if err != nil {
		return err
	}
	r.Finished = time.Now().UTC()
	bar.Finish()
	if e.ui.JSON {
		return e.ui.Data(dryRun{s.Dir, r.Going(), r.Total(), r})
	}
	e.ui.Result("%s: %s in %s", s.Dir, tally(r.Total()), plural(int(r.Buckets), "storage index", "storage indexes"))
	e.ui.Result("settings: %s", settingsText(settings))
	for _, reason := range expire.Reasons() {
		for _, kind := range []storage.ShareKind{storage.Immutable, storage.Mutable, "unknown"} {
			if t := r.Shares[reason][kind]; t.Shares > 0 {
				verb := "stays"
				if reason.Goes() {
					verb = "goes"
				}
				e.ui.Result("  %-5s  %-24s %-9s  %s", verb, reason, kind, tally(t))
			}
		}
	}
	for _, p := range r.Unreadable {
		e.ui.Say("unreadable: share %d of %s", p.Share, p.StorageIndex)
	}
	if r.Failures > 0 {
		e.ui.Say("%s could not be read: run this as the node's user", plural(int(r.Failures), "directory", "directories"))
	}
	verb := "would go"
	if settings.Enabled {
		verb = "go while the node runs"
	}
	e.ui.Result("%s: %s", verb, tally(r.Going()))
	return nil
}

// settingsText says in one line which leases have ended.
func settingsText(s expire.Settings) string {
	state := "off"
	if s.Enabled {
		state = "on"
	}
	var which string
	switch {
	case s.Mode == expire.CutoffDate:
		which = "leases from before " + time.Unix(s.Cutoff, 0).UTC().Format(time.DateOnly)
	case s.Override > 0:
		which = fmt.Sprintf("leases older than %s", plural(int(s.Override/(24*3600)), "day", "days"))
	default:
		which = "leases past their end"
	}
	kinds := "of files and slots"
	switch {
	case !s.Immutable && !s.Mutable:
		kinds = "of nothing"
	case !s.Mutable:
		kinds = "of immutable shares only"
	case !s.Immutable:
		kinds = "of mutable shares only"
	}
	return fmt.Sprintf("expiry is %s; %s, %s", state, which, kinds)
}

func tally(t expire.Tally) string {
	return plural(int(t.Shares), "share", "shares") + ", " + byteText(t.Bytes)
}

// byteText is a number of bytes for people.
func byteText(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if f /= 1000; f < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// houseLines say how the storage stands that a node offers.
func (e *env) houseLines(h node.House) {
	state := ""
	if h.ReadOnly {
		state = ", read-only"
	}
	expiry := "leases do not end"
	if h.Expire.Enabled {
		expiry = settingsText(h.Expire)
	}
	e.ui.Result("offering storage: room for %s%s; %s", byteText(h.Available), state, expiry)
	if r := h.Checked; r != nil {
		var removed expire.Tally
		for _, t := range r.Removed {
			removed = removed.Plus(t)
		}
		line := fmt.Sprintf("  at %s: %s", r.Finished.Local().Format("2006-01-02 15:04"), tally(r.Total()))
		if removed.Shares > 0 {
			line += "; removed " + tally(removed)
		}
		if n := r.Sum(expire.Unreadable).Shares; n > 0 {
			line += fmt.Sprintf("; %d cannot be read", n)
		}
		e.ui.Result("%s", line)
	}
}
