package snapshot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"warren/magicfolder/remote"
)

// Snapshot is a version of a file whose signature was checked.
type Snapshot struct {
	Metadata
	Cap     remote.Cap
	Content remote.Cap // empty: a delete
	// MetadataCap is the file that holds Metadata; empty where it was not read from
	// the grid.
	MetadataCap remote.Cap
}

// Deleted says whether this version is the file's absence.
func (s Snapshot) Deleted() bool { return s.Content == "" }

// SignedText is what a snapshot's author signs.
func SignedText(content, metadata remote.Cap, relpath string) []byte {
	return []byte("magic-folder-snapshot-v1\n" + content.Text() + "\n" + metadata.Text() + "\n" + relpath + "\n")
}

// Entries builds the directory of a snapshot whose content (empty: a delete)
// and encoded metadata are stored already.
func Entries(key ed25519.PrivateKey, m Metadata, content, metadata remote.Cap, created int64) []remote.Entry {
	sig := ed25519.Sign(key, SignedText(content, metadata, m.Relpath))
	return []remote.Entry{
		{Name: "content", Read: content,
			Metadata: fmt.Appendf(nil, `{"mtime": %d, "ctime": %d}`, m.Modified, created)},
		{Name: "metadata", Read: metadata,
			Metadata: fmt.Appendf(nil, `{"magic_folder": {"author_signature": "%s"}}`,
				base64.StdEncoding.EncodeToString(sig))},
	}
}

// parts finds what the directory of a snapshot points at.
func parts(entries []remote.Entry) (content, metadata remote.Cap, sig []byte, err error) {
	var haveContent, haveMetadata bool
	for _, e := range entries {
		switch e.Name {
		case "content":
			haveContent, content = true, e.Read
			if e.Write != "" || (content != "" && remote.KindOf(content) != remote.File) {
				return "", "", nil, bad("content is no immutable file")
			}
		case "metadata":
			haveMetadata, metadata = true, e.Read
			if e.Write != "" || remote.KindOf(metadata) != remote.File {
				return "", "", nil, bad("metadata is no immutable file")
			}
			if sig, err = signature(e.Metadata); err != nil {
				return "", "", nil, err
			}
		}
	}
	if !haveContent || !haveMetadata {
		return "", "", nil, bad("content or metadata is missing")
	}
	return content, metadata, sig, nil
}

func signature(raw json.RawMessage) ([]byte, error) {
	if len(raw) > MaxMetadata {
		return nil, bad("entry metadata is too long")
	}
	var top, ours map[string]json.RawMessage
	if json.Unmarshal(raw, &top) != nil || json.Unmarshal(top["magic_folder"], &ours) != nil {
		return nil, bad("no signature")
	}
	s, err := text(ours["author_signature"], 128)
	if err != nil {
		return nil, bad("no signature")
	}
	sig, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, bad("the signature is not 64 bytes in base64")
	}
	return sig, nil
}

// Verify checks a snapshot's parts against each other.
func Verify(c remote.Cap, entries []remote.Entry, metadata []byte) (Snapshot, error) {
	content, metaCap, sig, err := parts(entries)
	if err != nil {
		return Snapshot{}, err
	}
	m, err := ParseMetadata(metadata)
	if err != nil {
		return Snapshot{}, err
	}
	if !ed25519.Verify(m.Author.Key, SignedText(content, metaCap, m.Relpath), sig) {
		return Snapshot{}, ErrSignature
	}
	return Snapshot{Metadata: m, Cap: c, Content: content, MetadataCap: metaCap}, nil
}

// Reader is what reading a snapshot needs of the grid.
type Reader interface {
	List(ctx context.Context, dir remote.Cap) ([]remote.Entry, remote.Version, error)
	Get(ctx context.Context, file remote.Cap, w io.Writer) error
}

// Read fetches a snapshot (not its content) and checks its signature. Errors
// other than this package's are the grid's and may go away.
func Read(ctx context.Context, g Reader, c remote.Cap) (Snapshot, error) {
	if remote.KindOf(c) != remote.Directory {
		// A mutable directory here could change after it was checked.
		return Snapshot{}, bad("no immutable directory")
	}
	if size, ok := remote.Size(c); !ok || size > MaxDirectory {
		return Snapshot{}, bad("a directory of more than %d bytes", MaxDirectory)
	}
	entries, _, err := g.List(ctx, c)
	if err != nil {
		return Snapshot{}, fmt.Errorf("reading a snapshot: %w", err)
	}
	_, metaCap, _, err := parts(entries)
	if err != nil {
		return Snapshot{}, err
	}
	var buf limited
	if err := g.Get(ctx, metaCap, &buf); err != nil {
		if buf.over {
			return Snapshot{}, bad("metadata of more than %d bytes", MaxMetadata)
		}
		return Snapshot{}, fmt.Errorf("reading a snapshot's metadata: %w", err)
	}
	return Verify(c, entries, buf.Bytes())
}

type limited struct {
	bytes.Buffer
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > MaxMetadata {
		l.over = true
		return 0, errors.New("too long")
	}
	return l.Buffer.Write(p)
}

// Malformed says whether err condemns the snapshot itself, so that asking again
// gives the same.
func Malformed(err error) bool {
	return errors.Is(err, ErrFormat) || errors.Is(err, ErrVersion) || errors.Is(err, ErrSignature)
}
