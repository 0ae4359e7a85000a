package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"warren/node/durable"
	"warren/node/furl"
)

// CreateOptions are the options of tahoe create-node, create-client and
// create-introducer. Begin with DefaultOptions.
type CreateOptions struct {
	Kind     Kind
	Nickname string
	// Introducers by petname; tahoe's --introducer is "default".
	Introducers map[string]furl.FURL
	// WebPort is the endpoint of the local web API; "" or "none" for none.
	WebPort              string
	Needed, Happy, Total int
	HideIP               bool

	// Listen holds "tcp", "tor" or both, or "none" alone. Port and Location override
	// "tcp" with an endpoint and a hint of one's own; otherwise "tcp" takes Hostname
	// and a free port.
	Listen                   []string
	Hostname, Port, Location string

	TorLaunch                    bool
	TorControlPort, TorSocksPort string
	TorExecutable                string
	// Onion is the onion service of Listen "tor". Whoever can reach tor makes it; the
	// key is only stored here.
	Onion *Onion

	NoStorage  bool
	StorageDir string
	// Reserved is [storage] reserved_space, "" for Tahoe's 1G.
	Reserved string
	Helper   bool

	// FreePort returns a TCP port that is free on this machine. Needed for Listen
	// "tcp" without Port, and for "tor".
	FreePort func() (int, error)

	// Settings are further ones, Tahoe's or ours.
	Settings []Setting
}

// Onion is an onion service: its name ("....onion"), port, and private key as tor
// writes it ("ED25519-V3:...").
type Onion struct {
	Host string
	Port int // 3457 in Tahoe
	Key  string
}

// Format hides the key from every fmt verb.
func (o Onion) Format(f fmt.State, _ rune) { fmt.Fprint(f, "<onion service>") }

// DefaultOptions are what Tahoe creates without options: a node that listens and
// stores, a client that does neither, or an introducer.
func DefaultOptions(kind Kind, storage bool) CreateOptions {
	o := CreateOptions{Kind: kind, Needed: 3, Happy: 7, Total: 10, Listen: []string{"tcp"}}
	if kind == Client {
		o.WebPort = "tcp:3456:interface=127.0.0.1"
		if !storage {
			o.NoStorage, o.Listen = true, []string{"none"}
		}
	}
	return o
}

// Check says what is wrong with the options before anything is made.
func (o CreateOptions) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrConflict}, args...)...)
	}
	tor, tcp := slices.Contains(o.Listen, "tor"), slices.Contains(o.Listen, "tcp")
	for _, l := range o.Listen {
		switch l {
		case "tcp", "tor":
		case "none":
			if len(o.Listen) > 1 {
				return bad("--listen=none excludes others")
			}
		case "i2p":
			return fmt.Errorf("%w: --listen=i2p", ErrUnsupported)
		default:
			return bad("--listen must be of tcp, tor, none")
		}
	}
	switch {
	case o.Kind != Client && o.Kind != Introducer:
		return bad("no such kind of node")
	case len(o.Listen) == 0:
		return bad("--listen must be of tcp, tor, none")
	case (o.Port == "") != (o.Location == ""):
		return bad("--port and --location go together")
	case o.Port != "" && o.Hostname != "":
		return bad("--hostname is not for --port and --location")
	case o.Port != "" && !tcp:
		return bad("--port and --location need --listen=tcp")
	case o.Hostname != "" && !tcp:
		return bad("--hostname needs --listen=tcp")
	case tcp && o.Port == "" && o.Hostname == "":
		return bad("--listen=tcp needs --hostname, or --port and --location")
	case tcp && o.Hostname != "" && o.HideIP:
		return fmt.Errorf("%w: --hostname with --hide-ip", ErrPrivacy)
	case !tor && (o.TorLaunch || o.TorControlPort != "") && !o.HideIP:
		return bad("--tor-launch and --tor-control-port need --listen=tor or --hide-ip")
	case o.TorLaunch && o.TorControlPort != "":
		return bad("--tor-launch excludes --tor-control-port")
	case tor && !o.TorLaunch && o.TorControlPort == "":
		return bad("--listen=tor needs --tor-launch or --tor-control-port")
	case tor && o.Onion == nil:
		return bad("--listen=tor needs an onion service")
	case o.Kind == Introducer && !tcp && !tor:
		return bad("an introducer must listen")
	case !tcp && !tor && o.Kind == Client && !o.NoStorage:
		return bad("a storage server must listen: --no-storage, or another --listen")
	case o.Kind == Client && (o.Needed < 1 || o.Needed > o.Total || o.Total > 256 || o.Happy < 1 || o.Happy > o.Total):
		return bad("shares must be 1 <= needed <= total <= 256 and 1 <= happy <= total")
	case o.FreePort == nil && (tor || tcp && o.Port == ""):
		return bad("no free port can be found")
	}
	for name, f := range o.Introducers {
		if err := CheckPetname(name); err != nil {
			return err
		}
		if _, err := furl.Parse(f.Text()); err != nil {
			return fmt.Errorf("%w: introducer: %w", ErrValue, err)
		}
	}
	if o.Onion != nil && (CheckValue(o.Onion.Key) != nil || !strings.HasPrefix(o.Onion.Key, "ED25519-V3:")) {
		return fmt.Errorf("%w: key of the onion service", ErrValue)
	}
	return nil
}

