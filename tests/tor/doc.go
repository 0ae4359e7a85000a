// Package tor tests warren over a private Tor network on loopback (tests/tornet),
// as its users meet it: separate processes of the built binary, every service an
// onion service, newcomers that join through Tor.
//
// house_test.go makes the network and one grid on it, which all the stories of
// tor_test.go share. Every process says at its end which connections it made, and
// a single direct one fails the test; what runs in a network namespace is watched
// packet by packet.
package tor
