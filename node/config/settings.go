package config

import (
	"path/filepath"
	"strings"
	"time"

	"warren/node/furl"
)

// Settings are all settings of a node, checked, with Tahoe's defaults for those that
// are not set. Paths are absolute.
type Settings struct {
	Nickname string // "" when unset
	// RevealIP false ("reveal-IP-address = false") forbids everything that shows the
	// node's address to others.
	RevealIP bool
	// WebPort is the endpoint of the local web API, "" for none.
	WebPort   string
	WebStatic string
	TempDir   string

	// TubPorts are the endpoints to listen on; nil when the node does not listen or
	// the port is to be taken from client.port, which Listening tells apart.
	TubPorts []string
	// TubLocations are the connection hints to announce; "AUTO" stands for the
	// addresses of this machine.
	TubLocations []string
	// Listening is false when tub.port and tub.location are "disabled".
	Listening bool
	// Timeouts of Foolscap connections; 0 when unset.
	KeepaliveTimeout, DisconnectTimeout time.Duration

	// TCP says what TCP hints are reached through: "tcp", "tor" or "disabled".
	TCP string
	Tor TorSettings

	Client  ClientSettings
	Storage StorageSettings
	// HelperEnabled asks for an upload helper, which this program does not run.
	HelperEnabled bool

	// GridManagers are the public keys of grid managers whose certificates a server
	// must have, by name; GridManagerCertificates the files of our own certificates.
	GridManagers            map[string]string
	GridManagerCertificates map[string]string

	// Ours, from warren.cfg.
	GridName string
	Mailbox  MailboxSettings
	// InviteMailbox is the mailbox server (a ws:// or wss:// URL) that invites use; ""
	// for our own or the default.
	InviteMailbox string
	Upkeep        UpkeepSettings
}

// ClientSettings are the section [client].
type ClientSettings struct {
	Needed, Happy, Total int
	// MaxSegmentSize of immutable files.
	MaxSegmentSize uint64
	// MutableFormat is "SDMF" or "MDMF".
	MutableFormat string
	HelperFURL    *furl.FURL
	// IntroducerFURL is the introducer set in tahoe.cfg, which is deprecated.
	IntroducerFURL *furl.FURL
	// ForceFoolscap forbids the HTTPS protocol towards storage servers.
	ForceFoolscap  bool
	PreferredPeers []string
}

// Offered says whether others may be given storage in the one way that this program
// offers it: to anybody who knows the address, over HTTPS.
func (s StorageSettings) Offered() bool { return s.Enabled && s.Anonymous && !s.ForceFoolscap }

// StorageSettings are the section [storage].
type StorageSettings struct {
	Enabled, Anonymous, ReadOnly bool
	Reserved                     uint64 // bytes to leave free
	Dir                          string
	Expire                       ExpireSettings
	ForceFoolscap                bool // offer no HTTPS
	GridManagement               bool // announce the grid managers' certificates
	DebugDiscard                 bool
}

// ExpireSettings say which leases end.
type ExpireSettings struct {
	Enabled            bool
	Mode               string // "age" or "cutoff-date"
	OverrideDuration   time.Duration
	CutoffDate         time.Time
	Immutable, Mutable bool
}

// TorSettings are the section [tor], and tor.torrc of warren.cfg.
type TorSettings struct {
	Enabled     bool
	Launch      bool
	ControlPort string // endpoint, "" when unset
	SocksPort   string // endpoint, "" when unset
	Executable  string
	// Onion asks for an onion service at OnionExternalPort that leads to
	// OnionLocalPort on this machine, with the key in OnionKeyFile.
	Onion                             bool
	OnionLocalPort, OnionExternalPort int
	OnionKeyFile                      string
	// TorrcFile holds lines to add to the torrc of a launched tor (bridges); "" for
	// none.
	TorrcFile string
}

// MailboxSettings are the section [mailbox] of warren.cfg.
type MailboxSettings struct {
	Enabled bool
	// Ports are the endpoints to listen on, as in tub.port.
	Ports []string
	// Location is the URL that invites name (ws:// or wss://).
	Location string
}