// Create makes a node directory. dir must be missing or empty (ErrExists). It appears
// whole or not at all: it is built beside its place, read back with Open, and renamed.
func Create(dir string, o CreateOptions) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if err := vacant(dir); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := durable.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, durable.TempPrefix+"*")
	if err != nil {
		return fmt.Errorf("config: create %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	if err := o.build(tmp); err != nil {
		return err
	}
	// Not what we meant to write counts, but what the next start will read.
	if _, err := Open(tmp); err != nil {
		return fmt.Errorf("config: create %s: %w", dir, err)
	}
	// An empty directory gives way to a rename everywhere but on Windows; one with
	// something in it never does, also when that has just appeared.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrExists, err)
	}
	return durable.Rename(tmp, dir)
}

func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrExists, err)
	case len(entries) > 0:
		return fmt.Errorf("%w: %s", ErrExists, dir)
	}
	return nil
}

const (
	// Releases before Tahoe-LAFS 1.10 ran this file as their program.
	tac = "import sys\n" +
		"print(\"This node directory needs Tahoe-LAFS 1.10 or later, or warren.\")\n" +
		"sys.exit(1)\n"
	privateReadme = "What lies here is private to this node: keys, secrets and addresses that are\n" +
		"as good as passwords. Give no file of this directory to anybody, and keep a\n" +
		"copy of all of them in a safe place.\n"
)

