package wormhole

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/edwards25519"
)

// SPAKE2, symmetric, on Ed25519, as python-spake2 0.9 computes it:
//
//	w       HKDF-SHA256(password, salt "", info "SPAKE2 pw", 48 bytes), big-endian, mod L
//	X*      x·B + w·S
//	message "S" + X*
//	K       x·(Y* - w·S)
//	key     sha256(sha256(password) + sha256(identity) + lesser + greater + K)
//
// where lesser and greater are the two X* in byte order and S is the element
// that python-spake2 derives from the seed "symmetric".

// blindingS is python-spake2's arbitrary_element("symmetric").
const blindingS = "6f00dae87c1be1a73b5922ef431cd8f57879569c222d22b1cd71e8546ab8e6f1"

const (
	scalarSize = 32
	pakeSize   = 1 + 32
	sideMark   = 'S'
)

// errPake: what came as the other side's SPAKE2 message is none.
var errPake = errors.New("bad SPAKE2 message")

// exchange is one side's half of SPAKE2. It may be rebuilt from its scalar.
type exchange struct {
	password []byte
	identity []byte
	w        *edwards25519.Scalar
	x        *edwards25519.Scalar
	blind    *edwards25519.Point // S
	out      []byte              // X*, 32 bytes
}

// newScalar draws x.
func newScalar(from io.Reader) ([]byte, error) {
	if from == nil {
		from = rand.Reader
	}
	wide := make([]byte, 64)
	if _, err := io.ReadFull(from, wide); err != nil {
		return nil, fmt.Errorf("drawing a SPAKE2 scalar: %w", err)
	}
	x, err := edwards25519.NewScalar().SetUniformBytes(wide)
	if err != nil {
		return nil, err
	}
	return x.Bytes(), nil
}

// newExchange computes our half from scalar x.
func newExchange(password, identity, scalar []byte) (*exchange, error) {
	x, err := edwards25519.NewScalar().SetCanonicalBytes(scalar)
	if err != nil {
		return nil, fmt.Errorf("SPAKE2 scalar: %w", err)
	}
	wide, err := hkdf.Key(sha256.New, password, nil, "SPAKE2 pw", scalarSize+16)
	if err != nil {
		return nil, err
	}
	// SetUniformBytes wants 64 bytes, little-endian; the value is the same.
	slices.Reverse(wide)
	w, err := edwards25519.NewScalar().SetUniformBytes(append(wide, make([]byte, 64-len(wide))...))
	if err != nil {
		return nil, err
	}
	s, err := hex.DecodeString(blindingS)
	if err != nil {
		return nil, err
	}
	blind, err := edwards25519.NewIdentityPoint().SetBytes(s)
	if err != nil {
		return nil, err
	}
	e := &exchange{password: password, identity: identity, w: w, x: x, blind: blind}
	p := edwards25519.NewIdentityPoint().ScalarBaseMult(x)
	p.Add(p, edwards25519.NewIdentityPoint().ScalarMult(w, blind))
	e.out = p.Bytes()
	return e, nil
}

// message is what the other side gets.
func (e *exchange) message() []byte { return append([]byte{sideMark}, e.out...) }

// finish computes the key from the other side's message. A wrong password gives
// a different key, not an error.
func (e *exchange) finish(theirs []byte) ([]byte, error) {
	if len(theirs) != pakeSize || theirs[0] != sideMark {
		return nil, errPake
	}
	in := theirs[1:]
	if bytes.Equal(in, e.out) {
		return nil, fmt.Errorf("%w: it is our own", errPake)
	}
	y, err := edwards25519.NewIdentityPoint().SetBytes(in)
	if err != nil || !bytes.Equal(y.Bytes(), in) || !inSubgroup(y) {
		return nil, errPake
	}
	unblind := edwards25519.NewIdentityPoint().ScalarMult(e.w, e.blind)
	k := edwards25519.NewIdentityPoint().Subtract(y, unblind)
	k.ScalarMult(e.x, k)

	lesser, greater := e.out, in
	if bytes.Compare(lesser, greater) > 0 {
		lesser, greater = greater, lesser
	}
	h := sha256.New()
	for _, secret := range [][]byte{e.password, e.identity} {
		sum := sha256.Sum256(secret)
		h.Write(sum[:])
	}
	h.Write(lesser)
	h.Write(greater)
	h.Write(k.Bytes())
	return h.Sum(nil), nil
}

// inSubgroup says whether p is of order L, exactly: a point of small order would
// let its sender fix the key.
func inSubgroup(p *edwards25519.Point) bool {
	identity := edwards25519.NewIdentityPoint()
	if p.Equal(identity) == 1 {
		return false
	}
	// (L-1)·P + P is the identity for order L only. A scalar is reduced
	// mod L, so L itself cannot be written.
	one := make([]byte, scalarSize)
	one[0] = 1
	s, err := edwards25519.NewScalar().SetCanonicalBytes(one)
	if err != nil {
		return false
	}
	s.Negate(s)
	q := edwards25519.NewIdentityPoint().ScalarMult(s, p)
	return q.Add(q, p).Equal(identity) == 1
}
