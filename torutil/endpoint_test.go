package torutil

import (
	"errors"
	"net/netip"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	v4 := netip.MustParseAddr("127.0.0.1")
	v6 := netip.MustParseAddr("::1")
	for _, c := range []struct {
		in   string
		want Endpoint
		text string // what String gives
	}{
		{"3456", Endpoint{Kind: KindTCP, Port: 3456}, "tcp:3456"},
		{"tcp:3456", Endpoint{Kind: KindTCP, Port: 3456}, "tcp:3456"},
		{"tcp:port=3456", Endpoint{Kind: KindTCP, Port: 3456}, "tcp:3456"},
		{"tcp4:3456", Endpoint{Kind: KindTCP, Port: 3456}, "tcp:3456"},
		{"tcp:0:interface=127.0.0.1", Endpoint{Kind: KindTCP, Interface: v4}, "tcp:0:interface=127.0.0.1"},
		{"tcp:3456:127.0.0.1", Endpoint{Kind: KindTCP, Port: 3456, Interface: v4}, "tcp:3456:interface=127.0.0.1"},
		{"tcp:3456:interface=localhost", Endpoint{Kind: KindTCP, Port: 3456, Interface: v4}, "tcp:3456:interface=127.0.0.1"},
		{"tcp:3456:interface=0.0.0.0:backlog=5", Endpoint{Kind: KindTCP, Port: 3456}, "tcp:3456"},
		{"tcp6:3456", Endpoint{Kind: KindTCP, Port: 3456, V6: true}, "tcp6:3456"},
		{`tcp6:3456:interface=\:\:1`, Endpoint{Kind: KindTCP, Port: 3456, V6: true, Interface: v6}, `tcp6:3456:interface=\:\:1`},
		{`tcp:3456:interface=\:\:1`, Endpoint{Kind: KindTCP, Port: 3456, V6: true, Interface: v6}, `tcp6:3456:interface=\:\:1`},
		{"unix:/run/w.sock", Endpoint{Kind: KindUnix, Path: "/run/w.sock", Perm: 0o666}, "unix:/run/w.sock"},
		{`unix:/run/a\:b:mode=600:lockfile=0`, Endpoint{Kind: KindUnix, Path: "/run/a:b", Perm: 0o600}, `unix:/run/a\:b:mode=600`},
		{"listen:tor", Endpoint{Kind: KindOnion}, "listen:tor"},
		{"onion:80", Endpoint{Kind: KindOnion, OnionPort: 80}, "onion:80"},
		{"onion:80:localPort=8080:version=3:privateKeyFile=private/m.key", Endpoint{Kind: KindOnion, OnionPort: 80, LocalPort: 8080, KeyFile: "private/m.key"}, "onion:80:localPort=8080:privateKeyFile=private/m.key"},
	} {
		got, err := ParseEndpoint(c.in)
		if err != nil || got != c.want || got.String() != c.text {
			t.Errorf("ParseEndpoint(%q) = %+v (%s), %v; want %+v (%s)", c.in, got, got, err, c.want, c.text)
		}
	}
	all, err := ParseEndpoints("tcp:1:interface=127.0.0.1, listen:tor")
	if err != nil || len(all) != 2 || all[1].Kind != KindOnion {
		t.Errorf("ParseEndpoints = %v, %v", all, err)
	}
}

func TestParseEndpointRefuses(t *testing.T) {
	for _, in := range []string{
		"", ":", "tcp", "tcp:", "tcp:x", "tcp:-1", "tcp:+1", "tcp:65536", "tcp: 1", "99999",
		"tcp:1:interface=example.org", "tcp:1:interface=::1", "tcp:1:interface=fe80\\:\\:1%eth0",
		"tcp4:1:interface=\\:\\:1", "tcp6:1:interface=127.0.0.1", "tcp:1:port=2", "tcp:1:backlog=x",
		"tcp:1:2:3:4", "tcp:1:interface=127.0.0.1:interface=127.0.0.1", "tcp:1:what=2", "tcp:1\\",
		"tcp:1\nreveal-IP-address=true", "unix:", "unix:/x:mode=999", "unix:/x:mode=7777", "listen:i2p", "listen:",
		"onion:0", "onion:", "onion:80:version=2", "onion:80:singleHop=true", "onion:80:hiddenServiceDir=/x",
		"onion:80:privateKey=RSA1024\\:x", "onion:80:privateKeyFile=",
		"ssl:443:privateKey=x", "systemd:domain=INET:index=0", "fd:3", "i2p:x", "haproxy:tcp:1", "TCP:1",
	} {
		if got, err := ParseEndpoint(in); !errors.Is(err, ErrEndpoint) {
			t.Errorf("ParseEndpoint(%q) = %v, %v; want ErrEndpoint", in, got, err)
		}
	}
}

func TestParseClientEndpoint(t *testing.T) {
	for in, want := range map[string][2]string{
		"tcp:127.0.0.1:9051":             {"tcp", "127.0.0.1:9051"},
		"tcp:localhost:9150":             {"tcp", "127.0.0.1:9150"},
		"tcp:host=127.0.0.1:port=9051":   {"tcp", "127.0.0.1:9051"},
		`tcp:\:\:1:9051:timeout=5`:       {"tcp", "[::1]:9051"},
		"127.0.0.1:9050":                 {"tcp", "127.0.0.1:9050"},
		"unix:/var/run/tor/control":      {"unix", "/var/run/tor/control"},
		"unix:path=/var/run/tor/control": {"unix", "/var/run/tor/control"},
		"unix://var/run/tor/control":     {"unix", "/var/run/tor/control"},
		"/var/run/tor/control":           {"unix", "/var/run/tor/control"},
		"tcp:10.152.152.10:9050":         {"tcp", "10.152.152.10:9050"},
	} {
		network, address, err := ParseClientEndpoint(in)
		if err != nil || network != want[0] || address != want[1] {
			t.Errorf("ParseClientEndpoint(%q) = %s %s, %v", in, network, address, err)
		}
	}
	for _, in := range []string{"", "9050", "tcp:9050", "tcp:tor.example:9050", "tcp:127.0.0.1:0", "unix:", "ssl:127.0.0.1:9050", "tcp:127.0.0.1:9050:x=y"} {
		if _, _, err := ParseClientEndpoint(in); !errors.Is(err, ErrEndpoint) {
			t.Errorf("ParseClientEndpoint(%q): %v", in, err)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"3456", "tcp:1:interface=127.0.0.1", `tcp6:1:interface=\:\:1`, `unix:/a\:b:mode=600`, "listen:tor", "onion:80:localPort=1:privateKeyFile=x", "a=b=c\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ParseClientEndpoint(s)
		e, err := ParseEndpoint(s)
		if err != nil {
			return
		}
		again, err := ParseEndpoint(e.String())
		if err != nil || again != e {
			t.Fatalf("%q -> %+v -> %q -> %+v, %v", s, e, e.String(), again, err)
		}
	})
}
