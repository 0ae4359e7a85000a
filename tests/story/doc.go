// Package story tests warren as its users meet it: separate processes of the built
// binary on loopback, a grid of several servers, a mailbox, an operator and
// newcomers, killed and restarted at bad moments.
//
// house_test.go starts and ends them. Every grid, when its test ends, checks that
// no capability, FURL, swissnum, token or code stands in anything that any of its
// processes logged or said on standard error.
package story
