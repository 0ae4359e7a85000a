package message

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"warren/invite/code"
	"warren/node/caps"
	"warren/node/furl"
)

// Settings is what an inviter sends: what a newcomer needs to join the grid,
// and, from our own inviter, a folder.
type Settings struct {
	// Nickname is the grid's name from us and from Gridsync; `tahoe invite`
	// puts the newcomer's name there. May be empty.
	Nickname   string
	Introducer furl.FURL
	// Encoding is zero when the inviter does not say.
	Encoding Encoding
	// HideIP: use nothing but Tor, so that nobody learns the address.
	HideIP bool
	// Ours is nil when the inviter is not ours.
	Ours *Ours
}

// Encoding is how many shares: any Needed of Total rebuild a file, which counts
// as stored on Happy servers.
type Encoding struct{ Needed, Happy, Total int }

// check wants 1 <= needed <= total <= 256 and 1 <= happy <= total.
func (e Encoding) check() error {
	switch {
	case e.Total < 1 || e.Total > 256:
		return bad("shares-total", ErrRange)
	case e.Needed < 1 || e.Needed > e.Total:
		return bad("shares-needed", ErrRange)
	case e.Happy < 1 || e.Happy > e.Total:
		return bad("shares-happy", ErrRange)
	}
	return nil
}

// Tor says how the grid is reached.
type Tor string

// The Tor settings.
const (
	TorOptional Tor = "optional" // the grid's services have addresses without Tor
	TorNeeded   Tor = "needed"   // the grid's services are onion services
	TorOnly     Tor = "only"     // and members shall use nothing else
)

// Ours is the part of the settings that only our newcomer reads.
type Ours struct {
	Invite      string   // the inviter's name for the invite: 1 to 40 of a-z 0-9 -
	Grid        string   // the grid's name
	Folder      string   // the folder's name, may be empty: then only the grid is joined
	Writecap    caps.Cap // the Collective's writecap; nil without a folder
	Participant string   // the name that the newcomer shall carry in the folder
	Tor         Tor
	Mailbox     string      // where later invites may be found, may be empty
	Members     *FolderOurs // of the folder, without a writecap; may be nil
}

// Field names of the settings.
const (
	keyOurs       = "warren-v1"
	keyNickname   = "nickname"
	keyIntroducer = "introducer"
	keyHideIP     = "hide-ip"
)

// String redacts the secrets.
func (s Settings) String() string {
	return fmt.Sprintf("settings of grid %q (%d-of-%d)", s.Nickname, s.Encoding.Needed, s.Encoding.Total)
}

// Format redacts for every verb.
func (s Settings) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// String redacts the writecap.
func (o Ours) String() string { return fmt.Sprintf("folder %q", o.Folder) }

// Format redacts for every verb.
func (o Ours) Format(f fmt.State, _ rune) { io.WriteString(f, o.String()) }

// Check applies what ParseSettings demands, so that nothing is sent that our own
// newcomer would refuse.
func (s Settings) Check() error {
	b, err := s.encode()
	if err != nil {
		return err
	}
	_, err = ParseSettings(b)
	return err
}

// Encode writes the settings as Tahoe, Gridsync and our newcomer read them. All
// three numbers must be set: create-client --join fails without one.
func (s Settings) Encode() ([]byte, error) {
	if err := s.Encoding.check(); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s.encode()
}

func (s Settings) encode() ([]byte, error) {
	m := map[string]any{keyIntroducer: s.Introducer.Text()}
	if s.Nickname != "" {
		m[keyNickname] = s.Nickname
	}
	if s.Encoding != (Encoding{}) {
		m["shares-needed"] = s.Encoding.Needed
		m["shares-happy"] = s.Encoding.Happy
		m["shares-total"] = s.Encoding.Total
	}
	if s.HideIP {
		m[keyHideIP] = true
	}
	if o := s.Ours; o != nil {
		ours := map[string]any{"invite": o.Invite, "grid": o.Grid, "tor": o.Tor}
		if o.Folder != "" {
			ours["folder"] = o.Folder
		}
		if o.Writecap != nil {
			ours["writecap"] = o.Writecap.Text()
		}
		if o.Participant != "" {
			ours["participant"] = o.Participant
		}
		if o.Mailbox != "" {
			ours["mailbox"] = o.Mailbox
		}
		if o.Members != nil {
			ours["members"] = o.Members.encode()
		}
		m[keyOurs] = ours
	}
	return json.Marshal(m)
}

