package mutable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"warren/node/hashtree"
	"warren/node/storage"
)

// Format is how a mutable file is kept; the value is the first byte of its shares.
type Format byte

// The formats. SDMF files have one segment, MDMF files one for each 128 KiB.
const (
	SDMF Format = 0
	MDMF Format = 1
)

func (f Format) String() string {
	switch f {
	case SDMF:
		return "SDMF"
	case MDMF:
		return "MDMF"
	}
	return fmt.Sprintf("format %d", byte(f))
}

// The fixed parts of a share.
const (
	sdmfCheckstring = 57
	sdmfPrefix      = 75
	sdmfHeader      = 107

	mdmfCheckstring = 41
	mdmfPrefix      = 59
	mdmfHeader      = 123
	// mdmfData is where Tahoe puts the first block: behind room for a private key of
	// 1220 bytes, a signature of 260, a public key of 292 and a chain of 8 nodes.
	mdmfData = mdmfHeader + 1220 + 260 + 292 + 8*chainEntry

	ivOffset   = 41
	saltLen    = 16
	chainEntry = 2 + 32
)

// segmentSize is the length of MDMF segments, before it is rounded up to k.
const segmentSize = 128 << 10

// Limits on what a share may claim. Tahoe's keys are of 2048 bits (294 bytes
// public, 1220 private, 256 of signature), a chain has at most 8 nodes and SDMF's
// block hash tree one; the room above is for others' keys, the limit for memory.
const (
	maxPublicKey  = 2 << 10
	maxSignature  = 1 << 10
	maxChain      = 64 * chainEntry
	maxSDMFTree   = 64 * 32
	maxPrivateKey = 8 << 10
	maxGap        = 64 << 10
	maxSegment    = 16 << 20
	// maxSegments keeps the hash trees of one share at 64 MiB.
	maxSegments = 1 << 20
)

// MaxSize is the largest file that is written or read whole: it is held in memory,
// several times over while it is encoded. MDMF files may be larger: File reads
// them and Update changes them by the segment.
const MaxSize = 256 << 20

var (
	errShare   = errors.New("mutable: malformed share")
	errVersion = errors.New("mutable: a share is neither SDMF nor MDMF")
)

// Header is the signed part of a share.
type Header struct {
	Format        Format
	Seqnum        uint64
	RootHash      [32]byte
	IV            [16]byte // SDMF; MDMF has a salt for each segment, beside its blocks
	Needed, Total int      // k of n
	SegmentSize   uint64
	DataLength    uint64
}

// prefix is a header as it is signed, with zeros behind that of MDMF.
type prefix [sdmfPrefix]byte

func (p prefix) format() Format { return Format(p[0]) }

// signed is what the signature is over.
func (p prefix) signed() []byte {
	if p.format() == MDMF {
		return p[:mdmfPrefix]
	}
	return p[:]
}

// checkstring is what a writer tests: it differs between any two versions.
func (p prefix) checkstring() []byte {
	if p.format() == MDMF {
		return p[:mdmfCheckstring]
	}
	return p[:sdmfCheckstring]
}

// compare orders versions as Tahoe does: by sequence number, then by root hash.
func (p prefix) compare(q prefix) int { return bytes.Compare(p[1:], q[1:]) }

// newHeader fills in what follows from the encoding and the length.
func newHeader(format Format, seqnum uint64, iv [16]byte, k, n int, length uint64) Header {
	h := Header{Format: format, Seqnum: seqnum, IV: iv, Needed: k, Total: n, DataLength: length}
	h.SegmentSize = roundUp(length, uint64(k))
	if format == MDMF {
		h.SegmentSize, h.IV = roundUp(segmentSize, uint64(k)), [16]byte{}
	}
	return h
}

func roundUp(n, k uint64) uint64 { return (n + k - 1) / k * k }

// segments is the number of segments; an empty file has none.
func (h Header) segments() int {
	if h.DataLength == 0 {
		return 0
	}
	return int((h.DataLength + h.SegmentSize - 1) / h.SegmentSize)
}

