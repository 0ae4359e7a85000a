package wormhole

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/nacl/secretbox"
)

const nonceSize = 24

// derive is magic-wormhole's derive_key: 32 bytes for a purpose.
func derive(key []byte, purpose string) ([32]byte, error) {
	var out [32]byte
	b, err := hkdf.Key(sha256.New, key, nil, purpose, len(out))
	copy(out[:], b)
	return out, err
}

// phaseKey is the key under which side seals its message of a phase.
func phaseKey(key []byte, side, phase string) ([32]byte, error) {
	s, p := sha256.Sum256([]byte(side)), sha256.Sum256([]byte(phase))
	return derive(key, "wormhole:phase:"+string(s[:])+string(p[:]))
}

// seal encrypts side's message of a phase.
func seal(key []byte, side, phase string, plain []byte) ([]byte, error) {
	k, err := phaseKey(key, side, phase)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return secretbox.Seal(nonce[:], plain, &nonce, &k), nil
}

// errSealed: the message was not sealed with our key.
var errSealed = errors.New("message does not open")

// open decrypts side's message of a phase.
func open(key []byte, side, phase string, body []byte) ([]byte, error) {
	if len(body) < nonceSize+secretbox.Overhead {
		return nil, errSealed
	}
	k, err := phaseKey(key, side, phase)
	if err != nil {
		return nil, err
	}
	plain, ok := secretbox.Open(nil, body[nonceSize:], (*[nonceSize]byte)(body[:nonceSize]), &k)
	if !ok {
		return nil, errSealed
	}
	return plain, nil
}
