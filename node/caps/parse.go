package caps

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"warren/node/taghash"
)

// MaxText is the longest text that Parse looks at. Tahoe makes none longer than
// 200 bytes; the room is for literals and for kinds to come.
const MaxText = 64 << 10

// Errors that Parse wraps in an Error.
var (
	ErrEmpty        = errors.New("caps: empty capability")
	ErrTooLong      = errors.New("caps: capability too long")
	ErrFields       = errors.New("caps: wrong number of fields")
	ErrBase32       = errors.New("caps: field is not canonical base32")
	ErrLength       = errors.New("caps: field has the wrong length")
	ErrNumber       = errors.New("caps: field is not a canonical decimal number in range")
	ErrEncoding     = errors.New("caps: needed and total shares are not within 1 <= needed <= total <= 256")
	ErrNotReadOnly  = errors.New("caps: marked read-only but gives the right to write")
	ErrNotImmutable = errors.New("caps: marked immutable but names something mutable")
)

// Error says what of a capability is wrong, without quoting it. errors.Is finds
// the sentinel above.
type Error struct {
	Kind string // as Cap.Kind
	Part string // the field, "" for the whole
	Err  error
}

func (e *Error) Error() string {
	msg := e.Err.Error()
	if e.Kind != "" {
		msg += " (" + e.Kind
		if e.Part != "" {
			msg += ", " + e.Part
		}
		msg += ")"
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

const (
	prefixReadOnly  = "ro."
	prefixImmutable = "imm."
)

func splitPrefix(s string) (prefix, rest string) {
	for _, p := range []string{prefixImmutable, prefixReadOnly} {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return p, rest
		}
	}
	return "", s
}

// Parse reads a capability. Kinds that it does not know come back as Unknown;
// malformed ones of known kinds, and known ones that contradict their prefix, are
// an *Error.
func Parse(s string) (Cap, error) {
	if s == "" {
		return nil, &Error{Err: ErrEmpty}
	}
	if len(s) > MaxText {
		return nil, &Error{Err: ErrTooLong}
	}
	prefix, rest := splitPrefix(s)
	body, isURI := strings.CutPrefix(rest, "URI:")
	kind, body, hasKind := strings.Cut(body, ":")
	if !isURI || !hasKind {
		return Unknown{s}, nil
	}
	p := &parser{kind: kind, rest: body}
	c, known := p.parse()
	if !known {
		return Unknown{s}, nil
	}
	if p.err != nil {
		return nil, p.err
	}
	// Tahoe accepts a prefix on every kind and refuses those that it contradicts.
	if prefix != "" && !IsReadOnly(c) {
		if prefix == prefixImmutable {
			return nil, &Error{Kind: kind, Err: ErrNotImmutable}
		}
		return nil, &Error{Kind: kind, Err: ErrNotReadOnly}
	}
	if prefix == prefixImmutable && isMutableRead(c) {
		return nil, &Error{Kind: kind, Err: ErrNotImmutable}
	}
	return c, nil
}

// isMutableRead: Tahoe lets "imm." stand before the verifiers of mutable files.
func isMutableRead(c Cap) bool { return IsMutable(c) && !IsVerifier(c) }

// parser takes the fields behind the kind one by one; the first error stays.
type parser struct {
	kind string
	rest string
	done bool // no field is left
	err  error
}

func (p *parser) parse() (c Cap, known bool) {
	switch p.kind {
	case "LIT":
		return p.lit(), true
	case "CHK":
		return p.chk(), true
	case "CHK-Verifier":
		return p.chkVerify(), true
	case "SSK":
		k, f := p.pair("write key")
		p.end()
		return SSKWrite{k, f}, true
	case "SSK-RO":
		k, f := p.pair("read key")
		p.end()
		return SSKRead{k, f}, true
	case "SSK-Verifier":
		k, f := p.pair("storage index")
		p.end()
		return SSKVerify{k, f}, true
	case "MDMF":
		k, f := p.pair("write key")
		return MDMFWrite{k, f, p.extension()}, true
	case "MDMF-RO":
		k, f := p.pair("read key")
		return MDMFRead{k, f, p.extension()}, true
	case "MDMF-Verifier":
		k, f := p.pair("storage index")
		return MDMFVerify{k, f, p.extension()}, true
	case "DIR2":
		k, f := p.pair("write key")
		p.end()
		return DirWrite{SSKWrite{k, f}}, true
	case "DIR2-RO":
		k, f := p.pair("read key")
		p.end()
		return DirRead{SSKRead{k, f}}, true
	case "DIR2-Verifier":
		k, f := p.pair("storage index")
		p.end()
		return DirVerify{SSKVerify{k, f}}, true
	case "DIR2-MDMF":
		k, f := p.pair("write key")
		return DirMDMFWrite{MDMFWrite{k, f, p.extension()}}, true
	case "DIR2-MDMF-RO":
		k, f := p.pair("read key")
		return DirMDMFRead{MDMFRead{k, f, p.extension()}}, true
	case "DIR2-MDMF-Verifier":
		k, f := p.pair("storage index")
		return DirMDMFVerify{MDMFVerify{k, f, p.extension()}}, true
	case "DIR2-CHK":
		return DirCHK{p.chk()}, true
	case "DIR2-CHK-Verifier":
		return DirCHKVerify{p.chkVerify()}, true
	case "DIR2-LIT":
		return DirLIT{p.lit()}, true
	}
	return nil, false
}

func (p *parser) fail(part string, err error) {
	if p.err == nil {
		p.err = &Error{Kind: p.kind, Part: part, Err: err}
	}
}

func (p *parser) field(part string) string {
	if p.done {
		p.fail(part, ErrFields)
		return ""
	}
	f, rest, more := strings.Cut(p.rest, ":")
	p.rest, p.done = rest, !more
	return f
}

func (p *parser) end() {
	if !p.done {
		p.fail("", ErrFields)
	}
}

// extension takes whatever stands behind an MDMF fingerprint, as Tahoe does.
func (p *parser) extension() string {
	if p.done {
		return ""
	}
	p.done = true
	return ":" + p.rest
}

func (p *parser) base32(part string) []byte {
	b, err := taghash.DecodeBase32(p.field(part))
	if err != nil {
		p.fail(part, ErrBase32)
	}
	return b
}

func (p *parser) pair(first string) (k [16]byte, h [32]byte) {
	if copy(k[:], p.sized(first, len(k))) != len(k) {
		return k, h
	}
	copy(h[:], p.sized("hash", len(h)))
	return k, h
}

func (p *parser) sized(part string, n int) []byte {
	b := p.base32(part)
	if len(b) != n {
		p.fail(part, ErrLength)
		return nil
	}
	return b
}

func (p *parser) number(part string, limit uint64) uint64 {
	f := p.field(part)
	n, err := strconv.ParseUint(f, 10, 64)
	// The second spelling of a number ("03", "+3") would be a second cap.
	if err != nil || n > limit || strconv.FormatUint(n, 10) != f {
		p.fail(part, ErrNumber)
		return 0
	}
	return n
}

func (p *parser) encoding() (needed, total int, size uint64) {
	needed = int(p.number("needed shares", math.MaxInt32))
	total = int(p.number("total shares", math.MaxInt32))
	// Offsets into files are int64 in Go's own interfaces.
	size = p.number("size", math.MaxInt64)
	if p.err == nil && (needed < 1 || total > 256 || needed > total) {
		p.fail("shares", ErrEncoding)
	}
	p.end()
	return needed, total, size
}

func (p *parser) chk() CHK {
	k, h := p.pair("key")
	needed, total, size := p.encoding()
	return CHK{k, h, needed, total, size}
}

func (p *parser) chkVerify() CHKVerify {
	k, h := p.pair("storage index")
	needed, total, size := p.encoding()
	return CHKVerify{k, h, needed, total, size}
}

func (p *parser) lit() LIT {
	data := p.base32("data")
	p.end()
	return LIT{data}
}
