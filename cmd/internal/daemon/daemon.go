// Package daemon composes the long-running process of `warren run`: the one
// Network of the process, the node, its mailbox server where it has one, the
// invites, the folders, the upkeep of what they and the aliases need, and the
// control API that the command line speaks.
//
// Run does it all, in an order in which each part finds what it needs, and ends
// it in reverse when its context ends. The control API lies below
// /private/warren/v1/ of the node's web API and speaks JSON; control.go lists it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"warren/cmd/internal/gateway"
	"warren/invite"
	"warren/invite/mailbox"
	"warren/magicfolder"
	"warren/node"
	"warren/node/config"
	"warren/node/upkeep"
	"warren/torutil"
)

// Options of a daemon.
type Options struct {
	Dir     string
	Version string
	Log     *slog.Logger
	// Say prints a line of progress for people. It must not block.
	Say func(format string, args ...any)
	// Network and Handle are the process's Network, when it has one already; the
	// daemon then does not close it.
	Network torutil.Network
	Handle  *torutil.Handle
	// Ready is called once everything answers.
	Ready func(*Daemon)
	// Ended is called when all has stopped, with the connections that were made.
	Ended func(torutil.Counts)
}

// Daemon is a running node with all that belongs to it.
type Daemon struct {
	opts    Options
	cfg     *config.Node
	network torutil.Network
	home    *torutil.Home
	handle  *torutil.Handle
	began   time.Time
	journal *journal

	Node    *node.Node
	invites *invite.Inviter      // nil for an introducer
	folders *magicfolder.Manager // nil for an introducer
	upkeep  *upkeep.Upkeep       // nil for an introducer
	mailbox *mailbox.Server      // nil unless warren.cfg enables it
	// mailboxURL is where others reach our mailbox, once it listens.
	mailboxURL string
	joining    sync.Mutex // one folder at a time

	running sync.WaitGroup
}

// Run runs the node of a directory until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	d := &Daemon{opts: o, began: time.Now(), journal: newJournal()}
	o.Log = slog.New(d.journal.handler(o.Log.Handler()))
	d.opts.Log = o.Log
	if d.cfg, err = config.Open(o.Dir); err != nil {
		return err
	}
	for _, w := range d.cfg.Warnings {
		o.Say("warning: %s", w)
	}
	lock, err := d.cfg.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	if err := d.openNetwork(ctx); err != nil {
		return err
	}
	if o.Ended != nil {
		defer func() { o.Ended(d.network.Counts()) }()
	}
	if o.Network == nil {
		defer func() { err = errors.Join(err, d.handle.Close()) }()
	}
	d.Node, err = node.Open(d.cfg, node.Options{
		Network: d.home, Local: d.handle.Local, Addresses: torutil.Addresses, Program: "warren/" + o.Version, Log: o.Log,
		Private: func(*node.Node) http.Handler { return d.control() },
		Incident: func(details string) error {
			return d.journal.report(d.cfg.Path("logs", "incidents"), o.Version, details, time.Now())
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Node.Close()) }()
	// Whoever still works on behalf of a part below stops before the part closes.
	defer d.running.Wait()
	defer cancel()
	defer func() { err = errors.Join(err, d.closeParts()) }()
	if err := d.openParts(); err != nil {
		return err
	}
	defer d.running.Wait()
	defer cancel()
	if err := d.startMailbox(ctx); err != nil {
		return err
	}
	if err := d.Node.Start(ctx); err != nil {
		return err
	}
	// What failed for want of Tor does not wait out its pause.
	d.running.Go(func() { d.handle.Watch(ctx, d.Node.Retry) })
	if d.invites != nil {
		if err := d.invites.Start(); err != nil {
			return err
		}
	}
	if d.folders != nil {
		d.running.Go(func() {
			if err := d.folders.Run(ctx); err != nil && ctx.Err() == nil {
				o.Log.Error("the folders stopped", "error", err)
			}
		})
		d.running.Go(func() { d.wakeFolders(ctx) })
		d.running.Go(func() {
			if err := d.upkeep.Run(ctx); ctx.Err() == nil {
				o.Log.Error("upkeep stopped", "error", err)
			}
		})
	}
	if o.Ready != nil {
		o.Ready(d)
	}
	<-ctx.Done()
	return nil
}

// openNetwork takes the Network that was given, or opens the directory's.
func (d *Daemon) openNetwork(ctx context.Context) (err error) {
	d.network, d.handle = d.opts.Network, d.opts.Handle
	if d.network == nil {
		d.network, d.handle, err = OpenNetwork(ctx, d.cfg, func(p torutil.Progress) { d.opts.Say("tor: %s", TorProgress(p)) })
		if err != nil {
			return err
		}
	}
	d.home = torutil.NewHome(d.network, d.handle.Ledger)
	return nil
}

