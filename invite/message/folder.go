package message

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"warren/node/caps"
)

// FolderAppID is the wormhole application of magic-folder's own invites, to a
// folder on a grid that both sides are on already.
//
// Its messages, invite-v1, after version messages that hold FolderVersions:
//
//	inviter, phase 0   {"kind": "join-folder", "protocol": "invite-v1", "folder-name": ..,
//	                    "collective": readcap, "participant-name": .., "mode": "read-write" or "read-only"}
//	newcomer, phase 0  {"kind": "join-folder-accept", "protocol": .., "personal": readcap}
//	                   without personal when it is to be, or wants to be, read-only
//	                or {"kind": "join-folder-reject", "protocol": .., "reject-reason": ..}
//	inviter, phase 1   {"kind": "join-folder-ack", "protocol": .., "participant-name": .., "success": true}
//	                or {.., "success": false, "error": ..}
//
// Where the other's version message has our key, the first two carry it too, with
// what magic-folder 24.3 has no place for: FolderOurs and the newcomer's author key.
const FolderAppID = "private.storage/magic-folder/invites"

const (
	inviteV1     = "invite-v1"
	kindJoin     = "join-folder"
	kindAccept   = "join-folder-accept"
	kindReject   = "join-folder-reject"
	kindAck      = "join-folder-ack"
	modeWrite    = "read-write"
	modeRead     = "read-only"
	keyMagic     = "magic-folder"
	maxCap       = 1 << 10
	maxText      = 255
	maxFolderMen = 256 // participants whose keys one invite carries
)

// FolderVersions is the application's part of our version message.
func FolderVersions() json.RawMessage {
	return json.RawMessage(`{"magic-folder": {"supported-messages": ["invite-v1"]}, "warren-v1": {}}`)
}

// ParseFolderVersions reads the other side's: whether its program is ours.
// ErrAbilities when it does not speak invite-v1.
func ParseFolderVersions(b []byte) (ours bool, err error) {
	m, err := object("", b)
	if err != nil {
		return false, err
	}
	if !present(m, keyMagic) {
		return false, bad("", ErrAbilities)
	}
	mf, err := object(keyMagic, m[keyMagic])
	if err != nil {
		return false, err
	}
	var speaks []string
	if !present(mf, "supported-messages") || json.Unmarshal(mf["supported-messages"], &speaks) != nil || !slices.Contains(speaks, inviteV1) {
		return false, bad("", ErrAbilities)
	}
	_, ours = m[keyOurs]
	return ours, nil
}

// FolderInvite is what the inviter says first.
type FolderInvite struct {
	Folder      string   // its name at the inviter
	Participant string   // the newcomer's name in the Collective
	Collective  caps.Cap // readcap: caps.DirRead or caps.DirMDMFRead
	ReadOnly    bool
	Ours        *FolderOurs // for our own newcomer; else nil
}

// FolderOurs is what only our newcomer reads.
type FolderOurs struct {
	Writecap   caps.Cap                     // the Collective's; nil where the admin alone holds it
	Keys       map[string]ed25519.PublicKey // author keys of the participants, by name
	Admin      ed25519.PublicKey            // who may tell the others that the Collective moved; nil: nobody
	Board      caps.Cap                     // readcap of the directory where it does; nil with Admin
	Generation uint64                       // how often it has moved
}

// String redacts the caps.
func (f FolderInvite) String() string {
	return fmt.Sprintf("invite of %q to the folder %q", f.Participant, f.Folder)
}

// Format redacts for every verb.
func (f FolderInvite) Format(s fmt.State, _ rune) { io.WriteString(s, f.String()) }

// String redacts the caps.
func (f FolderOurs) String() string { return "what our newcomer reads of an invite to a folder" }

// Format redacts for every verb.
func (f FolderOurs) Format(s fmt.State, _ rune) { io.WriteString(s, f.String()) }

