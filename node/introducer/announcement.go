package introducer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"warren/node/foolscap/banana"
	"warren/node/furl"
	"warren/node/taghash"
)

// Bounds of what anybody announces.
const (
	// MaxMessage is the longest announcement. Tahoe's own have one to two KiB, more
	// with grid manager certificates.
	MaxMessage = 32 << 10
	// maxNesting bounds lists and objects within each other.
	maxNesting = 16
	// maxName bounds service names, maxKey the names of values: Tahoe's YAML reader
	// takes no key whose written form is longer than 1024.
	maxName = 64
	maxKey  = 100
	// maxText bounds nickname and versions, in bytes.
	maxText = 400
	// maxAddress bounds FURLs and NURLs.
	maxAddress = furl.MaxText
	// maxAddresses is how many NURLs one announcement may have.
	maxAddresses = 64
)

// Errors of Verify and of what uses it.
var (
	ErrUnsigned  = errors.New("introducer: announcement is not signed with a key of a known kind")
	ErrSignature = errors.New("introducer: the signature is not by the announcement's key")
	ErrMalformed = errors.New("introducer: malformed announcement")
)

// Announcement is one service that somebody offers, after its signature was
// checked and the types and lengths of its values were.
type Announcement struct {
	// ServiceName is what is offered: "storage".
	ServiceName string
	// KeyID names the key that signed it: "v0-" and the base32 of the Ed25519 public
	// key. There is one announcement for each service and key.
	KeyID string
	// Nickname is what the announcer calls itself. Foreign text: clean it before a
	// terminal.
	Nickname string
	// Values is the announcement itself as JSON has it: nil, bool, int64, float64,
	// string, []any, map[string]any. FURLs and NURLs in it are secrets.
	Values map[string]any
	// When is when it arrived; for one from the cache, when that was loaded.
	When time.Time
	// Cached says that it was read from the cache and not heard since.
	Cached bool
}

// String says whose announcement it is, without its addresses.
func (a Announcement) String() string {
	return fmt.Sprintf("<announcement of %s by %s>", a.ServiceName, a.KeyID)
}

// Format hides the values from every fmt verb.
func (a Announcement) Format(s fmt.State, _ rune) { fmt.Fprint(s, a.String()) }

// seqnum is the announcement's sequence number.
func (a Announcement) seqnum() (n int64, ok bool) {
	n, ok = a.Values["seqnum"].(int64)
	return n, ok
}

// supersedes says whether a may take the place of old. Announcements without
// numbers always do (they are older than numbering); a number must grow, so that
// nobody replays what was withdrawn.
func (a Announcement) supersedes(old Announcement) bool {
	before, numbered := old.seqnum()
	if !numbered {
		return true
	}
	n, ok := a.seqnum()
	return ok && n > before
}

// Signed is an announcement as it travels.
type Signed struct {
	Message   []byte // UTF-8 JSON
	Signature []byte // "v0-" and the base32 of the Ed25519 signature of Message
	Key       []byte // "v0-" and the base32 of the Ed25519 public key
}

// Format hides the announcement from every fmt verb.
func (s Signed) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "<announcement by %q>", []byte(s.Key)) }

// KeyID is a public key as announcements name it.
func KeyID(key ed25519.PublicKey) string { return "v0-" + taghash.EncodeBase32(key) }

// Sign makes an announcement ready to travel. It is checked as a receiver would.
func Sign(values map[string]any, key ed25519.PrivateKey) (Signed, error) {
	message, err := json.Marshal(values)
	if err != nil {
		return Signed{}, fmt.Errorf("introducer: announcement: %w", err)
	}
	s := Signed{
		Message:   message,
		Signature: []byte("v0-" + taghash.EncodeBase32(ed25519.Sign(key, message))),
		Key:       []byte(KeyID(key.Public().(ed25519.PublicKey))),
	}
	if _, err := s.Verify(); err != nil {
		return Signed{}, err
	}
	return s, nil
}

// Verify checks signature and contents. When stays zero.
func (s Signed) Verify() (Announcement, error) {
	if len(s.Message) > MaxMessage {
		return Announcement{}, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxMessage)
	}
	key, err := unwrap(s.Key, ed25519.PublicKeySize)
	if err != nil {
		return Announcement{}, err
	}
	signature, err := unwrap(s.Signature, ed25519.SignatureSize)
	if err != nil {
		return Announcement{}, err
	}
	if !ed25519.Verify(key, s.Message, signature) {
		return Announcement{}, ErrSignature
	}
	values, err := parseMessage(s.Message)
	if err != nil {
		return Announcement{}, err
	}
	return check(string(s.Key), values)
}