// TorProgress is a step of Tor's start in words.
func TorProgress(p torutil.Progress) string {
	if p.Percent > 0 && p.Percent < 100 {
		return fmt.Sprintf("%d %% %s", p.Percent, p.Summary)
	}
	return p.Summary
}

// openParts opens the invites and folders of a node that has a grid.
func (d *Daemon) openParts() (err error) {
	if d.Node.Grid == nil {
		return nil
	}
	if d.folders, err = magicfolder.NewManager(magicfolder.Options{
		Grid: gateway.New(d.Node.Files, d.Node.Dirs), StatePath: FoldersPath(d.cfg), Logger: d.opts.Log, Gather: d.gather,
		Lost: func(ctx context.Context, dir magicfolder.Cap) (bool, error) {
			return gateway.Lost(ctx, d.Node.Grid, d.Node.Slots, dir)
		},
	}); err != nil {
		return err
	}
	if err := d.openUpkeep(); err != nil {
		return err
	}
	d.invites, err = invite.New(invite.Config{
		Ledger: d.cfg.PrivatePath("invites.db"), Dial: d.home.DialContext,
		Settings: d.settings, Joined: d.joined, Folder: d.folderInvite, Admit: d.admit, Changed: d.inviteChanged,
	})
	return err
}

// openUpkeep prepares to keep alive what the folders and the aliases need.
func (d *Daemon) openUpkeep() (err error) {
	s, roots := d.cfg.Settings, gateway.Roots{Dir: d.cfg.Dir, Folders: d.folders}
	d.upkeep, err = upkeep.Open(upkeep.Options{
		Path:      d.cfg.PrivatePath("upkeep.db"),
		Automatic: s.Upkeep.Enabled, Repair: s.Upkeep.Repair, History: s.Upkeep.History,
		Servers: d.Node.Grid, Needed: s.Client.Needed, Happy: s.Client.Happy,
		Files: d.Node.Files, Slots: d.Node.Slots, Dirs: d.Node.Dirs,
		Roots: roots.All, Reach: roots.Reach,
		Busy: func() bool { return d.Node.Busy() || d.folders.Active() },
		Log:  d.opts.Log,
	})
	return err
}

// wakeFolders has the folders try again when enough servers are there anew to read
// or to store: they would wait for their next poll otherwise.
func (d *Daemon) wakeFolders(ctx context.Context) {
	c := d.cfg.Settings.Client
	for before := 0; ; {
		changed := d.Node.Grid.Changed()
		now := d.Node.Grid.Connected()
		if before < c.Needed && now >= c.Needed || before < c.Happy && now >= c.Happy {
			d.folders.Retry()
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// FoldersPath is where a node directory keeps its folders' state.
func FoldersPath(cfg *config.Node) string { return cfg.PrivatePath("magicfolder.db") }

func (d *Daemon) closeParts() error {
	var errs []error
	if d.invites != nil {
		errs = append(errs, d.invites.Close())
	}
	if d.folders != nil {
		errs = append(errs, d.folders.Close())
	}
	if d.upkeep != nil {
		errs = append(errs, d.upkeep.Close())
	}
	if d.mailbox != nil {
		errs = append(errs, d.mailbox.Close())
	}
	return errors.Join(errs...)
}

// startMailbox serves a mailbox as a role of this node.
func (d *Daemon) startMailbox(ctx context.Context) (err error) {
	s := d.cfg.Settings.Mailbox
	if !s.Enabled {
		return nil
	}
	if d.mailbox, err = mailbox.Open(mailbox.Config{Path: d.cfg.PrivatePath("mailbox.db")}); err != nil {
		return err
	}
	d.mailboxURL = s.Location
	for _, endpoint := range s.Ports {
		l, err := d.network.Listen(ctx, endpoint)
		if err != nil {
			return fmt.Errorf("[mailbox] port: %w", err)
		}
		if d.mailboxURL == "" {
			// An onion service, and a port on one address, know where they are reached.
			if d.mailboxURL, err = MailboxURL(l.Addr()); err != nil {
				return errors.Join(err, l.Close())
			}
		}
		own, err := mailboxAddress(d.mailboxURL)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		// Our own invites reach it in this process.
		d.serve(ctx, d.home.Serve(l, own), d.mailbox)
	}
	return nil
}

// ServeMailbox serves a mailbox on l until ctx ends.
func ServeMailbox(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (d *Daemon) serve(ctx context.Context, l net.Listener, handler http.Handler) {
	d.running.Go(func() {
		if err := ServeMailbox(ctx, l, handler); err != nil {
			d.opts.Log.Error("the mailbox stopped", "error", err)
		}
	})
}
