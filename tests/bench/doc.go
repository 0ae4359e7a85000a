// Package bench measures what we may publish, between separate processes on this
// machine's loopback: five storage servers that sync every share to disk, encoding
// 3-of-5, and the web API that users have.
//
// Rates stand beside the rate at which the same machine, in the same run, computes
// SHA-256 on one core ("of-sha256"), so that two machines, or a busy and an idle
// one, can be compared. `make bench` runs it.
package bench
