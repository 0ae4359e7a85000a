package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"warren/invite"
	"warren/invite/message"
	"warren/magicfolder"
	"warren/node/caps"
)

// Errors about who is in a folder.
var (
	// ErrAdminOnly: an invite to the grid cannot take somebody into such a folder,
	// who needs the grid first to make a directory of its own there.
	ErrAdminOnly = errors.New("newcomers to this folder are entered by its admin: invite to the grid alone first, then to the folder with warren folder invite")
	// ErrJoining: one at a time.
	ErrJoining = errors.New("another folder is being joined: wait for that, or end it")
)

// FolderInviteRequest asks for an invite to a folder alone.
type FolderInviteRequest struct {
	Name     string `json:"name"` // the newcomer's, in the folder
	ReadOnly bool   `json:"read_only,omitempty"`
	Again    bool   `json:"again,omitempty"`
	Seconds  int64  `json:"expires_seconds,omitempty"`
	Mailbox  string `json:"mailbox,omitempty"`
}

// JoinRequest accepts one.
type JoinRequest struct {
	Code    string `json:"code"` // or a link
	Mailbox string `json:"mailbox,omitempty"`
	Dir     string `json:"dir"`
	Name    string `json:"name,omitempty"` // of the folder here; the inviter's when empty
}

// AcceptedKey is a fingerprint of a key that a name stands for now.
type AcceptedKey struct {
	Key string `json:"key"`
}

