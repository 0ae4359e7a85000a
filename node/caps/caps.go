// Package caps is Tahoe-LAFS's capabilities: parse, format, attenuate.
//
// A capability (cap) is at once the name of a file or directory and the right to
// it; whoever has the text has the right. Each kind is a type of its own, and
// attenuation is a method that returns the weaker type. The text forms (Tahoe-LAFS
// docs/specifications/uri.rst; allmydata.uri decides) are
//
//	URI:LIT:            data
//	URI:CHK:            key16 : uebhash32 : needed : total : size
//	URI:CHK-Verifier:   index16 : uebhash32 : needed : total : size
//	URI:SSK:            writekey16 : fingerprint32        (SDMF)
//	URI:SSK-RO:         readkey16 : fingerprint32
//	URI:SSK-Verifier:   index16 : fingerprint32
//	URI:MDMF: URI:MDMF-RO: URI:MDMF-Verifier:             as SSK, [: extension]
//	URI:DIR2: URI:DIR2-RO: URI:DIR2-Verifier:             as SSK
//	URI:DIR2-MDMF: URI:DIR2-MDMF-RO: URI:DIR2-MDMF-Verifier:  as MDMF
//	URI:DIR2-CHK: URI:DIR2-CHK-Verifier: URI:DIR2-LIT:    as CHK, LIT
//
// with keys and hashes in canonical base32 and numbers in canonical decimal. In
// front may stand "ro." (alleged read-only) or "imm." (alleged immutable, to any
// depth), with which old clients mark caps that they cannot check.
//
// Call Parse for a text and the Text method for the way back. Parse is stricter
// than Tahoe, which ignores what follows a CHK verifier or precedes a line end:
// here one cap has one spelling, apart from a true prefix, which is dropped as in
// Tahoe. A kind that is not in the list is carried unharmed as Unknown; a kind
// that is in the list and malformed is an error.
//
// Caps print redacted: String, every fmt verb and the text marshalers show the kind
// and nothing else. (fmt cannot ask a value in an unexported field of another
// struct: such structs need a Format method of their own.) Only Text returns the
// secret.
package caps

import (
	"fmt"

	"warren/node/taghash"
)

// Cap is any capability of this package. The concrete types are values.
type Cap interface {
	// Text is the capability itself: a secret.
	Text() string
	// String names the kind and hides the rest.
	String() string
	// Kind is the part of the text between "URI:" and the next colon ("CHK",
	// "DIR2-RO"), or "unknown".
	Kind() string
}

// StorageIndex names a file's shares on storage servers. Servers know it; it gives
// no right to read.
type StorageIndex [16]byte

// Text is the storage index in base32, as in paths and folder names.
func (si StorageIndex) Text() string { return taghash.EncodeBase32(si[:]) }

// String is Text: a storage index may be logged.
func (si StorageIndex) String() string { return si.Text() }

// ParseStorageIndex reverses Text.
func ParseStorageIndex(s string) (StorageIndex, error) {
	b, err := taghash.DecodeBase32(s)
	if err != nil || len(b) != len(StorageIndex{}) {
		return StorageIndex{}, &Error{Kind: "storage index", Part: "base32", Err: ErrBase32}
	}
	return StorageIndex(b), nil
}

// LIT is a small immutable file that lies in its own capability.
type LIT struct{ Data []byte }

// CHK reads an immutable file.
type CHK struct {
	Key           [16]byte // AES key
	UEBHash       [32]byte // hash of the URI extension block
	Needed, Total int      // k of n
	Size          uint64   // of the plaintext
}

// CHKVerify checks and repairs an immutable file without reading it.
type CHKVerify struct {
	Index         StorageIndex
	UEBHash       [32]byte
	Needed, Total int
	Size          uint64
}

// SSKWrite writes a mutable file (SDMF).
type SSKWrite struct {
	WriteKey    [16]byte
	Fingerprint [32]byte // hash of the RSA public key
}

// SSKRead reads a mutable file (SDMF).
type SSKRead struct {
	ReadKey     [16]byte
	Fingerprint [32]byte
}

// SSKVerify checks a mutable file (SDMF).
type SSKVerify struct {
	Index       StorageIndex
	Fingerprint [32]byte
}

// MDMFWrite writes a mutable file (MDMF).
type MDMFWrite struct {
	WriteKey    [16]byte
	Fingerprint [32]byte
	// Extension is what some versions of Tahoe wrote behind the fingerprint
	// (":3:131073"), with its first colon. It means nothing and is kept for Text.
	Extension string
}

// MDMFRead reads a mutable file (MDMF).
type MDMFRead struct {
	ReadKey     [16]byte
	Fingerprint [32]byte
	Extension   string
}

// MDMFVerify checks a mutable file (MDMF).
type MDMFVerify struct {
	Index       StorageIndex
	Fingerprint [32]byte
	Extension   string
}

