package torutil

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"warren/torutil/control"
)

// fakeTor records what it was asked and connects nowhere.
type fakeTor struct{ asked []string }

func (f *fakeTor) DialContext(_ context.Context, host string, _ uint16) (net.Conn, error) {
	f.asked = append(f.asked, host)
	a, b := net.Pipe()
	b.Close()
	return a, nil
}

const someOnion = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"

// The transport is chosen by the host, before anything else is done with it.
func TestRoute(t *testing.T) {
	direct := &policy{mode: ModeDirect, clear: ViaDirect, tor: &fakeTor{}, ledger: &Ledger{}}
	directNoTor := &policy{mode: ModeDirect, clear: ViaDirect, ledger: &Ledger{}}
	tor := &policy{mode: ModeTor, clear: ViaTor, tor: &fakeTor{}, ledger: &Ledger{}}
	onionOnly := &policy{mode: ModeTor, tor: &fakeTor{}, ledger: &Ledger{}}
	none := &policy{ledger: &Ledger{}}
	const refused = Transport("")
	for _, c := range []struct {
		network, address                          string
		direct, directNoTor, tor, onionOnly, none Transport
	}{
		{"tcp", "example.org:80", ViaDirect, ViaDirect, ViaTor, refused, refused},
		{"tcp", "192.0.2.1:80", ViaDirect, ViaDirect, ViaTor, refused, refused},
		{"tcp", "[2001:db8::1]:80", ViaDirect, ViaDirect, ViaTor, refused, refused},
		{"tcp", "127.0.0.1:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", "[::1]:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", "[::ffff:127.0.0.1]:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", "10.0.0.1:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", "169.254.1.1:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", "localhost:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", "printer.local:80", ViaDirect, ViaDirect, refused, refused, refused},
		{"tcp", someOnion + ":80", ViaTor, refused, ViaTor, ViaTor, refused},
		{"tcp", strings.ToUpper(someOnion) + ":80", ViaTor, refused, ViaTor, ViaTor, refused},
		{"tcp", "sub." + someOnion + ".:80", ViaTor, refused, ViaTor, ViaTor, refused},
		{"tcp", "onion:80", ViaTor, refused, ViaTor, ViaTor, refused},
		{"tor", "example.org:80", ViaTor, refused, ViaTor, ViaTor, refused},
		{"tcp", "x.b32.i2p:80", refused, refused, refused, refused, refused},
		{"udp", "192.0.2.1:53", refused, refused, refused, refused, refused},
		{"tcp", "127.1:80", refused, refused, refused, refused, refused},
		{"tcp", "0x7f000001:80", refused, refused, refused, refused, refused},
		{"tcp", "example.org", refused, refused, refused, refused, refused},
		{"tcp", "example.org:0", refused, refused, refused, refused, refused},
		{"tcp", "exa mple.org:80", refused, refused, refused, refused, refused},
		{"tcp", "a..b:80", refused, refused, refused, refused, refused},
		{"tcp", ":80", refused, refused, refused, refused, refused},
		{"tcp", strings.Repeat("a", 64) + ".org:80", refused, refused, refused, refused, refused},
	} {
		for name, one := range map[string]struct {
			p    *policy
			want Transport
		}{"direct": {direct, c.direct}, "direct without tor": {directNoTor, c.directNoTor}, "tor": {tor, c.tor}, "onions only": {onionOnly, c.onionOnly}, "none": {none, c.none}} {
			var got Transport
			host, _, err := splitAddress(c.address)
			if err == nil {
				got, err = one.p.route(c.network, host)
			}
			if got != one.want || (err == nil) == (got == refused) {
				t.Errorf("%s %s in %s: %q, %v; want %q", c.network, c.address, name, got, err, one.want)
			}
		}
	}
	// And what is refused is refused with the sentinel, and counted.
	for _, address := range []string{"127.0.0.1:80", "localhost:80", "x", "x.i2p:1"} {
		if _, err := tor.DialContext(t.Context(), "tcp", address); !errors.Is(err, ErrRefused) {
			t.Errorf("dial %s: %v", address, err)
		}
	}
	if _, err := tor.DialContext(t.Context(), "tcp", "Example.ORG.:80"); err != nil {
		t.Fatal(err)
	}
	if asked := tor.tor.(*fakeTor).asked; len(asked) != 1 || asked[0] != "Example.ORG" {
		t.Errorf("tor was asked for %q: names go to it as they are", asked)
	}
	counts := tor.Counts()
	if counts.Refused != 4 || counts.By[ViaTor].Made != 1 || counts.Tried(ViaDirect) != 0 {
		t.Errorf("counts %+v", counts)
	}
}

