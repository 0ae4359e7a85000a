// Package mutable is Tahoe-LAFS's mutable files in their plain form, SDMF: a
// file of one segment that whoever has its writecap can replace, and whose every
// version is signed.
//
// Call New for a Store, then Create, Read, Version, Overwrite and Modify. The
// Store asks its Servers for the connected storage servers, surveys the shares
// that they hold (survey.go), and believes nothing of a share before the RSA
// signature over its header fits the capability's fingerprint. The pure parts
// are the share layout (layout.go), encoding (encode.go) and placement
// (plan.go); survey.go, retrieve.go, publish.go and modify.go talk to servers.
//
// A share (Tahoe-LAFS docs/specifications/mutable.rst, allmydata/mutable/
// layout.py; numbers big-endian):
//
//	  0   1  version: 0, SDMF                                    \
//	  1   8  sequence number                                      |
//	  9  32  root of the share hash tree                          | signed
//	 41  16  IV                                                   |
//	 57   1  k                                                    |
//	 58   1  n                                                    |
//	 59   8  segment size: data length rounded up to k            |
//	 67   8  data length                                         /
//	 75   4  offset of the signature
//	 79   4  offset of the share hash chain
//	 83   4  offset of the block hash tree
//	 87   4  offset of the share data
//	 91   8  offset of the encrypted private key
//	 99   8  offset of the end
//	107      RSA public key (SubjectPublicKeyInfo), signature (PSS, SHA-256, salt
//	         32), share hash chain (node number in 2 bytes, 32 of hash, each),
//	         block hash tree (one hash: there is one block), the block, the
//	         private key (PKCS #8, AES-CTR under the writekey)
//
// The first 57 bytes are the checkstring, against which a writer tests that a
// share is still what it saw. The offsets are not signed, and differ between
// shares of one version; they are checked for order and size, and what they
// delimit is proven by hashes.
//
// # What a write promises
//
// Modify and Overwrite return nil when a fresh look at all servers shows the new
// version as the newest, whole, on at least happy distinct servers, with no other
// version as new beside it. (Tahoe asks for k shares placed and looks no more;
// two of its writers can both succeed and one entry be gone.) A writer takes the
// first share that holds the version it builds on alone, before all others: of
// several writers that start from one version only one gets it, and the others
// have destroyed nothing. A version that is newer but not whole is overwritten
// only when it stays as it is between two looks and cannot be whole on servers
// that are away; else ErrNewerVersion.
//
// Writing is in place, as the format demands: a process that dies amid a write
// leaves some shares new and some old. While n >= 2k-1 one of the two versions
// is whole, whatever the moment; below that (3-of-4, say) neither need be.
//
// MDMF, whose files have many segments, is not here: its shares count as ones
// that cannot be read.
package mutable
