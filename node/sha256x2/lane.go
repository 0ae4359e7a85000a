package sha256x2

import "encoding/binary"

const (
	blockSize = 64
	// stretch bounds one call of compress, which cannot be interrupted: whoever
	// stops the world waits for it, here 40 µs.
	stretch = 64 << 10
)

// lane is one digest on its way. Its method names follow FIPS 180-4.
type lane struct {
	state   [8]uint32
	partial [blockSize]byte // the first size%blockSize bytes of a block
	size    uint64
}

func (l *lane) reset() {
	*l = lane{state: [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}}
}

// take splits off data the whole blocks that come next, which lie in data or in
// l.partial and must be compressed before the next call. None means that data is
// used up; what makes no whole block has been kept.
func (l *lane) take(data []byte) (blocks, rest []byte) {
	kept := int(l.size % blockSize)
	whole := len(data) / blockSize * blockSize
	if kept == 0 && whole > 0 {
		l.size += uint64(whole)
		return data[:whole], data[whole:]
	}
	n := copy(l.partial[kept:], data)
	l.size += uint64(n)
	if kept+n < blockSize {
		return nil, nil
	}
	return l.partial[:], data[n:]
}

// feed adds p to a and q to b, side by side as long as there is something of both.
func feed(a, b *lane, p, q []byte) {
	var of, with []byte // blocks of a, of b
	var nobody [8]uint32
	for {
		if len(of) == 0 {
			of, p = a.take(p)
		}
		if len(with) == 0 {
			with, q = b.take(q)
		}
		n := min(len(of), len(with), stretch)
		switch {
		case n > 0:
			compress(&a.state, &b.state, of[:n], with[:n])
			of, with = of[n:], with[n:]
		case len(of) > 0:
			n = min(len(of), stretch)
			compress(&a.state, &nobody, of[:n], of[:n])
			of = of[n:]
		case len(with) > 0:
			n = min(len(with), stretch)
			compress(&nobody, &b.state, with[:n], with[:n])
			with = with[n:]
		default:
			return
		}
	}
}

// digests ends both lanes, which are of no use after that.
func digests(a, b *lane) (_, _ [Size]byte) {
	var p, q [blockSize + 8]byte
	feed(a, b, a.padding(&p), b.padding(&q))
	return a.output(), b.output()
}

// padding is what FIPS 180-4, 5.1.1 puts behind a message to make it whole blocks.
func (l *lane) padding(in *[blockSize + 8]byte) []byte {
	in[0] = 0x80
	n := blockSize - 8 - int(l.size%blockSize)
	if n <= 0 {
		n += blockSize
	}
	binary.BigEndian.PutUint64(in[n:], l.size*8)
	return in[:n+8]
}

func (l *lane) output() (out [Size]byte) {
	for i, w := range l.state {
		binary.BigEndian.PutUint32(out[4*i:], w)
	}
	return out
}
