package erasure

// field holds the logarithms of GF(2^8) over x^8+x^4+x^3+x^2+1 (0x11d), base
// alpha = x.
type field struct {
	exp [510]byte // exp[i] = alpha^i, twice over so that sums of two logs need no reduction
	log [256]int
}

func newField() *field {
	f := new(field)
	x := 1
	for i := range 255 {
		f.exp[i], f.exp[i+255] = byte(x), byte(x)
		f.log[x] = i
		if x <<= 1; x > 255 {
			x ^= 0x11d
		}
	}
	return f
}

func (f *field) mul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return f.exp[f.log[a]+f.log[b]]
}

func (f *field) inv(a byte) byte { return f.exp[255-f.log[a]] }

// vandermonde is zfec's starting matrix: row 0 is the point zero, row r > 0 the
// point alpha^(r-1).
func (f *field) vandermonde(n, k int) [][]byte {
	m := make([][]byte, n)
	for r := range m {
		m[r] = make([]byte, k)
		if r == 0 {
			m[r][0] = 1
			continue
		}
		for c := range m[r] {
			m[r][c] = f.exp[(r-1)*c%255]
		}
	}
	return m
}

// invert returns the inverse of the square matrix m, which is used up. The top
// of a Vandermonde matrix with distinct points is never singular.
func (f *field) invert(m [][]byte) [][]byte {
	k := len(m)
	out := make([][]byte, k)
	for i := range out {
		out[i] = make([]byte, k)
		out[i][i] = 1
	}
	for c := range k {
		p := c
		for m[p][c] == 0 {
			p++
		}
		m[c], m[p] = m[p], m[c]
		out[c], out[p] = out[p], out[c]
		s := f.inv(m[c][c])
		for j := range k {
			m[c][j], out[c][j] = f.mul(m[c][j], s), f.mul(out[c][j], s)
		}
		for r := range k {
			s := m[r][c]
			if r == c || s == 0 {
				continue
			}
			for j := range k {
				m[r][j] ^= f.mul(s, m[c][j])
				out[r][j] ^= f.mul(s, out[c][j])
			}
		}
	}
	return out
}

// parity is the last n-k rows of zfec's systematic matrix.
func parity(k, n int) [][]byte {
	f := newField()
	v := f.vandermonde(n, k)
	top := make([][]byte, k)
	for i := range top {
		top[i] = append([]byte(nil), v[i]...)
	}
	inv := f.invert(top)
	out := make([][]byte, n-k)
	for r := range out {
		out[r] = make([]byte, k)
		for j, s := range v[k+r] {
			if s == 0 {
				continue
			}
			for c := range k {
				out[r][c] ^= f.mul(s, inv[j][c])
			}
		}
	}
	return out
}
