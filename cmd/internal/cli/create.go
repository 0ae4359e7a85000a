package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/node"
	"warren/node/config"
	"warren/node/furl"
	"warren/torutil"
	"warren/torutil/onion"
)

// createOptions are Tahoe's options of create-node, create-client and
// create-introducer, and a few of ours.
type createOptions struct {
	config.CreateOptions
	introducer string // FURL, @FILE, or - for standard input
	torrc      string
	mailbox    string
	gridName   string
	shares     bool // an encoding was named
}

func (e *env) createClientCommand() *cli.Command {
	return e.createCommand("create-client", "make a node that uses a grid and stores nothing for others", config.Client, false)
}

func (e *env) createNodeCommand() *cli.Command {
	return e.createCommand("create-node", "make a node that also stores for others", config.Client, true)
}

func (e *env) createIntroducerCommand() *cli.Command {
	return e.createCommand("create-introducer", "make an introducer, where the nodes of a grid find each other", config.Introducer, false)
}

func (e *env) createCommand(name, usage string, kind config.Kind, storage bool) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "nickname", Aliases: []string{"n"}, Usage: "what the node calls itself"},
		&cli.BoolFlag{Name: "hide-ip", Usage: "refuse to start with settings that show this machine's address; connect through Tor only"},
		&cli.StringFlag{Name: "basedir", Aliases: []string{"C"}, Hidden: true, Usage: "the node directory, as tahoe has it"},
	}
	flags = append(flags, torFlags()...)
	if kind == config.Introducer || storage {
		flags = append(flags,
			&cli.StringFlag{Name: "listen", Value: "tcp", Usage: "tcp, tor, or both with a comma; none for a client"},
			&cli.StringFlag{Name: "port", Usage: "the endpoint to listen on (tcp:3457:interface=127.0.0.1)"},
			&cli.StringFlag{Name: "location", Usage: "where others reach that endpoint (tcp:example.org:3457)"},
			&cli.StringFlag{Name: "hostname", Usage: "the name or address under which others reach this machine"},
		)
	}
	if kind == config.Client {
		flags = append(flags,
			&cli.StringFlag{Name: "introducer", Aliases: []string{"i"}, Usage: "the introducer's FURL; @FILE or - (standard input) keep it out of the process list"},
			&cli.StringFlag{Name: "webport", Aliases: []string{"p"}, DefaultText: "tcp:3456:interface=127.0.0.1, or a free port when that is taken", Usage: "the endpoint of the local web API, or none"},
			&cli.IntFlag{Name: "shares-needed", Usage: "how many shares bring a file back"},
			&cli.IntFlag{Name: "shares-happy", Usage: "how many servers a stored file must be on"},
			&cli.IntFlag{Name: "shares-total", Usage: "how many shares are made"},
			&cli.StringFlag{Name: "mailbox", Usage: "the mailbox `URL` that this node's invites use"},
			&cli.StringFlag{Name: "grid-name", Usage: "what invites call the grid"},
		)
	}
	if storage {
		flags = append(flags,
			&cli.BoolFlag{Name: "no-storage", Usage: "store nothing for others"},
			&cli.StringFlag{Name: "storage-dir", Usage: "where shares go (default: storage, in the node directory)"},
			&cli.StringFlag{Name: "reserved-space", Usage: "space to leave free on that disk (default 1G)"},
		)
	}
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "[DIR]", Flags: flags,
		Action: func(c *cli.Context) error {
			if b := c.String("basedir"); b != "" && !e.dirSet {
				e.dirSet = true
				if err := e.setDir(b); err != nil {
					return err
				}
			}
			if err := e.positionalDir(c); err != nil {
				return err
			}
			o := createOptions{CreateOptions: config.DefaultOptions(kind, storage)}
			o.readFlags(c)
			if kind == config.Client && !c.IsSet("webport") {
				o.WebPort = webPort(c.Context) // another node may have the usual one
			}
			return e.create(c.Context, o)
		},
	}
}

func (o *createOptions) readFlags(c *cli.Context) {
	o.Nickname, o.HideIP = c.String("nickname"), c.Bool("hide-ip")
	tor := readTorFlags(c)
	o.TorLaunch, o.TorControlPort, o.TorSocksPort, o.TorExecutable, o.torrc = tor.launch, tor.control, tor.socks, tor.exe, tor.torrcFile
	o.introducer = c.String("introducer")
	o.mailbox, o.gridName = c.String("mailbox"), c.String("grid-name")
	if c.IsSet("listen") {
		o.Listen = strings.Split(c.String("listen"), ",")
	}
	o.Port, o.Location, o.Hostname = c.String("port"), c.String("location"), c.String("hostname")
	if c.IsSet("webport") {
		o.WebPort = c.String("webport")
	}
	o.StorageDir, o.Reserved = c.String("storage-dir"), c.String("reserved-space")
	if c.Bool("no-storage") {
		o.NoStorage = true
		if !c.IsSet("listen") {
			o.Listen = []string{"none"}
		}
	}
	for name, to := range map[string]*int{"shares-needed": &o.Needed, "shares-happy": &o.Happy, "shares-total": &o.Total} {
		if c.IsSet(name) {
			*to, o.shares = c.Int(name), true
		}
	}
}

// created is what a creation says under --json.
type created struct {
	Directory string `json:"directory"`
	Kind      string `json:"kind"`
	Needed    int    `json:"shares_needed,omitempty"`
	Happy     int    `json:"shares_happy,omitempty"`
	Total     int    `json:"shares_total,omitempty"`
	Servers   int    `json:"servers_known,omitempty"`
	// Connections are those that asking the introducer took.
	Connections *torutil.Counts `json:"connections,omitempty"`
}

