// Package config is a node's directory: everything that a node keeps on disk apart
// from shares. It is Tahoe-LAFS's node directory, file for file, so that either
// program runs on a directory that the other made:
//
//	tahoe-client.tac            marks the kind of node (or tahoe-introducer.tac)
//	tahoe.cfg                   Tahoe's settings (docs/configuration.rst)
//	warren.cfg                  our own settings, in the same syntax
//	private/                    0700, every file of ours in it 0600
//	  node.pem                  the tub's certificate and key
//	  node.privkey              the Ed25519 identity (node.pubkey is outside)
//	  secret, convergence       lease secret, convergence secret
//	  api_auth_token            authorises /private of the local web API
//	  introducers.yaml          petname -> introducer FURL
//	  servers.yaml              servers known without an introducer
//	  storage.furl, introducer.furl   addresses of our services, with swissnums
//	my_nodeid node.pubkey node.url client.port permutation-seed announcement-seqnum
//	running.process             "PID START\n" of the running node
//	running.process.lock        held while running.process is read or written
//	warren.process, warren.lock our own record and lock: see Lock
//
// Tahoe refuses to start on a section or key that it does not know, and so do we;
// that is why ours are in a file of their own.
//
// Call Create for a new directory and Open for one that exists; then Lock before
// anything is changed or served. Open reads and checks every setting at once: a node
// that starts has no bad value left to trip over. Everything is written through
// package durable.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Errors that callers branch on; they come wrapped in an Error where a place in a
// file is meant.
var (
	// ErrNotNode: the directory is none of a node.
	ErrNotNode = errors.New("config: not a node directory")
	// ErrExists: there is something already where a node is to be created.
	ErrExists = errors.New("config: the directory is not empty")
	// ErrSyntax: the file cannot be parsed.
	ErrSyntax = errors.New("config: bad syntax")
	// ErrUnknownSection and ErrUnknownKey: Tahoe knows no such setting.
	ErrUnknownSection = errors.New("config: unknown section")
	ErrUnknownKey     = errors.New("config: unknown key")
	// ErrValue: a value of the wrong type, out of bounds, or missing.
	ErrValue = errors.New("config: bad value")
	// ErrPrivacy: the settings contradict "reveal-IP-address = false".
	ErrPrivacy = errors.New("config: the settings would reveal the IP address")
	// ErrPort: a port of 0 where one must be chosen.
	ErrPort = errors.New("config: a port must be chosen, 0 will not do")
	// ErrConflict: settings that contradict each other.
	ErrConflict = errors.New("config: the settings contradict each other")
	// ErrUnsupported: a valid setting for something that this program does not do.
	ErrUnsupported = errors.New("config: not supported")
	// ErrOldConfig: files from before Tahoe-LAFS 1.3, which it refuses too.
	ErrOldConfig = errors.New("config: settings from before Tahoe-LAFS 1.3")
	// ErrTooLong: a file or value beyond the bounds.
	ErrTooLong = errors.New("config: too long")
)

// Error says where in the settings something is wrong. It never quotes a value.
type Error struct {
	File    string // base name, "" when it is not about a file
	Line    int    // 0 when unknown
	Section string
	Key     string
	Detail  string
	Err     error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	if e.File != "" {
		fmt.Fprintf(&b, " in %s", e.File)
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, ", line %d", e.Line)
	}
	if e.Section != "" {
		fmt.Fprintf(&b, ", [%.60q]", e.Section)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, " %.60q", e.Key)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Warning is something in the settings that is wrong and does not keep the node from
// starting.
type Warning struct {
	Section, Key, Text string
}

func (w Warning) String() string {
	switch {
	case w.Section == "":
		return w.Text
	case w.Key == "":
		return fmt.Sprintf("[%s]: %s", w.Section, w.Text)
	}
	return fmt.Sprintf("[%s] %s: %s", w.Section, w.Key, w.Text)
}

// Kind is the kind of a node.
type Kind string

// The kinds, as the marker files name them. A storage server is a Client whose
// storage is enabled.
const (
	Client     Kind = "client"
	Introducer Kind = "introducer"
)

// Names in a node directory.
const (
	tahoeCfg  = "tahoe.cfg"
	warrenCfg = "warren.cfg"
	private   = "private"
)

// Node is an open node directory. Its fields are read-only for callers; methods that
// change the directory are not for concurrent use.
type Node struct {
	Dir      string // absolute
	Kind     Kind
	Settings Settings
	// Warnings are what Open found wrong and could live with.
	Warnings []Warning

	tahoe, own *ini
}

// Open reads and checks a node directory. It changes nothing.
func Open(dir string) (*Node, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	kind, err := Identify(abs)
	if err != nil {
		return nil, err
	}
	n := &Node{Dir: abs, Kind: kind}
	if err := n.refuseOldFiles(); err != nil {
		return nil, err
	}
	if n.tahoe, err = readIni(filepath.Join(abs, tahoeCfg)); err != nil {
		return nil, err
	}
	if n.own, err = readIni(filepath.Join(abs, warrenCfg)); err != nil {
		return nil, err
	}
	n.Settings, n.Warnings, err = readSettings(abs, kind, n.tahoe, n.own)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Identify says of which kind the node in dir is, by the marker file as Tahoe does.
func Identify(dir string) (Kind, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotNode, err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".tac") {
			continue
		}
		for _, k := range []Kind{Client, Introducer} {
			if strings.Contains(e.Name(), string(k)) {
				return k, nil
			}
		}
	}
	return "", fmt.Errorf("%w: %s has no tahoe-client.tac or tahoe-introducer.tac", ErrNotNode, dir)
}

// refuseOldFiles: such a file once was a setting; a node that overlooked it could,
// for instance, offer storage against its owner's will.
func (n *Node) refuseOldFiles() error {
	for _, name := range []string{
		"nickname", "webport", "keepalive_timeout", "log_gatherer.furl", "disconnect_timeout",
		"advertised_ip_addresses", "introducer.furl", "helper.furl", "key_generator.furl", "stats_gatherer.furl",
		"no_storage", "readonly_storage", "sizelimit", "debug_discard_storage", "run_helper",
	} {
		if name == "introducer.furl" && n.Kind == Introducer {
			continue
		}
		if _, err := os.Lstat(filepath.Join(n.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s", ErrOldConfig, name)
		}
	}
	return nil
}

// Path joins names below the node directory; an absolute last name stays as it is.
func (n *Node) Path(names ...string) string { return below(n.Dir, filepath.Join(names...)) }

// PrivatePath joins names below private/.
func (n *Node) PrivatePath(names ...string) string {
	return filepath.Join(n.Dir, private, filepath.Join(names...))
}

// below resolves a path from the settings as Tahoe does: "~" is the home directory,
// the rest is relative to the node directory.
func below(dir, path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, path[1:])
		}
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// SecurePrivate takes the rights of others away from private/ and the files in it:
// Tahoe leaves them readable and relies on the directory alone.
func (n *Node) SecurePrivate() error {
	dir := filepath.Join(n.Dir, private)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	defer root.Close()
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case d.IsDir():
			return root.Chmod(path, 0o700)
		case d.Type().IsRegular():
			return root.Chmod(path, 0o600)
		}
		return nil
	})
}
