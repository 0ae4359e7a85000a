package mutable

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"warren/node/caps"
	"warren/node/taghash"
)

// keyBits is what Tahoe makes and the only size that it takes.
const keyBits = 2048

// pssSalt is the length of the salt in signatures.
const pssSalt = 32

// Key is a mutable file's RSA key pair, with the encodings from which the
// capability is derived. Those are kept as they were received: another encoder's
// bytes for the same key would be another file.
type Key struct {
	private    *rsa.PrivateKey
	privateDER []byte // PKCS #8
	publicDER  []byte // SubjectPublicKeyInfo
}

// String names the type: the key is a secret.
func (k *Key) String() string { return "[mutable file key]" }

// GoString is String.
func (k *Key) GoString() string { return k.String() }

// GenerateKey makes a key pair. It takes some tens to hundreds of milliseconds.
func GenerateKey(rand io.Reader) (*Key, error) {
	private, err := rsa.GenerateKey(rand, keyBits)
	if err != nil {
		return nil, fmt.Errorf("mutable: make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("mutable: encode a key: %w", err)
	}
	return newKey(private, der)
}

// ParseKey reads a private key in PKCS #8, as Tahoe keeps and takes it.
func ParseKey(der []byte) (*Key, error) {
	private, err := parsePrivateKey(der)
	if err != nil {
		return nil, err
	}
	return newKey(private, der)
}

func parsePrivateKey(der []byte) (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The parser's message is about structure, but the bytes are a secret.
		return nil, errors.New("mutable: not a private key in PKCS #8")
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok || private.N.BitLen() != keyBits {
		return nil, fmt.Errorf("mutable: not an RSA key of %d bits", keyBits)
	}
	return private, nil
}

func newKey(private *rsa.PrivateKey, der []byte) (*Key, error) {
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("mutable: encode a public key: %w", err)
	}
	return &Key{private: private, privateDER: der, publicDER: public}, nil
}

// ImportKey reads a private key that somebody brings along, in PKCS #8 or PKCS #1,
// and encodes it as Tahoe does, so that one key is one file.
func ImportKey(der []byte) (*Key, error) {
	private, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil || private.N.BitLen() != keyBits {
		if private, err = parsePrivateKey(der); err != nil {
			return nil, err
		}
	}
	if der, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return nil, fmt.Errorf("mutable: encode a key: %w", err)
	}
	return newKey(private, der)
}

// Cap is the writecap of the SDMF file that belongs to this key.
func (k *Key) Cap() caps.SSKWrite {
	return caps.SSKWrite{WriteKey: taghash.SSKWriteKey(k.privateDER), Fingerprint: taghash.SSKFingerprint(k.publicDER)}
}

// MDMFCap is the writecap of the MDMF file that belongs to this key. A key is for
// one file: that of the other format has the same storage index.
func (k *Key) MDMFCap() caps.MDMFWrite {
	c := k.Cap()
	return caps.MDMFWrite{WriteKey: c.WriteKey, Fingerprint: c.Fingerprint}
}

// cap is the writecap of the file of that format.
func (k *Key) cap(f Format) caps.MutableWrite {
	if f == MDMF {
		return k.MDMFCap()
	}
	return k.Cap()
}

// sealed is the private key as it stands in every share.
func (k *Key) sealed(writeKey [16]byte) []byte { return ctr(writeKey, k.privateDER) }

func (k *Key) sign(rand io.Reader, p prefix) ([]byte, error) {
	digest := sha256.Sum256(p.signed())
	sig, err := rsa.SignPSS(rand, k.private, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: pssSalt, Hash: crypto.SHA256})
	if err != nil {
		return nil, fmt.Errorf("mutable: sign: %w", err)
	}
	return sig, nil
}

// unsealKey opens the private key of a share and checks that it is the
// writecap's. public is the share's verified public key.
func unsealKey(writeKey [16]byte, sealed, public []byte) (*Key, error) {
	der := ctr(writeKey, sealed)
	got := taghash.SSKWriteKey(der)
	if subtle.ConstantTimeCompare(got[:], writeKey[:]) != 1 {
		return nil, errors.New("mutable: a share's private key is not the file's")
	}
	private, err := parsePrivateKey(der)
	if err != nil {
		return nil, err
	}
	return &Key{private: private, privateDER: der, publicDER: public}, nil
}

// parsePublicKey reads a share's public key, which has the capability's fingerprint.
func parsePublicKey(der []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: public key: %w", errShare, err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: public key is not RSA", errShare)
	}
	return public, nil
}

func verify(public *rsa.PublicKey, p prefix, sig []byte) error {
	digest := sha256.Sum256(p.signed())
	if err := rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: pssSalt, Hash: crypto.SHA256}); err != nil {
		return fmt.Errorf("%w: signature", errShare)
	}
	return nil
}

// ctr encrypts or decrypts with AES-CTR from counter zero, as Tahoe does
// everywhere: each key is used for one text only.
func ctr(key [16]byte, data []byte) []byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are a key length
	}
	out := make([]byte, len(data))
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(out, data)
	return out
}
