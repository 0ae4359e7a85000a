// Package dirnode is Tahoe-LAFS's directories: tables of names, capabilities and
// metadata, kept in mutable files (DIR2) or immutable ones (DIR2-CHK, DIR2-LIT).
//
// Dirs makes, lists and edits directories on a grid, and walks trees of them (Walk;
// Stats are the figures of one). Below it is the pure part: a Form packs and unpacks
// the bytes, and Apply makes changes to them. The form (Tahoe-LAFS
// docs/specifications/dirnodes.rst; allmydata/dirnode.py decides) is one netstring
// for each entry, sorted by name:
//
//	netstring(
//	  netstring(name, UTF-8, NFC)
//	  netstring(readcap, without "ro."; in an immutable directory without "imm.")
//	  netstring(salt16 + AES-CTR(key, writecap) + HMAC32; empty when immutable)
//	  netstring(metadata, as Python's json.dumps writes it)
//	)
//
// The writecap, empty where there is none, is encrypted with a key made from the
// directory's writekey, so that a readcap of the directory gives only readcaps of
// what is in it. The salt is a hash of the writecap: packing has no randomness,
// and an immutable directory of the same entries has the same capability as
// Tahoe's.
//
// Entries that are not changed keep their bytes, also those that this package
// cannot understand (a malformed cap, a kind of a later version): they are not
// listed, and not lost.
package dirnode
