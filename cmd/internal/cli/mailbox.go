package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/invite/mailbox"
	"warren/node/durable"
	"warren/torutil"
)

type mailboxOptions struct {
	port, hostname string
	tor            torOptions
	onion          bool
}

func (e *env) mailboxCommand() *cli.Command {
	return &cli.Command{
		Name: "mailbox", Usage: "run a mailbox server, where inviters and newcomers meet", ArgsUsage: "DIR",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "port", Value: "tcp:4000:interface=127.0.0.1", Usage: "the endpoint to listen on"},
			&cli.StringFlag{Name: "hostname", Usage: "the name under which others reach it (default: the address that it listens on)"},
			&cli.StringFlag{Name: "listen", Value: "tcp", Usage: "tcp, or tor: an onion service"},
		}, torFlags()...),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			if l := c.String("listen"); l != "tcp" && l != "tor" {
				return ui.Usage("--listen=%s: write tcp or tor", l)
			}
			o := mailboxOptions{port: c.String("port"), hostname: c.String("hostname"), tor: readTorFlags(c), onion: c.String("listen") == "tor"}
			return e.mailbox(c.Context, c.Args().First(), o)
		},
	}
}

// mailbox serves a mailbox from a directory of its own: mailbox.db, mailbox.url
// (where it is reached) and, as an onion service, its key.
func (e *env) mailbox(ctx context.Context, dir string, o mailboxOptions) (err error) {
	if dir, err = filepath.Abs(dir); err != nil { // tor has a working directory of its own
		return err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	server, err := mailbox.Open(mailbox.Config{Path: filepath.Join(dir, "mailbox.db")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	cfg := torutil.Config{NodeDir: dir, TCP: "tcp", RevealIP: true}
	if o.onion {
		cfg.TCP, cfg.RevealIP = "tor", false
		if err := o.tor.into(ctx, &cfg.Tor); err != nil {
			return err
		}
	} else {
		cfg.Tor.Disabled = true
	}
	network, handle, err := torutil.Open(ctx, cfg, func(p torutil.Progress) { e.sayClean("tor: %s", daemon.TorProgress(p)) })
	if err != nil {
		return torError(err)
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	defer func() { e.ended(network.Counts()) }()
	endpoint := o.port
	if o.onion {
		endpoint = "onion:4000:privateKeyFile=mailbox_onion.privkey"
	}
	l, err := network.Listen(ctx, endpoint)
	if err != nil {
		return err
	}
	url, err := daemon.MailboxURL(l.Addr())
	if o.hostname != "" {
		var port string
		_, port, err = net.SplitHostPort(l.Addr().String())
		url = "ws://" + net.JoinHostPort(o.hostname, port) + "/v1"
	}
	if err != nil {
		hint := "name it: --hostname=HOST; or listen on one address: --port=tcp:4000:interface=ADDRESS"
		return errors.Join(ui.Fail(ui.ExitUsage, hint, err), l.Close())
	}
	if err := durable.WriteFile(filepath.Join(dir, "mailbox.url"), []byte(url+"\n"), 0o644); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(dir, "mailbox.url"))
	if e.ui.JSON {
		err = e.ui.Line(map[string]string{"mailbox": url})
	} else {
		e.ui.Result("mailbox at %s", url)
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return daemon.ServeMailbox(ctx, l, server)
}

// torError gives an error about Tor its hint.
func torError(err error) error {
	if errors.Is(err, torutil.ErrTorNotReady) {
		return ui.Fail(ui.ExitTor, torHint, err)
	}
	return err
}
