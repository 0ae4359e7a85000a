package grid

import "warren/node/storage"

// Server is one connected storage server, as uploads and downloads see it. It
// is a value: the Client inside stays usable after the server disconnects, its
// calls then fail.
type Server struct {
	// ID is the server's announced identity: "v0-" and the base32 of its Ed25519
	// public key, or, for a server without one, its tub id. Unique in a grid.
	ID string
	// Nickname is what the server calls itself. Foreign text: clean it before a terminal.
	Nickname string
	// PermutationSeed places the server in Tahoe's permuted ring.
	PermutationSeed []byte
	// LeaseSeed is the 20-byte tub id, from which bucket lease secrets and write
	// enablers for this server are derived.
	LeaseSeed []byte
	// ReadOnly servers said, when they were last asked for their version, that they
	// take no new shares: so configured, or full. They may have changed their mind.
	ReadOnly bool
	Client   storage.Client
}
