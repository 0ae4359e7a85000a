// Package onion has version 3 onion services: their keys, made offline, and
// listeners at onion addresses that a tor serves (torutil/control).
//
// [NewKey] makes a service's identity and [Key.Address] its name, with no tor
// running. A key file holds exactly what `tahoe create-node --listen=tor` keeps
// in private/tor_onion.privkey, and what ADD_ONION takes:
//
//	"ED25519-V3:" + base64 (padded, 88 characters) of 64 bytes:
//	    32 bytes  the secret scalar, little-endian, clamped
//	    32 bytes  the signing nonce's secret
//
// with no line end (Tahoe passes the file on to tor as it is, so that a line end
// would end the command). The address is rend-spec-v3's:
//
//	base32(PUBKEY || CHECKSUM || 3) + ".onion"
//	CHECKSUM = SHA3-256(".onion checksum" || PUBKEY || 3)[:2]
//
// [Listen] gives a net.Listener at such an address. The service lives in tor as
// long as our control connection does, and comes back when tor does.
package onion

import (
	"bytes"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/edwards25519"

	"warren/node/durable"
)

// Sizes and constants of the formats above.
const (
	keyPrefix     = "ED25519-V3:"
	keySize       = 64
	version       = 3
	checksumLabel = ".onion checksum"
	labelSize     = 56
)

// ErrKey: a key file or text that is no version 3 onion key.
var ErrKey = errors.New("not a version 3 onion key")

// Key is an onion service's secret identity. It prints redacted.
type Key struct {
	expanded [keySize]byte
	public   [32]byte
}

// NewKey makes a key from 32 bytes of random.
func NewKey(random io.Reader) (Key, error) {
	var seed [32]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return Key{}, fmt.Errorf("onion key: %w", err)
	}
	expanded := sha512.Sum512(seed[:])
	expanded[0] &= 248
	expanded[31] &= 127
	expanded[31] |= 64
	return fromExpanded(expanded)
}

func fromExpanded(expanded [keySize]byte) (Key, error) {
	if expanded[0]&7 != 0 || expanded[31]&0xc0 != 0x40 {
		return Key{}, fmt.Errorf("%w: its scalar is not clamped", ErrKey)
	}
	scalar, err := edwards25519.NewScalar().SetBytesWithClamping(expanded[:32])
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k := Key{expanded: expanded}
	copy(k.public[:], new(edwards25519.Point).ScalarBaseMult(scalar).Bytes())
	return k, nil
}

// ParseKey reads what Text writes. White space around it is ignored.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "RSA1024:") {
		return Key{}, fmt.Errorf("%w: it is of version 2, which Tor no longer serves; make a new node address", ErrKey)
	}
	blob, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("%w: it does not begin with %s", ErrKey, keyPrefix)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil || len(raw) != keySize || base64.StdEncoding.EncodeToString(raw) != blob {
		return Key{}, fmt.Errorf("%w: not base64 of %d bytes", ErrKey, keySize)
	}
	return fromExpanded([keySize]byte(raw))
}

// Text is the key as the file and ADD_ONION have it: a secret.
func (k Key) Text() string { return keyPrefix + k.blob() }

func (k Key) blob() string { return base64.StdEncoding.EncodeToString(k.expanded[:]) }

// String shows only whose key it is.
func (k Key) String() string { return "onion key of " + k.Address() }

// GoString is as String: %#v must not print the secret.
func (k Key) GoString() string { return k.String() }

// Format keeps every verb from printing the secret.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// Address is the service's name, "....onion", without a port.
func (k Key) Address() string { return k.ServiceID() + ".onion" }

// ServiceID is the address without ".onion", as tor's control port says it.
func (k Key) ServiceID() string {
	check := checksum(k.public)
	raw := append(k.public[:], check[0], check[1], version)
	return encoding().EncodeToString(raw)
}

func checksum(public [32]byte) [2]byte {
	h := sha3.New256()
	h.Write([]byte(checksumLabel))
	h.Write(public[:])
	h.Write([]byte{version})
	return [2]byte(h.Sum(nil)[:2])
}

func encoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// CheckAddress says whether host is a version 3 onion address with a right
// checksum: a mistyped one is known as such before any tor is asked.
func CheckAddress(host string) error {
	label, ok := strings.CutSuffix(strings.ToLower(host), ".onion")
	if !ok {
		return fmt.Errorf("%q is no onion address", host)
	}
	label = label[strings.LastIndexByte(label, '.')+1:]
	raw, err := encoding().DecodeString(label)
	if err != nil || len(label) != labelSize || raw[34] != version {
		return fmt.Errorf("%q is no version 3 onion address", host)
	}
	check := checksum([32]byte(raw[:32]))
	if !bytes.Equal(raw[32:34], check[:]) {
		return fmt.Errorf("%q is mistyped: its checksum is wrong", host)
	}
	return nil
}

// maxKeyFile bounds what Load reads.
const maxKeyFile = 4096

// Load reads a key file.
func Load(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("onion key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return Key{}, fmt.Errorf("onion key: %w", err)
	}
	k, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Save writes a new key file, for our user only. It does not replace one: that
// would lose an address for ever.
func Save(path string, k Key) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return fmt.Errorf("onion key %s: %w", path, err)
	}
	return durable.WriteFile(path, []byte(k.Text()), 0o600)
}