// segment is the place of a segment in the file.
func (h Header) segment(i int) (from, to uint64) {
	from = uint64(i) * h.SegmentSize
	return from, min(from+h.SegmentSize, h.DataLength)
}

// salt is the length of what stands before each block.
func (h Header) salt() uint64 {
	if h.Format == MDMF {
		return saltLen
	}
	return 0
}

// blockSize is the length of one segment's block in each share, without its salt.
func (h Header) blockSize(i int) uint64 {
	from, to := h.segment(i)
	return roundUp(to-from, uint64(h.Needed)) / uint64(h.Needed)
}

// blockAt is where a segment's salt and block begin in the share data; for the
// number of segments, where the data ends.
func (h Header) blockAt(i int) uint64 {
	if i == 0 {
		return 0
	}
	return uint64(i-1)*(h.SegmentSize/uint64(h.Needed)+h.salt()) + h.salt() + h.blockSize(i-1)
}

// dataSize is the length of the share data.
func (h Header) dataSize() uint64 { return h.blockAt(h.segments()) }

func (h Header) prefix() (p prefix) {
	b := append(p[:0], byte(h.Format))
	b = binary.BigEndian.AppendUint64(b, h.Seqnum)
	b = append(b, h.RootHash[:]...)
	if h.Format == SDMF {
		b = append(b, h.IV[:]...)
	}
	b = append(b, byte(h.Needed), byte(h.Total))
	b = binary.BigEndian.AppendUint64(b, h.SegmentSize)
	binary.BigEndian.AppendUint64(b, h.DataLength)
	return p
}

// header takes a prefix apart again.
func (p prefix) header() Header {
	be := binary.BigEndian
	h := Header{Format: p.format(), Seqnum: be.Uint64(p[1:]), RootHash: [32]byte(p[9:])}
	rest := p[ivOffset:]
	if h.Format == SDMF {
		h.IV, rest = [16]byte(rest), rest[16:]
	}
	h.Needed, h.Total = int(rest[0]), int(rest[1])
	h.SegmentSize, h.DataLength = be.Uint64(rest[2:]), be.Uint64(rest[10:])
	return h
}

// span is a part of a share.
type span struct{ from, to uint64 }

func (s span) size() uint64 { return s.to - s.from }

// offsets are the parts behind the header. They are not signed, and may differ
// between shares of one version.
type offsets struct {
	publicKey, signature, chain, tree, data, privateKey span
	end                                                 uint64
}

// parseHeader reads the first bytes of a share and checks everything that can be
// checked without a key.
func parseHeader(b []byte) (Header, offsets, error) {
	var h Header
	var o offsets
	if len(b) == 0 {
		return h, o, fmt.Errorf("%w: empty", errShare)
	}
	format := Format(b[0])
	size := sdmfHeader
	switch format {
	case SDMF:
	case MDMF:
		size = mdmfHeader
	default:
		return h, o, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	if len(b) < size {
		return h, o, fmt.Errorf("%w: %d bytes are no header", errShare, len(b))
	}
	var p prefix
	if format == MDMF {
		copy(p[:], b[:mdmfPrefix])
	} else {
		copy(p[:], b)
	}
	h = p.header()
	if err := h.check(); err != nil {
		return h, o, err
	}
	var err error
	if format == MDMF {
		o, err = mdmfOffsets(h, b)
	} else {
		o, err = sdmfOffsets(h, b)
	}
	return h, o, err
}

// check is about the numbers of the header itself.
func (h Header) check() error {
	if h.Needed < 1 || h.Total < h.Needed {
		return fmt.Errorf("%w: encoding %d of %d", errShare, h.Needed, h.Total)
	}
	if h.Format == MDMF {
		switch {
		case h.SegmentSize == 0 || h.SegmentSize > maxSegment || h.SegmentSize%uint64(h.Needed) != 0:
			return fmt.Errorf("%w: segments of %d in %d blocks", errShare, h.SegmentSize, h.Needed)
		case h.DataLength > maxSegments*h.SegmentSize:
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, h.DataLength)
		}
		return nil
	}
	switch {
	case h.DataLength > MaxSize:
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, h.DataLength)
	case h.SegmentSize != roundUp(h.DataLength, uint64(h.Needed)):
		return fmt.Errorf("%w: segment of %d for %d bytes in %d blocks", errShare, h.SegmentSize, h.DataLength, h.Needed)
	}
	return nil
}

