package grid

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"warren/node/furl"
	"warren/node/taghash"
)

// Announced is a storage server as an introducer or servers.yaml describes it.
type Announced struct {
	// ID is "v0-" and the base32 of the announcement's key, or the tub id.
	ID string
	// Nickname is foreign text, at most 200 bytes.
	Nickname        string
	PermutationSeed []byte
	// LeaseSeed is the tub id's 20 bytes.
	LeaseSeed []byte
	FURL      furl.FURL
	// NURLs says where the server speaks HTTPS; empty for a server that speaks
	// Foolscap only.
	NURLs []furl.NURL
	// Seqnum counts the server's announcements, over all introducers; 0: not numbered.
	Seqnum int64
	// Source says who announced it: an introducer's petname, or Static.
	Source string
}

// Static is the Source of servers from servers.yaml: what the user wrote there
// counts, whatever introducers say of the same server.
const Static = "servers.yaml"

// Bounds on what an announcement makes us hold or try.
const (
	maxNURLs    = 16 // addresses of one server that are tried
	maxNickname = 200
	maxID       = 100
)

// ParseAnnouncement reads the values of a "storage" announcement. id is the key
// id of its verified signature, or the server id of a static server. The rules
// are Tahoe's: anonymous-storage-FURL is required, even of a server that speaks
// HTTPS only, since its tub id seeds lease secrets and write enablers; the
// permutation seed is taken as announced, else it is the public key, else the
// SHA-256 of the id. NURLs that cannot be read are left out.
func ParseAnnouncement(id string, values map[string]any, source string) (Announced, error) {
	a := Announced{ID: id, Source: source}
	if id == "" || len(id) > maxID {
		return a, errors.New("grid: announcement without a usable server id")
	}
	text, _ := values["anonymous-storage-FURL"].(string)
	if text == "" {
		return a, errors.New("grid: announcement without anonymous-storage-FURL")
	}
	var err error
	if a.FURL, err = furl.Parse(text); err != nil {
		return a, fmt.Errorf("grid: anonymous-storage-FURL: %w", err)
	}
	if a.LeaseSeed, err = taghash.DecodeBase32(a.FURL.TubID); err != nil {
		return a, fmt.Errorf("grid: tub id: %w", err)
	}
	nickname, _ := values["nickname"].(string)
	if len(nickname) > maxNickname {
		nickname = nickname[:maxNickname]
	}
	a.Nickname = strings.ToValidUTF8(nickname, "") // the cut may have gone through a letter
	a.Seqnum, _ = values["seqnum"].(int64)
	if a.PermutationSeed, err = permutationSeed(id, values["permutation-seed-base32"]); err != nil {
		return a, err
	}
	nurls, _ := values["anonymous-storage-NURLs"].([]any)
	for _, v := range nurls {
		s, _ := v.(string)
		n, err := furl.ParseNURL(s)
		if err != nil || len(a.NURLs) == maxNURLs {
			continue // a form of a later version, beside one that we can read
		}
		a.NURLs = append(a.NURLs, n)
	}
	return a, nil
}

func permutationSeed(id string, announced any) ([]byte, error) {
	if announced != nil {
		s, _ := announced.(string)
		seed, err := taghash.DecodeBase32(s)
		if err != nil || len(seed) == 0 || len(seed) > 256 {
			return nil, errors.New("grid: permutation-seed-base32 is not base32")
		}
		return seed, nil
	}
	if key, ok := strings.CutPrefix(id, "v0-"); ok && len(key) == 52 {
		if seed, err := taghash.DecodeBase32(key); err == nil {
			return seed, nil
		}
	}
	sum := sha256.Sum256([]byte(id))
	return sum[:], nil
}
