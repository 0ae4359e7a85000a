package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	testFURL = "pb://sisi4zenj7cxncgvdog7szg3yxbrnamy@tcp:127.0.0.1:9/introducer"
	listen   = "[node]\ntub.port = tcp:1234\ntub.location = tcp:127.0.0.1:1234\n"
)

func settingsOf(t testing.TB, kind Kind, tahoe, own string) (Settings, []Warning, error) {
	t.Helper()
	p, err := parseIni(tahoeCfg, []byte(tahoe))
	if err != nil {
		return Settings{}, nil, err
	}
	w, err := parseIni(warrenCfg, []byte(own))
	if err != nil {
		return Settings{}, nil, err
	}
	return readSettings("/node", kind, p, w)
}

// TestAcceptsAsTahoe: we start where Tahoe starts and refuse where it refuses; see
// tests/vectors/gen_config.py.
func TestAcceptsAsTahoe(t *testing.T) {
	var cases []struct {
		Text  string
		Kind  Kind
		Error *string
	}
	load(t, "settings.json", &cases)
	if len(cases) < 150 {
		t.Fatalf("only %d cases", len(cases))
	}
	want := map[string][]error{
		"UnknownConfigError":        {ErrUnknownKey, ErrUnknownSection},
		"ValueError":                {ErrValue, ErrConflict, ErrUnsupported},
		"PrivacyError":              {ErrPrivacy},
		"PortAssignmentRequired":    {ErrPort},
		"MissingConfigEntry":        {ErrValue},
		"UnescapedHashError":        {ErrValue},
		"ParsingError":              {ErrSyntax},
		"MissingSectionHeaderError": {ErrSyntax},
		"InterpolationSyntaxError":  {ErrSyntax},
	}
	refused := 0
	for _, c := range cases {
		_, _, err := settingsOf(t, c.Kind, c.Text, "")
		if c.Error == nil {
			// Tahoe would announce a location of two lines.
			if err != nil && !strings.HasSuffix(c.Text, "\n = x\n") {
				t.Errorf("%s %q: Tahoe starts, we say %v", c.Kind, c.Text, err)
			}
			continue
		}
		refused++
		if strings.Contains(c.Text, "b'2'") && c.Kind == Client {
			if err != nil {
				t.Errorf("b'2' is not read: %v", err)
			}
			continue
		}
		ok := false
		for _, w := range want[*c.Error] {
			ok = ok || errors.Is(err, w)
		}
		if !ok {
			t.Errorf("%s %q: Tahoe says %s, we say %v", c.Kind, c.Text, *c.Error, err)
		}
	}
	if refused < 80 {
		t.Errorf("only %d refusals", refused)
	}
}