// Encode writes the invite, after applying what ParseFolderInvite demands.
func (f FolderInvite) Encode() ([]byte, error) {
	if f.Collective == nil {
		return nil, bad("collective", ErrMissing)
	}
	mode := modeWrite
	if f.ReadOnly {
		mode = modeRead
	}
	m := map[string]any{"kind": kindJoin, "protocol": inviteV1, "folder-name": f.Folder, "collective": f.Collective.Text(),
		"participant-name": f.Participant, "mode": mode}
	if o := f.Ours; o != nil {
		ours := o.encode()
		if o.Writecap != nil {
			ours["writecap"] = o.Writecap.Text()
		}
		m[keyOurs] = ours
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	_, err = ParseFolderInvite(b)
	return b, err
}

// encode is all but the writecap.
func (f FolderOurs) encode() map[string]any {
	keys := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Keys)) {
		if len(keys) < maxFolderMen {
			keys[name] = encodeKey(f.Keys[name])
		}
	}
	m := map[string]any{"generation": f.Generation, "keys": keys}
	if f.Admin != nil && f.Board != nil {
		m["admin"], m["board"] = encodeKey(f.Admin), f.Board.Text()
	}
	return m
}

// ParseFolderInvite reads and validates an invite.
func ParseFolderInvite(b []byte) (f FolderInvite, err error) {
	m, err := folderMessage(b, kindJoin)
	if err != nil {
		return f, err
	}
	if f.Folder, err = str(m, "folder-name", "folder-name", maxText); err != nil {
		return f, err
	}
	if err := checkText("folder-name", f.Folder, maxText); err != nil {
		return f, err
	}
	if f.Participant, err = str(m, "participant-name", "participant-name", MaxName); err != nil {
		return f, err
	}
	if err := CheckName("participant-name", f.Participant); err != nil {
		return f, err
	}
	if f.Collective, err = readDirectory(m, "collective"); err != nil {
		return f, err
	}
	mode, err := str(m, "mode", "mode", 32)
	if err != nil {
		return f, err
	}
	// As magic-folder reads it: all but one mode are read-only.
	f.ReadOnly = mode != modeWrite
	if !present(m, keyOurs) {
		return f, nil
	}
	f.Ours, err = parseFolderOurs(m[keyOurs], f.Collective)
	return f, err
}

func parseFolderOurs(raw json.RawMessage, collective caps.Cap) (*FolderOurs, error) {
	m, err := object(keyOurs, raw)
	if err != nil {
		return nil, err
	}
	o := &FolderOurs{Keys: map[string]ed25519.PublicKey{}}
	if present(m, "writecap") {
		text, err := str(m, "writecap", "writecap", maxCap)
		if err != nil {
			return nil, err
		}
		c, err := caps.Parse(text)
		if err != nil || c.Text() != text {
			return nil, bad("writecap", ErrForm)
		}
		// It must be the same directory's, or two people would think that they share.
		if w, ok := c.(caps.DirWrite); !ok || collective == nil || w.Read().Text() != collective.Text() {
			return nil, bad("writecap", ErrType)
		}
		o.Writecap = c
	}
	if present(m, "keys") {
		keys, err := object("keys", m["keys"])
		if err != nil {
			return nil, err
		}
		if len(keys) > maxFolderMen {
			return nil, bad("keys", ErrTooLarge)
		}
		for name := range keys {
			if err := checkText("keys", name, maxText); err != nil {
				return nil, err
			}
			if o.Keys[name], err = publicKey(keys, "keys", name); err != nil {
				return nil, err
			}
		}
	}
	if present(m, "admin") {
		if o.Admin, err = publicKey(m, "admin", "admin"); err != nil {
			return nil, err
		}
		if o.Board, err = readDirectory(m, "board"); err != nil {
			return nil, err
		}
	}
	if present(m, "generation") {
		if json.Unmarshal(m["generation"], &o.Generation) != nil {
			return nil, bad("generation", ErrType)
		}
	}
	return o, nil
}

// FolderReply is the newcomer's answer.
type FolderReply struct {
	// Personal is the readcap of its Personal directory; nil: it is read-only.
	Personal caps.Cap
	// Key is the author key of our own newcomer; else nil.
	Key ed25519.PublicKey
}

// Format redacts for every verb.
func (r FolderReply) Format(s fmt.State, _ rune) {
	io.WriteString(s, "answer to an invite to a folder")
}

