package control

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	bine "github.com/cretz/bine/control"
)

// maxReply bounds what we parse of one answer.
const maxReply = 64 << 10

// getInfo asks one key. (bine's GetInfo unquotes the value as one string, which
// breaks a list of quoted strings.)
func getInfo(c *bine.Conn, key string) (string, error) {
	response, err := c.SendRequest("GETINFO %s", key)
	if err != nil {
		return "", fmt.Errorf("GETINFO %s: %w", key, err)
	}
	for _, line := range response.Data {
		if value, ok := strings.CutPrefix(line, key+"="); ok && len(value) <= maxReply {
			return value, nil
		}
	}
	return "", fmt.Errorf("GETINFO %s: no value in the answer", key)
}

// parseListeners reads net/listeners/socks: quoted strings with spaces between,
// one for each SocksPort, "127.0.0.1:9050" or "unix:/run/tor/socks". Of a tor on
// this machine they are ports on loopback, then sockets; those on other addresses
// (Tails and Whonix have them, for other machines) are left out. Of a tor elsewhere
// they are the others: what listens on our loopback is not that tor.
func parseListeners(s string, local bool) ([]Address, error) {
	var loopback, sockets, others []Address
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		word, rest, err := nextValue(s)
		if err != nil {
			return nil, fmt.Errorf("net/listeners/socks: %w", err)
		}
		s = rest
		if path, ok := strings.CutPrefix(word, "unix:"); ok {
			// Tor quotes the path again when it has spaces.
			if strings.HasPrefix(path, `"`) {
				if path, _, err = nextValue(path); err != nil {
					return nil, fmt.Errorf("net/listeners/socks: %w", err)
				}
			}
			if path == "" {
				return nil, errors.New("net/listeners/socks: a socket without a path")
			}
			sockets = append(sockets, Address{"unix", path})
			continue
		}
		at, err := netip.ParseAddrPort(word)
		if err != nil {
			return nil, fmt.Errorf("net/listeners/socks: %q is no address", word)
		}
		ip := at.Addr().Unmap()
		switch {
		case ip.IsUnspecified() && ip.Is4():
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case ip.IsUnspecified():
			ip = netip.IPv6Loopback()
		}
		a := Address{"tcp", net.JoinHostPort(ip.String(), strconv.Itoa(int(at.Port())))}
		if ip.IsLoopback() {
			loopback = append(loopback, a)
		} else {
			others = append(others, a)
		}
	}
	if !local {
		return others, nil
	}
	return append(loopback, sockets...), nil
}

// isLocal says that a control port is on this machine.
func isLocal(a Address) bool {
	if a.Network == "unix" {
		return true
	}
	at, err := netip.ParseAddrPort(a.Address)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// nextValue takes one value off s: a quoted string with C escapes, or what comes
// before the next space.
func nextValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, " ")
		return value, rest, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			rest = s[i+1:]
			if rest != "" && rest[0] != ' ' {
				return "", "", errors.New("a quote ends inside a word")
			}
			return b.String(), strings.TrimPrefix(rest, " "), nil
		case '\\':
			if i++; i == len(s) {
				return "", "", errors.New("a quote does not end")
			}
			switch c := s[i]; {
			case c == 'n':
				b.WriteByte('\n')
			case c == 't':
				b.WriteByte('\t')
			case c == 'r':
				b.WriteByte('\r')
			case c >= '0' && c <= '3' && i+2 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]):
				b.WriteByte((c-'0')<<6 | (s[i+1]-'0')<<3 | (s[i+2] - '0'))
				i += 2
			default:
				b.WriteByte(c)
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("a quote does not end")
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

// parseBootstrap reads a bootstrap phase, as an event has it and as
// status/bootstrap-phase does: NOTICE BOOTSTRAP PROGRESS=14 TAG=handshake
// SUMMARY="Handshaking with a relay" [WARNING=".." REASON=..].
func parseBootstrap(s string) (percent int, summary, warning string, ok bool) {
	_, s, _ = strings.Cut(s, " ") // the severity
	action, s, _ := strings.Cut(s, " ")
	if action != "BOOTSTRAP" {
		return 0, "", "", false
	}
	percent = -1
	for s != "" {
		var key, value string
		var found bool
		if key, s, found = strings.Cut(s, "="); !found {
			return 0, "", "", false
		}
		var err error
		if value, s, err = nextValue(s); err != nil {
			return 0, "", "", false
		}
		switch key {
		case "PROGRESS":
			if percent, err = strconv.Atoi(value); err != nil || percent > 100 {
				return 0, "", "", false
			}
		case "SUMMARY":
			summary = value
		case "WARNING":
			warning = value
		}
	}
	return percent, printable(summary), printable(warning), percent >= 0
}

// printable keeps Tor's words from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// event acts on one raw event.
func (t *Tor) event(raw string) {
	code, rest, _ := strings.Cut(raw, " ")
	switch code {
	case "STATUS_CLIENT":
		percent, summary, warning, ok := parseBootstrap(rest)
		if !ok {
			return
		}
		t.mu.Lock()
		t.status.Percent, t.status.Summary = percent, summary
		t.broadcast()
		t.mu.Unlock()
		p := Progress{Stage: StageBootstrap, Percent: percent, Summary: summary}
		if percent == 100 {
			p.Stage = StageReady
		}
		if warning != "" {
			p.Err = errors.New(warning)
		}
		t.tell(p)
	case "HS_DESC":
		e := bine.ParseHSDescEvent(rest)
		for _, k := range t.allKeepers() {
			if k.Descriptor != nil {
				k.Descriptor(e.Action, e.Address, e.Reason)
			}
		}
	}
}