// create makes the directory, then asks the introducer how many servers there are
// and writes the encoding that fits them.
func (e *env) create(ctx context.Context, o createOptions) error {
	if err := checkMailbox(o.mailbox); err != nil {
		return err
	}
	if o.introducer != "" {
		f, err := readFURL(o.introducer, e.ui.In)
		if err != nil {
			return ui.Fail(ui.ExitUsage, "an introducer's FURL is in its private/introducer.furl", err)
		}
		o.Introducers = map[string]furl.FURL{"default": f}
	}
	if err := o.prepare(); err != nil {
		return err
	}
	if err := config.Create(e.dir, o.CreateOptions); err != nil {
		return ui.Fail(ui.ExitUsage, createHint(err), err)
	}
	out := created{Directory: e.dir, Kind: string(o.Kind)}
	if o.Kind == config.Client {
		note := "as named"
		if !o.shares {
			var n int
			var err error
			n, out.Connections, err = e.survey(ctx)
			out.Servers = n
			switch {
			case err != nil:
				note = "Tahoe's defaults: the introducer could not be asked (" + ui.Clean(err.Error()) + ")"
			case n == 0:
				note = "Tahoe's defaults: no storage server is known yet"
			default:
				o.Needed, o.Happy, o.Total = node.Encoding(n)
				note = "for the " + plural(n, "storage server", "storage servers") + " known now"
				if err := writeEncoding(e.dir, o.Needed, o.Happy, o.Total); err != nil {
					return err
				}
			}
		}
		out.Needed, out.Happy, out.Total = o.Needed, o.Happy, o.Total
		if !e.ui.JSON {
			e.ui.Result("encoding %d of %d: any %d of %d shares bring a file back; stored means on %d servers or more (%s)", o.Needed, o.Total, o.Needed, o.Total, o.Happy, note)
		}
	}
	if e.ui.JSON {
		return e.ui.Data(out)
	}
	e.ui.Result("made %s in %s; start it: warren -d %s run", o.Kind, e.dir, e.dir)
	return nil
}

// prepare completes the options with what the machine and tor give.
func (o *createOptions) prepare() error {
	o.FreePort = func() (int, error) {
		p, err := torutil.FreePort()
		return int(p), err
	}
	for _, l := range o.Listen {
		if l != "tor" {
			continue
		}
		key, err := onion.NewKey(rand.Reader)
		if err != nil {
			return err
		}
		o.Onion = &config.Onion{Host: key.Address(), Port: 3457, Key: key.Text()}
	}
	if o.torrc != "" {
		// As it was typed it is relative to here; in the settings, to the node directory.
		abs, err := filepath.Abs(o.torrc)
		if err != nil {
			return err
		}
		o.torrc = abs
	}
	for _, s := range []config.Setting{
		{Section: "tor", Key: "tor.torrc", Value: o.torrc},
		{Section: "invite", Key: "mailbox", Value: o.mailbox},
		{Section: "grid", Key: "name", Value: o.gridName},
	} {
		if s.Value != "" {
			o.Settings = append(o.Settings, s)
		}
	}
	return nil
}

func createHint(err error) string {
	switch {
	case errors.Is(err, config.ErrExists):
		return "name another directory with -d, or start the node that is there: warren run"
	case errors.Is(err, config.ErrPrivacy):
		return "leave --hide-ip away, or use --listen=tor"
	}
	return ""
}

// readFURL takes a FURL as it is, from @FILE, or from standard input (-). The
// last two keep it out of the process list.
func readFURL(arg string, in io.Reader) (furl.FURL, error) {
	switch {
	case arg == "-":
		b, err := io.ReadAll(io.LimitReader(in, 64<<10))
		if err != nil {
			return furl.FURL{}, err
		}
		arg = string(b)
	case strings.HasPrefix(arg, "@"):
		b, err := os.ReadFile(arg[1:])
		if err != nil {
			return furl.FURL{}, err
		}
		arg = string(b)
	}
	return furl.Parse(strings.TrimSpace(arg))
}

// survey counts the storage servers that the new node's introducer tells of.
func (e *env) survey(ctx context.Context) (int, *torutil.Counts, error) {
	cfg, err := config.Open(e.dir)
	if err != nil {
		return 0, nil, err
	}
	known, err := cfg.Introducers()
	if err != nil || len(known) == 0 {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTime(cfg))
	defer cancel()
	network, handle, err := daemon.OpenNetwork(ctx, cfg, func(p torutil.Progress) { e.sayClean("tor: %s", daemon.TorProgress(p)) })
	if err != nil {
		return 0, nil, err
	}
	defer handle.Close()
	n, err := node.Survey(ctx, cfg, node.Options{Network: network, Local: handle.Local, Program: "warren/" + e.version})
	counts := network.Counts()
	if err == nil && cfg.Settings.Storage.Offered() {
		n++ // the node itself
	}
	return n, &counts, err
}

// surveyTime is how long a creation waits for the introducer: a Tor that has to be
// bootstrapped first needs longer.
func surveyTime(cfg *config.Node) time.Duration {
	if cfg.Settings.TCP == "tor" {
		return 90 * time.Second
	}
	return 5 * time.Second
}

func writeEncoding(dir string, needed, happy, total int) error {
	cfg, err := config.Open(dir)
	if err != nil {
		return err
	}
	return cfg.Set(
		config.Setting{Section: "client", Key: "shares.needed", Value: fmt.Sprint(needed)},
		config.Setting{Section: "client", Key: "shares.happy", Value: fmt.Sprint(happy)},
		config.Setting{Section: "client", Key: "shares.total", Value: fmt.Sprint(total)},
	)
}
