// Package mutable is Tahoe-LAFS's mutable files: files that whoever has their
// writecap can replace, and whose every version is signed. In the plain form, SDMF,
// a file is one segment; in MDMF it has one for every 128 KiB, and parts of it can be
// read (File) and changed in place (Update).
//
// Call New for a Store, then Create, Read, Open, Version, Overwrite, Modify and
// Update, Check, CheckAndRepair and Repair (check.go). The Store asks its Servers for the connected storage servers, surveys the
// shares that they hold (survey.go), and believes nothing of a share before the RSA
// signature over its header fits the capability's fingerprint. The pure parts are
// the share layouts (layout.go), encoding (encode.go) and placement (plan.go);
// survey.go, retrieve.go, file.go, publish.go, modify.go and update.go talk to
// servers.
//
// A key is for one file: the SDMF and the MDMF file of one key share their storage
// index. Shares say their format themselves; what is written is of the
// capability's.
//
// A share of SDMF (Tahoe-LAFS docs/specifications/mutable.rst, allmydata/mutable/
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
// A share of MDMF (allmydata/mutable/layout.py; the document's layout is an older
// one):
//
//	  0   1  version: 1, MDMF                                    \
//	  1   8  sequence number                                      |
//	  9  32  root of the share hash tree                          | signed
//	 41   1  k                                                    |
//	 42   1  n                                                    |
//	 43   8  segment size: 128 KiB rounded up to k                |
//	 51   8  data length                                         /
//	 59   8  offset of the private key: 123
//	 67   8  offset of the share hash chain
//	 75   8  offset of the signature
//	 83   8  offset of the public key
//	 91   8  offset of the end of the public key
//	 99   8  offset of the share data: 2167
//	107   8  offset of the block hash tree
//	115   8  offset of the end
//	123      private key, share hash chain, signature, public key, each as in SDMF;
//	         zeros up to the share data; for each segment a salt of 16 bytes and the
//	         block, of the last segment as long as it needs; block hash tree, whole,
//	         its leaves the hashes of salt and block
//
// The data length is that of the file, and the last segment is padded to k alone: an
// MDMF file of 5 bytes has segments of 128 KiB and a block of 5/k. An empty file has
// no segment and the tree over no leaves.
//
// The first 57 bytes, of MDMF 41, are the checkstring, against which a writer tests
// that a share is still what it saw. The offsets are not signed, and may differ
// between shares of one version; they are checked for order and size, and what they
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
// All of a share goes with one call, as in Tahoe, so that no reader meets half of
// one; so a file that is written whole is held in memory (MaxSize).
package mutable
