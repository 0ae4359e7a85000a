package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"warren/invite"
	"warren/invite/code"
	"warren/invite/message"
	"warren/invite/wormhole"
	"warren/magicfolder"
	"warren/node"
	"warren/node/caps"
	"warren/node/config"
	"warren/node/upkeep"
	"warren/torutil"
)

// The control API, below /private/warren/v1/ and authorised as Tahoe's /private is.
// Bodies are JSON both ways; a refusal is a text with the fitting status.
//
//	GET    status                      Status
//	POST   rollbacks/{index}/accept    take an older version of a file for the newest: bool, whether it was one
//	GET    invites                     []invite.Invite
//	POST   invites         InviteRequest -> Issued
//	DELETE invites/{id}                cancel, by id or by the newcomer's name
//	GET    folders                     []magicfolder.Status
//	POST   folders         FolderRequest -> magicfolder.Status
//	POST   folders/{name}/sync         scan and poll now -> magicfolder.Status
//	POST   folders/{name}/scan, /poll  the one or the other -> magicfolder.Status
//	GET    folders/{name}/conflicts    magicfolder.Conflicts
//	POST   folders/{name}/resolve      ResolveRequest -> magicfolder.Resolved
//	GET    folders/{name}/history?path=&from=&limit=    lines of HistoryLine, as they are read
//	GET    folders/{name}/version?path=&from=&version=  a version's bytes
//	POST   folders/{name}/restore      RestoreRequest -> magicfolder.Restored
//	GET    folders/{name}/deleted      []magicfolder.DeletedFile
//	POST   folders/{name}/undelete     RestoreRequest -> Undeleted
//	DELETE folders/{name}?withdraw=    leave; the files stay
//	POST   folders/join    JoinRequest -> magicfolder.Status, after the inviter has come
//	POST   folders/{name}/invites      FolderInviteRequest -> Issued
//	GET    folders/{name}/members      []magicfolder.Member
//	DELETE folders/{name}/members/{member}             magicfolder.Removal
//	POST   folders/{name}/members/{member}/accept-key?fingerprint=  AcceptedKey, when the new key has that one
//	GET    upkeep                      upkeep.Status
//	POST   upkeep          upkeep.Request -> UpkeepRound, which begins

// Status is what `warren status` shows.
type Status struct {
	Directory   string               `json:"directory"`
	Kind        string               `json:"kind"`
	Nickname    string               `json:"nickname"`
	Version     string               `json:"version"`
	Uptime      float64              `json:"uptime_seconds"`
	Network     string               `json:"network"`
	Tor         string               `json:"tor,omitempty"`
	Mailbox     string               `json:"mailbox,omitempty"` // ours, where others reach it
	Encoding    *Encoding            `json:"encoding,omitempty"`
	Introducers []string             `json:"introducers"`
	Servers     []Server             `json:"servers"`
	Storage     *node.House          `json:"storage,omitempty"` // what this node offers
	Rollbacks   []Rollback           `json:"rollbacks,omitempty"`
	Folders     []magicfolder.Status `json:"folders"`
	Invites     []invite.Invite      `json:"invites"`
	Upkeep      *upkeep.Status       `json:"upkeep,omitempty"`
	Connections torutil.Counts       `json:"connections"`
}

// Encoding is k, servers of happiness and n.
type Encoding struct {
	Needed int `json:"needed"`
	Happy  int `json:"happy"`
	Total  int `json:"total"`
}

// Server is a storage server that the node knows.
type Server struct {
	ID        string    `json:"id"`
	Nickname  string    `json:"nickname"`
	Connected bool      `json:"connected"`
	Status    string    `json:"status"`
	Since     time.Time `json:"since"`
	Version   string    `json:"version,omitempty"`
}

// Rollback is a mutable file or directory of which the servers show an older version
// than before.
type Rollback struct {
	Index string    `json:"storage_index"`
	Seen  uint64    `json:"seen"`
	Found uint64    `json:"found"`
	Since time.Time `json:"since"`
}