// The capabilities of directories are those of the files that hold them.
type (
	// DirWrite changes a directory kept in an SDMF file.
	DirWrite struct{ SSKWrite }
	// DirRead lists a directory kept in an SDMF file.
	DirRead struct{ SSKRead }
	// DirVerify checks a directory kept in an SDMF file.
	DirVerify struct{ SSKVerify }
	// DirMDMFWrite changes a directory kept in an MDMF file.
	DirMDMFWrite struct{ MDMFWrite }
	// DirMDMFRead lists a directory kept in an MDMF file.
	DirMDMFRead struct{ MDMFRead }
	// DirMDMFVerify checks a directory kept in an MDMF file.
	DirMDMFVerify struct{ MDMFVerify }
	// DirCHK lists an immutable directory.
	DirCHK struct{ CHK }
	// DirCHKVerify checks an immutable directory.
	DirCHKVerify struct{ CHKVerify }
	// DirLIT lists a small immutable directory, which lies in the capability.
	DirLIT struct{ LIT }
)

// Unknown is a capability of a kind that this program does not know, perhaps of a
// later Tahoe. It is kept byte for byte, prefix included.
type Unknown struct{ raw string }

// AllegedReadOnly says that the text is marked "ro." or "imm.", so that whoever
// stored it claimed that it gives no right to write.
func (u Unknown) AllegedReadOnly() bool {
	p, _ := splitPrefix(u.raw)
	return p != ""
}

// AllegedImmutable says that the text is marked "imm.".
func (u Unknown) AllegedImmutable() bool {
	p, _ := splitPrefix(u.raw)
	return p == prefixImmutable
}

// Bare is the text without its prefix. It is a secret like Text.
func (u Unknown) Bare() string {
	_, rest := splitPrefix(u.raw)
	return rest
}

// Text forms.

func (c LIT) Text() string       { return "URI:LIT:" + taghash.EncodeBase32(c.Data) }
func (c CHK) Text() string       { return "URI:CHK:" + chkBody(c.Key, c.UEBHash, c.Needed, c.Total, c.Size) }
func (c SSKWrite) Text() string  { return "URI:SSK:" + pairBody(c.WriteKey, c.Fingerprint) }
func (c SSKRead) Text() string   { return "URI:SSK-RO:" + pairBody(c.ReadKey, c.Fingerprint) }
func (c SSKVerify) Text() string { return "URI:SSK-Verifier:" + pairBody(c.Index, c.Fingerprint) }
func (c MDMFWrite) Text() string { return "URI:MDMF:" + c.body() }
func (c MDMFRead) Text() string  { return "URI:MDMF-RO:" + c.body() }
func (c MDMFVerify) Text() string {
	return "URI:MDMF-Verifier:" + c.body()
}
func (c CHKVerify) Text() string {
	return "URI:CHK-Verifier:" + chkBody(c.Index, c.UEBHash, c.Needed, c.Total, c.Size)
}
func (c DirWrite) Text() string  { return "URI:DIR2:" + pairBody(c.WriteKey, c.Fingerprint) }
func (c DirRead) Text() string   { return "URI:DIR2-RO:" + pairBody(c.ReadKey, c.Fingerprint) }
func (c DirVerify) Text() string { return "URI:DIR2-Verifier:" + pairBody(c.Index, c.Fingerprint) }
func (c DirMDMFWrite) Text() string {
	return "URI:DIR2-MDMF:" + c.body()
}
func (c DirMDMFRead) Text() string   { return "URI:DIR2-MDMF-RO:" + c.body() }
func (c DirMDMFVerify) Text() string { return "URI:DIR2-MDMF-Verifier:" + c.body() }
func (c DirCHK) Text() string {
	return "URI:DIR2-CHK:" + chkBody(c.Key, c.UEBHash, c.Needed, c.Total, c.Size)
}
func (c DirCHKVerify) Text() string {
	return "URI:DIR2-CHK-Verifier:" + chkBody(c.Index, c.UEBHash, c.Needed, c.Total, c.Size)
}
func (c DirLIT) Text() string  { return "URI:DIR2-LIT:" + taghash.EncodeBase32(c.Data) }
func (u Unknown) Text() string { return u.raw }

func (c MDMFWrite) body() string  { return pairBody(c.WriteKey, c.Fingerprint) + c.Extension }
func (c MDMFRead) body() string   { return pairBody(c.ReadKey, c.Fingerprint) + c.Extension }
func (c MDMFVerify) body() string { return pairBody(c.Index, c.Fingerprint) + c.Extension }

func pairBody(a [16]byte, b [32]byte) string {
	return taghash.EncodeBase32(a[:]) + ":" + taghash.EncodeBase32(b[:])
}

func chkBody(a [16]byte, b [32]byte, needed, total int, size uint64) string {
	return fmt.Sprintf("%s:%d:%d:%d", pairBody(a, b), needed, total, size)
}
