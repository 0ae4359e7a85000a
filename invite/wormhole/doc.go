// Package wormhole is one side of a magic-wormhole exchange: two parties that
// share a short code meet at a mailbox server, agree on a strong key with
// SPAKE2 and send each other messages that the server cannot read.
//
// It follows the client protocol of magic-wormhole 0.24 (docs/client-protocol
// and docs/server-protocol of that project) without its dilation. Each message
// has a phase; what travels is
//
//	pake      {"pake_v1": hex(0x53 + 32 bytes)}       SPAKE2's message, in the clear
//	version   secretbox({"app_versions": {..}})       proves the key
//	0, 1, ..  secretbox(the application's messages)
//
// where secretbox is nonce (24) + NaCl's box under the phase key
//
//	HKDF-SHA256(key, "wormhole:phase:" + sha256(side) + sha256(phase), 32)
//
// and the key is SPAKE2's over Ed25519 in its symmetric form: password the whole
// code, identity the application id (see spake2.go).
//
// A Session outlives connections and processes. Its State is a value that
// serialises; it is saved before anything is sent that depends on it, so a
// process that is killed at any moment resumes with the same side, the same
// SPAKE2 scalar and the same sealed messages, and repeats what the other side
// may not have: repetitions are recognised by their phase. The State contains
// the code and the key: keep it as a secret.
//
// All connections are made by the dial function given. wss verifies TLS through
// it; proxies named by the environment are not used.
package wormhole
