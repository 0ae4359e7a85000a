// Package arch holds the structural rules of this tree as tests, each with its
// reason: who may import whom, who may touch the network, and that every package
// says what it is.
package arch