// Tor mode with a dead tor: an error, and no attempt of any other kind.
func TestFailClosed(t *testing.T) {
	dead, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	port := Endpoint{Kind: KindTCP, Port: dead}.String()[len("tcp:"):]
	network, handle, err := Open(t.Context(), Config{TCP: "tor", Tor: TorConfig{SOCKSPort: "tcp:127.0.0.1:" + port}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	for _, address := range []string{"example.org:80", someOnion + ":80", "192.0.2.7:80"} {
		_, err := network.DialContext(t.Context(), "tcp", address)
		if !errors.Is(err, ErrTorNotReady) {
			t.Errorf("dial %s: %v; want ErrTorNotReady", address, err)
		}
	}
	if err := handle.WaitReady(t.Context()); !errors.Is(err, ErrTorNotReady) {
		t.Errorf("WaitReady: %v", err)
	}
	counts := network.Counts()
	if counts.By[ViaTor] != (Tally{Failed: 3}) || len(counts.By) != 1 {
		t.Errorf("counts %+v; want three tries, all by tor", counts)
	}
}

func TestOpenSettings(t *testing.T) {
	onions := TorConfig{Onion: true, ControlPort: "tcp:127.0.0.1:9", OnionLocalPort: 1, OnionExternalPort: 2, OnionKeyFile: "nowhere"}
	for name, c := range map[string]struct {
		config Config
		mode   Mode
		err    error
		says   string
	}{
		"Tahoe's defaults":      {config: Config{RevealIP: true}, mode: ModeDirect},
		"tcp":                   {config: Config{RevealIP: true, TCP: "TCP"}, mode: ModeDirect},
		"tor":                   {config: Config{RevealIP: true, TCP: "tor"}, mode: ModeTor},
		"hidden":                {config: Config{TCP: "tor"}, mode: ModeTor},
		"zero value":            {config: Config{}, err: ErrPrivacy},
		"hidden and direct":     {config: Config{TCP: "tcp"}, err: ErrPrivacy},
		"onions only":           {config: Config{TCP: "disabled"}, mode: ModeTor},
		"nothing":               {config: Config{TCP: "disabled", Tor: TorConfig{Disabled: true}}, mode: ModeNone},
		"direct, no tor":        {config: Config{RevealIP: true, Tor: TorConfig{Disabled: true}}, mode: ModeDirect},
		"tor, but disabled":     {config: Config{TCP: "tor", Tor: TorConfig{Disabled: true}}, says: "enabled = false"},
		"i2p":                   {config: Config{TCP: "i2p"}, says: "tcp, tor or disabled"},
		"named socks host":      {config: Config{TCP: "tor", Tor: TorConfig{SOCKSPort: "tcp:tor.example:9050"}}, err: ErrEndpoint},
		"named control host":    {config: Config{TCP: "tor", Tor: TorConfig{ControlPort: "tcp:tor.example:9051"}}, err: ErrEndpoint},
		"launch without a tor":  {config: Config{TCP: "tor", NodeDir: t.TempDir(), Tor: TorConfig{Launch: true, Executable: "no-such-tor"}}, err: ErrNoTor},
		"onion without control": {config: Config{TCP: "tor", Tor: TorConfig{Onion: true}}, says: "launch = true or a control.port"},
		"onion without a port":  {config: Config{TCP: "tor", Tor: TorConfig{Onion: true, Launch: true}}, says: "local_port"},
		"onion without its key": {config: Config{TCP: "tor", NodeDir: t.TempDir(), Tor: onions}, err: os.ErrNotExist},
	} {
		network, handle, err := Open(t.Context(), c.config, nil)
		switch {
		case c.err == nil && c.says == "":
			if err != nil || network.Mode() != c.mode {
				t.Errorf("%s: %v, %v", name, network, err)
			}
		case c.err != nil && !errors.Is(err, c.err), c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v", name, err)
		}
		if handle != nil {
			handle.Close()
		}
	}
}

func TestListenPolicy(t *testing.T) {
	hidden, handle, err := Open(t.Context(), Config{TCP: "tor"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	for _, endpoint := range []string{"tcp:0", "0", "tcp:0:interface=192.0.2.1", "tcp6:0"} {
		if ln, err := hidden.Listen(t.Context(), endpoint); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrPrivacy) {
			t.Errorf("hidden, listen on %s: %v, %v", endpoint, ln, err)
		}
	}
	if _, err := hidden.Listen(t.Context(), "listen:tor"); !errors.Is(err, ErrRefused) {
		t.Errorf("listen:tor without control: %v", err)
	}
	ln, err := hidden.Listen(t.Context(), "tcp:0:interface=127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// Local reaches it, and nothing further away, whatever it is called.
	conn, err := handle.Local.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, address := range []string{"localhost:1", "192.0.2.1:1", "example.org:80", "[2001:db8::1]:1", "127.0.0.1"} {
		if _, err := handle.Local.DialContext(t.Context(), "tcp", address); !errors.Is(err, ErrRefused) {
			t.Errorf("Local dial %s: %v", address, err)
		}
	}
	for _, endpoint := range []string{"tcp:0", "tcp:0:interface=192.0.2.1", "listen:tor"} {
		if _, err := handle.Local.Listen(t.Context(), endpoint); !errors.Is(err, ErrRefused) {
			t.Errorf("Local listen on %s: %v", endpoint, err)
		}
	}
	if n := handle.Ledger.Counts().By[ViaLocal].Made; n != 1 {
		t.Errorf("%d local connections", n)
	}
}

// A killed process leaves its socket behind; a living one keeps it.
func TestUnixSocketLeftBehind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: unix endpoints are tested on unix")
	}
	local := NewLocal(&Ledger{})
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	ln, err := local.Listen(t.Context(), "unix:"+path+":mode=600")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := local.Listen(t.Context(), "unix:"+path); err == nil {
		t.Error("a socket in use was taken over")
	}
	file := filepath.Join(t.TempDir(), "precious")
	os.WriteFile(file, []byte("x"), 0o600)
	if _, err := local.Listen(t.Context(), "unix:"+file); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestHome(t *testing.T) {
	ledger := &Ledger{}
	home := NewHome(NewNone(ledger), ledger)
	outer, err := NewLocal(ledger).Listen(t.Context(), "tcp:0:interface=127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ln := home.Serve(outer, someOnion+":3457", "192.0.2.1:3457")
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(conn, conn); conn.Close() }()
		}
	}()
	for _, address := range []string{strings.ToUpper(someOnion) + ":3457", "192.0.2.1:3457"} {
		conn, err := home.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, conn)
	}
	conn, err := NewLocal(ledger).DialContext(t.Context(), "tcp", outer.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	echo(t, conn)
	if _, err := home.DialContext(t.Context(), "tcp", "192.0.2.1:3458"); !errors.Is(err, ErrRefused) {
		t.Errorf("another's address: %v", err)
	}
	if counts := home.Counts(); counts.By[InProcess].Made != 2 || counts.By[ViaLocal].Made != 1 || counts.Refused != 1 {
		t.Errorf("counts %+v", counts)
	}
	ln.Close()
	if _, err := home.DialContext(t.Context(), "tcp", someOnion+":3457"); !errors.Is(err, ErrRefused) {
		t.Errorf("after Close: %v", err)
	}
}

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestCreateOnion(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	one, err := CreateOnion(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := CreateOnion(dir)
	if err != nil || two.TubLocation != one.TubLocation {
		t.Errorf("the address changed: %v, %v", two, err)
	}
	e, err := ParseEndpoint(one.TubPort)
	if err != nil || e.Port != one.LocalPort || !e.Loopback() {
		t.Errorf("tub.port %s: %v", one.TubPort, err)
	}
	info, err := os.Stat(filepath.Join(dir, one.KeyFile))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
}

// A tor that is not there yet does not stop a node from starting.
func TestOpenWithoutTorRunning(t *testing.T) {
	dead, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	lost := make(chan Progress, 10)
	port := Endpoint{Kind: KindTCP, Port: dead}.String()[len("tcp:"):]
	network, handle, err := Open(t.Context(), Config{TCP: "tor", Tor: TorConfig{ControlPort: "tcp:127.0.0.1:" + port}}, func(p Progress) {
		select {
		case lost <- p:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if p := <-lost; p.Stage != control.StageLost || p.Err == nil {
		t.Errorf("progress %+v", p)
	}
	if _, err := network.DialContext(t.Context(), "tcp", "example.org:80"); !errors.Is(err, ErrTorNotReady) {
		t.Errorf("dial: %v", err)
	}
	if status, ok := handle.Tor(); !ok || status.Attached {
		t.Errorf("status %+v", status)
	}
}
