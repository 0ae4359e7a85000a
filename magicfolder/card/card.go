// Package card holds what a participant on our program says of itself, and to
// single others, in its own Personal directory.
//
// A card stands in the metadata of the directory's @metadata entry, under the key
// "warren"; magic-folder 24.3 reads no metadata there.
//
//	{"warren": {"v": 1, "key": author key, "sig": .., "generation": n, "admin": key, "notes": [note, ..],
//	            "statements": [{"kind": .., "name": .., "was": key, "key": key, "sig": ..}, ..]}}
//
// sig is the author's signature over the directory's readcap: a card that was
// copied to another directory is none. generation says how often the folder has
// moved to a new Collective, as far as the author knows, and admin whose notes
// about that it believes.
//
// A note is for one other participant, sealed, since everybody who was ever in the
// folder can read the directory:
//
//	{"kind": .., "for": author key, "generation": n, "epk": .., "box": .., "sig": ..}
//
// The head of a note is, each part behind its length in four bytes: "warren folder
// note v1", kind, generation in eight bytes, the sender's author key, the
// recipient's, and a fresh X25519 key (epk). box is ChaCha20-Poly1305 with the
// head as additional data, a nonce of zeros and a key that serves only once:
// HKDF-SHA256 of the X25519 secret between epk and the recipient's author key in
// Montgomery form, with the head as info. sig is the sender's over head and box.
// So nobody else can read a note, write one, pass one on as meant for another, for
// another folder (author keys belong to one folder) or another generation.
//
// A statement is for everybody, and about a participant: that it was invited, or has
// another key now. sig is the author's over its parts, behind their lengths as above:
// "warren folder statement v1", kind, name, was, key. Whose statements count is the
// reader's to know.
//
// Numbers are big-endian, bytes in JSON are base64url without padding. Functions
// here read no clock and touch no grid.
package card

import (
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/chacha20poly1305"
)

// Bounds of what is read.
const (
	maxCard  = 1 << 20 // bytes
	maxNotes = 1024
	maxBox   = 4 << 10
	maxName  = 255 // bytes
	// MaxStatements is how many a card has.
	MaxStatements = 512
)

// Errors of Parse and Open.
var (
	// ErrNone: there is no card, as with participants on other programs.
	ErrNone = errors.New("no card")
	// ErrCard: what stands there is no card of that directory.
	ErrCard = errors.New("not a card of this directory")
	// ErrNote: not a note of that sender to us.
	ErrNote = errors.New("not a note for us")
)

// The kinds of notes.
const (
	// KindMove is the admin's: where the Collective is now.
	KindMove = "move"
	// KindPersonal is to the admin: where the sender's Personal directory is now.
	KindPersonal = "personal"
)

// The kinds of statements.
const (
	// StatesKey: the participant of that name signs with Key now, and no more with Was.
	StatesKey = "key"
	// StatesInvited: whoever signs with Key was invited under that name, and may not have
	// entered the Collective yet.
	StatesInvited = "invited"
)

// Card is what a directory's owner says.
type Card struct {
	Key        ed25519.PublicKey
	Generation uint64
	Admin      ed25519.PublicKey // nil: nobody's
	Notes      []Note
	Statements []Statement
}

// Statement is what an author says of a participant.
type Statement struct {
	Kind, Name string
	Was        ed25519.PublicKey // nil where the kind has none
	Key        ed25519.PublicKey
	Sig        []byte
}

func (s Statement) text() []byte {
	return parts([]byte("warren folder statement v1"), []byte(s.Kind), []byte(s.Name), s.Was, s.Key)
}

// State makes a statement.
func State(author ed25519.PrivateKey, kind, name string, was, key ed25519.PublicKey) Statement {
	s := Statement{Kind: kind, Name: name, Was: slices.Clone(was), Key: slices.Clone(key)}
	s.Sig = ed25519.Sign(author, s.text())
	return s
}

