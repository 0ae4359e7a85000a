package furl

import (
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// NURL is the address of an HTTPS storage service (GBS).
type NURL struct {
	SPKIHash string // unpadded URL-safe base64 of the SHA-256 of the public key
	Host     string // a name or an address, without brackets
	Port     int
	Tor      bool   // to be reached through Tor only
	Swissnum string // the secret
	Version  int    // always 1
}

// ParseNURL reads a NURL of version 1.
func ParseNURL(s string) (NURL, error) {
	if len(s) > MaxText {
		return NURL{}, ErrTooLong
	}
	n := NURL{Version: 1}
	rest, ok := strings.CutPrefix(s, "pb://")
	if !ok {
		rest, n.Tor = strings.CutPrefix(s, "pb+tor://")
		if !n.Tor {
			return NURL{}, ErrScheme
		}
	}
	rest, ok = strings.CutSuffix(rest, "#v=1")
	if !ok {
		return NURL{}, ErrVersion
	}
	n.SPKIHash, rest, ok = strings.Cut(rest, "@")
	if !ok {
		return NURL{}, ErrShape
	}
	place, swissnum, ok := strings.Cut(rest, "/")
	if !ok {
		return NURL{}, ErrShape
	}
	if hash, err := base64.RawURLEncoding.Strict().DecodeString(n.SPKIHash); err != nil || len(hash) != 32 ||
		base64.RawURLEncoding.EncodeToString(hash) != n.SPKIHash {
		return NURL{}, ErrSPKI
	}
	var err error
	if n.Host, n.Port, err = splitHostPort(place, true); err != nil {
		return NURL{}, err
	}
	// Tahoe's URL parser would decode percent signs and split at slashes, so these
	// characters would make two swissnums of one.
	if !validName(swissnum) || strings.ContainsAny(swissnum, `/?#%[]@:"<>\^{|}`+"`") {
		return NURL{}, ErrSwissnum
	}
	n.Swissnum = swissnum
	return n, nil
}

// Text is the NURL itself: a secret.
func (n NURL) Text() string {
	scheme := "pb"
	if n.Tor {
		scheme = "pb+tor"
	}
	return scheme + "://" + n.SPKIHash + "@" + bracket(n.Host) + ":" + strconv.Itoa(n.Port) + "/" + n.Swissnum +
		"#v=" + strconv.Itoa(n.Version)
}

// String says which key, shortened, and hides the rest.
func (n NURL) String() string { return "<NURL for key " + short(n.SPKIHash) + ">" }

// Format hides the secret from every fmt verb.
func (n NURL) Format(s fmt.State, _ rune) { fmt.Fprint(s, n.String()) }

// MarshalText fails with ErrSecret.
func (n NURL) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Address is "HOST:PORT" for a dialer.
func (n NURL) Address() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// IsOnion says that the host is an onion service, whatever the scheme says.
func (n NURL) IsOnion() bool { return isOnion(n.Host) }
