// Package storage is a storage server: what it does with immutable and mutable
// shares, apart from how clients reach it and where the bytes lie.
//
// A Server holds shares in a Backend (disk, mem) and serves Sessions; a Session
// is a Client in this process, and what the protocol rooms (gbs) answer from.
//
//	server := storage.NewServer(backend, storage.Options{NodeID: tubID})
//	client := storage.Local(server)
//
// Promises: what is acknowledged is on disk. A crash leaves each share whole, as
// it was before or after, or absent. Reads return share data, never leases. No
// start-up scan: a server is ready when its backend is.
//
// Whoever keeps house looks at the shares with Survey and ends them with Remove
// (package expire decides which); Statistics counts what was done.
//
// Lacking on purpose: cancelling leases, which Tahoe serves to nobody over HTTPS.
package storage
