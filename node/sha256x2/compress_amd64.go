//go:build !purego

package sha256x2

import "github.com/klauspost/cpuid/v2"

// built says that compress is in this binary, supported that this CPU can run it.
const built = true

var supported = cpuid.CPU.Supports(cpuid.SHA, cpuid.SSSE3, cpuid.SSE4)

// compress puts whole blocks through the states a and b side by side: p through a,
// q, which is as long, through b.
//
//go:noescape
func compress(a, b *[8]uint32, p, q []byte)
