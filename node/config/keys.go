package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"warren/node/durable"
	"warren/node/furl"
	"warren/node/taghash"
)

// ReadPrivate returns the text of a file in private/, without the white space around
// it; fs.ErrNotExist when there is none.
func (n *Node) ReadPrivate(name string) (string, error) {
	return readText(n.PrivatePath(name))
}

// WritePrivate makes a file in private/ hold data, readable by its owner only.
func (n *Node) WritePrivate(name string, data []byte) error {
	if err := durable.MkdirAll(n.PrivatePath(), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(n.PrivatePath(name), data, 0o600)
}

func readText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	data, err := readLimited(f)
	if err != nil {
		return "", fmt.Errorf("config: %s: %w", filepath.Base(path), err)
	}
	return strings.TrimFunc(string(data), isSpace), nil
}

// loadOrMake returns the text of a private file, which make fills when there is none.
func (n *Node) loadOrMake(name string, make func() string) (string, error) {
	text, err := n.ReadPrivate(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	text = make()
	// Written before it is used: what was derived from a lost secret would be lost.
	return text, n.WritePrivate(name, []byte(text+"\n"))
}

func random(size int) []byte {
	b := make([]byte, size)
	rand.Read(b) // never fails, see crypto/rand
	return b
}

func (n *Node) base32Secret(name string) (Secret, error) {
	text, err := n.loadOrMake(name, func() string { return taghash.EncodeBase32(random(32)) })
	if err != nil {
		return nil, err
	}
	b, err := taghash.DecodeBase32(text)
	if err != nil {
		return nil, fmt.Errorf("%w: private/%s is not base32", ErrValue, name)
	}
	return b, nil
}

// LeaseSecret is the root of all lease secrets (private/secret), made when missing.
// An empty one is an error: everybody could derive what hangs on it.
func (n *Node) LeaseSecret() (Secret, error) {
	secret, err := n.base32Secret("secret")
	if err == nil && len(secret) == 0 {
		err = fmt.Errorf("%w: private/secret is empty", ErrValue)
	}
	return secret, err
}

// ConvergenceSecret is what keeps the keys of equal files apart from those of other
// people (private/convergence), made when missing. An empty file is Tahoe's way to
// ask for none.
func (n *Node) ConvergenceSecret() (Secret, error) { return n.base32Secret("convergence") }

// NewAPIToken makes the token that authorises the local web API's /private and puts
// it where clients read it (private/api_auth_token). As in Tahoe it is a new one at
// each start of the node.
func (n *Node) NewAPIToken() (Token, error) {
	text := base64.URLEncoding.EncodeToString(random(32))
	if err := n.WritePrivate("api_auth_token", []byte(text+"\n")); err != nil {
		return Token{}, err
	}
	return Token{text}, nil
}

// APIToken reads the token of the running node; fs.ErrNotExist when no node has run
// here yet.
func (n *Node) APIToken() (Token, error) {
	text, err := n.ReadPrivate("api_auth_token")
	if err != nil {
		return Token{}, err
	}
	if text == "" || CheckValue(text) != nil {
		return Token{}, fmt.Errorf("%w: private/api_auth_token", ErrValue)
	}
	return Token{text}, nil
}

const (
	privatePrefix = "priv-v0-"
	publicPrefix  = "pub-v0-"
)

// Identity is the node's Ed25519 key (private/node.privkey), made when missing; it
// signs announcements. The public part is put into node.pubkey.
func (n *Node) Identity() (ed25519.PrivateKey, error) {
	text, err := n.loadOrMake("node.privkey", func() string {
		return privatePrefix + taghash.EncodeBase32(random(ed25519.SeedSize))
	})
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(text, privatePrefix)
	seed, err := taghash.DecodeBase32(rest)
	if !ok || err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: private/node.privkey is not a key", ErrValue)
	}
	key := ed25519.NewKeyFromSeed(seed)
	return key, n.writeChanged("node.pubkey", publicPrefix+taghash.EncodeBase32(key.Public().(ed25519.PublicKey)))
}

