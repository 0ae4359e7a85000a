// Package message holds what the two sides of an invite tell one another once a
// wormhole connects them: formats, and the validation of everything received.
//
// All messages are JSON objects, one for each phase of the wormhole, under the
// application id of Tahoe-LAFS and Gridsync (AppID):
//
//	inviter, phase 0   {"abilities": {"server-v1": {}, "warren-v1": {}}}
//	newcomer, phase 0  {"abilities": {"client-v1": {}, "warren-v1": {}}}
//	inviter, phase 1   the settings:
//	    nickname                                 the grid's name, as Gridsync reads it
//	    introducer                               the introducer's FURL
//	    shares-needed, shares-happy, shares-total  JSON numbers: tahoe create-client
//	                                             --join of 1.20 writes strings as b'2'
//	    hide-ip                                  present: use nothing but Tor
//	    warren-v1                                ours, which Tahoe and Gridsync ignore:
//	        invite, grid, folder, writecap, participant, tor, mailbox,
//	        members {keys, admin, board, generation}: see FolderOurs
//
// and when both abilities hold warren-v1:
//
//	newcomer, phase 1  {"warren-v1": {"ack": "ok", "participant": .., "keys": {name: public key}}}
//	                or {"warren-v1": {"refused": reason}}
//	inviter, phase 2   {"warren-v1": {"member": true}}
//	                or {"warren-v1": {"refused": reason}}
//
// Read, too: numbers as strings (Tahoe sends them so); needed, happy and total,
// the names of Tahoe's documents; settings as JSON inside a JSON string
// (Gridsync); settings inside {"offer": {"message": ".."}} (senders of before
// the abilities), which are answered by {"answer": {"message_ack": "ok"}}.
//
// The second application, FolderAppID, is magic-folder's own, for people who are
// on one grid already: folder.go.
//
// What is received comes from a stranger until proven otherwise, and would reach
// a config file, a disk and a terminal. So every field is checked by type,
// length and alphabet before anything else sees it; an error is a *FieldError,
// which names the field and never quotes its content.
package message

// AppID is the wormhole application of grid invites.
const AppID = "tahoe-lafs.org/invite"

// MaxSize bounds a message in bytes.
const MaxSize = 64 << 10
