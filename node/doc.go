// Package node is the services of one Tahoe-LAFS node, from its node directory:
// the port that Foolscap and HTTPS share, an introducer, a storage server, the
// clients of introducers, the grid that they make known, files and directories
// on it, and the local web API.
//
// Open takes an open node directory (package config) and a Network, and loads or
// makes the node's secrets. Start listens and connects; it returns when the
// services answer, not when the grid is there: a node starts without its
// introducer, from the cached announcements. Close ends everything in reverse.
// Whatever dials or listens here does so through the Network that was given.
//
// What is not here: folders and invites (package cmd/internal/daemon puts them
// beside a node), storage over Foolscap, helpers, grid managers.
package node
