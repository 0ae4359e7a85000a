package caps

import (
	"errors"
	"fmt"
)

// ErrSecret is what marshaling a capability as JSON or text fails with. Failing is
// safer than writing a redacted text where a capability is expected; whoever means
// to write the secret calls Text.
var ErrSecret = errors.New("caps: a capability is not marshaled implicitly")

func redacted(c Cap) string { return "<" + c.Kind() + " cap>" }

// Each type has the same three methods of its own, because the methods of an
// embedded file cap would name the wrong kind for a directory.

// Kind is "LIT".
func (c LIT) Kind() string { return "LIT" }

// String hides the secret.
func (c LIT) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c LIT) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c LIT) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "CHK".
func (c CHK) Kind() string { return "CHK" }

// String hides the secret.
func (c CHK) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c CHK) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c CHK) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "CHK-Verifier".
func (c CHKVerify) Kind() string { return "CHK-Verifier" }

// String hides the secret.
func (c CHKVerify) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c CHKVerify) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c CHKVerify) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "SSK".
func (c SSKWrite) Kind() string { return "SSK" }

// String hides the secret.
func (c SSKWrite) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c SSKWrite) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c SSKWrite) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "SSK-RO".
func (c SSKRead) Kind() string { return "SSK-RO" }

// String hides the secret.
func (c SSKRead) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c SSKRead) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c SSKRead) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "SSK-Verifier".
func (c SSKVerify) Kind() string { return "SSK-Verifier" }

// String hides the secret.
func (c SSKVerify) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c SSKVerify) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c SSKVerify) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "MDMF".
func (c MDMFWrite) Kind() string { return "MDMF" }

// String hides the secret.
func (c MDMFWrite) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c MDMFWrite) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c MDMFWrite) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "MDMF-RO".
func (c MDMFRead) Kind() string { return "MDMF-RO" }

// String hides the secret.
func (c MDMFRead) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c MDMFRead) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c MDMFRead) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "MDMF-Verifier".
func (c MDMFVerify) Kind() string { return "MDMF-Verifier" }

// String hides the secret.
func (c MDMFVerify) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c MDMFVerify) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c MDMFVerify) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2".
func (c DirWrite) Kind() string { return "DIR2" }

// String hides the secret.
func (c DirWrite) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirWrite) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirWrite) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-RO".
func (c DirRead) Kind() string { return "DIR2-RO" }

// String hides the secret.
func (c DirRead) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirRead) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirRead) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-Verifier".
func (c DirVerify) Kind() string { return "DIR2-Verifier" }

// String hides the secret.
func (c DirVerify) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirVerify) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirVerify) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-MDMF".
func (c DirMDMFWrite) Kind() string { return "DIR2-MDMF" }

// String hides the secret.
func (c DirMDMFWrite) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirMDMFWrite) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirMDMFWrite) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-MDMF-RO".
func (c DirMDMFRead) Kind() string { return "DIR2-MDMF-RO" }

// String hides the secret.
func (c DirMDMFRead) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirMDMFRead) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirMDMFRead) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-MDMF-Verifier".
func (c DirMDMFVerify) Kind() string { return "DIR2-MDMF-Verifier" }

// String hides the secret.
func (c DirMDMFVerify) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirMDMFVerify) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirMDMFVerify) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-CHK".
func (c DirCHK) Kind() string { return "DIR2-CHK" }

// String hides the secret.
func (c DirCHK) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirCHK) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirCHK) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-CHK-Verifier".
func (c DirCHKVerify) Kind() string { return "DIR2-CHK-Verifier" }

// String hides the secret.
func (c DirCHKVerify) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirCHKVerify) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirCHKVerify) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "DIR2-LIT".
func (c DirLIT) Kind() string { return "DIR2-LIT" }

// String hides the secret.
func (c DirLIT) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c DirLIT) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c DirLIT) MarshalText() ([]byte, error) { return nil, ErrSecret }

// Kind is "unknown".
func (c Unknown) Kind() string { return "unknown" }

// String hides the secret.
func (c Unknown) String() string { return redacted(c) }

// Format hides the secret from every fmt verb.
func (c Unknown) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted(c)) }

// MarshalText fails with ErrSecret.
func (c Unknown) MarshalText() ([]byte, error) { return nil, ErrSecret }
