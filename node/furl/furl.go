// Package furl parses and formats the two kinds of address that grids hand out:
// FURLs and NURLs. Both name a server by the hash of its certificate, say where it
// can be reached, and end in an unguessable swissnum that is the right to use it.
//
//	FURL  pb://TUBID@HINT,HINT,.../SWISSNUM
//	NURL  pb://SPKI@HOST:PORT/SWISSNUM#v=1      direct
//	      pb+tor://SPKI@HOST:PORT/SWISSNUM#v=1  through Tor
//
// TUBID is the base32 of the SHA-1 of the certificate, SPKI the unpadded URL-safe
// base64 of the SHA-256 of its public key. A HINT is "tcp:HOST:PORT" (or just
// "HOST:PORT", the old form), "tor:HOST:PORT", "i2p:HOST[:PORT]", or a type that we
// do not know, which is carried along; there may be none. (Tahoe-LAFS
// docs/specifications/url.rst; foolscap.furl and foolscap.connections decide.)
//
// Parsing is stricter than Foolscap's: a tub id is exactly 32 lower-case
// characters, and a malformed hint of a known type is an error, not something to
// skip. What parses formats back to the same text.
//
// FURLs and NURLs are secrets: String and every fmt verb hide them, the text
// marshalers fail, Text returns the real thing, and errors never quote it.
package furl

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Bounds on what the parsers look at.
const (
	MaxText     = 8192
	MaxHints    = 64
	MaxSwissnum = 512
)

// Errors of Parse and ParseNURL.
var (
	ErrTooLong  = errors.New("furl: address too long")
	ErrScheme   = errors.New("furl: address does not begin with pb:// (or, for a NURL, pb+tor://)")
	ErrShape    = errors.New("furl: address is not of the form pb://ID@PLACE/SWISSNUM")
	ErrTubID    = errors.New("furl: tub id is not 32 characters of lower-case base32")
	ErrSPKI     = errors.New("furl: public key hash is not the unpadded URL-safe base64 of 32 bytes")
	ErrHint     = errors.New("furl: malformed connection hint")
	ErrHints    = errors.New("furl: too many connection hints")
	ErrHost     = errors.New("furl: malformed host")
	ErrPort     = errors.New("furl: malformed port")
	ErrSwissnum = errors.New("furl: malformed swissnum")
	ErrVersion  = errors.New("furl: not a version 1 NURL")
	// ErrSecret is what marshaling as JSON or text fails with: redacted text where
	// an address is expected would be lost data, the address would be a leak.
	ErrSecret = errors.New("furl: an address is not marshaled implicitly")
)

// FURL is a Foolscap address.
type FURL struct {
	TubID    string // base32 of the SHA-1 of the server's certificate
	Hints    []Hint // where to connect, any of them; may be empty
	Swissnum string // which object: the secret
}

// Hint is one place where a tub may be reached.
type Hint struct {
	// Type is "tcp", "tor", "i2p" or one that we do not know.
	Type string
	// Host is a name or an address, without brackets. Empty for unknown types.
	Host string
	// Port is 1 to 65535; 0 for unknown types and for i2p without one.
	Port int
	// Raw is the hint as it was received. Empty in hints that we make; then the
	// text is made from the other fields.
	Raw string
}

// Parse reads a FURL.
func Parse(s string) (FURL, error) {
	if len(s) > MaxText {
		return FURL{}, ErrTooLong
	}
	rest, ok := strings.CutPrefix(s, "pb://")
	if !ok {
		return FURL{}, ErrScheme
	}
	tub, rest, ok := strings.Cut(rest, "@")
	if !ok {
		return FURL{}, ErrShape
	}
	places, swissnum, ok := strings.Cut(rest, "/")
	if !ok {
		return FURL{}, ErrShape
	}
	if !ValidTubID(tub) {
		return FURL{}, ErrTubID
	}
	if !validName(swissnum) {
		return FURL{}, ErrSwissnum
	}
	f := FURL{TubID: tub, Swissnum: swissnum}
	if places == "" {
		return f, nil
	}
	if strings.Count(places, ",") >= MaxHints {
		return FURL{}, ErrHints
	}
	for part := range strings.SplitSeq(places, ",") {
		h, err := ParseHint(part)
		if err != nil {
			return FURL{}, err
		}
		f.Hints = append(f.Hints, h)
	}
	return f, nil
}

// ValidTubID says whether s can be a tub id.
func ValidTubID(s string) bool {
	// 32 characters of 5 bits are 20 bytes exactly: every text of them is canonical.
	return len(s) == 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// Text is the FURL itself: a secret.
func (f FURL) Text() string {
	hints := make([]string, len(f.Hints))
	for i, h := range f.Hints {
		hints[i] = h.Text()
	}
	return "pb://" + f.TubID + "@" + strings.Join(hints, ",") + "/" + f.Swissnum
}

// String says which tub, shortened, and hides the rest.
func (f FURL) String() string { return "<FURL at tub " + short(f.TubID) + ">" }

// Format hides the secret from every fmt verb.
func (f FURL) Format(s fmt.State, _ rune) { fmt.Fprint(s, f.String()) }

// MarshalText fails with ErrSecret.
func (f FURL) MarshalText() ([]byte, error) { return nil, ErrSecret }

func short(id string) string {
	if len(id) > 8 {
		return id[:8] + ".."
	}
	return id
}

// ParseHint reads one connection hint.
func ParseHint(s string) (Hint, error) {
	if s == "" || !visible(s) || strings.ContainsAny(s, ",/") {
		return Hint{}, ErrHint
	}
	kind, rest, ok := strings.Cut(s, ":")
	if !ok {
		return Hint{}, ErrHint
	}
	h := Hint{Type: kind, Raw: s}
	var err error
	switch {
	case kind == "tcp", kind == "tor":
		h.Host, h.Port, err = splitHostPort(rest, kind == "tcp")
	case kind == "i2p" && !strings.Contains(rest, ":"):
		// An i2p destination needs no port.
		h.Host = rest
		if !validHost(rest, false) {
			err = ErrHost
		}
	case kind == "i2p":
		h.Host, h.Port, err = splitHostPort(rest, false)
	case isDigits(rest):
		// The old form. Foolscap therefore lets no new type be followed by digits
		// alone.
		h.Type = "tcp"
		h.Host, h.Port, err = splitHostPort(s, false)
	default:
		if !validType(kind) || rest == "" {
			err = ErrHint
		}
	}
	if err != nil {
		return Hint{}, fmt.Errorf("%w: %w", ErrHint, err)
	}
	return h, nil
}

// Text is the hint as it stands in a FURL.
func (h Hint) Text() string {
	if h.Raw != "" {
		return h.Raw
	}
	s := h.Type + ":" + bracket(h.Host)
	if h.Port != 0 {
		s += ":" + strconv.Itoa(h.Port)
	}
	return s
}

// Address is "HOST:PORT" for a dialer; empty when the hint has no such thing.
func (h Hint) Address() string {
	if h.Host == "" || h.Port == 0 {
		return ""
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(h.Port))
}

// IsOnion says that the host is an onion service, whatever the hint's type.
func (h Hint) IsOnion() bool { return isOnion(h.Host) }

func isOnion(host string) bool {
	return strings.HasSuffix(strings.TrimSuffix(strings.ToLower(host), "."), ".onion")
}
