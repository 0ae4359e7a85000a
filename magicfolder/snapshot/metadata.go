// Package snapshot is the format of one version of one file, exactly as
// magic-folder 24.3 writes and reads it.
//
// A snapshot is an immutable directory of two entries:
//
//	content   -> immutable file: the bytes; both caps empty in a delete
//	             entry metadata {"mtime": SECONDS, "ctime": SECONDS}
//	metadata  -> immutable file: JSON
//	             {"snapshot_version": 1, "relpath": "a/b", "author":
//	              {"name": N, "verify_key": BASE64}, "modification_time":
//	              SECONDS, "parents": [SNAPSHOT CAP, ..]}
//	             entry metadata {"magic_folder": {"author_signature": BASE64}}
//
// The signature is Ed25519 over four lines, each ended by a newline:
// "magic-folder-snapshot-v1", the content cap (empty in a delete), the metadata
// cap, the relpath. It proves that the holder of verify_key wrote it and nothing
// more, because that key is inside: whoever trusts a snapshot has to compare the
// key with one that it knows already.
//
// Ours may add a key "warren" to the metadata, which magic-folder ignores:
//
//	"warren": {"kind": "symlink" | "directory", "mode": "x" | "-"}
//
// To magic-folder each version is a plain file, and harmless as one. A symlink's
// content is the link's target. An empty directory is an empty file in it whose
// name is DirectoryMark; it stays when the directory fills, and goes with it. The
// mode says whether a plain file may be executed; it is missing where the author's
// system does not know, and in all that magic-folder writes.
//
// In a Personal directory a snapshot stands under its mangled relpath
// (see Mangle). The formats follow docs/datamodel.rst of magic-folder and what
// its snapshot.py and magicpath.py do; tests hold both directions to that code.
package snapshot

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"warren/magicfolder/remote"
)

// Limits on what we read. A usual metadata file has some 500 bytes, a usual
// directory 1,500; lists are read into memory whole.
const (
	MaxMetadata  = 256 << 10
	MaxDirectory = 1 << 20
	MaxParents   = 64
	maxName      = 1024
	maxForm      = 4096
)

// DirectoryMark is the name of the file that stands for its directory.
const DirectoryMark = ".warren-directory"

// Errors that callers tell apart.
var (
	ErrFormat    = errors.New("not a snapshot as magic-folder writes it")
	ErrVersion   = errors.New("unknown snapshot version")
	ErrSignature = errors.New("the snapshot's signature is wrong")
	ErrTooDeep   = errors.New("the file's history is longer than we follow")
)

// Author names who signed.
type Author struct {
	Name string
	Key  ed25519.PublicKey
}

// Kind of what a version is on disk.
type Kind string

// Kinds.
const (
	PlainFile Kind = ""
	Symlink   Kind = "symlink"
	Directory Kind = "directory"
)

// Mode says whether a plain file may be executed.
type Mode string

// Modes.
const (
	ModeUnknown Mode = ""
	Executable  Mode = "x"
	Ordinary    Mode = "-"
)

// Form is what we tell of a version beyond what magic-folder knows. The zero Form
// is that of all its versions.
type Form struct {
	Kind Kind `json:"kind,omitempty"`
	Mode Mode `json:"mode,omitempty"`
}

// After is the form that a file has after a version of form f replaced one of form
// last: who does not know of modes leaves them alone.
func (f Form) After(last Form) Form {
	if f.Kind == PlainFile && f.Mode == ModeUnknown && last.Kind == PlainFile {
		f.Mode = last.Mode
	}
	return f
}

// Metadata is the JSON part of a snapshot.
type Metadata struct {
	Relpath  string
	Author   Author
	Modified int64 // seconds since the epoch
	Parents  []remote.Cap
	Form     Form
}

// Encode gives the bytes that magic-folder would write for the same values.
func (m Metadata) Encode() []byte {
	b := []byte(`{"snapshot_version": 1, "relpath": `)
	b = appendString(b, m.Relpath)
	b = append(b, `, "author": {"name": `...)
	b = appendString(b, m.Author.Name)
	b = append(b, `, "verify_key": `...)
	b = appendString(b, base64.StdEncoding.EncodeToString(m.Author.Key))
	b = append(b, `}, "modification_time": `...)
	b = strconv.AppendInt(b, m.Modified, 10)
	b = append(b, `, "parents": [`...)
	for i, p := range m.Parents {
		if i > 0 {
			b = append(b, `, `...)
		}
		b = appendString(b, p.Text())
	}
	b = append(b, ']')
	if m.Form != (Form{}) {
		ours, _ := json.Marshal(m.Form) // two strings
		b = append(append(b, `, "warren": `...), ours...)
	}
	return append(b, '}')
}