// part is a span with what it may be.
type part struct {
	name      string
	span      *span
	to        uint64
	unit, max uint64
}

// consecutive sets the spans, one behind the other.
func consecutive(at uint64, parts []part) error {
	for _, p := range parts {
		if p.to < at || p.to-at > p.max || (p.to-at)%p.unit != 0 {
			return fmt.Errorf("%w: %s from %d to %d", errShare, p.name, at, p.to)
		}
		*p.span = span{at, p.to}
		at = p.to
	}
	return nil
}

func sdmfOffsets(h Header, b []byte) (o offsets, err error) {
	be := binary.BigEndian
	short := func(at int) uint64 { return uint64(be.Uint32(b[at:])) }
	o.end = be.Uint64(b[99:])
	if err := consecutive(sdmfHeader, []part{
		{"public key", &o.publicKey, short(75), 1, maxPublicKey},
		{"signature", &o.signature, short(79), 1, maxSignature},
		{"share hash chain", &o.chain, short(83), chainEntry, maxChain},
		{"block hash tree", &o.tree, short(87), 32, maxSDMFTree},
		{"block", &o.data, be.Uint64(b[91:]), 1, h.dataSize()},
		{"private key", &o.privateKey, o.end, 1, maxPrivateKey},
	}); err != nil {
		return o, err
	}
	if o.data.size() != h.dataSize() {
		return o, fmt.Errorf("%w: block of %d bytes, not %d", errShare, o.data.size(), h.dataSize())
	}
	return o, nil
}

func mdmfOffsets(h Header, b []byte) (o offsets, err error) {
	be := binary.BigEndian
	at := func(i int) uint64 { return be.Uint64(b[mdmfPrefix+8*i:]) }
	if at(0) != mdmfHeader {
		return o, fmt.Errorf("%w: private key at %d", errShare, at(0))
	}
	var gap span
	o.end = at(7)
	if err := consecutive(mdmfHeader, []part{
		{"private key", &o.privateKey, at(1), 1, maxPrivateKey},
		{"share hash chain", &o.chain, at(2), chainEntry, maxChain},
		{"signature", &o.signature, at(3), 1, maxSignature},
		{"public key", &o.publicKey, at(4), 1, maxPublicKey},
		{"room", &gap, at(5), 1, maxGap},
		{"share data", &o.data, at(6), 1, h.dataSize()},
		{"block hash tree", &o.tree, o.end, 32, 32 * uint64(hashtree.Size(h.segments()))},
	}); err != nil {
		return o, err
	}
	if o.data.size() != h.dataSize() {
		return o, fmt.Errorf("%w: data of %d bytes, not %d", errShare, o.data.size(), h.dataSize())
	}
	if o.tree.size() != 32*uint64(hashtree.Size(h.segments())) {
		return o, fmt.Errorf("%w: block hash tree of %d bytes for %d segments", errShare, o.tree.size(), h.segments())
	}
	return o, nil
}

// ChainNode is a node of the share hash tree.
type ChainNode struct {
	Node int
	Hash [32]byte
}

// Share is one share of one version, taken apart.
type Share struct {
	Header
	PublicKey  []byte // SubjectPublicKeyInfo
	Signature  []byte
	Chain      []ChainNode
	BlockTree  [][32]byte
	Data       []byte // the block; of MDMF, each segment's salt and block
	PrivateKey []byte // encrypted
	dataAt     uint64 // MDMF: where Data begins
}

// ParseShare takes a whole share apart. It checks the layout only: neither
// signature nor hashes. Bytes behind the end are left alone: a server that held
// a longer version before may still have them.
func ParseShare(b []byte) (Share, error) {
	h, o, err := parseHeader(b)
	if err != nil {
		return Share{}, err
	}
	if uint64(len(b)) < o.end {
		return Share{}, fmt.Errorf("%w: %d bytes of %d", errShare, len(b), o.end)
	}
	in := func(s span) []byte { return b[s.from:s.to] }
	return Share{
		Header: h, PublicKey: in(o.publicKey), Signature: in(o.signature),
		Chain: parseChain(in(o.chain)), BlockTree: parseHashes(in(o.tree)),
		Data: in(o.data), PrivateKey: in(o.privateKey), dataAt: o.data.from,
	}, nil
}