// unwrap decodes "v0-" and base32 of size bytes.
func unwrap(b []byte, size int) ([]byte, error) {
	if len(b) > 3+2*size || !bytes.HasPrefix(b, []byte("v0-")) {
		return nil, ErrUnsigned
	}
	out, err := taghash.DecodeBase32(string(b[3:]))
	if err != nil || len(out) != size {
		return nil, ErrUnsigned
	}
	return out, nil
}

// parseMessage reads the JSON object.
func parseMessage(message []byte) (map[string]any, error) {
	if !utf8.Valid(message) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(message))
	d.UseNumber()
	var values map[string]any
	if err := d.Decode(&values); err != nil || values == nil {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something after the JSON object", ErrMalformed)
	}
	v, err := normal(values, 0)
	if err != nil {
		return nil, err
	}
	return v.(map[string]any), nil
}

// normal brings values from JSON and YAML to the types of Announcement.Values, in
// place.
func normal(v any, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("%w: nested too deep", ErrMalformed)
	}
	var err error
	switch v := v.(type) {
	case nil, bool, int64:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) { // YAML has them
			return nil, fmt.Errorf("%w: number out of range", ErrMalformed)
		}
		return v, nil
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("%w: not UTF-8", ErrMalformed)
		}
		return v, nil
	case int:
		return int64(v), nil
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n, nil
		}
		// A float; an integer beyond 64 bits counts as one, too.
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("%w: number out of range", ErrMalformed)
		}
		return f, nil
	case []any:
		for i := range v {
			if v[i], err = normal(v[i], depth+1); err != nil {
				return nil, err
			}
		}
		return v, nil
	case map[string]any:
		for k := range v {
			if len(k) > maxKey || !utf8.ValidString(k) {
				return nil, fmt.Errorf("%w: a key too long", ErrMalformed)
			}
			if v[k], err = normal(v[k], depth+1); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
	return nil, fmt.Errorf("%w: a value of type %T", ErrMalformed, v)
}

// check looks at the values that have a meaning to us and to Tahoe. Whether the
// addresses can be used is for those who connect to find out: a server of a later
// version may announce forms that we do not know beside ones that we do.
func check(keyID string, values map[string]any) (Announcement, error) {
	bad := func(key string) (Announcement, error) {
		return Announcement{}, fmt.Errorf("%w: %s", ErrMalformed, key)
	}
	a := Announcement{KeyID: keyID, Values: values}
	var ok bool
	if a.ServiceName, ok = values["service-name"].(string); !ok || !validService(a.ServiceName) {
		return bad("service-name")
	}
	for key, limit := range map[string]int{
		"nickname": maxText, "my-version": maxText, "oldest-supported": maxText, "nonce": maxText,
		"permutation-seed-base32": maxText, "anonymous-storage-FURL": maxAddress,
	} {
		if v, there := values[key]; there {
			if s, ok := v.(string); !ok || len(s) > limit {
				return bad(key)
			}
		}
	}
	a.Nickname, _ = values["nickname"].(string)
	if text, there := values["anonymous-storage-FURL"].(string); there && !strings.HasPrefix(text, "pb://") {
		return bad("anonymous-storage-FURL")
	}
	if v, there := values["anonymous-storage-NURLs"]; there {
		list, ok := v.([]any)
		if !ok || len(list) > maxAddresses {
			return bad("anonymous-storage-NURLs")
		}
		for _, item := range list {
			if s, ok := item.(string); !ok || len(s) > maxAddress {
				return bad("anonymous-storage-NURLs")
			}
		}
	}
	if v, there := values["seqnum"]; there {
		if n, ok := v.(int64); !ok || n < 0 {
			return bad("seqnum")
		}
	}
	return a, nil
}

// validService takes what can be a service's name: visible ASCII.
func validService(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// tuple is the announcement as a Foolscap value.
func (s Signed) tuple() banana.Tuple { return banana.Tuple{s.Message, s.Signature, s.Key} }

// parseTuple reads a Foolscap value.
func parseTuple(v any) (Signed, error) {
	t, ok := v.(banana.Tuple)
	if !ok || len(t) != 3 {
		return Signed{}, fmt.Errorf("%w: not a tuple of three", ErrMalformed)
	}
	message, okM := t[0].([]byte)
	signature, okS := t[1].([]byte)
	key, okK := t[2].([]byte)
	if !okM || !okS || !okK {
		return Signed{}, ErrUnsigned
	}
	return Signed{message, signature, key}, nil
}
