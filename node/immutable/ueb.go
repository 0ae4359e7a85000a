package immutable

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"warren/node/taghash"
)

// maxUEB bounds a UEB. Tahoe's are about 420 bytes and its reader refuses 2000.
const maxUEB = 2000

// ErrMalformed says that a share, or a part of one, cannot be what it claims to be.
var ErrMalformed = errors.New("immutable: malformed share")

// UEB is the URI extension block: what a reader must know of a file beyond its
// capability, which holds the UEB's hash. A UEB that hashes right says what the
// uploader wanted to say, and the uploader may be hostile: see shape.
type UEB struct {
	CodecName       string // "crs"
	CodecParams     string // "SEGMENTSIZE-K-N"
	TailCodecParams string // the same for the last segment, its size rounded up to a multiple of k
	Size            uint64
	SegmentSize     uint64
	NumSegments     uint64
	NeededShares    int
	TotalShares     int
	CrypttextHash   [32]byte
	CrypttextRoot   [32]byte
	ShareRoot       [32]byte
}

// newUEB fills in what follows from the encoding; the hashes are still zero.
func newUEB(s shape) UEB {
	return UEB{
		CodecName:       "crs",
		CodecParams:     codecParams(s.segmentSize, s.k, s.n),
		TailCodecParams: codecParams(nextMultiple(s.tailSize(), uint64(s.k)), s.k, s.n),
		Size:            s.size,
		SegmentSize:     s.segmentSize,
		NumSegments:     uint64(s.segments),
		NeededShares:    s.k,
		TotalShares:     s.n,
	}
}

func codecParams(size uint64, k, n int) string { return fmt.Sprintf("%d-%d-%d", size, k, n) }

// Format is the UEB's bytes.
func (u UEB) Format() []byte {
	var out []byte
	add := func(key string, value []byte) {
		out = append(out, key...)
		out = append(out, ':')
		out = append(out, taghash.Netstring(value)...)
	}
	num := func(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }
	add("codec_name", []byte(u.CodecName))
	add("codec_params", []byte(u.CodecParams))
	add("crypttext_hash", u.CrypttextHash[:])
	add("crypttext_root_hash", u.CrypttextRoot[:])
	add("needed_shares", num(uint64(u.NeededShares)))
	add("num_segments", num(u.NumSegments))
	add("segment_size", num(u.SegmentSize))
	add("share_root_hash", u.ShareRoot[:])
	add("size", num(u.Size))
	add("tail_codec_params", []byte(u.TailCodecParams))
	add("total_shares", num(uint64(u.TotalShares)))
	return out
}

// ParseUEB reads a UEB. Keys that it does not know are skipped (files from before
// Tahoe 1.3 carry plaintext hashes); those that it does must be there, once.
func ParseUEB(b []byte) (UEB, error) {
	var u UEB
	if len(b) > maxUEB {
		return u, fmt.Errorf("%w: UEB of %d bytes", ErrMalformed, len(b))
	}
	fields := map[string][]byte{}
	for rest := b; len(rest) > 0; {
		key, after, ok := bytes.Cut(rest, []byte(":"))
		if !ok || len(key) == 0 {
			return u, fmt.Errorf("%w: UEB key", ErrMalformed)
		}
		value, after, err := cutNetstring(after)
		if err != nil {
			return u, err
		}
		if _, twice := fields[string(key)]; twice {
			return u, fmt.Errorf("%w: UEB repeats a key", ErrMalformed)
		}
		fields[string(key)] = value
		rest = after
	}
	var err error
	get := func(key string) []byte {
		v, ok := fields[key]
		if !ok && err == nil {
			err = fmt.Errorf("%w: UEB without %s", ErrMalformed, key)
		}
		return v
	}
	number := func(key string) uint64 {
		v := get(key)
		n, e := strconv.ParseUint(string(v), 10, 63)
		if err == nil && (e != nil || strconv.FormatUint(n, 10) != string(v)) {
			err = fmt.Errorf("%w: UEB's %s", ErrMalformed, key)
		}
		return n
	}
	hash := func(key string) (h [32]byte) {
		v := get(key)
		if err == nil && len(v) != len(h) {
			err = fmt.Errorf("%w: UEB's %s", ErrMalformed, key)
		}
		copy(h[:], v)
		return h
	}
	count := func(key string) int {
		n := number(key)
		if err == nil && n > 256 {
			err = fmt.Errorf("%w: UEB's %s", ErrMalformed, key)
		}
		return int(n)
	}
	u = UEB{
		CodecName:       string(get("codec_name")),
		CodecParams:     string(get("codec_params")),
		TailCodecParams: string(get("tail_codec_params")),
		Size:            number("size"),
		SegmentSize:     number("segment_size"),
		NumSegments:     number("num_segments"),
		NeededShares:    count("needed_shares"),
		TotalShares:     count("total_shares"),
		CrypttextHash:   hash("crypttext_hash"),
		CrypttextRoot:   hash("crypttext_root_hash"),
		ShareRoot:       hash("share_root_hash"),
	}
	if err != nil {
		return UEB{}, err
	}
	return u, nil
}

func cutNetstring(b []byte) (value, rest []byte, err error) {
	digits, rest, ok := bytes.Cut(b, []byte(":"))
	n, e := strconv.ParseUint(string(digits), 10, 16)
	if !ok || e != nil || strconv.FormatUint(n, 10) != string(digits) || uint64(len(rest)) <= n || rest[n] != ',' {
		return nil, nil, fmt.Errorf("%w: UEB value", ErrMalformed)
	}
	return rest[:n], rest[n+1:], nil
}

// shape derives the file's shape from the UEB, for a capability that says k, n
// and size. These three are the capability's to decide; a UEB that says otherwise
// belongs to another encoding of the same file.
func (u UEB) shape(k, n int, size uint64) (shape, error) {
	s, err := newShape(k, n, size, u.SegmentSize)
	if err != nil {
		return s, err
	}
	if want := newUEB(s); u.CodecName != want.CodecName || u.CodecParams != want.CodecParams ||
		u.TailCodecParams != want.TailCodecParams || u.Size != want.Size ||
		u.NumSegments != want.NumSegments || u.NeededShares != k || u.TotalShares != n {
		return shape{}, fmt.Errorf("%w: UEB does not fit its capability", ErrMalformed)
	}
	return s, nil
}
