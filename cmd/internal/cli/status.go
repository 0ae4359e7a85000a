package cli

import (
	"context"
	"sort"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/torutil"
)

func (e *env) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show how the node, its servers, folders and invites stand", ArgsUsage: "[DIR]",
		Action: func(c *cli.Context) error {
			if err := e.positionalDir(c); err != nil {
				return err
			}
			return e.status(c.Context)
		},
	}
}

func (e *env) status(ctx context.Context) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var s daemon.Status
	if err := node.control(ctx, "GET", "status", nil, &s); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(s)
	}
	say := e.ui.Result
	say("%s %s (warren %s), up %s, network %s", s.Kind, s.Directory, s.Version, (time.Duration(s.Uptime) * time.Second).String(), s.Network)
	if s.Tor != "" {
		say("%s", ui.Clean(s.Tor))
	}
	if s.Mailbox != "" {
		say("mailbox: %s", s.Mailbox)
	}
	for _, i := range s.Introducers {
		say("introducer: %s", ui.Clean(i))
	}
	connected := 0
	for _, sv := range s.Servers {
		if sv.Connected {
			connected++
		}
	}
	if s.Encoding != nil {
		say("storage: %d of %s connected; encoding %d of %d, stored means on %d", connected, plural(len(s.Servers), "server", "servers"), s.Encoding.Needed, s.Encoding.Total, s.Encoding.Happy)
		if connected < s.Encoding.Happy {
			say("  too few for storing: edits wait until %d are connected", s.Encoding.Happy)
		}
	}
	for _, sv := range s.Servers {
		say("  %-20s %s", ui.Clean(sv.Nickname), ui.Clean(sv.Status))
	}
	if s.Storage != nil {
		e.houseLines(*s.Storage)
	}
	for _, r := range s.Rollbacks {
		say("older than before: %s, version %d and not %d: servers lost or hide the newer one, or are away; no change is made on top of it", r.Index, r.Found, r.Seen)
	}
	if len(s.Rollbacks) > 0 {
		say("  when the newer versions are lost: warren accept-rollback STORAGE-INDEX, or --all")
	}
	for _, f := range s.Folders {
		e.folderLine(f)
	}
	for _, v := range s.Invites {
		if !v.State.Final() {
			e.inviteLine(v)
		}
	}
	if s.Upkeep != nil {
		e.upkeepLines(*s.Upkeep)
	}
	vias := make([]string, 0, len(s.Connections.By))
	for via := range s.Connections.By {
		vias = append(vias, string(via))
	}
	sort.Strings(vias)
	for _, via := range vias {
		t := s.Connections.By[torutil.Transport(via)]
		say("connections: %-10s %d made, %d failed", via, t.Made, t.Failed)
	}
	return nil
}