// TestRefuses are settings that we refuse, with the place that the error names.
func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		tahoe, own   string
		want         error
		section, key string
	}{
		{"x = y\n", "", ErrSyntax, "", ""},
		{"[node]\nnonsense\n", "", ErrSyntax, "node", ""},
		{"[node]\n= x\n", "", ErrSyntax, "node", ""},
		{listen + "nickname = 5%\n", "", ErrSyntax, "node", "nickname"},
		{listen + "nickname = %(tub.port)\n", "", ErrSyntax, "node", "nickname"},
		{listen + "nickname = a\n  b\n", "", ErrValue, "node", "nickname"},
		{listen + "nickname = a\x1b[31m\n", "", ErrValue, "node", "nickname"},
		{listen + "nickname = a\x00b\n", "", ErrValue, "node", "nickname"},
		{listen + "nickname = a\rb\n", "", ErrValue, "node", "nickname"},
		{listen + "nick = a\n", "", ErrUnknownKey, "node", "nick"},
		{listen + "[Node]\nnickname = a\n", "", ErrUnknownSection, "Node", ""},
		{listen + "[DEFAULT]\nnickname = a\n", "", ErrUnknownSection, "DEFAULT", ""},
		{listen + "[client]\nshares.needed = 0\n", "", ErrValue, "client", "shares.needed"},
		{listen + "[client]\nshares.needed = 257\n", "", ErrValue, "client", "shares.needed"},
		{listen + "[client]\nshares.total = true\n", "", ErrValue, "client", "shares.total"},
		{listen + "[client]\nshares.total = b'x'\n", "", ErrValue, "client", "shares.total"},
		{listen + "[client]\nshares.total = b'2\"\n", "", ErrValue, "client", "shares.total"},
		{listen + "[client]\nshares.total = 99999999999999999999\n", "", ErrValue, "client", "shares.total"},
		{listen + "[client]\nshares.total = 1e1\n", "", ErrValue, "client", "shares.total"},
		{listen + "[client]\nshares.total = nan\n", "", ErrValue, "client", "shares.total"},
		{listen + "[client]\nshares.happy = -1\n", "", ErrValue, "client", "shares.happy"},
		{listen + "[client]\nshares.needed = 5\nshares.total = 4\n", "", ErrConflict, "client", "shares.needed"},
		{listen + "[client]\nhelper.furl = pb://x\n", "", ErrValue, "client", "helper.furl"},
		{listen + "[client]\nintroducer.furl = pb://@/x\n", "", ErrValue, "client", "introducer.furl"},
		{listen + "[client]\nshares._max_immutable_segment_size_for_testing = 0\n", "", ErrValue, "client", "shares._max_immutable_segment_size_for_testing"},
		{listen + "[client]\nstorage.plugins = zkap\n", "", ErrUnsupported, "client", "storage.plugins"},
		{listen + "[storage]\nplugins = zkap\n", "", ErrUnsupported, "storage", "plugins"},
		{listen + "[storage]\nreserved_space = 99E\n", "", ErrValue, "storage", "reserved_space"},
		{listen + "[storage]\nexpire.enabled = true\nexpire.mode = age\nexpire.override_lease_duration = 0 days\n", "", ErrValue, "storage", "expire.override_lease_duration"},
		{listen + "[storage]\nexpire.enabled = true\nexpire.mode = cutoff-date\nexpire.cutoff_date = 2026-11-31\n", "", ErrValue, "storage", "expire.cutoff_date"},
		{"[node]\ntub.port = listen:i2p\ntub.location = i2p:x.b32.i2p\n", "", ErrUnsupported, "node", "tub.port"},
		{"[node]\ntub.port = tcp:1\ntub.location = tcp:a b:1\n", "", ErrValue, "node", "tub.location"},
		{"[node]\ntub.port = tcp:1\ntub.location = tcp:a:0\n", "", ErrValue, "node", "tub.location"},
		{listen + "[tor]\nenabled = false\n[connections]\ntcp = tor\n", "", ErrConflict, "connections", "tcp"},
		{listen + "[tor]\nonion = true\nlaunch = true\nonion.local_port = 1\nonion.external_port = 70000\nonion.private_key_file = x\n", "", ErrValue, "tor", "onion.external_port"},
		{listen + "timeout.keepalive = 9999999999\n", "", ErrValue, "node", "timeout.keepalive"},
		{listen, "[grid]\nnames = x\n", ErrUnknownKey, "grid", "names"},
		{listen, "[node]\nnickname = x\n", ErrUnknownSection, "node", ""},
		{listen, "[mailbox]\nenabled = true\n", ErrValue, "mailbox", "port"},
		{listen, "[mailbox]\nenabled = ja\n", ErrValue, "mailbox", "enabled"},
		{listen, "[mailbox]\nlocation = http://x\n", ErrValue, "mailbox", "location"},
		{listen, "[invite]\nmailbox = ws\n", ErrValue, "invite", "mailbox"},
		{listen, "[mailbox]\nport = tcp:0\n", ErrPort, "mailbox", "port"},
	} {
		_, _, err := settingsOf(t, Client, c.tahoe, c.own)
		var e *Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Section != c.section || e.Key != c.key {
			t.Errorf("%q %q: %v, want %v at [%s] %s", c.tahoe, c.own, err, c.want, c.section, c.key)
			continue
		}
		if strings.Contains(err.Error(), "introducer\"") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("the error quotes the value: %q", err)
		}
	}
	if _, _, err := settingsOf(t, Introducer, listen+"[client]\n", ""); !errors.Is(err, ErrUnknownSection) {
		t.Errorf("an introducer with [client]: %v", err)
	}
}

