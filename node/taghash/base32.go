package taghash

import (
	"encoding/base32"
	"errors"
)

// ErrBase32 is returned for text that is not canonical base32. The text itself,
// which may be a secret, is not in it.
var ErrBase32 = errors.New("taghash: not canonical base32")

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// EncodeBase32 is Tahoe's base32: RFC 4648's alphabet in lower case, no padding.
func EncodeBase32(b []byte) string { return encoding.EncodeToString(b) }

// DecodeBase32 reverses EncodeBase32 and accepts nothing else: a different case,
// padding, white space, impossible lengths and stray bits behind the last byte are
// ErrBase32, so that two texts never name the same bytes.
func DecodeBase32(s string) ([]byte, error) {
	for i := range len(s) {
		// The decoder skips line ends, which would be a second spelling.
		if s[i] == '\r' || s[i] == '\n' {
			return nil, ErrBase32
		}
	}
	b, err := encoding.DecodeString(s)
	if err != nil || EncodeBase32(b) != s {
		return nil, ErrBase32
	}
	return b, nil
}

// encoding is made once: it is larger than what it encodes.
var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)
