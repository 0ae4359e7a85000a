package banana

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Type is a token's type byte.
type Type byte

// The token types.
const (
	INT     Type = 0x81
	STRING  Type = 0x82
	NEG     Type = 0x83
	FLOAT   Type = 0x84
	LONGINT Type = 0x85
	LONGNEG Type = 0x86
	VOCAB   Type = 0x87
	OPEN    Type = 0x88
	CLOSE   Type = 0x89
	ABORT   Type = 0x8a
	ERROR   Type = 0x8d
	PING    Type = 0x8e
	PONG    Type = 0x8f
)

// MaxError bounds the text of an ERROR token, as in Foolscap (SIZE_LIMIT).
const MaxError = 1000

// maxLong bounds the body of LONGINT and LONGNEG: numbers up to 2^2048.
const maxLong = 256

// ErrProtocol means that the peer broke the token grammar: nothing after it can
// be understood and the connection is to be dropped.
var ErrProtocol = errors.New("banana: protocol error")

// maxHeader digits hold every number below 2^63. Foolscap reads up to 64 digits
// but no token that it sends needs more than five.
const maxHeader = 9

// readHeader reads a token's header and type. io.EOF only at a token boundary.
func readHeader(r *bufio.Reader) (n uint64, t Type, err error) {
	for digits := 0; ; digits++ {
		c, err := r.ReadByte()
		if err != nil {
			if err == io.EOF && digits > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, 0, err
		}
		if c >= 0x80 {
			return n, Type(c), nil
		}
		if digits == maxHeader {
			return 0, 0, fmt.Errorf("%w: token header too long", ErrProtocol)
		}
		n |= uint64(c) << (7 * digits)
	}
}

// AppendToken appends a header and type byte. The number 0 has one digit, except
// for FLOAT, PING and PONG, where Foolscap sends none.
func AppendToken(dst []byte, t Type, n uint64) []byte {
	if n == 0 && t != FLOAT && t != PING && t != PONG {
		dst = append(dst, 0)
	}
	for ; n > 0; n >>= 7 {
		dst = append(dst, byte(n&0x7f))
	}
	return append(dst, byte(t))
}

// AppendError appends an ERROR token; text is cut to MaxError bytes.
func AppendError(dst []byte, text string) []byte {
	if len(text) > MaxError {
		text = text[:MaxError]
	}
	return append(AppendToken(dst, ERROR, uint64(len(text))), text...)
}
