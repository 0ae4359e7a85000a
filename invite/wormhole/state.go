package wormhole

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of what a session holds.
const (
	// MaxMessage bounds one application message, sent or received.
	MaxMessage = 256 << 10
	// maxPhases bounds the messages of one side.
	maxPhases = 64
	// maxFrame is what a frame around MaxMessage can take, in hex.
	maxFrame = 1 << 20
)

// State is everything that a session must remember. It holds the code and the
// key and so prints redacted; MarshalJSON gives the real thing, for a file that
// nobody else reads.
type State struct {
	state
}

type state struct {
	AppID     string   `json:"appid"`
	URL       string   `json:"url"`
	Side      string   `json:"side"`
	Code      string   `json:"code,omitempty"` // empty until a nameplate is allotted
	Nameplate string   `json:"nameplate,omitempty"`
	Mailbox   string   `json:"mailbox,omitempty"`
	Granted   int64    `json:"granted,omitempty"` // seconds that the server promised to keep it; 0 if it is not ours
	Existing  bool     `json:"existing,omitempty"`
	Scalar    hexBytes `json:"scalar"`
	Key       hexBytes `json:"key,omitempty"`
	Verified  bool     `json:"verified,omitempty"`
	Peer      string   `json:"peer,omitempty"` // the other side

	Out      []outgoing          `json:"out,omitempty"`   // sealed, in order
	Queue    []hexBytes          `json:"queue,omitempty"` // plain, until the key is proven
	Pending  map[string]hexBytes `json:"pending,omitempty"`
	In       map[string]hexBytes `json:"in,omitempty"`   // phase -> plain
	Next     int                 `json:"next,omitempty"` // number of our next application phase
	Released bool                `json:"released,omitempty"`
	Closing  string              `json:"closing,omitempty"` // mood
	Reason   string              `json:"reason,omitempty"`
	Closed   bool                `json:"closed,omitempty"`
}

// outgoing is a sealed message; Stored says that the server has echoed it.
type outgoing struct {
	Phase  string   `json:"phase"`
	Body   hexBytes `json:"body"`
	Stored bool     `json:"stored,omitempty"`
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// NewState begins an exchange at a mailbox. With an empty code a nameplate will
// be allotted; otherwise the code's nameplate will be claimed.
func NewState(appID, url, codeText string, from io.Reader) (State, error) {
	if from == nil {
		from = rand.Reader
	}
	side := make([]byte, 5)
	if _, err := io.ReadFull(from, side); err != nil {
		return State{}, fmt.Errorf("drawing a side: %w", err)
	}
	scalar, err := newScalar(from)
	if err != nil {
		return State{}, err
	}
	s := State{state{AppID: appID, URL: url, Side: hex.EncodeToString(side), Scalar: scalar}}
	if codeText != "" {
		if err := s.setCode(codeText); err != nil {
			return State{}, err
		}
		s.Existing = true
	}
	return s, nil
}

// String redacts.
func (s State) String() string { return "[wormhole session]" }

// GoString redacts for %#v.
func (s State) GoString() string { return s.String() }

// Format redacts for every verb.
func (s State) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalJSON gives the real thing.
func (s State) MarshalJSON() ([]byte, error) { return json.Marshal(s.state) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *State) UnmarshalJSON(b []byte) error {
	var v state
	if err := json.Unmarshal(b, &v); err != nil {
		return errors.New("bad session state") // the decoder's error may quote a secret
	}
	if v.Side == "" || v.AppID == "" || v.URL == "" || len(v.Scalar) != scalarSize {
		return errors.New("bad session state: incomplete")
	}
	s.state = v
	return nil
}

// CodeText is the code, empty until one is known.
func (s State) CodeText() string { return s.Code }

// MailboxURL is the address of the mailbox server.
func (s State) MailboxURL() string { return s.URL }

// GrantedSeconds is how long our own mailbox server promised to keep the
// exchange; 0 at any other.
func (s State) GrantedSeconds() int64 { return s.Granted }

// Done says that the exchange has been closed at the server.
func (s State) Done() bool { return s.Closed }

// clone is a deep copy, by way of what is saved anyway.
func (s State) clone() (State, error) {
	b, err := json.Marshal(s.state)
	if err != nil {
		return State{}, err
	}
	var c State
	return c, json.Unmarshal(b, &c.state)
}

// setCode fixes the code and its nameplate and computes our SPAKE2 message.
func (s *state) setCode(text string) error {
	nameplate, words, ok := bytes.Cut([]byte(text), []byte("-"))
	if !ok || len(nameplate) == 0 || len(nameplate) > 40 || len(words) == 0 || len(text) > 500 || !utf8.ValidString(text) {
		return ErrCode
	}
	for _, c := range nameplate {
		if c < '0' || c > '9' {
			return ErrCode
		}
	}
	s.Code, s.Nameplate = text, string(nameplate)
	x, err := s.exchange()
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"pake_v1": hex.EncodeToString(x.message())})
	if err != nil {
		return err
	}
	s.Out = append(s.Out, outgoing{Phase: phasePake, Body: body})
	return nil
}