// Encode writes the answer; with ours also what only our inviter reads.
func (r FolderReply) Encode(ours bool) ([]byte, error) {
	m := map[string]any{"kind": kindAccept, "protocol": inviteV1}
	if r.Personal != nil {
		m["personal"] = r.Personal.Text()
	}
	if ours && r.Key != nil {
		m[keyOurs] = map[string]string{"key": encodeKey(r.Key)}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	_, err = ParseFolderReply(b, r.Personal == nil)
	return b, err
}

// ParseFolderReply reads the newcomer's answer: a *Refusal as the error when it
// rejects. A newcomer that is to be read-only must not send a directory.
func ParseFolderReply(b []byte, readOnly bool) (r FolderReply, err error) {
	m, err := folderMessage(b, kindAccept, kindReject)
	if err != nil {
		return r, err
	}
	if kind, _ := str(m, "kind", "kind", 64); kind == kindReject {
		return r, &Refusal{reasonOf(m, "reject-reason")}
	}
	if present(m, "personal") {
		if readOnly {
			return r, bad("personal", ErrRange)
		}
		if r.Personal, err = readDirectory(m, "personal"); err != nil {
			return r, err
		}
	}
	if present(m, keyOurs) {
		ours, err := object(keyOurs, m[keyOurs])
		if err != nil {
			return FolderReply{}, err
		}
		if r.Key, err = publicKey(ours, "key", "key"); err != nil {
			return FolderReply{}, err
		}
	}
	return r, nil
}

// EncodeFolderReject is the newcomer's refusal.
func EncodeFolderReject(reason string) []byte {
	return folderText(map[string]any{"kind": kindReject, "protocol": inviteV1, "reject-reason": cleanReason(reason)})
}

// EncodeFolderAck is the inviter's last word: reason is "" for success.
func EncodeFolderAck(participant, reason string) []byte {
	m := map[string]any{"kind": kindAck, "protocol": inviteV1, "success": reason == ""}
	if reason == "" {
		m["participant-name"] = participant
	} else {
		m["error"] = cleanReason(reason)
	}
	return folderText(m)
}

func folderText(m map[string]any) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		return []byte(`{}`) // strings and booleans: it cannot fail
	}
	return b
}

// ParseFolderAck reads it: nil, a *Refusal, or what is wrong with the message.
func ParseFolderAck(b []byte) error {
	m, err := folderMessage(b, kindAck)
	if err != nil {
		return err
	}
	switch string(m["success"]) {
	case "true":
		return nil
	case "false":
		return &Refusal{reasonOf(m, "error")}
	}
	return bad("success", ErrType)
}

// folderMessage opens a message of invite-v1 of one of the kinds.
func folderMessage(b []byte, kinds ...string) (map[string]json.RawMessage, error) {
	m, err := object("", b)
	if err != nil {
		return nil, err
	}
	protocol, err := str(m, "protocol", "protocol", 64)
	if err != nil {
		return nil, err
	}
	if protocol != inviteV1 {
		return nil, bad("protocol", ErrRange)
	}
	kind, err := str(m, "kind", "kind", 64)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(kinds, kind) {
		if kind == kindAck && string(m["success"]) == "false" {
			return nil, &Refusal{reasonOf(m, "error")} // the inviter gave up before its time
		}
		return nil, bad("kind", ErrRange)
	}
	return m, nil
}

// readDirectory reads the readcap of a mutable directory.
func readDirectory(m map[string]json.RawMessage, field string) (caps.Cap, error) {
	text, err := str(m, field, field, maxCap)
	if err != nil {
		return nil, err
	}
	c, err := caps.Parse(text)
	if err != nil || c.Text() != text {
		return nil, bad(field, ErrForm)
	}
	switch c.(type) {
	case caps.DirRead, caps.DirMDMFRead:
		return c, nil
	}
	return nil, bad(field, ErrType)
}

func encodeKey(k ed25519.PublicKey) string { return base64.RawURLEncoding.EncodeToString(k) }

func publicKey(m map[string]json.RawMessage, field, name string) (ed25519.PublicKey, error) {
	text, err := str(m, field, name, 64)
	if err != nil {
		return nil, err
	}
	k, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(k) != ed25519.PublicKeySize {
		return nil, bad(field, ErrForm)
	}
	return k, nil
}

// reasonOf is a reason as far as it can be shown.
func reasonOf(m map[string]json.RawMessage, name string) string {
	text, err := str(m, name, name, MaxSize)
	if err != nil {
		return cleanReason("")
	}
	return cleanReason(text)
}