// By says whether that author made the statement.
func (s Statement) By(author ed25519.PublicKey) bool {
	return len(author) == ed25519.PublicKeySize && ed25519.Verify(author, s.text(), s.Sig)
}

// Note is a sealed message to one participant.
type Note struct {
	Kind       string
	For        ed25519.PublicKey
	Generation uint64
	Ephemeral  []byte
	Box        []byte
	Sig        []byte
}

type wireCard struct {
	Version    int        `json:"v"`
	Key        blob       `json:"key"`
	Sig        blob       `json:"sig"`
	Generation uint64     `json:"generation,omitempty"`
	Admin      blob       `json:"admin,omitempty"`
	Notes      []wireNote `json:"notes,omitempty"`

	Statements []wireStatement `json:"statements,omitempty"`
}

type wireStatement struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Was  blob   `json:"was,omitempty"`
	Key  blob   `json:"key"`
	Sig  blob   `json:"sig"`
}

type wireNote struct {
	Kind       string `json:"kind"`
	For        blob   `json:"for"`
	Generation uint64 `json:"generation"`
	Ephemeral  blob   `json:"epk"`
	Box        blob   `json:"box"`
	Sig        blob   `json:"sig"`
}

type blob []byte

func (b blob) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(b)), nil
}

func (b *blob) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.Strict().DecodeString(string(text))
	return err
}

