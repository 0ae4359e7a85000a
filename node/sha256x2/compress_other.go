//go:build !amd64 || purego

package sha256x2

const built, supported = false, false

// compress is never called where nothing is supported.
func compress(_, _ *[8]uint32, _, _ []byte) { panic("sha256x2: not supported") }
