package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"warren/cmd/internal/gateway"
	"warren/invite"
	"warren/invite/message"
	"warren/magicfolder"
	"warren/node/config"
	"warren/node/furl"
	"warren/torutil"
)

// Errors of a newcomer's acceptance.
var (
	// ErrNotEmpty: the folder's place holds files already.
	ErrNotEmpty = errors.New("the directory for the folder exists and is not empty")
	// ErrOtherGrid: the node directory belongs to another grid.
	ErrOtherGrid = errors.New("the node in this directory belongs to another grid")
	// ErrTorOnly: the inviter wants its members on Tor.
	ErrTorOnly = errors.New("this grid is for members on Tor only")
)

// Newcomer turns an invite's settings into a node directory and a folder that
// waits to be synced. Use it in the order of its methods; a second run after a
// crash finds what the first one made, and goes on.
type Newcomer struct {
	Dir     string // the node directory
	Direct  bool   // without Tor
	WebPort string // of a new node
	Tor     torutil.TorConfig
	// Folder is where the folder is, after Accept; "" when the invite has none.
	Folder string

	cfg     *config.Node // of a directory that was there before
	scratch string       // where a tor keeps its data before there is a node directory
	made    bool         // the directory is Accept's work, and may be taken back
}

// Open looks whether there is a node already. One that runs is an error: its
// directory cannot be changed under it.
func (j *Newcomer) Open(ctx context.Context) error {
	cfg, err := config.Open(j.Dir)
	if errors.Is(err, config.ErrNotNode) {
		entries, err := os.ReadDir(j.Dir)
		if err == nil && len(entries) > 0 {
			return fmt.Errorf("%w: %s", config.ErrExists, j.Dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	lock, err := cfg.Lock(ctx)
	if err != nil {
		return err
	}
	j.cfg = cfg
	return lock.Unlock()
}

// Exists says whether there was a node before.
func (j *Newcomer) Exists() bool { return j.cfg != nil }

// GoesDirect says whether the node that was there before goes without Tor.
func (j *Newcomer) GoesDirect() bool { return j.cfg != nil && j.cfg.Settings.TCP != "tor" }

// Network is the exchange's, and then the node's: what the directory says, or
// what a new one will say.
func (j *Newcomer) Network(ctx context.Context, progress func(torutil.Progress)) (torutil.Network, *torutil.Handle, error) {
	if j.cfg != nil {
		return OpenNetwork(ctx, j.cfg, progress)
	}
	// Always the same place: what a killed try left there serves the next, and goes
	// with it.
	j.scratch = j.Dir + ".join-tor"
	if err := os.MkdirAll(j.scratch, 0o700); err != nil {
		return nil, nil, err
	}
	c := torutil.Config{NodeDir: j.scratch, TCP: "tor", Tor: j.Tor}
	if j.Direct {
		c.TCP, c.RevealIP = "tcp", true
	}
	return torutil.Open(ctx, c, progress)
}

// Close removes what only the exchange needed. The Network must be closed before.
func (j *Newcomer) Close() error {
	if j.scratch == "" {
		return nil
	}
	return os.RemoveAll(j.scratch)
}

// Accept keeps the settings: it makes the node directory, registers the folder at
// place, and returns what the inviter shall know. Nothing is half made: the
// directory appears whole, and what is there from a try before is used. What another
// try can do better wraps invite.ErrNotNow.
func (j *Newcomer) Accept(ctx context.Context, s message.Settings, place string) (ack message.Acknowledgement, err error) {
	defer func() {
		if errors.Is(err, ErrTorOnly) || errors.Is(err, ErrNotEmpty) || errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: %w", err, invite.ErrNotNow)
		}
	}()
	if j.Direct && (s.HideIP || s.Ours != nil && s.Ours.Tor == message.TorOnly) {
		return ack, ErrTorOnly
	}
	cfg := j.cfg
	if cfg == nil {
		// There by now: ours, when the inviter asks again, or another's, which must
		// not be taken back.
		if cfg, err = config.Open(j.Dir); err != nil {
			cfg = nil
		}
	}
	if cfg == nil {
		if err := CheckPlace(place); err != nil {
			return ack, err
		}
		if err := config.Create(j.Dir, j.options(s)); err != nil {
			return ack, err
		}
		j.made = true
		defer func() {
			if err != nil {
				err = errors.Join(err, j.Abandon())
			}
		}()
		if cfg, err = config.Open(j.Dir); err != nil {
			return ack, err
		}
	} else if err := sameGrid(cfg, s.Introducer); err != nil {
		return ack, err
	}
	key, err := cfg.Identity()
	if err != nil {
		return ack, err
	}
	ack.Keys = map[string]string{"node": config.NodeID(key.Public().(ed25519.PublicKey))}
	if s.Ours == nil || s.Ours.Writecap == nil {
		return ack, nil
	}
	ack.Participant = s.Ours.Participant
	author, err := j.register(ctx, cfg, s, place)
	ack.Keys[authorKey] = base64.RawURLEncoding.EncodeToString(author)
	return ack, err
}

// register remembers the folder in the node's state; the node enters it when it
// runs and servers are there. It gives our author key in it.
func (j *Newcomer) register(ctx context.Context, cfg *config.Node, s message.Settings, place string) (ed25519.PublicKey, error) {
	folders, err := magicfolder.NewManager(magicfolder.Options{Grid: gateway.New(nil, nil), StatePath: FoldersPath(cfg)})
	if err != nil {
		return nil, err
	}
	defer folders.Close()
	collective := magicfolder.Cap(s.Ours.Writecap.Text())
	for _, f := range folders.Folders() {
		if f.Collective() == collective {
			j.Folder = f.Dir()
			return f.AuthorKey(), f.Meet(introduction(s.Ours.Members))
		}
	}
	if place == "" {
		return nil, errors.New("the folder has no place") // it would be the working directory
	}
	if err := CheckPlace(place); err != nil {
		return nil, err
	}
	f, err := folders.Join(ctx, s.Ours.Folder, place, s.Ours.Participant, collective)
	if err != nil {
		return nil, err
	}
	j.Folder = f.Dir()
	return f.AuthorKey(), f.Meet(introduction(s.Ours.Members))
}

// Abandon takes back what Accept made, after the inviter has refused.
func (j *Newcomer) Abandon() error {
	if !j.made {
		return nil
	}
	j.made = false
	return os.RemoveAll(j.Dir)
}

// options are the new node's.
func (j *Newcomer) options(s message.Settings) config.CreateOptions {
	o := config.DefaultOptions(config.Client, false)
	o.WebPort = j.WebPort
	o.Nickname = s.Nickname
	o.Introducers = map[string]furl.FURL{"default": s.Introducer}
	if s.Encoding.Total > 0 {
		o.Needed, o.Happy, o.Total = s.Encoding.Needed, s.Encoding.Happy, s.Encoding.Total
	}
	set := func(section, key, value string) {
		if value != "" {
			o.Settings = append(o.Settings, config.Setting{Section: section, Key: key, Value: value})
		}
	}
	set("tor", "tor.torrc", j.Tor.TorrcFile)
	if j.Direct {
		// Tahoe has no options for a node that is not hidden and reaches onion
		// services all the same; its settings have.
		set("tor", "control.port", j.Tor.ControlPort)
		if j.Tor.Launch {
			set("tor", "launch", "true")
		}
	} else {
		o.HideIP, o.TorLaunch, o.TorControlPort = true, j.Tor.Launch, j.Tor.ControlPort
	}
	o.TorSocksPort, o.TorExecutable = j.Tor.SOCKSPort, j.Tor.Executable
	if s.Ours != nil {
		o.Nickname = s.Ours.Participant
		set("grid", "name", s.Ours.Grid)
		set("invite", "mailbox", s.Ours.Mailbox)
	}
	return o
}

// CheckPlace wants a place for the folder that is missing or empty: what is in a
// directory that is joined would be everybody's. "" is for an invite without a folder.
func CheckPlace(place string) error {
	if place == "" {
		return nil
	}
	entries, err := os.ReadDir(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%w: %s", ErrNotEmpty, place)
	}
	return nil
}

// sameGrid wants one of the node's introducers to be the invite's.
func sameGrid(cfg *config.Node, introducer furl.FURL) error {
	known, err := cfg.Introducers()
	if err != nil {
		return err
	}
	for _, k := range known {
		if k.FURL.TubID == introducer.TubID && k.FURL.Swissnum == introducer.Swissnum {
			return nil
		}
	}
	return ErrOtherGrid
}