// appendString is Python's json.dumps of a str: pure ASCII.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// ParseMetadata reads the JSON part. Unknown keys beside ours are accepted, as
// magic-folder does; in author they are not, as magic-folder does not.
func ParseMetadata(data []byte) (Metadata, error) {
	var m Metadata
	if len(data) > MaxMetadata {
		return m, bad("metadata of more than %d bytes", MaxMetadata)
	}
	if !utf8.Valid(data) {
		return m, bad("metadata is not UTF-8")
	}
	// A map, not a struct: encoding/json would take "Relpath" for "relpath".
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		return m, bad("metadata is no JSON object")
	}
	for _, key := range []string{"snapshot_version", "relpath", "author", "modification_time", "parents"} {
		if _, ok := top[key]; !ok {
			return m, bad("metadata without %q", key)
		}
	}
	if v := string(top["snapshot_version"]); v != "1" {
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return m, bad("snapshot_version is no number")
		}
		return m, fmt.Errorf("%w: %s", ErrVersion, v)
	}
	var err error
	if m.Relpath, err = text(top["relpath"], 1<<16); err != nil {
		return m, bad("relpath: %v", err)
	}
	var author map[string]json.RawMessage
	if err := json.Unmarshal(top["author"], &author); err != nil || author == nil {
		return m, bad("author is no JSON object")
	}
	if len(author) != 2 || author["name"] == nil || author["verify_key"] == nil {
		return m, bad("author has other keys than name and verify_key")
	}
	if m.Author.Name, err = text(author["name"], maxName); err != nil {
		return m, bad("author name: %v", err)
	}
	key, err := text(author["verify_key"], 64)
	if err != nil {
		return m, bad("verify_key: %v", err)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return m, bad("verify_key is not 32 bytes in base64")
	}
	m.Author.Key = raw
	var when float64
	if top["modification_time"][0] == '"' || json.Unmarshal(top["modification_time"], &when) != nil ||
		string(top["modification_time"]) == "null" {
		return m, bad("modification_time is no number")
	}
	if math.Abs(when) > 1<<40 {
		return m, bad("modification_time is out of range")
	}
	m.Modified = int64(math.Floor(when))
	var parents []json.RawMessage
	if json.Unmarshal(top["parents"], &parents) != nil || parents == nil {
		return m, bad("parents is no list")
	}
	if len(parents) > MaxParents {
		return m, bad("more than %d parents", MaxParents)
	}
	for _, p := range parents {
		s, err := text(p, 4096)
		if err != nil {
			return m, bad("parent: %v", err)
		}
		if remote.KindOf(remote.Cap(s)) != remote.Directory {
			return m, bad("a parent is no immutable directory")
		}
		m.Parents = append(m.Parents, remote.Cap(s))
	}
	if raw, ok := top["warren"]; ok {
		if m.Form, err = parseForm(raw, path.Base(m.Relpath)); err != nil {
			return m, err
		}
	}
	return m, nil
}

// parseForm reads what stands under our key. Keys and words that we do not know are
// a later version's: without them it is a plain file, as for magic-folder.
func parseForm(raw json.RawMessage, base string) (f Form, err error) {
	var ours map[string]json.RawMessage
	if len(raw) > maxForm || json.Unmarshal(raw, &ours) != nil || ours == nil {
		return f, bad("warren is no small JSON object")
	}
	var words [2]string
	for i, key := range []string{"kind", "mode"} {
		if v, ok := ours[key]; ok {
			if words[i], err = text(v, 64); err != nil {
				return f, bad("warren %s: %v", key, err)
			}
		}
	}
	switch k := Kind(words[0]); k {
	case Symlink:
		f.Kind = k
	case Directory:
		if base != DirectoryMark {
			return f, bad("a directory under a file's name")
		}
		f.Kind = k
	}
	if m := Mode(words[1]); f.Kind == PlainFile && (m == Executable || m == Ordinary) {
		f.Mode = m
	}
	return f, nil
}

// text takes a JSON string. Go turns a lone surrogate into U+FFFD, which would
// give a name that nobody signed, so that is refused.
func text(raw json.RawMessage, limit int) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("no string")
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errors.New("no string")
	}
	if s == "" {
		return "", errors.New("empty")
	}
	if len(s) > limit {
		return "", errors.New("too long")
	}
	if loneSurrogate(raw) {
		return "", errors.New("half a character")
	}
	return s, nil
}

func loneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if i >= len(raw) || raw[i] != 'u' || i+4 >= len(raw) {
			continue
		}
		v, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 32)
		i += 4
		if err != nil || v < 0xd800 || v > 0xdfff {
			continue
		}
		if v >= 0xdc00 || i+6 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' {
			return true
		}
		low, err := strconv.ParseUint(string(raw[i+3:i+7]), 16, 32)
		if err != nil || low < 0xdc00 || low > 0xdfff {
			return true
		}
		i += 6
	}
	return false
}
