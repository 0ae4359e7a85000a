package torutil

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Kind is what an Endpoint listens on.
type Kind string

// The kinds of endpoint that a node can serve.
const (
	KindTCP   Kind = "tcp"
	KindUnix  Kind = "unix"
	KindOnion Kind = "onion"
)

// Endpoint is one place to listen, as tahoe.cfg's tub.port and web.port name it
// in Twisted's server endpoint strings:
//
//	3456                                   TCP on every IPv4 interface
//	tcp:3456[:interface=127.0.0.1]         the same; on one interface
//	tcp4:..., tcp6:3456:interface=\:\:1    the family said
//	unix:/path/socket[:mode=600]           a unix socket
//	listen:tor                             the onion service of tahoe.cfg's [tor]
//	onion:PORT[:localPort=N][:privateKeyFile=PATH]
//
// A backslash quotes the next character; words may be positional or key=value.
type Endpoint struct {
	Kind Kind

	// TCP. Interface is the zero Addr for every interface. V6 says that the
	// family is IPv6 (Twisted's "tcp" alone is IPv4).
	Port      uint16
	Interface netip.Addr
	V6        bool

	// Unix.
	Path string
	Perm os.FileMode

	// Onion. Zero values mean what tahoe.cfg's [tor] says.
	OnionPort uint16
	LocalPort uint16
	KeyFile   string
}

