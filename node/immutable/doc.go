// Package immutable stores and fetches immutable files: LIT (up to 55 bytes,
// held in the capability itself) and CHK (encrypted, erasure-coded, spread over
// storage servers). Shares and capabilities are byte for byte Tahoe-LAFS's.
//
// Make a Client with New; Upload turns a stream into a capability, Open turns a
// capability into a File to read ranges from, Check and CheckAndRepair look after
// what is stored and need no more than the verifycap. The package knows servers only as
// grid.Server values and opens no connection.
//
// # From a file to shares (docs/specifications/file-encoding.rst)
//
// The plaintext is encrypted with AES-128-CTR (counter from zero). The key is
// random, or, with a convergence secret, the tagged hash of secret, encoding and
// plaintext, so that the same file uploaded twice is the same shares. The
// ciphertext is cut into segments (1 MiB, less for smaller files, rounded up to
// a multiple of k); each is coded into n blocks of which any k suffice. Share i
// is the i-th block of every segment plus what is needed to check it:
//
//	crypttext segment hashes -> crypttext hash tree root --\
//	block hashes of share i -> block hash tree root i --\   UEB -> its hash is in the capability
//	                     all those roots -> share hash tree root -/
//
// # Share layout, version 1 (version 2: every 4-byte field but the first is 8
// bytes; used when an offset needs more than 32 bits)
//
//	0x00  4  version, 1
//	0x04  4  block size            written, never read
//	0x08  4  size of all blocks    written, never read
//	0x0c  4  offset of blocks, 0x24 (version 2: 0x44)
//	0x10  4  offset of the plaintext hash tree, which is zeros
//	0x14  4  offset of the crypttext hash tree
//	0x18  4  offset of the block hash tree
//	0x1c  4  offset of the share hash chain
//	0x20  4  offset of the UEB's length
//	blocks; three trees of 2w-1 hashes of 32 bytes, w the number of segments
//	rounded up to a power of two; chain: (2-byte node number, hash) for every node
//	that proves this share's root, itself included; length of the UEB; UEB
//
// The UEB is a list of "key:netstring" sorted by key (ueb.go).
//
// # Promises
//
// A File returns no byte that has not been proven against its capability. Upload
// returns a capability only when shares stand, durably, on so many servers that
// happiness is reached. Memory is bounded: by a few segments, and, when uploading, by
// two stripes (some MiB of all shares together, less for each of several uploads at
// once) and 64 bytes a block for its hashes. A server that is behind holds up nobody
// while there are buffers; one that has stalled is given up as soon as the others wait
// for it and suffice, and replaced if they do not. A body that
// must be read twice (to derive its key, or because its length is unknown) and
// cannot be, is kept meanwhile in memory if it is small and else in an unlinked
// 0600 file under Config.TempDir, encrypted with a key that never leaves memory: a
// crash leaves at most noise behind.
package immutable