func (d *Daemon) membersOf(r *http.Request) (any, error) {
	f, err := d.folders.Folder(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return f.Members()
}

func (d *Daemon) removeMember(r *http.Request) (any, error) {
	f, err := d.folders.Folder(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return f.Remove(r.Context(), r.PathValue("member"))
}

func (d *Daemon) acceptKey(r *http.Request) (any, error) {
	f, err := d.folders.Folder(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	key, err := f.AcceptKey(r.PathValue("member"), r.URL.Query().Get("fingerprint"))
	return AcceptedKey{key}, err
}

// offerFolder makes an invite to a folder for somebody on the grid.
func (d *Daemon) offerFolder(r *http.Request) (any, error) {
	var q FolderInviteRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	box := d.mailboxFor(q.Mailbox)
	if public := invite.PublicMailboxes(); box == public[0] && q.Mailbox == "" && d.cfg.Settings.InviteMailbox == "" {
		box = public[1] // where magic-folder looks
	}
	return d.issue(r.Context(), invite.Options{
		Name: q.Name, Folder: r.PathValue("name"), FolderOnly: true, ReadOnly: q.ReadOnly, Again: q.Again, Mailbox: box,
	}, q.Seconds)
}

// folderInvite is what the newcomer to a folder gets.
func (d *Daemon) folderInvite(_ context.Context, inv invite.Invite) (message.FolderInvite, error) {
	var out message.FolderInvite
	f, err := d.folders.Folder(inv.Folder)
	if err != nil {
		return out, err
	}
	if !f.Writable() {
		return out, magicfolder.ErrNotAdmin
	}
	list, err := f.Members()
	if err != nil {
		return out, err
	}
	for _, m := range list {
		if m.Name == inv.Name && (m.Self || !inv.Again) {
			return out, magicfolder.ErrTaken
		}
	}
	read, err := f.ReadOnlyCollective()
	if err != nil {
		return out, err
	}
	out = message.FolderInvite{Folder: inv.Folder, Participant: inv.Name, ReadOnly: inv.ReadOnly}
	if out.Collective, err = caps.Parse(read.Text()); err != nil {
		return out, err
	}
	if out.Ours, err = introduce(f, inv.Name); err != nil {
		return out, err
	}
	if !f.AdminOnly() && !inv.ReadOnly {
		out.Ours.Writecap, err = caps.Parse(f.Collective().Text())
	}
	return out, err
}

// introduce is what our own newcomer hears of the others in a folder.
func introduce(f *magicfolder.Folder, newcomer string) (*message.FolderOurs, error) {
	in, err := f.Introduction(newcomer)
	if err != nil {
		return nil, err
	}
	out := &message.FolderOurs{Keys: map[string]ed25519.PublicKey{}, Admin: in.Admin, Generation: in.Generation}
	for name, key := range in.Keys {
		if message.CheckName("keys", name) == nil {
			out.Keys[name] = key
		}
	}
	if in.Board != "" {
		out.Board, err = caps.Parse(in.Board.Text())
	}
	return out, err
}

// introduction is the other direction.
func introduction(o *message.FolderOurs) magicfolder.Introduction {
	if o == nil {
		return magicfolder.Introduction{}
	}
	in := magicfolder.Introduction{Keys: o.Keys, Admin: o.Admin, Generation: o.Generation}
	if o.Board != nil {
		in.Board = magicfolder.Cap(o.Board.Text())
	}
	return in
}

// admit enters a newcomer, and waits for the grid where that is not there now.
func (d *Daemon) admit(ctx context.Context, inv invite.Invite, reply message.FolderReply) error {
	f, err := d.folders.Folder(inv.Folder)
	if err != nil {
		return err
	}
	a := magicfolder.Admission{Name: inv.Name, Key: reply.Key, Again: inv.Again}
	if reply.Personal != nil {
		a.Personal = magicfolder.Cap(reply.Personal.Text())
	}
	for {
		changed := d.Node.Grid.Changed()
		err := f.Admit(ctx, a)
		if !temporary(err) {
			return err
		}
		if err := pause(ctx, 5*time.Second, changed); err != nil {
			return err
		}
	}
}

func temporary(err error) bool {
	return errors.Is(err, magicfolder.ErrUnhappy) || errors.Is(err, magicfolder.ErrUnavailable)
}

// pause waits for d, or until sooner is closed.
func pause(ctx context.Context, d time.Duration, sooner <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-sooner:
	case <-timer.C:
	}
	return nil
}

// joined learns the author key of a newcomer to the grid and a folder.
func (d *Daemon) joined(_ context.Context, inv invite.Invite, ack message.Acknowledgement) error {
	text, ok := ack.Keys[authorKey]
	if !ok || inv.Folder == "" {
		return nil
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return errors.New("the newcomer's author key is none")
	}
	f, err := d.folders.Folder(inv.Folder)
	if err != nil {
		return err
	}
	return f.Vouch(inv.Name, key)
}

// authorKey is a newcomer's key among those of its acknowledgement, in base64url.
const authorKey = "author"

// joinFolder accepts an invite to a folder. It waits for the inviter as long as who
// asked does; asking again goes on from there, also after a restart.
func (d *Daemon) joinFolder(r *http.Request) (any, error) {
	var q JoinRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if !d.joining.TryLock() {
		return nil, ErrJoining
	}
	defer d.joining.Unlock()
	if q.Dir == "" {
		return nil, fmt.Errorf("%w: no directory", errRequest)
	}
	if d.folderAt(q.Dir) == nil { // else it is ours from a try before
		if err := CheckPlace(q.Dir); err != nil {
			return nil, err
		}
	}
	var made *magicfolder.Folder
	_, err := invite.AcceptFolder(r.Context(), invite.AcceptOptions{
		CodeOrLink: q.Code, Mailbox: q.Mailbox, Dial: d.home.DialContext, StateFile: d.cfg.PrivatePath("folder-join.json"),
		Progress: func(s invite.Stage) { d.opts.Log.Info("joining a folder", "stage", s.String()) },
	}, func(ctx context.Context, inv message.FolderInvite) (message.FolderReply, error) {
		var err error
		if made, err = d.enterFolder(ctx, q, inv); err != nil {
			return message.FolderReply{}, fmt.Errorf("%w: %w", err, invite.ErrNotNow)
		}
		reply := message.FolderReply{Key: made.AuthorKey()}
		if c := made.Readcap(); c != "" {
			reply.Personal, err = caps.Parse(c.Text())
		}
		return reply, err
	})
	if made != nil && errors.Is(err, message.ErrRefused) {
		err = errors.Join(err, d.folders.Leave(context.WithoutCancel(r.Context()), made.Name(), false))
	}
	if err != nil {
		return nil, err
	}
	d.folders.Retry() // we are in the Collective now
	return made.Status(), nil
}

func (d *Daemon) folderAt(dir string) *magicfolder.Folder {
	for _, f := range d.folders.Folders() {
		if f.Dir() == dir {
			return f
		}
	}
	return nil
}

func (d *Daemon) enterFolder(ctx context.Context, q JoinRequest, inv message.FolderInvite) (*magicfolder.Folder, error) {
	in := magicfolder.Invitation{
		Name: q.Name, Dir: q.Dir, Participant: inv.Participant, ReadOnly: inv.ReadOnly,
		Collective: magicfolder.Cap(inv.Collective.Text()), Introduction: introduction(inv.Ours),
	}
	if in.Name == "" {
		in.Name = inv.Folder
	}
	if inv.Ours != nil && inv.Ours.Writecap != nil {
		in.Collective = magicfolder.Cap(inv.Ours.Writecap.Text())
	}
	f, err := d.folders.Accept(ctx, in)
	if errors.Is(err, magicfolder.ErrUnhappy) && d.meetServers(ctx) {
		f, err = d.folders.Accept(ctx, in)
	}
	return f, err
}

// gatherTime is how long a directory that must last waits for servers that are
// known and not connected yet.
const gatherTime = 5 * time.Second

// gather waits for the servers that are known, once enough are there: a directory
// that is made when only the first ones are has its shares on those alone.
func (d *Daemon) gather(ctx context.Context) {
	timer := time.NewTimer(gatherTime)
	defer timer.Stop()
	gather(ctx, timer.C, d.cfg.Settings.Client.Happy, func() (connected, known int, changed <-chan struct{}) {
		changed = d.Node.Grid.Changed()
		return d.Node.Grid.Connected(), len(d.Node.Grid.Servers()), changed
	})
}

func gather(ctx context.Context, late <-chan time.Time, happy int, servers func() (connected, known int, changed <-chan struct{})) {
	for {
		connected, known, changed := servers()
		if connected >= known || connected < happy {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-late:
			return
		case <-changed:
		}
	}
}