// NodeID is the announced identity of a public key: "v0-" and its base32.
func NodeID(key ed25519.PublicKey) string { return "v0-" + taghash.EncodeBase32(key) }

// writeChanged writes a public one-line file unless it holds that line already.
func (n *Node) writeChanged(name, line string) error {
	if old, err := readText(n.Path(name)); err == nil && old == line {
		return nil
	}
	return durable.WriteFile(n.Path(name), []byte(line+"\n"), 0o644)
}

// PermutationSeed is what places this server in the permuted ring, in the base32
// that is announced. It is fixed at the first call: to the public key, or to the tub
// id when shares were stored before there was a seed.
func (n *Node) PermutationSeed(key ed25519.PublicKey, tubID string, haveShares bool) (string, error) {
	seed, err := readText(n.Path("permutation-seed"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if seed != "" {
		if _, err := taghash.DecodeBase32(seed); err != nil {
			return "", fmt.Errorf("%w: permutation-seed is not base32", ErrValue)
		}
		return seed, nil
	}
	// Tahoe takes the base32 of the key for bytes and encodes it once more.
	if seed = taghash.EncodeBase32([]byte(taghash.EncodeBase32(key))); haveShares {
		seed = tubID
	}
	return seed, n.writeChanged("permutation-seed", seed)
}

// NextSeqnum counts the announcements of this node up, on disk before it returns.
func (n *Node) NextSeqnum() (int, error) {
	text, err := readText(n.Path("announcement-seqnum"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	seq := uint64(0)
	if text != "" {
		if seq, err = strconv.ParseUint(text, 10, 62); err != nil {
			return 0, fmt.Errorf("%w: announcement-seqnum is not a number", ErrValue)
		}
	}
	seq++
	return int(seq), n.writeChanged("announcement-seqnum", strconv.FormatUint(seq, 10))
}

// Swissnum is the secret name of one of this node's services, by the file in private/
// that keeps its FURL ("storage.furl", "introducer.furl"): what it says, else a new
// one. It stands once SaveFURL has written it. A FURL of another tub is an error, as
// in Foolscap: those who hold it could not reach us.
func (n *Node) Swissnum(name, tubID string) (string, error) {
	text, err := n.ReadPrivate(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && text == "" {
		return taghash.EncodeBase32(random(20)), nil
	}
	if err != nil {
		return "", err
	}
	f, err := furl.Parse(text)
	if err != nil {
		return "", fmt.Errorf("%w: private/%s: %w", ErrValue, name, err)
	}
	if f.TubID != tubID {
		return "", fmt.Errorf("%w: private/%s was made with another private/node.pem", ErrConflict, name)
	}
	return f.Swissnum, nil
}

// SaveFURL writes the address of one of this node's services.
func (n *Node) SaveFURL(name string, f furl.FURL) error {
	text := f.Text()
	if _, err := furl.Parse(text); err != nil {
		return fmt.Errorf("%w: private/%s: %w", ErrValue, name, err)
	}
	if old, err := n.ReadPrivate(name); err == nil && old == text {
		return nil
	}
	return n.WritePrivate(name, []byte(text+"\n"))
}

// SetNodeURL says where the local web API is ("http://127.0.0.1:3456/"), for the
// command line and other frontends.
func (n *Node) SetNodeURL(url string) error {
	if err := CheckValue(url); err != nil {
		return err
	}
	return n.writeChanged("node.url", url)
}

// ListenPort is the endpoint in client.port, where a node without tub.port keeps the
// port that was chosen once; "" when none was.
func (n *Node) ListenPort() (string, error) {
	text, err := readText(n.Path("client.port"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && text != "" && strings.Trim(text, "0123456789") == "" {
		text = "tcp:" + text
	}
	return text, err
}
