package gbs

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const cborType = "application/cbor"

// authorization is the header that proves knowledge of the swissnum.
func authorization(swissnum string) string {
	return "Tahoe-LAFS " + base64.StdEncoding.EncodeToString([]byte(swissnum))
}

// authorized compares in constant time; only the length shows.
func authorized(header, want string) bool {
	return subtle.ConstantTimeCompare([]byte(header), []byte(want)) == 1
}

// A secretKind is a kind of secret, spelled as in the header.
type secretKind string

const (
	leaseRenew   secretKind = "lease-renew-secret"
	leaseCancel  secretKind = "lease-cancel-secret"
	uploadSecret secretKind = "upload-secret"
	writeEnabler secretKind = "write-enabler"
)

const secretHeader = "X-Tahoe-Authorization"

// maxSecret bounds a secret; Tahoe's upload secrets are 20 bytes, the others 32.
const maxSecret = 1024

// errSecrets says what a client got wrong, never what it sent.
var errSecrets = errors.New("gbs: bad or missing " + secretHeader + " header")

// parseSecrets reads the X-Tahoe-Authorization headers, which must be exactly
// those required, once each.
func parseSecrets(headers []string, required []secretKind) (map[secretKind][]byte, error) {
	if len(headers) != len(required) {
		return nil, errSecrets
	}
	secrets := map[secretKind][]byte{}
	for _, h := range headers {
		name, text, ok := strings.Cut(strings.TrimSpace(h), " ")
		kind := secretKind(name)
		if !ok || !slices.Contains(required, kind) || secrets[kind] != nil || len(text) > maxSecret {
			return nil, errSecrets
		}
		value, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
		if err != nil || len(value) == 0 {
			return nil, errSecrets
		}
		if kind != uploadSecret && len(value) != 32 {
			return nil, errSecrets
		}
		secrets[kind] = value
	}
	return secrets, nil
}

func formatSecret(kind secretKind, value []byte) string {
	return string(kind) + " " + base64.StdEncoding.EncodeToString(value)
}

// errRange: a Range or Content-Range header that is not one that GBS has.
var errRange = errors.New("gbs: not a usable byte range")

// byteRange is the bytes [Begin, End), at least one.
type byteRange struct{ Begin, End uint64 }

// parseRange reads "bytes=A-B": one range with both ends, the only kind that
// Tahoe's server takes.
func parseRange(h string) (byteRange, error) {
	unit, rest, ok := strings.Cut(h, "=")
	if !ok || !strings.EqualFold(strings.Trim(unit, " \t"), "bytes") {
		return byteRange{}, errRange
	}
	return parseEnds(strings.Trim(rest, " \t"))
}

func (r byteRange) header() string {
	return "bytes=" + r.ends()
}

// parseContentRange reads "bytes A-B/*" or "bytes A-B/LENGTH".
func parseContentRange(h string) (byteRange, error) {
	rest, ok := strings.CutPrefix(strings.Trim(h, " \t"), "bytes ")
	if !ok {
		return byteRange{}, errRange
	}
	ends, length, ok := strings.Cut(rest, "/")
	if !ok {
		return byteRange{}, errRange
	}
	r, err := parseEnds(ends)
	if err != nil || length == "*" {
		return r, err
	}
	n, err := parseNumber(length)
	if err != nil || r.Begin >= n {
		return byteRange{}, errRange
	}
	return r, nil
}

// contentRange is the header for a share, or part of one, of unknown length.
func (r byteRange) contentRange() string {
	return "bytes " + r.ends() + "/*"
}

func (r byteRange) ends() string {
	return strconv.FormatUint(r.Begin, 10) + "-" + strconv.FormatUint(r.End-1, 10)
}

func parseEnds(s string) (byteRange, error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		return byteRange{}, errRange
	}
	begin, err1 := parseNumber(strings.Trim(a, " \t"))
	last, err2 := parseNumber(strings.Trim(b, " \t"))
	if err1 != nil || err2 != nil || last < begin {
		return byteRange{}, errRange
	}
	return byteRange{begin, last + 1}, nil
}

// parseNumber reads plain digits; no number that an offset cannot be.
func parseNumber(s string) (uint64, error) {
	if s == "" || s[0] == '+' {
		return 0, errRange
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n >= math.MaxInt64 {
		return 0, errRange
	}
	return n, nil
}

// isCBOR says that a body is CBOR; so is one that does not say.
func isCBOR(contentType string) bool {
	name, _, _ := strings.Cut(contentType, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	return name == "" || name == cborType
}

// acceptsCBOR says that CBOR is what the client likes best; as in Tahoe, */* does
// not name it.
func acceptsCBOR(h http.Header) bool {
	if len(h.Values("Accept")) == 0 {
		return true
	}
	best, bestQ := "", -1.0
	for item := range strings.SplitSeq(h.Get("Accept"), ",") {
		name, q := strings.TrimSpace(item), 1.0
		if base, param, ok := strings.Cut(name, ";"); ok {
			if v, ok := strings.CutPrefix(strings.TrimSpace(param), "q="); ok {
				n, err := strconv.ParseFloat(v, 64)
				if err != nil || n < 0 || n > 1 {
					continue
				}
				name, q = strings.TrimSpace(base), n
			}
		}
		if q > bestQ {
			best, bestQ = name, q
		}
	}
	return best == cborType
}
