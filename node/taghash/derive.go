package taghash

import (
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"strconv"

	"warren/node/sha256x2"
)

// Tahoe's tags. Tests compare every derivation with allmydata.util.hashutil.
const (
	tagStorageIndex     = "allmydata_immutable_key_to_storage_index_v1"
	tagBlock            = "allmydata_encoded_subshare_v1"
	tagUEB              = "allmydata_uri_extension_v1"
	tagCrypttext        = "allmydata_crypttext_v1"
	tagCrypttextSegment = "allmydata_crypttext_segment_v1"
	tagConvergence      = "allmydata_immutable_content_to_key_with_added_secret_v1+"

	tagClientRenewal = "allmydata_client_renewal_secret_v1"
	tagClientCancel  = "allmydata_client_cancel_secret_v1"
	tagFileRenewal   = "allmydata_file_renewal_secret_v1"
	tagFileCancel    = "allmydata_file_cancel_secret_v1"
	tagBucketRenewal = "allmydata_bucket_renewal_secret_v1"
	tagBucketCancel  = "allmydata_bucket_cancel_secret_v1"

	tagSSKWriteKey      = "allmydata_mutable_privkey_to_writekey_v1"
	tagSSKEnablerMaster = "allmydata_mutable_writekey_to_write_enabler_master_v1"
	tagSSKEnabler       = "allmydata_mutable_write_enabler_master_and_nodeid_to_write_enabler_v1"
	tagSSKFingerprint   = "allmydata_mutable_pubkey_to_fingerprint_v1"
	tagSSKReadKey       = "allmydata_mutable_writekey_to_readkey_v1"
	tagSSKDataKey       = "allmydata_mutable_readkey_to_datakey_v1"
	tagSSKStorageIndex  = "allmydata_mutable_readkey_to_storage_index_v1"

	tagDirChildKey  = "allmydata_mutable_writekey_and_salt_to_dirnode_child_capkey_v1"
	tagDirChildSalt = "allmydata_dirnode_child_rwcap_to_salt_v1"
)

// Immutable files.

// StorageIndex is the storage index of the immutable file with this key.
func StorageIndex(readKey [16]byte) [16]byte { return key(Tagged(tagStorageIndex, readKey[:])) }

// BlockHash is the hash of one block of a share, a leaf of its block hash tree.
func BlockHash(block []byte) [32]byte { return Tagged(tagBlock, block) }

// NewBlock is BlockHash as a stream.
func NewBlock() hash.Hash { return New(tagBlock) }

// BlockHashes sets out[i], for each of the blocks, to its BlockHash. Blocks of one
// length, as those of one segment are, take little more than half the time. Out is
// as long as blocks.
func BlockHashes(out [][32]byte, blocks [][]byte) {
	sha256x2.Sum(out, Netstring([]byte(tagBlock)), blocks)
	for i := range out {
		out[i] = sha256.Sum256(out[i][:])
	}
}

// UEBHash is the hash of a URI extension block, which a readcap carries.
func UEBHash(ueb []byte) [32]byte { return Tagged(tagUEB, ueb) }

// CrypttextSegment is the hash of one segment's ciphertext, a leaf of the
// crypttext hash tree.
func CrypttextSegment(data []byte) [32]byte { return Tagged(tagCrypttextSegment, data) }

// NewConvergence hashes a file's plaintext to its encryption key, the first 16
// bytes of Sum. segsize is the segment size that goes into the tag; k and n are
// the encoding, 1 <= k <= n <= 256, which the caller has checked. The secret is
// the node's convergence secret.
func NewConvergence(k, n int, segsize uint64, secret []byte) hash.Hash {
	params := strconv.Itoa(k) + "," + strconv.Itoa(n) + "," + strconv.FormatUint(segsize, 10)
	return New(tagConvergence + string(Netstring(secret)) + string(Netstring([]byte(params))))
}

// Leases. A server's lease seed is its 20-byte tub id.

// MyRenewal derives the client's renewal master from the node's lease secret.
// Tahoe uses the secret as the tag here, and so must we.
func MyRenewal(secret []byte) [32]byte { return Tagged(string(secret), []byte(tagClientRenewal)) }

