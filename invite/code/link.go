package code

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

const (
	linkPrefix = "warren:"
	maxMailbox = 300
)

// Link is a code and the mailbox where it is good.
type Link struct {
	Code    Code
	Mailbox string // ws:// or wss:// address, as CheckMailbox accepts it
}

// IsLink says whether s claims to be a link rather than a code.
func IsLink(s string) bool {
	s = strings.Trim(s, " \t\r\n")
	return len(s) >= len(linkPrefix) && strings.EqualFold(s[:len(linkPrefix)], linkPrefix)
}

// ParseLink reads a link.
func ParseLink(s string) (Link, error) {
	if len(s) > maxText+maxMailbox {
		return Link{}, fmt.Errorf("%w: the link is too long", ErrMalformed)
	}
	s = strings.Trim(s, " \t\r\n")
	if !IsLink(s) {
		return Link{}, fmt.Errorf("%w: a link begins with %q", ErrMalformed, linkPrefix)
	}
	text, mailbox, ok := strings.Cut(s[len(linkPrefix):], "@")
	if !ok {
		return Link{}, fmt.Errorf("%w: the link names no mailbox", ErrMalformed)
	}
	if strings.ContainsAny(text, " \t\r\n") {
		return Link{}, fmt.Errorf("%w: blanks in the link", ErrMalformed)
	}
	c, err := Parse(text)
	if err != nil {
		return Link{}, err
	}
	if err := CheckMailbox(mailbox); err != nil {
		return Link{}, err
	}
	return Link{c, mailbox}, nil
}

// Text is the link itself.
func (l Link) Text() string { return linkPrefix + l.Code.Text() + "@" + l.Mailbox }

// String redacts the code.
func (l Link) String() string { return linkPrefix + "[code]@" + l.Mailbox }

// Format redacts for every verb.
func (l Link) Format(f fmt.State, _ rune) { io.WriteString(f, l.String()) }

// CheckMailbox accepts the address of a mailbox server: ws:// or wss://, a
// lower-case host name or an IP address, perhaps a port, perhaps a path of
// plain characters; no user, query or fragment. What it accepts can stand in a
// shell, a config file and a terminal as it is.
func CheckMailbox(s string) error {
	if len(s) > maxMailbox {
		return fmt.Errorf("%w: too long", ErrMailbox)
	}
	rest, ok := strings.CutPrefix(s, "ws://")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "wss://"); !ok {
			return fmt.Errorf("%w: it begins with ws:// or wss://", ErrMailbox)
		}
	}
	hostport, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		hostport, path = rest[:i], rest[i:]
	}
	host, port, hasPort := hostport, "", false
	if strings.HasPrefix(hostport, "[") {
		end := strings.IndexByte(hostport, ']')
		if end < 0 {
			return fmt.Errorf("%w: bad host", ErrMailbox)
		}
		ip, err := netip.ParseAddr(hostport[1:end])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return fmt.Errorf("%w: bad host", ErrMailbox)
		}
		host = ""
		port, hasPort = strings.CutPrefix(hostport[end+1:], ":")
		if !hasPort && port != "" {
			return fmt.Errorf("%w: bad host", ErrMailbox)
		}
	} else {
		host, port, hasPort = strings.Cut(hostport, ":")
		if err := checkHost(host); err != nil {
			return err
		}
	}
	if hasPort {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
			return fmt.Errorf("%w: bad port", ErrMailbox)
		}
	}
	for i := range len(path) {
		if c := path[i]; !alphanumeric(c) && !strings.ContainsRune("/-_.", rune(c)) {
			return fmt.Errorf("%w: bad path", ErrMailbox)
		}
	}
	if strings.Contains(path, "..") || strings.Contains(path, "//") {
		return fmt.Errorf("%w: bad path", ErrMailbox)
	}
	return nil
}

func checkHost(host string) error {
	if host == "" || len(host) > 253 {
		return fmt.Errorf("%w: bad host", ErrMailbox)
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%w: bad host", ErrMailbox)
		}
		for i := range len(label) {
			if c := label[i]; !alphanumeric(c) && c != '-' && c != '_' || c >= 'A' && c <= 'Z' {
				return fmt.Errorf("%w: bad host", ErrMailbox)
			}
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