// InviteRequest asks for an invite.
type InviteRequest struct {
	Name    string `json:"name"`
	Folder  string `json:"folder,omitempty"`
	Seconds int64  `json:"expires_seconds,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
}

// Issued is an invite's code. It is a secret until it is used.
type Issued struct {
	ID        string    `json:"id"`
	Code      string    `json:"code"`
	Link      string    `json:"link"`
	CodeAlone bool      `json:"code_alone"`
	Expires   time.Time `json:"expires"`
	// Own: the mailbox keeps the invite until it expires, while the node is away too.
	Own bool `json:"own_mailbox"`
}

// FolderRequest asks for a folder to be made, or, with a Collective's writecap, joined.
type FolderRequest struct {
	Name   string `json:"name"`
	Dir    string `json:"dir"`
	Author string `json:"author"`
	// AdminOnly: invites to it give the right to read the Collective alone.
	AdminOnly bool `json:"admin_only,omitempty"`
}

// UpkeepRound is a round of upkeep that was asked for.
type UpkeepRound struct {
	Number uint64 `json:"number"`
}

// serversWait is how long a new folder waits for enough storage servers.
const serversWait = 10 * time.Second

// maxRequest bounds a control request's body.
const maxRequest = 64 << 10

// control is the control API's handler.
func (d *Daemon) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /private/warren/v1/"+path, func(w http.ResponseWriter, r *http.Request) {
			out, err := f(r)
			if err != nil {
				refuse(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(out); err != nil {
				d.opts.Log.Debug("answering a control request", "error", err)
			}
		})
	}
	mux.HandleFunc("/private/logs/v1", d.journal.stream) // Tahoe's
	handle("GET status", func(*http.Request) (any, error) { return d.Status(), nil })
	if d.invites == nil {
		return mux
	}
	handle("POST rollbacks/{index}/accept", d.acceptRollback)
	handle("GET invites", func(*http.Request) (any, error) { return d.invites.List(), nil })
	handle("POST invites", d.offer)
	handle("DELETE invites/{id}", d.cancel)
	handle("GET folders", func(*http.Request) (any, error) { return d.folders.Status(), nil })
	handle("POST folders", d.addFolder)
	handle("POST folders/{name}/sync", d.syncFolder)
	d.lookBack(mux, handle)
	handle("DELETE folders/{name}", d.leaveFolder)
	handle("POST folders/join", d.joinFolder)
	handle("POST folders/{name}/invites", d.offerFolder)
	handle("GET folders/{name}/members", d.membersOf)
	handle("DELETE folders/{name}/members/{member}", d.removeMember)
	handle("POST folders/{name}/members/{member}/accept-key", d.acceptKey)
	handle("GET upkeep", func(*http.Request) (any, error) { return d.upkeep.Status() })
	handle("POST upkeep", d.beginUpkeep)
	return mux
}

// errRequest is a request that cannot be understood.
var errRequest = errors.New("the request is not understood")

func body(r *http.Request, into any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	return nil
}

// refuse answers with an error; the text is for people.
func refuse(w http.ResponseWriter, err error) { http.Error(w, err.Error(), refusal(err)) }

// refusal maps errors to statuses.
func refusal(err error) int {
	for _, m := range []struct {
		err  error
		code int
	}{
		{errRequest, http.StatusBadRequest}, {magicfolder.ErrName, http.StatusBadRequest}, {magicfolder.ErrDirectory, http.StatusBadRequest},
		{magicfolder.ErrFolder, http.StatusConflict}, {invite.ErrTooLate, http.StatusConflict}, {invite.ErrExpires, http.StatusBadRequest}, {invite.ErrName, http.StatusBadRequest},
		{wormhole.ErrNotOurs, http.StatusBadRequest}, {ErrNoIntroducer, http.StatusBadRequest},
		{magicfolder.ErrNoFolder, http.StatusNotFound}, {invite.ErrNoInvite, http.StatusNotFound},
		{magicfolder.ErrUnhappy, http.StatusServiceUnavailable}, {magicfolder.ErrUnavailable, http.StatusServiceUnavailable},
		{wormhole.ErrUnreachable, http.StatusBadGateway},
		{magicfolder.ErrNoMember, http.StatusNotFound}, {magicfolder.ErrTaken, http.StatusConflict}, {magicfolder.ErrNotAdmin, http.StatusForbidden},
		{magicfolder.ErrSameKey, http.StatusConflict}, {magicfolder.ErrOtherKey, http.StatusConflict}, {ErrAdminOnly, http.StatusConflict}, {ErrJoining, http.StatusConflict}, {ErrNotEmpty, http.StatusConflict},
		{code.ErrMalformed, http.StatusBadRequest}, {code.ErrMailbox, http.StatusBadRequest}, {message.ErrRefused, http.StatusConflict},
		{magicfolder.ErrPath, http.StatusBadRequest}, {magicfolder.ErrWhose, http.StatusBadRequest},
		{magicfolder.ErrNoConflict, http.StatusNotFound}, {magicfolder.ErrNoVersion, http.StatusNotFound},
		{magicfolder.ErrOnlyCopy, http.StatusConflict}, {magicfolder.ErrBusy, http.StatusConflict}, {magicfolder.ErrNotDeleted, http.StatusConflict},
	} {
		if errors.Is(err, m.err) {
			return m.code
		}
	}
	return http.StatusInternalServerError
}

// Status says how everything stands.
func (d *Daemon) Status() Status {
	s := d.cfg.Settings
	st := Status{
		Directory: d.cfg.Dir, Kind: string(d.cfg.Kind), Nickname: s.Nickname, Version: d.opts.Version, Uptime: time.Since(d.began).Seconds(),
		Network: d.network.Mode().String(), Mailbox: d.mailboxURL, Introducers: d.Node.Introducers(),
		Servers: []Server{}, Folders: []magicfolder.Status{}, Invites: []invite.Invite{}, Connections: d.network.Counts(),
	}
	if tor, ok := d.handle.Tor(); ok {
		st.Tor = TorState(tor)
	}
	if d.cfg.Kind == config.Introducer {
		return st
	}
	st.Encoding = &Encoding{s.Client.Needed, s.Client.Happy, s.Client.Total}
	for _, sv := range d.Node.Grid.Servers() {
		st.Servers = append(st.Servers, Server{
			ID: sv.ID, Nickname: sv.Nickname, Connected: sv.Connected, Status: sv.Summary, Since: sv.Since, Version: sv.Version.Application,
		})
	}
	if h, ok := d.Node.House(); ok {
		st.Storage = &h
	}
	for _, r := range d.Node.Slots.Rollbacks() {
		st.Rollbacks = append(st.Rollbacks, Rollback{r.Index.Text(), r.Seen, r.Found, r.Since})
	}
	st.Folders = append(st.Folders, d.folders.Status()...)
	st.Invites = append(st.Invites, d.invites.List()...)
	if u, err := d.upkeep.Status(); err == nil {
		st.Upkeep = &u
	} else {
		d.opts.Log.Warn("asking how upkeep stands", "error", err)
	}
	return st
}

func (d *Daemon) beginUpkeep(r *http.Request) (any, error) {
	var q upkeep.Request
	if err := body(r, &q); err != nil {
		return nil, err
	}
	n, err := d.upkeep.Now(q)
	return UpkeepRound{n}, err
}

func (d *Daemon) acceptRollback(r *http.Request) (any, error) {
	si, err := caps.ParseStorageIndex(r.PathValue("index"))
	if err != nil {
		return nil, fmt.Errorf("%w: no storage index", errRequest)
	}
	return d.Node.Slots.AcceptRollback(si), nil
}

func (d *Daemon) offer(r *http.Request) (any, error) {
	var q InviteRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	return d.issue(r.Context(), invite.Options{Name: q.Name, Folder: q.Folder, Mailbox: d.mailboxFor(q.Mailbox)}, q.Seconds)
}

// issue makes an invite that lives so many seconds.
func (d *Daemon) issue(ctx context.Context, o invite.Options, seconds int64) (any, error) {
	o.Expires = time.Duration(min(max(seconds, -1), math.MaxInt32)) * time.Second
	// Beyond an hour only a mailbox that keeps invites will do: others forget in minutes.
	o.OwnMailbox = o.Expires > time.Hour
	is, err := d.invites.Offer(ctx, o)
	if err != nil {
		return nil, err
	}
	out := Issued{ID: is.ID, Code: is.Code.Text(), Link: is.Link.Text(), CodeAlone: is.CodeAloneIsEnough, Expires: is.Expires}
	for _, v := range d.invites.List() {
		if v.ID == is.ID {
			out.Own = v.Own
		}
	}
	return out, nil
}

// cancel takes an invite's id, or the newcomer's name while one invite for it waits.
func (d *Daemon) cancel(r *http.Request) (any, error) {
	id := r.PathValue("id")
	found := ""
	for _, v := range d.invites.List() {
		switch {
		case v.ID == id:
			return struct{}{}, d.invites.Cancel(id)
		case v.Name == id && !v.State.Final() && found != "":
			return nil, fmt.Errorf("%w: several invites are for %q: name one by its id", errRequest, id)
		case v.Name == id && !v.State.Final():
			found = v.ID
		}
	}
	if found == "" {
		return nil, invite.ErrNoInvite
	}
	return struct{}{}, d.invites.Cancel(found)
}

func (d *Daemon) addFolder(r *http.Request) (any, error) {
	var q FolderRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	f, err := d.folders.Create(r.Context(), q.Name, q.Dir, q.Author)
	if errors.Is(err, magicfolder.ErrUnhappy) && d.meetServers(r.Context()) {
		f, err = d.folders.Create(r.Context(), q.Name, q.Dir, q.Author)
	}
	if err == nil && q.AdminOnly {
		err = f.SetAdminOnly(true)
	}
	if err != nil {
		return nil, err
	}
	return f.Status(), nil
}

// meetServers waits a while for enough storage servers: a node that has just
// started meets them one by one.
func (d *Daemon) meetServers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, serversWait)
	defer cancel()
	return d.Node.Grid.Wait(ctx, d.cfg.Settings.Client.Happy) == nil
}

func (d *Daemon) syncFolder(r *http.Request) (any, error) {
	f, err := d.folders.Folder(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if err := f.ScanNow(r.Context()); err != nil {
		return nil, err
	}
	if err := f.PollNow(r.Context()); err != nil {
		return nil, err
	}
	return f.Status(), nil
}

func (d *Daemon) leaveFolder(r *http.Request) (any, error) {
	return struct{}{}, d.folders.Leave(r.Context(), r.PathValue("name"), r.URL.Query().Get("withdraw") == "true")
}