func (s *state) exchange() (*exchange, error) {
	return newExchange(norm.NFC.Bytes([]byte(s.Code)), norm.NFC.Bytes([]byte(s.AppID)), s.Scalar)
}

const (
	phasePake    = "pake"
	phaseVersion = "version"
)

// wants says whether a message is one of the other side that is not there yet.
// Whoever speaks first is the other side; a server that admits a third cannot make
// us listen to it.
func (s *state) wants(side, phase string, body []byte) bool {
	if side == s.Side || s.Peer != "" && side != s.Peer || !knownPhase(phase) || len(body) > MaxMessage+nonceSize+16 {
		return false
	}
	_, opened := s.In[phase]
	_, pending := s.Pending[phase]
	return !opened && !pending
}

// accept takes a message that it wants.
func (s *state) accept(side, phase string, body []byte) {
	if s.Pending == nil {
		s.Pending = map[string]hexBytes{}
	}
	s.Peer, s.Pending[phase] = side, body
}

// advance opens what can be opened and seals what can be sealed.
func (s *state) advance(versions []byte) error {
	if s.Key == nil {
		raw, ok := s.Pending[phasePake]
		if !ok || s.Code == "" {
			return nil
		}
		theirs, err := parsePake(raw)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrWrongCode, err)
		}
		x, err := s.exchange()
		if err != nil {
			return err
		}
		if s.Key, err = x.finish(theirs); err != nil {
			return fmt.Errorf("%w: %w", ErrWrongCode, err)
		}
		s.keep(phasePake, nil)
		sealed, err := seal(s.Key, s.Side, phaseVersion, versions)
		if err != nil {
			return err
		}
		s.Out = append(s.Out, outgoing{Phase: phaseVersion, Body: sealed})
	}
	for phase, body := range s.Pending {
		plain, err := open(s.Key, s.Peer, phase, body)
		if err != nil {
			return ErrWrongCode
		}
		s.keep(phase, plain)
		s.Verified = true
	}
	if !s.Verified {
		return nil
	}
	for _, plain := range s.Queue {
		phase := strconv.Itoa(s.Next)
		sealed, err := seal(s.Key, s.Side, phase, plain)
		if err != nil {
			return err
		}
		s.Next++
		s.Out = append(s.Out, outgoing{Phase: phase, Body: sealed})
	}
	s.Queue = nil
	return nil
}

func (s *state) keep(phase string, plain []byte) {
	if s.In == nil {
		s.In = map[string]hexBytes{}
	}
	s.In[phase] = plain
	delete(s.Pending, phase)
}

// sentPhase says whether we have a message of a phase, and whether the server has
// echoed it.
func (s *state) sentPhase(phase string) (known, stored bool) {
	for _, o := range s.Out {
		if o.Phase == phase {
			return true, o.Stored
		}
	}
	return false, false
}

// stored marks our message of a phase as echoed by the server.
func (s *state) stored(phase string) {
	for i := range s.Out {
		if s.Out[i].Phase == phase {
			s.Out[i].Stored = true
		}
	}
}

// allStored says whether the server has everything that can be sent now: what
// waits for the key cannot.
func (s *state) allStored() bool {
	for _, o := range s.Out {
		if !o.Stored {
			return false
		}
	}
	return true
}

// parsePake reads the other side's SPAKE2 message.
func parsePake(body []byte) ([]byte, error) {
	var v map[string]json.RawMessage
	var text string
	if json.Unmarshal(body, &v) != nil || json.Unmarshal(v["pake_v1"], &text) != nil {
		return nil, errPake
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != pakeSize {
		return nil, errPake
	}
	return b, nil
}

// knownPhase: pake, version and small numbers; others are of newer programs and
// ignored, as the reference does.
func knownPhase(phase string) bool {
	if phase == phasePake || phase == phaseVersion {
		return true
	}
	n, err := strconv.Atoi(phase)
	return err == nil && n >= 0 && n < maxPhases && strconv.Itoa(n) == phase
}