// parts joins byte strings so that no two lists give the same.
func parts(list ...[]byte) []byte {
	var out []byte
	for _, p := range list {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out
}

func ownership(readcap string) []byte {
	dir := sha256.Sum256([]byte(readcap))
	return parts([]byte("warren folder card v1"), dir[:])
}

// Encode is the entry's metadata for the directory of that readcap. The card's Key
// is that of key.
func Encode(key ed25519.PrivateKey, readcap string, c Card) (json.RawMessage, error) {
	if len(c.Notes) > maxNotes || len(c.Statements) > MaxStatements {
		return nil, errors.New("a card holds no more than 1024 notes and 512 statements")
	}
	w := wireCard{Version: 1, Key: blob(key.Public().(ed25519.PublicKey)), Sig: ed25519.Sign(key, ownership(readcap)), Generation: c.Generation, Admin: blob(c.Admin)}
	for _, n := range c.Notes {
		w.Notes = append(w.Notes, wireNote{n.Kind, blob(n.For), n.Generation, n.Ephemeral, n.Box, n.Sig})
	}
	for _, s := range c.Statements {
		w.Statements = append(w.Statements, wireStatement{s.Kind, s.Name, blob(s.Was), blob(s.Key), s.Sig})
	}
	return json.Marshal(map[string]wireCard{"warren": w})
}

// Parse reads the metadata of the @metadata entry of the directory of that
// readcap. The card's key has signed for this directory; that it is the key of
// whom it should be is the caller's to know. Notes are not checked yet: see Open.
// Statements are those that Key has signed.
func Parse(metadata json.RawMessage, readcap string) (Card, error) {
	if len(metadata) == 0 {
		return Card{}, ErrNone
	}
	if len(metadata) > maxCard {
		return Card{}, ErrCard
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(metadata, &top) != nil || top["warren"] == nil {
		return Card{}, ErrNone
	}
	var w wireCard
	if json.Unmarshal(top["warren"], &w) != nil || w.Version != 1 || len(w.Key) != ed25519.PublicKeySize || len(w.Notes) > maxNotes || len(w.Statements) > MaxStatements {
		return Card{}, ErrCard
	}
	if !ed25519.Verify(ed25519.PublicKey(w.Key), ownership(readcap), w.Sig) {
		return Card{}, ErrCard
	}
	c := Card{Key: ed25519.PublicKey(w.Key), Generation: w.Generation}
	if len(w.Admin) == ed25519.PublicKeySize {
		c.Admin = ed25519.PublicKey(w.Admin)
	}
	for _, n := range w.Notes {
		if len(n.For) != ed25519.PublicKeySize || len(n.Ephemeral) != 32 || len(n.Sig) != ed25519.SignatureSize || len(n.Box) > maxBox || len(n.Box) == 0 {
			continue
		}
		c.Notes = append(c.Notes, Note{n.Kind, ed25519.PublicKey(n.For), n.Generation, n.Ephemeral, n.Box, n.Sig})
	}
	for _, s := range w.Statements {
		if len(s.Key) != ed25519.PublicKeySize || len(s.Was) != 0 && len(s.Was) != ed25519.PublicKeySize || len(s.Name) > maxName {
			continue
		}
		st := Statement{Kind: s.Kind, Name: s.Name, Key: ed25519.PublicKey(s.Key), Sig: s.Sig}
		if len(s.Was) > 0 {
			st.Was = ed25519.PublicKey(s.Was)
		}
		if st.By(c.Key) {
			c.Statements = append(c.Statements, st)
		}
	}
	return c, nil
}

func (n Note) head(sender ed25519.PublicKey) []byte {
	return parts([]byte("warren folder note v1"), []byte(n.Kind), binary.BigEndian.AppendUint64(nil, n.Generation), sender, n.For, n.Ephemeral)
}

// Seal makes a note with a text of at most 2 KiB.
func Seal(sender ed25519.PrivateKey, to ed25519.PublicKey, kind string, generation uint64, text []byte) (Note, error) {
	if len(text) > maxBox/2 {
		return Note{}, errors.New("a note's text is too long")
	}
	theirs, err := exchangeKey(to)
	if err != nil {
		return Note{}, err
	}
	once, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return Note{}, err
	}
	n := Note{Kind: kind, For: slices.Clone(to), Generation: generation, Ephemeral: once.PublicKey().Bytes()}
	secret, err := once.ECDH(theirs)
	if err != nil {
		return Note{}, errors.New("the recipient's key cannot be sealed to")
	}
	head := n.head(sender.Public().(ed25519.PublicKey))
	aead, err := cipherOf(secret, head)
	if err != nil {
		return Note{}, err
	}
	n.Box = aead.Seal(nil, make([]byte, aead.NonceSize()), text, head)
	n.Sig = ed25519.Sign(sender, append(head, n.Box...))
	return n, nil
}

// Open gives the text of a note of that sender to us; else ErrNote.
func Open(own ed25519.PrivateKey, sender ed25519.PublicKey, n Note) ([]byte, error) {
	if len(sender) != ed25519.PublicKeySize || !n.For.Equal(own.Public()) || len(n.Box) > maxBox {
		return nil, ErrNote
	}
	head := n.head(sender)
	if !ed25519.Verify(sender, append(slices.Clone(head), n.Box...), n.Sig) {
		return nil, ErrNote
	}
	once, err := ecdh.X25519().NewPublicKey(n.Ephemeral)
	if err != nil {
		return nil, ErrNote
	}
	// An Ed25519 key's scalar is the first half of its seed's hash (RFC 8032, 5.1.5).
	h := sha512.Sum512(own.Seed())
	private, err := ecdh.X25519().NewPrivateKey(h[:32])
	if err != nil {
		return nil, ErrNote
	}
	secret, err := private.ECDH(once)
	if err != nil {
		return nil, ErrNote
	}
	aead, err := cipherOf(secret, head)
	if err != nil {
		return nil, ErrNote
	}
	text, err := aead.Open(nil, make([]byte, aead.NonceSize()), n.Box, head)
	if err != nil {
		return nil, ErrNote
	}
	return text, nil
}

// exchangeKey is an author key in Montgomery form.
func exchangeKey(k ed25519.PublicKey) (*ecdh.PublicKey, error) {
	p, err := new(edwards25519.Point).SetBytes(k)
	if err != nil {
		return nil, errors.New("the recipient's key is no point of the curve")
	}
	return ecdh.X25519().NewPublicKey(p.BytesMontgomery())
}

func cipherOf(secret, head []byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, secret, nil, string(head), chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.New(k)
}
