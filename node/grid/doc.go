// Package grid keeps the connected storage servers of a grid and answers, for a
// storage index, in which order Tahoe asks them.
//
// A Grid is told of servers (Announce, AddLocal), keeps a connection state for
// each through the Connect function that it was given, and hands them out in
// permuted order (Permuted). It knows no protocol and dials nothing: package
// node gives it both. Call New first, Close last.
//
// Idle servers are left alone: a server is asked for its version when it is
// announced, when one of its calls failed in transport, and every few minutes;
// a server that does not answer is tried again with backoff, and at once (but
// not more than every two seconds) when somebody needs servers.
//
// Placement of shares, servers of happiness, is the pure part: happiness.go.
package grid
