package furl

import (
	"net/netip"
	"strconv"
	"strings"
)

// splitHostPort reads "HOST:PORT", with the host of an IPv6 address in brackets
// where that is allowed. Both must be spelled as we would spell them.
func splitHostPort(s string, ipv6 bool) (string, int, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, ErrPort
	}
	host, port := s[:i], s[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", 0, ErrPort
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok || !ipv6 || !strings.Contains(inner, ":") {
			return "", 0, ErrHost
		}
		if !validHost(inner, true) {
			return "", 0, ErrHost
		}
		return inner, int(n), nil
	}
	if !validHost(host, false) {
		return "", 0, ErrHost
	}
	return host, int(n), nil
}

// bracket puts an IPv6 address in brackets.
func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// validHost takes the letters of Foolscap's host names and the lengths of DNS. An
// onion name of version 3 is 62 long.
func validHost(s string, ipv6 bool) bool {
	if ipv6 {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6() && zoneOK(a.Zone())
	}
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return !strings.Contains(s, "..")
}

func zoneOK(z string) bool {
	for i := range len(z) {
		if !alnum(z[i]) && z[i] != '.' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func validType(s string) bool {
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// visible: printable ASCII without space, so that an address never breaks a line, a
// config file or a terminal.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func validName(s string) bool { return s != "" && len(s) <= MaxSwissnum && visible(s) }
