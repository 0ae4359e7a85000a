// Package invite brings a newcomer to a grid and its folder by a short code:
// Offer on the operator's side, Accept on the newcomer's.
//
// The operator's running node owns an Inviter. Offer meets nobody yet: it takes a
// nameplate at a mailbox server, saves everything that a restart needs (side,
// nameplate, mailbox, SPAKE2 scalar, messages) in a ledger and only then returns
// the code. From there the Inviter waits, also through restarts, and when the
// newcomer comes
//
//	newcomer                         inviter
//	   | ---- SPAKE2, both ways ---- |     the code is proven, and spent
//	   | <--- settings ------------- |     Config.Settings
//	   | ---- acknowledgement -----> |     AcceptOptions.Reply, then Config.Joined
//	   | <--- confirmation --------- |     now both know that it is a member
//
// Killed at any point, either side resumes, and what was said stands: Joined is
// called again for the same invite at most (it must be idempotent), never for
// two newcomers. A newcomer whose program is Tahoe or Gridsync gets the settings
// and sends no acknowledgement; an inviter that is one of them sends no
// confirmation. Both are served.
//
// On our own mailbox server (invite/mailbox) an invite lives until it expires. Any
// other forgets a meeting that nobody attends for eleven minutes, and may give its
// number to strangers: after ten minutes away such an invite is marked lost and
// the number is left alone.
//
// AcceptFolder and Options.FolderOnly are the same for a folder alone, by
// magic-folder's own exchange: folder.go.
//
// A wrong guess costs the invite: the one guess that SPAKE2 grants is all that
// keeps two words safe. Both sides are told.
package invite

import (
	"errors"
	"slices"
	"time"
)

// Errors that callers branch on, beside those of invite/code, invite/message and
// invite/wormhole.
var (
	// ErrNoInvite: no invite of that id.
	ErrNoInvite = errors.New("no such invite")
	// ErrName: a newcomer cannot have that name.
	ErrName = errors.New("that name cannot be given to a newcomer")
	// ErrTooLate: the invite has ended, or the newcomer is being taken in.
	ErrTooLate = errors.New("too late: the invite has ended or is being accepted")
	// ErrAmbiguous: several public mailboxes know the code's number, and
	// trying the wrong one would spend a stranger's code.
	ErrAmbiguous = errors.New("several mailboxes know this code's number: name the mailbox")
	// ErrUnconfirmed: our acknowledgement is on its way, the inviter has not
	// confirmed it. The newcomer may or may not be a member yet; accepting
	// again with the same state file goes on from there.
	ErrUnconfirmed = errors.New("the inviter has not confirmed yet")
	// ErrNotNow is what AcceptOptions.Reply's error wraps when the newcomer can
	// mend what is wrong: the invite is not refused, and accepting again with
	// the same state file goes on from there.
	ErrNotNow = errors.New("the invite waits for another try")
	// ErrExpires: an invite must live between a minute and the longest time
	// that Offer allows.
	ErrExpires = errors.New("an invite lives between one minute and 31 days")
	// ErrClosed: the Inviter is closed or not started.
	ErrClosed = errors.New("invites are not being served")
)

// ErrLost ends an invite at a mailbox server that is not ours, after more than
// ten minutes away.
var ErrLost = errors.New("away from the mailbox for more than ten minutes: its number may belong to strangers now")

// PublicMailboxes are the servers that a bare code is looked for at: Tahoe's and
// Gridsync's, then magic-folder's and wormhole's.
func PublicMailboxes() []string {
	return slices.Clone([]string{"ws://wormhole.tahoe-lafs.org:4000/v1", "ws://relay.magic-wormhole.io:4000/v1"})
}

const (
	// shortLife is how long two words are enough.
	shortLife = time.Hour
	minLife   = time.Minute
	maxLife   = 31 * 24 * time.Hour
	// foreignAbsence is the longest absence from a mailbox that is not ours:
	// it forgets after eleven minutes.
	foreignAbsence = 10 * time.Minute
	// keepEnded is how long an ended invite is listed.
	keepEnded = 30 * 24 * time.Hour
	// exchangeTime is what a newcomer who came in time has after the invite's
	// end.
	exchangeTime = 15 * time.Minute
	// closeTime is how long the goodbye to a mailbox server is tried at least.
	closeTime = 20 * time.Second
)

// State is where an invite stands.
type State string

// The states. The first two go on, the others are final.
const (
	Waiting    State = "waiting"    // for the newcomer
	Exchanging State = "exchanging" // the newcomer has proven the code
	Done       State = "done"
	Expired    State = "expired"
	Cancelled  State = "cancelled"
	Lost       State = "lost"
	Failed     State = "failed"
)

// Final says that nothing more will happen.
func (s State) Final() bool { return s != Waiting && s != Exchanging }

// Invite is what is known of an invite; it holds no secret.
type Invite struct {
	ID     string `json:"id"`
	Name   string `json:"name"` // the newcomer's, in the folder
	Folder string `json:"folder,omitempty"`
	// FolderOnly: an invite to the folder alone, magic-folder's own kind. ReadOnly:
	// the newcomer shall only read. Again: one of that name is in the folder, and
	// its place goes to the newcomer.
	FolderOnly bool      `json:"folder_only,omitempty"`
	ReadOnly   bool      `json:"read_only,omitempty"`
	Again      bool      `json:"again,omitempty"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires"`
	Ended      time.Time `json:"ended,omitzero"`
	Mailbox    string    `json:"mailbox"`
	// Own: the mailbox server is ours and keeps the invite until it expires.
	Own    bool   `json:"own"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why it ended so, for people
	// Online: the mailbox server is connected now.
	Online bool `json:"online"`
	// Acknowledged: the newcomer's program has acknowledged and was taken in.
	// Programs that are not ours never do.
	Acknowledged bool `json:"acknowledged"`
	// Keys are the public keys that the newcomer then gave, by name.
	Keys map[string]string `json:"keys,omitempty"`
}
