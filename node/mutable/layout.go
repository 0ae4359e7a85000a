package mutable

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The fixed parts of a share.
const (
	versionSDMF    = 0
	checkstringLen = 57
	prefixLen      = 75
	headerLen      = 107

	ivOffset   = 41
	chainEntry = 2 + 32
)

// Limits on what a share may claim. Tahoe's keys are of 2048 bits (294 bytes
// public, 1220 private, 256 of signature), a chain has at most 8 nodes and the
// block hash tree one; the room above is for others' keys and for MDMF-like
// trees, the limit for memory.
const (
	maxPublicKey  = 2 << 10
	maxSignature  = 1 << 10
	maxChain      = 64 * chainEntry
	maxBlockTree  = 64 * 32
	maxPrivateKey = 8 << 10
)

// MaxSize is the largest file: it is held in memory whole, several times over
// while it is encoded.
const MaxSize = 256 << 20

var (
	errShare   = errors.New("mutable: malformed share")
	errVersion = errors.New("mutable: a share is not in the format SDMF")
)

// Header is the signed part of a share.
type Header struct {
	Seqnum        uint64
	RootHash      [32]byte
	IV            [16]byte
	Needed, Total int // k of n
	SegmentSize   uint64
	DataLength    uint64
}

// prefix is a header as it is signed. Compared as bytes it orders versions as
// Tahoe does: by sequence number, then by root hash.
type prefix [prefixLen]byte

// newHeader fills in what follows from the encoding and the length.
func newHeader(seqnum uint64, iv [16]byte, k, n int, length uint64) Header {
	return Header{Seqnum: seqnum, IV: iv, Needed: k, Total: n, SegmentSize: roundUp(length, uint64(k)), DataLength: length}
}

func roundUp(n, k uint64) uint64 { return (n + k - 1) / k * k }

// blockSize is the length of each share's block.
func (h Header) blockSize() uint64 { return h.SegmentSize / uint64(h.Needed) }

func (h Header) prefix() (p prefix) {
	b := append(p[:0], versionSDMF)
	b = binary.BigEndian.AppendUint64(b, h.Seqnum)
	b = append(b, h.RootHash[:]...)
	b = append(b, h.IV[:]...)
	b = append(b, byte(h.Needed), byte(h.Total))
	b = binary.BigEndian.AppendUint64(b, h.SegmentSize)
	binary.BigEndian.AppendUint64(b, h.DataLength)
	return p
}

// header takes a prefix apart again.
func (p prefix) header() Header {
	be := binary.BigEndian
	return Header{
		Seqnum: be.Uint64(p[1:]), RootHash: [32]byte(p[9:]), IV: [16]byte(p[ivOffset:]),
		Needed: int(p[57]), Total: int(p[58]), SegmentSize: be.Uint64(p[59:]), DataLength: be.Uint64(p[67:]),
	}
}

// offsets delimit the parts behind the header, in their order.
type offsets struct {
	signature, chain, blocks, data, privateKey, end uint64
}

// parseHeader reads the first headerLen bytes of a share and checks everything
// that can be checked without a key.
func parseHeader(b []byte) (Header, offsets, error) {
	var h Header
	var o offsets
	if len(b) < headerLen {
		if len(b) > 0 && b[0] != versionSDMF {
			return h, o, fmt.Errorf("%w: %d", errVersion, b[0])
		}
		return h, o, fmt.Errorf("%w: %d bytes are no header", errShare, len(b))
	}
	if b[0] != versionSDMF {
		return h, o, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	be := binary.BigEndian
	h = prefix(b[:prefixLen]).header()
	o = offsets{
		signature: uint64(be.Uint32(b[75:])), chain: uint64(be.Uint32(b[79:])), blocks: uint64(be.Uint32(b[83:])),
		data: uint64(be.Uint32(b[87:])), privateKey: be.Uint64(b[91:]), end: be.Uint64(b[99:]),
	}
	switch {
	case h.Needed < 1 || h.Total < h.Needed:
		return h, o, fmt.Errorf("%w: encoding %d of %d", errShare, h.Needed, h.Total)
	case h.DataLength > MaxSize:
		return h, o, fmt.Errorf("%w: %d bytes", ErrTooLarge, h.DataLength)
	case h.SegmentSize != roundUp(h.DataLength, uint64(h.Needed)):
		return h, o, fmt.Errorf("%w: segment of %d for %d bytes in %d blocks", errShare, h.SegmentSize, h.DataLength, h.Needed)
	}
	at := uint64(headerLen)
	for _, part := range []struct {
		name           string
		end, unit, max uint64
	}{
		{"public key", o.signature, 1, maxPublicKey},
		{"signature", o.chain, 1, maxSignature},
		{"share hash chain", o.blocks, chainEntry, maxChain},
		{"block hash tree", o.data, 32, maxBlockTree},
		{"block", o.privateKey, 1, h.blockSize()},
		{"private key", o.end, 1, maxPrivateKey},
	} {
		if part.end < at || part.end-at > part.max || (part.end-at)%part.unit != 0 {
			return h, o, fmt.Errorf("%w: %s from %d to %d", errShare, part.name, at, part.end)
		}
		at = part.end
	}
	if o.privateKey-o.data != h.blockSize() {
		return h, o, fmt.Errorf("%w: block of %d bytes, not %d", errShare, o.privateKey-o.data, h.blockSize())
	}
	return h, o, nil
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
	Block      []byte
	PrivateKey []byte // encrypted
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
	return Share{
		Header: h, PublicKey: b[headerLen:o.signature], Signature: b[o.signature:o.chain],
		Chain: parseChain(b[o.chain:o.blocks]), BlockTree: parseHashes(b[o.blocks:o.data]),
		Block: b[o.data:o.privateKey], PrivateKey: b[o.privateKey:o.end],
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
	var o offsets
	o.signature = headerLen + uint64(len(s.PublicKey))
	o.chain = o.signature + uint64(len(s.Signature))
	o.blocks = o.chain + chainEntry*uint64(len(s.Chain))
	o.data = o.blocks + 32*uint64(len(s.BlockTree))
	o.privateKey = o.data + uint64(len(s.Block))
	o.end = o.privateKey + uint64(len(s.PrivateKey))

	be := binary.BigEndian
	p := s.prefix()
	b := append(make([]byte, 0, o.end), p[:]...)
	for _, v := range []uint64{o.signature, o.chain, o.blocks, o.data} {
		b = be.AppendUint32(b, uint32(v))
	}
	b = be.AppendUint64(b, o.privateKey)
	b = be.AppendUint64(b, o.end)
	b = append(b, s.PublicKey...)
	b = append(b, s.Signature...)
	for _, n := range s.Chain {
		b = be.AppendUint16(b, uint16(n.Node))
		b = append(b, n.Hash[:]...)
	}
	for _, h := range s.BlockTree {
		b = append(b, h[:]...)
	}
	b = append(b, s.Block...)
	return append(b, s.PrivateKey...)
}