// ParseSettings reads and validates settings, also those that stand as JSON in a
// JSON string.
func ParseSettings(b []byte) (Settings, error) {
	if len(b) > MaxSize {
		return Settings{}, bad("", ErrTooLarge)
	}
	if inner, ok := quoted(b); ok {
		b = inner
	}
	m, err := object("", b)
	if err != nil {
		return Settings{}, err
	}
	var s Settings
	text, err := str(m, keyIntroducer, keyIntroducer, 2<<10)
	if err != nil {
		return Settings{}, err
	}
	// A config file and a YAML file will hold it: no byte that means
	// anything to either beside a FURL's own.
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'`\\#%;{}<>|$", r) }) {
		return Settings{}, bad(keyIntroducer, ErrCharacters)
	}
	if s.Introducer, err = furl.Parse(text); err != nil {
		return Settings{}, bad(keyIntroducer, ErrForm)
	}
	if present(m, keyNickname) && string(m[keyNickname]) != `""` {
		if s.Nickname, err = str(m, keyNickname, keyNickname, MaxName); err != nil {
			return Settings{}, err
		}
		if err := checkText(keyNickname, s.Nickname, MaxName); err != nil {
			return Settings{}, err
		}
	}
	if s.Encoding, err = encoding(m); err != nil {
		return Settings{}, err
	}
	_, s.HideIP = m[keyHideIP] // by presence: even false hides
	if present(m, keyOurs) {
		if s.Ours, err = parseOurs(m[keyOurs]); err != nil {
			return Settings{}, err
		}
		if s.Ours.Tor == TorOnly {
			s.HideIP = true
		}
	}
	return s, nil
}

// encoding reads the three numbers under either set of names. All or none.
func encoding(m map[string]json.RawMessage) (Encoding, error) {
	var e Encoding
	given := 0
	for _, f := range []struct {
		names [2]string
		into  *int
	}{
		{[2]string{"shares-needed", "needed"}, &e.Needed},
		{[2]string{"shares-happy", "happy"}, &e.Happy},
		{[2]string{"shares-total", "total"}, &e.Total},
	} {
		for _, name := range f.names {
			if !present(m, name) {
				continue
			}
			n, err := count(m, name)
			if err != nil {
				return Encoding{}, err
			}
			if *f.into != 0 && *f.into != n {
				return Encoding{}, bad(name, ErrTwice)
			}
			*f.into = n
		}
		if *f.into != 0 {
			given++
		}
	}
	switch given {
	case 0:
		return Encoding{}, nil
	case 3:
		return e, e.check()
	}
	for field, n := range map[string]int{"shares-needed": e.Needed, "shares-happy": e.Happy, "shares-total": e.Total} {
		if n == 0 {
			return Encoding{}, bad(field, ErrMissing)
		}
	}
	return e, nil
}

func parseOurs(raw json.RawMessage) (*Ours, error) {
	m, err := object(keyOurs, raw)
	if err != nil {
		return nil, err
	}
	var o Ours
	if o.Invite, err = str(m, "invite", "invite", 40); err != nil {
		return nil, err
	}
	if !plain(o.Invite) {
		return nil, bad("invite", ErrCharacters)
	}
	if o.Grid, err = str(m, "grid", "grid", MaxName); err != nil {
		return nil, err
	}
	if err := checkText("grid", o.Grid, MaxName); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		into *string
	}{{"folder", &o.Folder}, {"participant", &o.Participant}} {
		if !present(m, f.name) {
			continue
		}
		if *f.into, err = str(m, f.name, f.name, MaxName); err != nil {
			return nil, err
		}
		if err := CheckName(f.name, *f.into); err != nil {
			return nil, err
		}
	}
	if present(m, "writecap") {
		text, err := str(m, "writecap", "writecap", 1<<10)
		if err != nil {
			return nil, err
		}
		cap, err := caps.Parse(text)
		if err != nil || cap.Text() != text {
			return nil, bad("writecap", ErrForm)
		}
		switch cap.(type) {
		case caps.DirWrite, caps.DirMDMFWrite:
		default:
			return nil, bad("writecap", ErrType)
		}
		o.Writecap = cap
	}
	switch {
	case o.Folder != "" && o.Writecap == nil:
		return nil, bad("writecap", ErrMissing)
	case o.Folder == "" && o.Writecap != nil:
		return nil, bad("folder", ErrMissing)
	case o.Folder != "" && o.Participant == "":
		return nil, bad("participant", ErrMissing)
	}
	tor, err := str(m, "tor", "tor", 16)
	if err != nil {
		return nil, err
	}
	switch o.Tor = Tor(tor); o.Tor {
	case TorOptional, TorNeeded, TorOnly:
	default:
		return nil, bad("tor", ErrRange)
	}
	if present(m, "mailbox") {
		if o.Mailbox, err = str(m, "mailbox", "mailbox", 300); err != nil {
			return nil, err
		}
		if code.CheckMailbox(o.Mailbox) != nil {
			return nil, bad("mailbox", ErrForm)
		}
	}
	if present(m, "members") {
		if o.Members, err = parseFolderOurs(m["members"], nil); err != nil {
			return nil, err
		}
	}
	return &o, nil
}

// plain: lower-case letters, digits and hyphens.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return s != ""
}

// quoted unwraps a JSON string that holds JSON.
func quoted(b []byte) ([]byte, bool) {
	t := strings.TrimLeft(string(b), " \t\r\n")
	if !strings.HasPrefix(t, `"`) {
		return nil, false
	}
	var inner string
	if json.Unmarshal(b, &inner) != nil {
		return nil, false
	}
	return []byte(inner), true
}