// ParseEndpoints reads a comma-separated list, as tub.port is.
func ParseEndpoints(s string) ([]Endpoint, error) {
	var all []Endpoint
	for _, part := range strings.Split(s, ",") {
		e, err := ParseEndpoint(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// ParseEndpoint reads one endpoint string. What Twisted can serve and we cannot
// (ssl, systemd, fd, i2p ...) is an error that says so.
func ParseEndpoint(s string) (Endpoint, error) {
	e, err := parseEndpoint(s)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: %w: %w", s, ErrEndpoint, err)
	}
	return e, nil
}

func parseEndpoint(s string) (Endpoint, error) {
	if s == "" {
		return Endpoint{}, fmt.Errorf("it is empty")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Endpoint{}, fmt.Errorf("it has a control character")
	}
	if port, err := parsePort(s); err == nil {
		return Endpoint{Kind: KindTCP, Port: port}, nil
	}
	w, err := splitWords(s)
	if err != nil {
		return Endpoint{}, err
	}
	kind, ok := w.positional(0)
	if !ok {
		return Endpoint{}, fmt.Errorf("it names no kind (try tcp:PORT)")
	}
	switch kind {
	case "tcp", "tcp4", "tcp6":
		return parseTCP(kind, w)
	case "unix":
		return parseUnix(w)
	case "listen":
		if what, _ := w.positional(1); what != "tor" {
			return Endpoint{}, fmt.Errorf("only listen:tor is served here")
		}
		return Endpoint{Kind: KindOnion}, w.rest(2)
	case "onion":
		return parseOnion(w)
	case "ssl", "tls", "le", "txacme", "lets-encrypt":
		return Endpoint{}, fmt.Errorf("%s endpoints are not served here: the node has its own TLS; use tcp:PORT", kind)
	case "systemd", "fd", "adopt-socket", "stdio":
		return Endpoint{}, fmt.Errorf("%s endpoints (inherited sockets) are not served here; use tcp:PORT or unix:PATH", kind)
	case "i2p", "sam":
		return Endpoint{}, fmt.Errorf("I2P is not supported; use tcp:PORT or listen:tor")
	default:
		return Endpoint{}, fmt.Errorf("unknown kind %q; tcp, unix, listen:tor and onion are served", kind)
	}
}

func parseTCP(kind string, w words) (Endpoint, error) {
	portText, _, err := w.take("port", 1)
	if err != nil {
		return Endpoint{}, err
	}
	port, err := parsePort(portText)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Kind: KindTCP, Port: port, V6: kind == "tcp6"}
	iface, _, err := w.take("interface", 2)
	if err != nil {
		return Endpoint{}, err
	}
	if err := w.dropNumber("backlog", 3); err != nil {
		return Endpoint{}, err
	}
	if err := w.rest(4); err != nil {
		return Endpoint{}, err
	}
	if iface == "" {
		return e, nil
	}
	if iface == "localhost" {
		// Said in old tahoe.cfg files. It means loopback; asking a resolver would
		// be a look-up.
		iface = "127.0.0.1"
		if e.V6 {
			iface = "::1"
		}
	}
	addr, err := netip.ParseAddr(iface)
	if err != nil || addr.Zone() != "" {
		return Endpoint{}, fmt.Errorf("interface %q is not an IP address", iface)
	}
	addr = addr.Unmap()
	switch {
	case addr.Is4() && kind == "tcp6", addr.Is6() && kind == "tcp4":
		return Endpoint{}, fmt.Errorf("interface %s is not of the family of %s", addr, kind)
	}
	e.V6 = addr.Is6()
	if !addr.IsUnspecified() {
		e.Interface = addr
	}
	return e, nil
}

func parseUnix(w words) (Endpoint, error) {
	path, _, err := w.take("address", 1)
	if err != nil {
		return Endpoint{}, err
	}
	if path == "" {
		return Endpoint{}, fmt.Errorf("unix needs a path")
	}
	e := Endpoint{Kind: KindUnix, Path: path, Perm: 0o666}
	mode, ok, err := w.take("mode", 2)
	if err != nil {
		return Endpoint{}, err
	}
	if ok {
		perm, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || perm > 0o777 {
			return Endpoint{}, fmt.Errorf("mode %q is not an octal file mode", mode)
		}
		e.Perm = os.FileMode(perm)
	}
	if err := w.dropNumber("backlog", 3); err != nil {
		return Endpoint{}, err
	}
	if err := w.dropNumber("lockfile", 4); err != nil {
		return Endpoint{}, err
	}
	return e, w.rest(5)
}

func parseOnion(w words) (Endpoint, error) {
	text, _, err := w.take("public_port", 1)
	if err != nil {
		return Endpoint{}, err
	}
	port, err := parsePort(text)
	if err != nil {
		return Endpoint{}, err
	}
	if port == 0 {
		return Endpoint{}, fmt.Errorf("an onion service needs a port")
	}
	e := Endpoint{Kind: KindOnion, OnionPort: port}
	if local, ok, err := w.take("localPort", 2); err != nil {
		return Endpoint{}, err
	} else if ok {
		if e.LocalPort, err = parsePort(local); err != nil {
			return Endpoint{}, err
		}
	}
	if key, ok, err := w.take("privateKeyFile", -1); err != nil {
		return Endpoint{}, err
	} else if ok {
		if key == "" {
			return Endpoint{}, fmt.Errorf("privateKeyFile is empty")
		}
		e.KeyFile = key
	}
	if version, ok, err := w.take("version", -1); err != nil {
		return Endpoint{}, err
	} else if ok && version != "3" {
		return Endpoint{}, fmt.Errorf("onion services are version 3 only")
	}
	for _, key := range []string{"controlPort", "hiddenServiceDir", "privateKey", "singleHop"} {
		if _, ok := w.named[key]; ok {
			return Endpoint{}, fmt.Errorf("%s is not served here: tor is named in [tor], the key in privateKeyFile", key)
		}
	}
	return e, w.rest(3)
}

// String is the endpoint as tahoe.cfg would name it; ParseEndpoint reads it back.
func (e Endpoint) String() string {
	switch e.Kind {
	case KindTCP:
		s := "tcp:"
		if e.V6 {
			s = "tcp6:"
		}
		s += strconv.Itoa(int(e.Port))
		if e.Interface.IsValid() {
			s += ":interface=" + quoteWord(e.Interface.String())
		}
		return s
	case KindUnix:
		s := "unix:" + quoteWord(e.Path)
		if e.Perm != 0o666 {
			s += fmt.Sprintf(":mode=%o", e.Perm)
		}
		return s
	case KindOnion:
		if e.OnionPort == 0 {
			return "listen:tor"
		}
		s := "onion:" + strconv.Itoa(int(e.OnionPort))
		if e.LocalPort != 0 {
			s += ":localPort=" + strconv.Itoa(int(e.LocalPort))
		}
		if e.KeyFile != "" {
			s += ":privateKeyFile=" + quoteWord(e.KeyFile)
		}
		return s
	default:
		return "none"
	}
}

// Loopback says that only this machine can reach the endpoint.
func (e Endpoint) Loopback() bool {
	return e.Kind == KindUnix || e.Kind == KindTCP && e.Interface.IsLoopback()
}

// bind gives net.Listen's arguments.
func (e Endpoint) bind() (network, address string) {
	network, host := "tcp4", "0.0.0.0"
	if e.V6 {
		network, host = "tcp6", "::"
	}
	if e.Interface.IsValid() {
		host = e.Interface.String()
	}
	return network, net.JoinHostPort(host, strconv.Itoa(int(e.Port)))
}

// ParseClientEndpoint reads where to connect, as tahoe.cfg's control.port and
// socks.port name it: "tcp:127.0.0.1:9051", "tcp:host=..:port=..",
// "unix:/var/run/tor/control", "127.0.0.1:9050" or a bare path. The result is
// what a dial takes. Hosts must be numeric ("localhost" is taken as 127.0.0.1):
// a name would be looked up.
func ParseClientEndpoint(s string) (network, address string, err error) {
	network, address, err = parseClientEndpoint(s)
	if err != nil {
		return "", "", fmt.Errorf("endpoint %q: %w: %w", s, ErrEndpoint, err)
	}
	return network, address, nil
}

func parseClientEndpoint(s string) (network, address string, err error) {
	if strings.HasPrefix(s, "/") {
		return "unix", s, nil
	}
	w, err := splitWords(s)
	if err != nil {
		return "", "", err
	}
	kind, _ := w.positional(0)
	if kind == "unix" {
		path, _, err := w.take("path", 1)
		if err != nil {
			return "", "", err
		}
		if path == "" {
			return "", "", fmt.Errorf("unix needs a path")
		}
		// Tahoe's documentation writes "unix://var/run/tor/control".
		if strings.HasPrefix(path, "//") {
			path = path[1:]
		}
		return "unix", path, w.restKnown(2, "timeout", "lockfile")
	}
	var host, portText string
	if kind == "tcp" {
		if host, _, err = w.take("host", 1); err != nil {
			return "", "", err
		}
		if portText, _, err = w.take("port", 2); err != nil {
			return "", "", err
		}
		if err := w.restKnown(3, "timeout", "bindAddress"); err != nil {
			return "", "", err
		}
	} else if host, portText, err = net.SplitHostPort(s); err != nil {
		return "", "", fmt.Errorf("write it as tcp:127.0.0.1:PORT or unix:/PATH")
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", "", fmt.Errorf("host %q is not a numeric address", host)
	}
	port, err := parsePort(portText)
	if err != nil {
		return "", "", err
	}
	if port == 0 {
		return "", "", fmt.Errorf("port 0 cannot be dialed")
	}
	return "tcp", net.JoinHostPort(addr.String(), strconv.Itoa(int(port))), nil
}

func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, fmt.Errorf("no port is named")
	}
	// ParseUint takes no sign and no space, as wanted.
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port number", s)
	}
	return uint16(n), nil
}