// parseChain and parseHashes take lengths that parseHeader has checked.
func parseChain(b []byte) []ChainNode {
	nodes := make([]ChainNode, 0, len(b)/chainEntry)
	for ; len(b) > 0; b = b[chainEntry:] {
		nodes = append(nodes, ChainNode{int(binary.BigEndian.Uint16(b)), [32]byte(b[2:])})
	}
	return nodes
}

func parseHashes(b []byte) [][32]byte {
	hashes := make([][32]byte, 0, len(b)/32)
	for ; len(b) > 0; b = b[32:] {
		hashes = append(hashes, [32]byte(b))
	}
	return hashes
}

// Marshal is the share as servers keep it.
func (s Share) Marshal() []byte {
	head, tail := s.frame()
	return slices.Concat(head, s.Data, tail)
}

// writes is Marshal without copying the data, and the length.
func (s Share) writes() ([]storage.WriteVector, uint64) {
	head, tail := s.frame()
	data, end := uint64(len(head)), uint64(len(head)+len(s.Data))
	return []storage.WriteVector{{Data: head}, {Offset: data, Data: s.Data}, {Offset: end, Data: tail}}, end + uint64(len(tail))
}

// frame is what stands before the data and what stands behind.
func (s Share) frame() (head, tail []byte) {
	if s.Format == MDMF {
		return s.mdmfHead(uint64(len(s.Data))), appendHashes(nil, s.BlockTree)
	}
	be := binary.BigEndian
	signature := sdmfHeader + uint64(len(s.PublicKey))
	chain := signature + uint64(len(s.Signature))
	tree := chain + chainEntry*uint64(len(s.Chain))
	data := tree + 32*uint64(len(s.BlockTree))
	privateKey := data + uint64(len(s.Data))

	p := s.prefix()
	b := append(make([]byte, 0, data), p[:]...)
	for _, v := range []uint64{signature, chain, tree, data} {
		b = be.AppendUint32(b, uint32(v))
	}
	b = be.AppendUint64(b, privateKey)
	b = be.AppendUint64(b, privateKey+uint64(len(s.PrivateKey)))
	b = append(b, s.PublicKey...)
	b = append(b, s.Signature...)
	b = appendChain(b, s.Chain)
	return appendHashes(b, s.BlockTree), s.PrivateKey
}

// mdmfHead is all that stands before data of that length, up to its first byte.
func (s Share) mdmfHead(dataSize uint64) []byte {
	be := binary.BigEndian
	chain := mdmfHeader + uint64(len(s.PrivateKey))
	signature := chain + chainEntry*uint64(len(s.Chain))
	publicKey := signature + uint64(len(s.Signature))
	publicEnd := publicKey + uint64(len(s.PublicKey))
	data := max(publicEnd, mdmfData)
	if s.dataAt != 0 {
		data = s.dataAt
	}
	tree := data + dataSize

	p := s.prefix()
	b := append(make([]byte, 0, data), p.signed()...)
	for _, v := range []uint64{mdmfHeader, chain, signature, publicKey, publicEnd, data, tree, tree + 32*uint64(len(s.BlockTree))} {
		b = be.AppendUint64(b, v)
	}
	b = append(b, s.PrivateKey...)
	b = appendChain(b, s.Chain)
	b = append(b, s.Signature...)
	b = append(b, s.PublicKey...)
	return append(b, make([]byte, data-publicEnd)...)
}

func appendChain(b []byte, chain []ChainNode) []byte {
	for _, n := range chain {
		b = binary.BigEndian.AppendUint16(b, uint16(n.Node))
		b = append(b, n.Hash[:]...)
	}
	return b
}

func appendHashes(b []byte, hashes [][32]byte) []byte {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}
