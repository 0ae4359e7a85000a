// Package demo runs warren's main job on this machine, as its users would, with
// separate processes of the same binary: a mailbox, an introducer, five storage
// servers, an operator with a folder, an invite, a newcomer's join, the folder
// arriving, an edit each way, a conflict; then two servers are killed, a third
// person joins, and every file arrives with the same hash.
//
// Run does it all, prints a line a step with the time since the start, and cleans
// up after itself unless told to keep. With Tor every service is an onion service
// and a single direct connection of any process fails it.
package demo