func TestReadsEverySetting(t *testing.T) {
	s, warnings, err := settingsOf(t, Client, `
[node]
nickname = 100%% Bob = : # ; bö
reveal-IP-address = no
web.port = tcp:3456:interface=127.0.0.1
web.static = www
tempdir = /var/tmp
tub.port = 1234, listen:tor
tub.location = tor:abc.onion:1
timeout.keepalive = 240
timeout.disconnect = 1800
[connections]
tcp = Tor
[tor]
launch = true
tor.executable = /usr/bin/tor
socks.port = tcp:127.0.0.1:9050
onion = true
onion.local_port = 1234
onion.external_port = 3457
onion.private_key_file = private/tor_onion.privkey
[client]
shares.needed = b'2'
shares.happy = b"3"
shares.total = 5
shares._max_immutable_segment_size_for_testing = 131072
mutable.format = mdmf
helper.furl = `+testFURL+`
force_foolscap = true
peers.preferred = a, b
[storage]
anonymous = off
readonly = on
reserved_space = 10GiB
storage_dir = ../shares
expire.enabled = true
expire.mode = cutoff-date
expire.cutoff_date = 2026-11-23
expire.override_lease_duration = 2 mo
expire.mutable = 0
grid_management = 1
[grid_managers]
gm = pub-v0-x
[grid_manager_certificates]
c = gm.cert
`, `
[grid]
name = Our grid
[tor]
tor.torrc = bridges
[mailbox]
enabled = true
port = listen:tor,4000
location = ws://abc.onion:4000/v1
[invite]
mailbox = wss://example.org/v1
[upkeep]
repair = off
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Nickname != "100% Bob = : # ; bö" || s.RevealIP || s.WebPort != "tcp:3456:interface=127.0.0.1" || s.WebStatic != "/node/www" || s.TempDir != "/var/tmp" ||
		strings.Join(s.TubPorts, " ") != "tcp:1234 listen:tor" || strings.Join(s.TubLocations, " ") != "tor:abc.onion:1" || !s.Listening ||
		s.KeepaliveTimeout != 4*time.Minute || s.DisconnectTimeout != 30*time.Minute || s.TCP != "tor" {
		t.Errorf("node: %+v", s)
	}
	if s.Tor != (TorSettings{Enabled: true, Launch: true, SocksPort: "tcp:127.0.0.1:9050", Executable: "/usr/bin/tor", Onion: true, OnionLocalPort: 1234,
		OnionExternalPort: 3457, OnionKeyFile: "/node/private/tor_onion.privkey", TorrcFile: "/node/bridges"}) {
		t.Errorf("tor: %+v", s.Tor)
	}
	c := s.Client
	if c.Needed != 2 || c.Happy != 3 || c.Total != 5 || c.MaxSegmentSize != 131072 || c.MutableFormat != "MDMF" || c.HelperFURL.Text() != testFURL ||
		!c.ForceFoolscap || strings.Join(c.PreferredPeers, " ") != "a b" {
		t.Errorf("client: %+v", c)
	}
	if s.Storage != (StorageSettings{Enabled: true, ReadOnly: true, Reserved: 10 << 30, Dir: "/shares", GridManagement: true, Expire: ExpireSettings{Enabled: true,
		Mode: "cutoff-date", OverrideDuration: 62 * day, CutoffDate: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), Immutable: true}}) {
		t.Errorf("storage: %+v", s.Storage)
	}
	if s.GridManagers["gm"] != "pub-v0-x" || s.GridManagerCertificates["c"] != "/node/gm.cert" {
		t.Errorf("grid managers: %v %v", s.GridManagers, s.GridManagerCertificates)
	}
	if s.GridName != "Our grid" || !s.Mailbox.Enabled || strings.Join(s.Mailbox.Ports, " ") != "listen:tor tcp:4000" ||
		s.Mailbox.Location != "ws://abc.onion:4000/v1" || s.InviteMailbox != "wss://example.org/v1" ||
		s.Upkeep != (UpkeepSettings{Enabled: true, History: true}) {
		t.Errorf("ours: %+v", s)
	}
	if len(warnings) < 2 || !strings.Contains(warnings[0].String(), "shares.needed") || !strings.Contains(warnings[0].String(), "b'..'") {
		t.Errorf("warnings: %v", warnings)
	}
	// What Tahoe would follow and this program cannot is said.
	said := fmt.Sprint(warnings)
	for _, w := range []string{"helper.furl", "[grid_managers]", "[storage] anonymous", "grid_management", "expire.override_lease_duration"} {
		if !strings.Contains(said, w) {
			t.Errorf("no warning of %s: %v", w, warnings)
		}
	}
	if s.Storage.Offered() {
		t.Error("anonymous = off offers storage to everybody")
	}
}

func TestDefaultsAreTahoes(t *testing.T) {
	s, warnings, err := settingsOf(t, Client, "", "")
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	if !s.RevealIP || s.TCP != "tcp" || !s.Tor.Enabled || !s.Listening || s.TubPorts != nil || s.TubLocations[0] != "AUTO" || s.WebPort != "" {
		t.Errorf("%+v", s)
	}
	if c := s.Client; c.Needed != 3 || c.Happy != 7 || c.Total != 10 || c.MaxSegmentSize != 1<<20 || c.MutableFormat != "SDMF" || c.HelperFURL != nil {
		t.Errorf("%+v", c)
	}
	if st := s.Storage; !st.Enabled || !st.Anonymous || st.Dir != "/node/storage" || st.Expire.Mode != "age" || st.Expire.Enabled {
		t.Errorf("%+v", st)
	}
}

// TestTahoesDirectories opens what tahoe create-* made.
func TestTahoesDirectories(t *testing.T) {
	dirs, err := os.ReadDir("testdata/tahoe")
	if err != nil || len(dirs) < 6 {
		t.Fatalf("%d directories, %v", len(dirs), err)
	}
	for _, d := range dirs {
		n, err := Open(filepath.Join("testdata/tahoe", d.Name()))
		if err != nil {
			t.Errorf("%s: %v", d.Name(), err)
			continue
		}
		s := n.Settings
		known, ierr := n.Introducers()
		if ierr != nil {
			t.Errorf("%s: %v", d.Name(), ierr)
		}
		var ok bool
		switch d.Name() {
		case "node":
			ok = n.Kind == Client && s.Nickname == "böb" && s.WebPort == "" && s.Storage.Enabled && s.Storage.Reserved == 1e9 && s.TubPorts[0] == "tcp:1234:interface=127.0.0.1" &&
				len(known) == 1 && known[0].Petname == "default" && known[0].FURL.Text() == testFURL &&
				filepath.Base(known[0].CacheFile) == "introducer_default_cache.yaml"
		case "node-storage":
			ok = s.Storage.Dir == "/srv/shares" && s.HelperEnabled && s.Client.Needed == 2 && s.Client.Happy == 3 && s.Client.Total == 5 && len(known) == 0
		case "client":
			ok = n.Kind == Client && !s.Listening && !s.Storage.Enabled && s.WebPort == "tcp:3456:interface=127.0.0.1" && len(known) == 1
		case "client-hidden":
			ok = !s.RevealIP && s.TCP == "tor"
		case "node-none":
			ok = !s.Listening && !s.Storage.Enabled
		case "introducer":
			ok = n.Kind == Introducer && s.Listening && s.WebPort == ""
		}
		if !ok {
			t.Errorf("%s: %+v, introducers %v", d.Name(), s, known)
		}
	}
}