func (o CreateOptions) build(dir string) error {
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	n := &Node{Dir: dir, Kind: o.Kind}
	tahoe, own, err := o.files()
	if err != nil {
		return err
	}
	if err := n.WritePrivate("README", []byte(privateReadme)); err != nil {
		return err
	}
	for name, f := range o.Introducers {
		if err := n.SetIntroducer(name, f); err != nil {
			return err
		}
	}
	if o.Onion != nil {
		if err := n.WritePrivate("tor_onion.privkey", []byte(o.Onion.Key)); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(n.Path(tahoeCfg), tahoe.bytes(), 0o600); err != nil {
		return err
	}
	if len(own.lines) > 0 {
		if err := durable.WriteFile(n.Path(warrenCfg), own.bytes(), 0o600); err != nil {
			return err
		}
	}
	return durable.WriteFile(n.Path("tahoe-"+string(o.Kind)+".tac"), []byte(tac), 0o644)
}

// files makes both settings files.
func (o CreateOptions) files() (tahoe, own *ini, err error) {
	t := &ini{file: tahoeCfg}
	if t, err = parseIni(tahoeCfg, []byte("# Settings of this node, read when it starts. Tahoe-LAFS reads the same file and\n"+
		"# describes the settings in its docs/configuration.rst; it knows no others.\n"+
		"# warren's own are in warren.cfg.\n")); err != nil {
		return nil, nil, err
	}
	w, err := parseIni(warrenCfg, nil)
	if err != nil {
		return nil, nil, err
	}
	settings, err := o.settings()
	if err != nil {
		return nil, nil, err
	}
	n := &Node{Kind: o.Kind}
	for _, s := range append(settings, o.Settings...) {
		file, err := n.fileOf(s, &t, &w)
		if err != nil {
			return nil, nil, err
		}
		if *file, err = (*file).with(s); err != nil {
			return nil, nil, err
		}
	}
	return t, w, nil
}

// settings are those that Tahoe writes, in its order.
func (o CreateOptions) settings() ([]Setting, error) {
	var out []Setting
	add := func(section, key, value string) { out = append(out, Setting{section, key, value}) }
	number := func(section, key string, n int) { add(section, key, fmt.Sprint(n)) }
	yes := func(b bool) string { return fmt.Sprint(b) }

	if o.HideIP {
		add("connections", "tcp", "tor")
	}
	add("node", "nickname", o.Nickname)
	add("node", "reveal-IP-address", yes(!o.HideIP))
	web := o.WebPort
	if strings.EqualFold(web, "none") {
		web = ""
	}
	add("node", "web.port", web)
	add("node", "web.static", "public_html")

	ports, locations := []string{}, []string{}
	var tor []Setting
	for _, l := range o.Listen {
		switch {
		case l == "tcp" && o.Port != "":
			ports, locations = append(ports, o.Port), append(locations, o.Location)
		case l == "tcp":
			port, err := o.FreePort()
			if err != nil {
				return nil, fmt.Errorf("config: free port: %w", err)
			}
			ports = append(ports, fmt.Sprintf("tcp:%d", port))
			locations = append(locations, furl.Hint{Type: "tcp", Host: o.Hostname, Port: port}.Text())
		case l == "tor":
			port, err := o.FreePort()
			if err != nil {
				return nil, fmt.Errorf("config: free port: %w", err)
			}
			ports = append(ports, fmt.Sprintf("tcp:%d:interface=127.0.0.1", port))
			locations = append(locations, furl.Hint{Type: "tor", Host: o.Onion.Host, Port: o.Onion.Port}.Text())
			tor = []Setting{
				{"tor", "onion", "true"},
				{"tor", "onion.local_port", fmt.Sprint(port)},
				{"tor", "onion.external_port", fmt.Sprint(o.Onion.Port)},
				{"tor", "onion.private_key_file", filepath.Join(private, "tor_onion.privkey")},
			}
		}
	}
	if len(ports) == 0 {
		ports, locations = []string{"disabled"}, []string{"disabled"}
	}
	add("node", "tub.port", strings.Join(ports, ","))
	add("node", "tub.location", strings.Join(locations, ","))

	if o.TorLaunch {
		add("tor", "launch", "true")
	}
	for _, s := range []Setting{
		{"tor", "tor.executable", o.TorExecutable},
		{"tor", "control.port", o.TorControlPort},
		{"tor", "socks.port", o.TorSocksPort},
	} {
		if s.Value != "" {
			out = append(out, s)
		}
	}
	out = append(out, tor...)
	if o.Kind == Introducer {
		return out, nil
	}

	add("client", "helper.furl", "")
	number("client", "shares.needed", o.Needed)
	number("client", "shares.happy", o.Happy)
	number("client", "shares.total", o.Total)
	add("storage", "enabled", yes(!o.NoStorage))
	reserved := o.Reserved
	if reserved == "" {
		reserved = "1G"
	}
	add("storage", "reserved_space", reserved)
	if o.StorageDir != "" {
		add("storage", "storage_dir", o.StorageDir)
	}
	add("helper", "enabled", yes(o.Helper))
	return out, nil
}