// UpkeepSettings are the section [upkeep] of warren.cfg: all true unless set.
type UpkeepSettings struct {
	Enabled bool // leases are renewed without being asked
	Repair  bool // what is at risk is repaired
	History bool // the contents of earlier versions of folders' files are kept, too
}

// DefaultMaxSegmentSize is Tahoe's since 1.19.
const DefaultMaxSegmentSize = 1 << 20

// reader reads values one by one; the first error stays.
type reader struct {
	ini      *ini
	warnings []Warning
	err      error
}

func (r *reader) fail(section, key, detail string, err error) {
	if r.err == nil {
		r.err = &Error{File: r.ini.file, Line: r.ini.line(section, key), Section: section, Key: key, Detail: detail, Err: err}
	}
}

func (r *reader) warn(section, key, text string) {
	r.warnings = append(r.warnings, Warning{section, key, text})
}

func (r *reader) lookup(section, key string) (string, bool) {
	v, ok, err := r.ini.get(section, key)
	if err != nil && r.err == nil {
		r.err = err
	}
	if err == nil && ok && strings.HasSuffix(key, ".furl") && strings.Contains(v, "#") {
		// Tahoe takes it for a comment behind the address, and refuses.
		r.fail(section, key, "unescaped '#'", ErrValue)
	}
	return v, ok && err == nil
}

func (r *reader) text(section, key, unset string) string {
	if v, ok := r.lookup(section, key); ok {
		return v
	}
	return unset
}

// line is text that must be one line: endpoints, paths, names.
func (r *reader) line(section, key, unset string) string {
	v, ok := r.lookup(section, key)
	if !ok {
		return unset
	}
	if err := CheckValue(v); err != nil {
		r.fail(section, key, err.Error(), ErrValue)
	}
	return v
}

func (r *reader) bool(section, key string, unset bool) bool {
	v, ok := r.lookup(section, key)
	if !ok {
		return unset
	}
	b, err := parseBool(v)
	if err != nil {
		r.fail(section, key, err.Error(), ErrValue)
	}
	return b
}

func (r *reader) int(section, key string, unset, low, high int) int {
	v, ok := r.lookup(section, key)
	if !ok {
		return unset
	}
	n, quoted, err := parseInt(v, low, high)
	if err != nil {
		r.fail(section, key, err.Error(), ErrValue)
	} else if quoted {
		r.warn(section, key, "is spelled b'..', as tahoe create-client --join writes it by mistake; read as the number inside. "+
			"Tahoe itself will not start with it: take away the b and the quotes")
	}
	return n
}

// furl reads an address; Tahoe takes "" and, for a helper, "None" as unset.
func (r *reader) furl(section, key string, none bool) *furl.FURL {
	v, ok := r.lookup(section, key)
	if !ok || v == "" || none && v == "None" {
		return nil
	}
	f, err := furl.Parse(v)
	if err != nil {
		r.fail(section, key, err.Error(), ErrValue)
		return nil
	}
	return &f
}

