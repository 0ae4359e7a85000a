package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Role is a side of an invite.
type Role string

// The roles, by the ability that each announces.
const (
	Inviter  Role = "server-v1"
	Newcomer Role = "client-v1"
)

// Greeting is a side's first message.
type Greeting struct {
	Ours bool // the other program is ours: acknowledgements follow
	// Legacy is set when an inviter of before the abilities sent its
	// settings at once; it waits for LegacyAnswer.
	Legacy *Settings
}

// EncodeGreeting announces our role.
func EncodeGreeting(role Role) []byte {
	return []byte(fmt.Sprintf(`{"abilities": {%q: {}, %q: {}}}`, role, keyOurs))
}

// LegacyAnswer acknowledges legacy settings.
func LegacyAnswer() []byte { return []byte(`{"answer": {"message_ack": "ok"}}`) }

// ParseGreeting reads the first message of the other side, which must have the
// role given.
func ParseGreeting(b []byte, role Role) (Greeting, error) {
	m, err := object("", b)
	if err != nil {
		return Greeting{}, err
	}
	if present(m, "offer") && role == Inviter {
		return legacy(m["offer"])
	}
	if !present(m, "abilities") {
		return Greeting{}, bad("", ErrAbilities)
	}
	abilities, err := object("abilities", m["abilities"])
	if err != nil {
		return Greeting{}, err
	}
	if _, ok := abilities[string(role)]; !ok {
		return Greeting{}, bad("", ErrAbilities)
	}
	_, ours := abilities[keyOurs]
	return Greeting{Ours: ours}, nil
}

func legacy(raw json.RawMessage) (Greeting, error) {
	m, err := object("offer", raw)
	if err != nil {
		return Greeting{}, err
	}
	text, err := str(m, "offer", "message", MaxSize)
	if err != nil {
		return Greeting{}, err
	}
	s, err := ParseSettings([]byte(text))
	if err != nil {
		return Greeting{}, err
	}
	return Greeting{Legacy: &s}, nil
}

// Acknowledgement is our newcomer's answer to the settings: it has checked and
// kept them, and made its own keys.
type Acknowledgement struct {
	// Participant is the name that the newcomer took, when it took one.
	Participant string
	// Keys are public keys by name, such as "node": names of a-z and -,
	// values of letters, digits and +/=_-.
	Keys map[string]string
}

// Bounds of an acknowledgement's keys.
const (
	maxKeys     = 8
	maxKeyName  = 32
	maxKeyValue = 256
)

var keyValue = regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`)

// check demands what the other side will demand.
func (a Acknowledgement) check() error {
	if a.Participant != "" {
		if err := CheckName("participant", a.Participant); err != nil {
			return err
		}
	}
	if len(a.Keys) > maxKeys {
		return bad("keys", ErrTooLarge)
	}
	for name, value := range a.Keys {
		if !plain(name) || len(name) > maxKeyName {
			return bad("keys", ErrCharacters)
		}
		if len(value) > maxKeyValue {
			return bad("keys", ErrLength)
		}
		if !keyValue.MatchString(value) {
			return bad("keys", ErrCharacters)
		}
	}
	return nil
}

// Encode writes the acknowledgement.
func (a Acknowledgement) Encode() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	ours := map[string]any{"ack": "ok"}
	if a.Participant != "" {
		ours["participant"] = a.Participant
	}
	if len(a.Keys) > 0 {
		ours["keys"] = a.Keys
	}
	return json.Marshal(map[string]any{keyOurs: ours})
}

// Refusal is a side's reason to end the exchange. It is an error, and ErrRefused.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return ErrRefused.Error() + ": " + r.Reason }

// Unwrap makes it ErrRefused.
func (r *Refusal) Unwrap() error { return ErrRefused }

// maxReason bounds a refusal's text.
const maxReason = 200

// cleanReason is a reason without what cannot be shown, and not too long.
func cleanReason(reason string) string {
	var clean []rune
	for _, r := range reason {
		if checkText("", "x"+string(r)+"x", 12) != nil {
			r = ' '
		}
		if len(string(clean))+4 > maxReason {
			break
		}
		clean = append(clean, r)
	}
	text := strings.TrimSpace(string(clean))
	if text == "" {
		text = "no reason given"
	}
	return text
}

// EncodeRefusal tells the other side why it ends. What cannot be shown is left
// out of the reason.
func EncodeRefusal(reason string) []byte {
	text := cleanReason(reason)
	b, err := json.Marshal(map[string]any{keyOurs: map[string]string{"refused": text}})
	if err != nil {
		return []byte(`{"warren-v1": {"refused": "no reason given"}}`)
	}
	return b
}

// CheckRefusal gives the *Refusal that stands where another message was
// expected; nil if it is none.
func CheckRefusal(b []byte) error {
	var refusal *Refusal
	if _, err := ours(b); errors.As(err, &refusal) {
		return refusal
	}
	return nil
}

// ParseAcknowledgement reads the newcomer's answer: an acknowledgement, or a
// *Refusal as the error.
func ParseAcknowledgement(b []byte) (Acknowledgement, error) {
	m, err := ours(b)
	if err != nil {
		return Acknowledgement{}, err
	}
	var a Acknowledgement
	ack, err := str(m, "ack", "ack", 16)
	if err != nil {
		return a, err
	}
	if ack != "ok" {
		return a, bad("ack", ErrRange)
	}
	if present(m, "participant") {
		if a.Participant, err = str(m, "participant", "participant", MaxName); err != nil {
			return Acknowledgement{}, err
		}
	}
	if present(m, "keys") {
		keys, err := object("keys", m["keys"])
		if err != nil {
			return Acknowledgement{}, err
		}
		a.Keys = map[string]string{}
		for name := range keys {
			if a.Keys[name], err = str(keys, "keys", name, maxKeyValue); err != nil {
				return Acknowledgement{}, err
			}
		}
	}
	if err := a.check(); err != nil {
		return Acknowledgement{}, err
	}
	return a, nil
}

// EncodeConfirmation tells the newcomer that it is a member.
func EncodeConfirmation() []byte { return []byte(`{"warren-v1": {"member": true}}`) }

// ParseConfirmation reads the inviter's last word: nil for a member, else a
// *Refusal or what is wrong with the message.
func ParseConfirmation(b []byte) error {
	m, err := ours(b)
	if err != nil {
		return err
	}
	if !present(m, "member") {
		return bad("member", ErrMissing)
	}
	if string(m["member"]) != "true" {
		return bad("member", ErrType)
	}
	return nil
}

// ours opens our key, and turns a refusal into an error.
func ours(b []byte) (map[string]json.RawMessage, error) {
	top, err := object("", b)
	if err != nil {
		return nil, err
	}
	if !present(top, keyOurs) {
		return nil, bad(keyOurs, ErrMissing)
	}
	m, err := object(keyOurs, top[keyOurs])
	if err != nil {
		return nil, err
	}
	if present(m, "refused") {
		reason, err := str(m, "refused", "refused", maxReason)
		if err != nil {
			return nil, err
		}
		if err := checkText("refused", reason, maxReason); err != nil {
			return nil, err
		}
		return nil, &Refusal{reason}
	}
	return m, nil
}