// MyCancel derives the client's cancel master, as MyRenewal.
func MyCancel(secret []byte) [32]byte { return Tagged(string(secret), []byte(tagClientCancel)) }

// FileRenewal derives one file's renewal secret from the client's.
func FileRenewal(client [32]byte, si [16]byte) [32]byte {
	return TaggedPair(tagFileRenewal, client[:], si[:])
}

// FileCancel derives one file's cancel secret from the client's.
func FileCancel(client [32]byte, si [16]byte) [32]byte {
	return TaggedPair(tagFileCancel, client[:], si[:])
}

// BucketRenewal derives the renewal secret that one server is given.
func BucketRenewal(file [32]byte, leaseSeed []byte) [32]byte {
	return TaggedPair(tagBucketRenewal, file[:], leaseSeed)
}

// BucketCancel derives the cancel secret that one server is given.
func BucketCancel(file [32]byte, leaseSeed []byte) [32]byte {
	return TaggedPair(tagBucketCancel, file[:], leaseSeed)
}

// Mutable files.

// SSKWriteKey is the write key of the mutable file with this RSA private key,
// DER as Tahoe stores it (PKCS#8).
func SSKWriteKey(privDER []byte) [16]byte { return key(Tagged(tagSSKWriteKey, privDER)) }

// SSKReadKey derives the read key from the write key.
func SSKReadKey(writeKey [16]byte) [16]byte { return key(Tagged(tagSSKReadKey, writeKey[:])) }

// SSKDataKey derives the AES key of one version (SDMF) or segment (MDMF).
func SSKDataKey(iv, readKey [16]byte) [16]byte {
	return key(TaggedPair(tagSSKDataKey, iv[:], readKey[:]))
}

// SSKStorageIndex is the storage index of the mutable file with this read key.
func SSKStorageIndex(readKey [16]byte) [16]byte {
	return key(Tagged(tagSSKStorageIndex, readKey[:]))
}

// SSKFingerprint is the hash of the RSA public key (DER, SubjectPublicKeyInfo)
// that mutable capabilities carry.
func SSKFingerprint(pubDER []byte) [32]byte { return Tagged(tagSSKFingerprint, pubDER) }

// SSKWriteEnablerMaster derives the secret from which each server's write enabler
// is made.
func SSKWriteEnablerMaster(writeKey [16]byte) [32]byte {
	return Tagged(tagSSKEnablerMaster, writeKey[:])
}

// SSKWriteEnabler is what the server with this lease seed demands of a writer.
func SSKWriteEnabler(writeKey [16]byte, leaseSeed []byte) [32]byte {
	master := SSKWriteEnablerMaster(writeKey)
	return TaggedPair(tagSSKEnabler, master[:], leaseSeed)
}

// Directories.

// DirChildKey is the AES key under which a directory entry's write capability is
// encrypted.
func DirChildKey(salt, writeKey [16]byte) [16]byte {
	return key(TaggedPair(tagDirChildKey, salt[:], writeKey[:]))
}

// DirChildSalt derives that encryption's salt from the write capability itself.
func DirChildSalt(rwcap []byte) [16]byte { return key(Tagged(tagDirChildSalt, rwcap)) }

// HMAC is Tahoe's own HMAC over SHA-256, which does not pad the key to the block
// size as RFC 2104 does. Directory entries end in one.
func HMAC(k, data []byte) [32]byte {
	inner, outer := sha256.New(), sha256.New()
	inner.Write(xor(k, 0x36))
	inner.Write(data)
	outer.Write(xor(k, 0x5c))
	outer.Write(inner.Sum(nil))
	return [32]byte(outer.Sum(nil))
}

func xor(b []byte, with byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = c ^ with
	}
	return out
}

// Permute is the position of the server with this permutation seed in the ring of
// one storage index; servers are asked in ascending order of it. SHA-1 is Tahoe's
// choice; nothing secret hangs on it.
func Permute(si [16]byte, seed []byte) [20]byte {
	h := sha1.New()
	h.Write(si[:])
	h.Write(seed)
	return [20]byte(h.Sum(nil))
}
