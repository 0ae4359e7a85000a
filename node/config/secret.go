package config

import (
	"crypto/subtle"
	"errors"
	"fmt"
)

// ErrSecret is what marshaling a Secret or Token as JSON or text fails with.
var ErrSecret = errors.New("config: a secret is not marshaled implicitly")

const redacted = "<secret>"

// Secret is a random value that others may derive from but never see: the lease
// secret or the convergence secret. It prints redacted; use it as bytes.
type Secret []byte

// String hides the secret.
func (s Secret) String() string { return redacted }

// Format hides the secret from every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// MarshalText fails with ErrSecret.
func (s Secret) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Token authorises callers of the local web API.
type Token struct{ text string }

// Text is the token itself.
func (t Token) Text() string { return t.text }

// Equal compares in constant time.
func (t Token) Equal(s string) bool {
	return t.text != "" && subtle.ConstantTimeCompare([]byte(t.text), []byte(s)) == 1
}

// String hides the token.
func (t Token) String() string { return redacted }

// Format hides the token from every fmt verb.
func (t Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// MarshalText fails with ErrSecret.
func (t Token) MarshalText() ([]byte, error) { return nil, ErrSecret }
