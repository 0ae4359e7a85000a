package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"warren/invite"
	"warren/invite/message"
	"warren/node/caps"
	"warren/node/config"
	"warren/node/furl"
)

// ErrNoIntroducer: a node without an introducer has no grid to invite to.
var ErrNoIntroducer = errors.New("this node has no introducer, so there is no grid to invite to")

// settings is what a newcomer gets: the grid's settings and the folder's writecap.
func (d *Daemon) settings(_ context.Context, inv invite.Invite) (message.Settings, error) {
	known, err := d.cfg.Introducers()
	if err != nil {
		return message.Settings{}, err
	}
	if len(known) == 0 {
		return message.Settings{}, ErrNoIntroducer
	}
	c := d.cfg.Settings.Client
	tor := torSetting(d.cfg, known[0].FURL)
	ours := &message.Ours{Grid: d.gridName(), Folder: inv.Folder, Participant: inv.Name, Tor: tor, Mailbox: inv.Mailbox}
	if inv.Folder != "" {
		f, err := d.folders.Folder(inv.Folder)
		if err != nil {
			return message.Settings{}, fmt.Errorf("folder %q: %w", inv.Folder, err)
		}
		if f.AdminOnly() || !f.Writable() {
			return message.Settings{}, ErrAdminOnly
		}
		if ours.Writecap, err = caps.Parse(f.Collective().Text()); err != nil {
			return message.Settings{}, err
		}
		if ours.Members, err = introduce(f, inv.Name); err != nil {
			return message.Settings{}, err
		}
	}
	return message.Settings{
		Nickname: d.gridName(), Introducer: known[0].FURL,
		Encoding: message.Encoding{Needed: c.Needed, Happy: c.Happy, Total: c.Total},
		HideIP:   tor == message.TorOnly, Ours: ours,
	}, nil
}

// gridName is what newcomers see: warren.cfg's, else the node's nickname.
func (d *Daemon) gridName() string {
	for _, name := range []string{d.cfg.Settings.GridName, d.cfg.Settings.Nickname} {
		if name != "" && message.CheckName("grid", name) == nil {
			return name
		}
	}
	return "warren"
}

// torSetting says how newcomers reach the grid: as hidden as the inviter is.
func torSetting(cfg *config.Node, introducer furl.FURL) message.Tor {
	if cfg.Settings.TCP == "tor" || !cfg.Settings.RevealIP {
		return message.TorOnly
	}
	for _, h := range introducer.Hints {
		if !h.IsOnion() {
			return message.TorOptional
		}
	}
	return message.TorNeeded
}

// inviteChanged tells whoever watches the node.
func (d *Daemon) inviteChanged(v invite.Invite) {
	if v.Reason != "" {
		d.opts.Say("invite for %s: %s (%s)", v.Name, v.State, v.Reason)
		return
	}
	d.opts.Say("invite for %s: %s", v.Name, v.State)
}

// mailboxFor picks the mailbox of a new invite: the one named, the configured one,
// our own, or the public one that every program knows.
func (d *Daemon) mailboxFor(named string) string {
	switch {
	case named != "":
		return named
	case d.cfg.Settings.InviteMailbox != "":
		return d.cfg.Settings.InviteMailbox
	case d.mailbox != nil:
		return d.mailboxURL
	}
	return invite.PublicMailboxes()[0]
}

// ErrMailboxLocation: a mailbox that listens on every address of this machine does
// not know under which of its names others reach it.
var ErrMailboxLocation = errors.New("the mailbox listens on every address of this machine, and nothing says under which others reach it")

// MailboxURL is where a mailbox that listens at address is reached.
func MailboxURL(address net.Addr) (string, error) {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return "", ErrMailboxLocation
	}
	return "ws://" + address.String() + "/v1", nil
}

// mailboxAddress is the host:port of a mailbox's URL.
func mailboxAddress(location string) (string, error) {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "", errors.New("[mailbox] location is not a ws:// or wss:// URL")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