func (r *reader) list(section, key string) []string {
	var out []string
	for part := range strings.SplitSeq(r.line(section, key, ""), ",") {
		if part = strings.TrimFunc(part, isSpace); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func (r *reader) section(name string) map[string]string {
	out := map[string]string{}
	for key := range r.ini.values[name] {
		out[key] = r.line(name, key, "")
	}
	return out
}

func readSettings(dir string, kind Kind, tahoe, own *ini) (Settings, []Warning, error) {
	if err := tahoe.checkKnown(kind, tahoeKeys); err != nil {
		return Settings{}, nil, err
	}
	if err := own.checkKnown(kind, ownKeys); err != nil {
		return Settings{}, nil, err
	}
	r := &reader{ini: tahoe}
	var s Settings
	r.node(dir, &s)
	r.network(dir, &s)
	if kind == Client {
		r.client(&s)
		r.storage(dir, &s)
		r.helpers(dir, &s)
	}
	r.contradictions(kind, &s)
	if kind == Client {
		r.withoutEffect(&s)
	}

	o := &reader{ini: own, err: r.err}
	s.GridName = o.line("grid", "name", "")
	if f := o.line("tor", "tor.torrc", ""); f != "" {
		s.Tor.TorrcFile = below(dir, f)
	}
	s.Mailbox.Enabled = o.bool("mailbox", "enabled", false)
	s.Mailbox.Ports = o.ports("mailbox", "port")
	s.Mailbox.Location = o.url("mailbox", "location")
	s.InviteMailbox = o.url("invite", "mailbox")
	s.Upkeep = UpkeepSettings{
		Enabled: o.bool("upkeep", "enabled", true), Repair: o.bool("upkeep", "repair", true), History: o.bool("upkeep", "history", true),
	}
	if s.Mailbox.Enabled && len(s.Mailbox.Ports) == 0 {
		o.fail("mailbox", "port", "an enabled mailbox needs one", ErrValue)
	}
	if o.err != nil {
		return Settings{}, nil, o.err
	}
	return s, append(r.warnings, o.warnings...), nil
}

func (r *reader) url(section, key string) string {
	v := r.line(section, key, "")
	if v != "" && !strings.HasPrefix(v, "ws://") && !strings.HasPrefix(v, "wss://") {
		r.fail(section, key, "not a ws:// or wss:// URL", ErrValue)
	}
	return v
}

func (r *reader) node(dir string, s *Settings) {
	s.Nickname = r.line("node", "nickname", "")
	s.RevealIP = r.bool("node", "reveal-ip-address", true)
	s.WebPort = r.line("node", "web.port", "")
	s.WebStatic = below(dir, r.line("node", "web.static", "public_html"))
	s.TempDir = below(dir, r.line("node", "tempdir", "tmp"))
	s.KeepaliveTimeout = r.seconds("timeout.keepalive")
	s.DisconnectTimeout = r.seconds("timeout.disconnect")

	port, hasPort := r.lookup("node", "tub.port")
	location, hasLocation := r.lookup("node", "tub.location")
	if hasPort && port == "" {
		r.fail("node", "tub.port", "must not be empty", ErrValue)
	}
	if hasLocation && location == "" {
		r.fail("node", "tub.location", "must not be empty", ErrValue)
	}
	switch {
	case port == "disabled" && location == "disabled":
		return
	case port == "disabled" || location == "disabled":
		r.fail("node", "tub.port", "tub.port and tub.location must be disabled together", ErrConflict)
		return
	}
	s.Listening = true
	s.TubPorts = r.ports("node", "tub.port")
	s.TubLocations = []string{"AUTO"}
	if hasLocation {
		s.TubLocations = r.list("node", "tub.location")
	}
	for _, hint := range s.TubLocations {
		if hint == "AUTO" {
			if !s.RevealIP {
				r.fail("node", "tub.location", "AUTO", ErrPrivacy)
			}
			continue
		}
		h, err := furl.ParseHint(hint)
		if err != nil {
			r.fail("node", "tub.location", err.Error(), ErrValue)
		} else if h.Type == "tcp" && !s.RevealIP {
			r.fail("node", "tub.location", "a tcp hint", ErrPrivacy)
		}
	}
}

func (r *reader) seconds(key string) time.Duration {
	if r.text("node", key, "") == "" {
		return 0
	}
	return time.Duration(r.int("node", key, 0, 0, 1<<30)) * time.Second
}

// ports reads endpoints to listen on. A bare number is a TCP port.
func (r *reader) ports(section, key string) []string {
	list := r.list(section, key)
	for i, p := range list {
		if strings.Trim(p, "0123456789") == "" {
			list[i] = "tcp:" + p
		}
		switch list[i] {
		case "tcp:0", "tcp:port=0", "tcp:0:interface=127.0.0.1":
			r.fail(section, key, "", ErrPort)
		case "listen:i2p":
			r.fail(section, key, "I2P", ErrUnsupported)
		}
	}
	return list
}

func (r *reader) network(dir string, s *Settings) {
	s.TCP = strings.ToLower(r.line("connections", "tcp", "tcp"))
	switch s.TCP {
	case "tcp", "tor", "disabled":
	case "i2p":
		r.fail("connections", "tcp", "I2P", ErrUnsupported)
	default:
		r.fail("connections", "tcp", "neither tcp, tor nor disabled", ErrValue)
	}
	if s.TCP == "tcp" && !s.RevealIP {
		r.fail("connections", "tcp", "reveal-IP-address = false needs [connections] tcp = tor or disabled", ErrPrivacy)
	}
	t := &s.Tor
	t.Enabled = r.bool("tor", "enabled", true)
	t.Launch = r.bool("tor", "launch", false)
	t.ControlPort = r.line("tor", "control.port", "")
	t.SocksPort = r.line("tor", "socks.port", "")
	t.Executable = r.line("tor", "tor.executable", "")
	t.Onion = r.bool("tor", "onion", false)
	if t.Onion {
		if !t.Launch && t.ControlPort == "" {
			r.fail("tor", "onion", "needs launch = true or control.port", ErrConflict)
		}
		for _, key := range []string{"onion.local_port", "onion.external_port", "onion.private_key_file"} {
			if r.text("tor", key, "") == "" {
				r.fail("tor", key, "missing, and onion = true", ErrValue)
			}
		}
		t.OnionLocalPort = r.int("tor", "onion.local_port", 0, 1, 65535)
		t.OnionExternalPort = r.int("tor", "onion.external_port", 0, 1, 65535)
		t.OnionKeyFile = below(dir, r.line("tor", "onion.private_key_file", ""))
	}
	if s.TCP == "tor" && !t.Enabled {
		r.fail("connections", "tcp", "tor, but [tor] enabled = false", ErrConflict)
	}
	if r.bool("i2p", "dest", false) || r.bool("i2p", "launch", false) {
		r.warn("i2p", "", "I2P is not supported: [i2p] is without effect")
	}
}

func (r *reader) client(s *Settings) {
	c := &s.Client
	c.Needed = r.int("client", "shares.needed", 3, 1, 256)
	c.Happy = r.int("client", "shares.happy", 7, 1, 256)
	c.Total = r.int("client", "shares.total", 10, 1, 256)
	if c.Needed > c.Total {
		r.fail("client", "shares.needed", "more shares needed than there are in total", ErrConflict)
	}
	if c.Happy > c.Total {
		r.warn("client", "shares.happy", "is larger than shares.total: no upload can ever succeed")
	}
	c.MaxSegmentSize = uint64(r.int("client", "shares._max_immutable_segment_size_for_testing", DefaultMaxSegmentSize, 1, 1<<30))
	c.MutableFormat = "SDMF"
	switch format := strings.ToUpper(r.text("client", "mutable.format", "SDMF")); format {
	case "SDMF", "MDMF":
		c.MutableFormat = format
	default:
		r.warn("client", "mutable.format", "is neither SDMF nor MDMF; SDMF is used")
	}
	c.HelperFURL = r.furl("client", "helper.furl", true)
	if v, _ := r.lookup("client", "introducer.furl"); v == "None" {
		r.fail("client", "introducer.furl", "None: leave the key out instead", ErrValue)
	}
	c.IntroducerFURL = r.furl("client", "introducer.furl", false)
	if c.IntroducerFURL != nil {
		r.warn("client", "introducer.furl", "is deprecated: private/introducers.yaml is the place for it")
	}
	c.ForceFoolscap = r.bool("client", "force_foolscap", false)
	c.PreferredPeers = r.list("client", "peers.preferred")
	if r.text("client", "storage.plugins", "") != "" {
		r.fail("client", "storage.plugins", "storage plugins", ErrUnsupported)
	}
}

func (r *reader) storage(dir string, s *Settings) {
	t := &s.Storage
	t.Enabled = r.bool("storage", "enabled", true)
	t.Anonymous = r.bool("storage", "anonymous", true)
	t.ReadOnly = r.bool("storage", "readonly", false)
	t.DebugDiscard = r.bool("storage", "debug_discard", false)
	t.ForceFoolscap = r.bool("storage", "force_foolscap", false)
	t.GridManagement = r.bool("storage", "grid_management", false)
	t.Dir = below(dir, r.line("storage", "storage_dir", "storage"))
	var err error
	if t.Reserved, err = parseSize(r.text("storage", "reserved_space", "")); err != nil {
		r.fail("storage", "reserved_space", err.Error(), ErrValue)
	}
	if r.text("storage", "plugins", "") != "" {
		r.fail("storage", "plugins", "storage plugins", ErrUnsupported)
	}

	e := &t.Expire
	e.Enabled = r.bool("storage", "expire.enabled", false)
	e.Immutable = r.bool("storage", "expire.immutable", true)
	e.Mutable = r.bool("storage", "expire.mutable", true)
	e.Mode = r.text("storage", "expire.mode", "")
	switch {
	case e.Mode == "age", e.Mode == "cutoff-date":
	case e.Mode == "" && !e.Enabled:
		e.Mode = "age"
	default:
		r.fail("storage", "expire.mode", "neither age nor cutoff-date", ErrValue)
	}
	if v, ok := r.lookup("storage", "expire.override_lease_duration"); ok {
		if e.OverrideDuration, err = parseDuration(v); err != nil {
			r.fail("storage", "expire.override_lease_duration", err.Error(), ErrValue)
		} else if e.OverrideDuration == 0 && e.Mode == "age" {
			// Every share would go at once.
			r.fail("storage", "expire.override_lease_duration", "a lease must last for some time", ErrValue)
		}
	}
	if e.Mode == "cutoff-date" {
		v, ok := r.lookup("storage", "expire.cutoff_date")
		if e.CutoffDate, err = parseDate(v); !ok || err != nil {
			r.fail("storage", "expire.cutoff_date", errText(err, "missing"), ErrValue)
		}
	}
}

func errText(err error, otherwise string) string {
	if err != nil {
		return err.Error()
	}
	return otherwise
}

func (r *reader) helpers(dir string, s *Settings) {
	s.HelperEnabled = r.bool("helper", "enabled", false)
	if s.HelperEnabled {
		r.warn("helper", "enabled", "this program runs no upload helper")
	}
	if r.bool("sftpd", "enabled", false) {
		r.warn("sftpd", "enabled", "this program serves no SFTP")
	}
	s.GridManagers = r.section("grid_managers")
	s.GridManagerCertificates = r.section("grid_manager_certificates")
	for name, file := range s.GridManagerCertificates {
		s.GridManagerCertificates[name] = below(dir, filepath.Clean(file))
	}
}

// withoutEffect warns of settings that Tahoe would follow and this program cannot:
// what its owner relies on must not be silently otherwise.
func (r *reader) withoutEffect(s *Settings) {
	if s.Client.HelperFURL != nil {
		r.warn("client", "helper.furl", "this program uses no upload helper: it uploads by itself")
	}
	if len(s.GridManagers) > 0 {
		r.warn("grid_managers", "", "this program does not check certificates: it uses servers that have none, too")
	}
	t := s.Storage
	switch {
	case !t.Enabled:
		return
	case !t.Anonymous:
		r.warn("storage", "anonymous", "this program knows no other way to offer storage: it is offered to nobody")
	case t.ForceFoolscap:
		r.warn("storage", "force_foolscap", "this program offers storage over HTTPS only: it is offered to nobody")
	}
	if t.GridManagement {
		r.warn("storage", "grid_management", "this program announces no certificates")
	}
	if e := t.Expire; e.Enabled && e.Mode == "cutoff-date" && e.OverrideDuration != 0 {
		r.warn("storage", "expire.override_lease_duration", "is without effect: expire.mode is cutoff-date")
	}
}

// contradictions between sections that Tahoe refuses when it starts.
func (r *reader) contradictions(kind Kind, s *Settings) {
	switch {
	case s.Listening:
	case kind == Introducer:
		r.fail("node", "tub.port", "an introducer must listen", ErrConflict)
	case s.Storage.Enabled:
		r.fail("storage", "enabled", "storage is enabled, but the node does not listen (tub.port)", ErrConflict)
	case s.HelperEnabled:
		r.fail("helper", "enabled", "the helper is enabled, but the node does not listen (tub.port)", ErrConflict)
	}
}
