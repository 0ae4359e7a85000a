package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"warren/node/furl"
	"warren/tests/bounds"
)

func testIntroducer(t testing.TB) furl.FURL {
	t.Helper()
	f, err := furl.Parse(testFURL)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func storageOptions(t testing.TB) CreateOptions {
	o := DefaultOptions(Client, true)
	o.Nickname = "100% Bob's = node # 1"
	o.Introducers = map[string]furl.FURL{"default": testIntroducer(t), "second: grid? no": testIntroducer(t)}
	delete(o.Introducers, "second: grid? no")
	o.Introducers["second grid"] = testIntroducer(t)
	o.Needed, o.Happy, o.Total = 2, 3, 5
	o.Hostname = "example.org"
	o.FreePort = func() (int, error) { return 4321, nil }
	o.StorageDir = "../shares 100%"
	return o
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	err := filepath.WalkDir(filepath.Join(dir, private), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCreateAndOpen(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "deep", "node")
	if err := Create(dir, storageOptions(t)); err != nil {
		t.Fatal(err)
	}
	n, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := n.Settings
	if n.Kind != Client || s.Nickname != "100% Bob's = node # 1" || s.Client.Needed != 2 || s.Client.Happy != 3 || s.Client.Total != 5 ||
		s.TubPorts[0] != "tcp:4321" || s.TubLocations[0] != "tcp:example.org:4321" || !s.Storage.Enabled || s.Storage.Reserved != 1e9 ||
		s.Storage.Dir != filepath.Join(dir, "..", "shares 100%") || s.WebPort != "tcp:3456:interface=127.0.0.1" || len(n.Warnings) != 0 {
		t.Errorf("%+v %v", s, n.Warnings)
	}
	known, err := n.Introducers()
	if err != nil || len(known) != 2 || known[0].Petname != "default" || known[1].Petname != "second grid" {
		t.Errorf("%v, %v", known, err)
	}
	checkModes(t, dir)
	if _, err := os.Stat(filepath.Join(dir, warrenCfg)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty warren.cfg: %v", err)
	}
	if err := Create(dir, storageOptions(t)); !errors.Is(err, ErrExists) {
		t.Errorf("created over another: %v", err)
	}
	onlyEntry(t, filepath.Dir(dir), "node")
}

func onlyEntry(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) {
		t.Errorf("%s holds %v, want %v", dir, entries, names)
	}
}

func TestCreateOtherKinds(t *testing.T) {
	parent := t.TempDir()
	client := DefaultOptions(Client, false)
	client.HideIP, client.TorLaunch, client.WebPort = true, true, "none"
	client.Settings = []Setting{{"grid", "name", "Our grid"}, {"tor", "tor.torrc", "bridges.txt"}, {"client", "mutable.format", "mdmf"}}
	intro := DefaultOptions(Introducer, false)
	intro.Listen, intro.TorControlPort, intro.HideIP = []string{"tor"}, "tcp:127.0.0.1:9051", true
	intro.Onion = &Onion{Host: strings.Repeat("a", 56) + ".onion", Port: 3457, Key: "ED25519-V3:secret=="}
	intro.FreePort = func() (int, error) { return 4321, nil }
	both := storageOptions(t)
	both.Listen, both.TorLaunch, both.Onion = []string{"tcp", "tor"}, true, intro.Onion
	for name, o := range map[string]CreateOptions{"client": client, "introducer": intro, "both": both} {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil { // an empty one is fine
			t.Fatal(err)
		}
		if err := Create(dir, o); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n, err := Open(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkModes(t, dir)
		s := n.Settings
		ok := false
		switch name {
		case "client":
			ok = !s.Listening && !s.RevealIP && s.TCP == "tor" && s.Tor.Launch && s.GridName == "Our grid" && s.Client.MutableFormat == "MDMF" &&
				s.Tor.TorrcFile == filepath.Join(dir, "bridges.txt") && s.WebPort == "" && !s.Storage.Enabled
		case "introducer":
			key, err := os.ReadFile(s.Tor.OnionKeyFile)
			ok = err == nil && string(key) == "ED25519-V3:secret==" && s.Tor.Onion && s.Tor.OnionLocalPort == 4321 && n.Kind == Introducer &&
				s.TubLocations[0] == "tor:"+intro.Onion.Host+":3457" && s.TubPorts[0] == "tcp:4321:interface=127.0.0.1"
		case "both":
			ok = len(s.TubPorts) == 2 && len(s.TubLocations) == 2
		}
		if !ok {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if out := fmt.Sprintf("%v %+v %#v", intro, *intro.Onion, intro.Onion); strings.Contains(out, "secret=") {
		t.Errorf("the onion key prints: %s", out)
	}
}

// TestCreateRefuses: nothing is made from bad options, whatever was received in them.
func TestCreateRefuses(t *testing.T) {
	parent := t.TempDir()
	for i, c := range []struct {
		change func(*CreateOptions)
		want   error
	}{
		{func(o *CreateOptions) { o.Nickname = "x\nweb.port = tcp:1" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = "x\r[client]" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = "x\u2028y" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = "x\x85y" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = "\x1b[2J" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = " x" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = "\xff" }, ErrValue},
		{func(o *CreateOptions) { o.Nickname = strings.Repeat("x", maxValue+1) }, ErrValue},
		{func(o *CreateOptions) { o.StorageDir = "x\ny" }, ErrValue},
		{func(o *CreateOptions) { o.WebPort = "tcp:1\n" }, ErrValue},
		{func(o *CreateOptions) { o.Needed = 0 }, ErrConflict},
		{func(o *CreateOptions) { o.Needed = 6 }, ErrConflict},
		{func(o *CreateOptions) { o.Total = 257 }, ErrConflict},
		{func(o *CreateOptions) { o.Happy = 6 }, ErrConflict},
		{func(o *CreateOptions) { o.Kind = "helper" }, ErrConflict},
		{func(o *CreateOptions) { o.Listen = nil }, ErrConflict},
		{func(o *CreateOptions) { o.Listen = []string{"none", "tcp"} }, ErrConflict},
		{func(o *CreateOptions) { o.Listen = []string{"none"}; o.Hostname = "" }, ErrConflict},
		{func(o *CreateOptions) { o.Listen = []string{"udp"} }, ErrConflict},
		{func(o *CreateOptions) { o.Listen = []string{"i2p"} }, ErrUnsupported},
		{func(o *CreateOptions) { o.Hostname = "" }, ErrConflict},
		{func(o *CreateOptions) { o.Hostname = "a b" }, ErrValue},
		{func(o *CreateOptions) { o.Hostname = "a\n" }, ErrValue},
		{func(o *CreateOptions) { o.Port = "tcp:1" }, ErrConflict},
		{func(o *CreateOptions) { o.Port, o.Location = "tcp:1", "tcp:a:1" }, ErrConflict},
		{func(o *CreateOptions) { o.Hostname, o.Port, o.Location = "", "tcp:0", "tcp:a:1" }, ErrPort},
		{func(o *CreateOptions) { o.Hostname, o.Port, o.Location = "", "tcp:1", "tcp:a:1,\n" }, ErrValue},
		{func(o *CreateOptions) { o.HideIP = true }, ErrPrivacy},
		{func(o *CreateOptions) { o.HideIP, o.Hostname, o.Port, o.Location = true, "", "tcp:1", "tcp:a:1" }, ErrPrivacy},
		{func(o *CreateOptions) { o.TorLaunch = true }, ErrConflict},
		{func(o *CreateOptions) { o.Listen, o.Hostname, o.TorLaunch = []string{"tor"}, "", true }, ErrConflict},
		{func(o *CreateOptions) { o.FreePort = nil }, ErrConflict},
		{func(o *CreateOptions) { o.FreePort = func() (int, error) { return 0, fs.ErrPermission } }, fs.ErrPermission},
		{func(o *CreateOptions) { o.Introducers["../../x"] = testIntroducer(t) }, ErrValue},
		{func(o *CreateOptions) { o.Introducers["x\ny"] = testIntroducer(t) }, ErrValue},
		{func(o *CreateOptions) { o.Introducers["bad"] = furl.FURL{} }, ErrValue},
		{func(o *CreateOptions) { o.Reserved = "lots" }, ErrValue},
		{func(o *CreateOptions) { o.Settings = []Setting{{"node", "no.such", "x"}} }, ErrUnknownKey},
		{func(o *CreateOptions) { o.Settings = []Setting{{"grid_managers", "a=b", "x"}} }, ErrValue},
		{func(o *CreateOptions) { o.Settings = []Setting{{"grid_managers", "a\n", "x"}} }, ErrValue},
		{func(o *CreateOptions) { o.Settings = []Setting{{"storageserver.plugins.x]\n[y", "a", "x"}} }, ErrValue},
		{func(o *CreateOptions) { o.Settings = []Setting{{"client", "helper.furl", testFURL + "#"}} }, ErrValue},
	} {
		o := storageOptions(t)
		c.change(&o)
		if err := Create(filepath.Join(parent, fmt.Sprint(i)), o); !errors.Is(err, c.want) {
			t.Errorf("case %d: %v, want %v", i, err, c.want)
		}
		onlyEntry(t, parent)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "x")} {
		if err := Create(dir, storageOptions(t)); err == nil {
			t.Errorf("created %s", dir)
		}
	}
}

func created(t testing.TB) *Node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	if err := Create(dir, storageOptions(t)); err != nil {
		t.Fatal(err)
	}
	n, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSet(t *testing.T) {
	n := created(t)
	if err := n.Set(Setting{"client", "shares.needed", "1"}, Setting{"node", "Nickname", "50%"}, Setting{"grid", "name", "G"},
		Setting{"mailbox", "port", "tcp:4000"}, Setting{"mailbox", "enabled", "true"}); err != nil {
		t.Fatal(err)
	}
	again, err := Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Settings{n.Settings, again.Settings} {
		if s.Client.Needed != 1 || s.Nickname != "50%" || s.GridName != "G" || !s.Mailbox.Enabled {
			t.Errorf("%+v", s)
		}
	}
	before, err := os.ReadFile(n.Path(tahoeCfg))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    Setting
		want error
	}{
		{Setting{"client", "shares.needed", "9"}, ErrConflict},
		{Setting{"client", "shares.needed", "1\n[node]"}, ErrValue},
		{Setting{"connections", "tcp", "pigeon"}, ErrValue},
		{Setting{"node", "reveal-IP-address", "false"}, ErrPrivacy},
		{Setting{"node", "colour", "red"}, ErrUnknownKey},
		{Setting{"nodes", "nickname", "red"}, ErrUnknownKey},
	} {
		if err := n.Set(Setting{"node", "nickname", "changed"}, c.s); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.s, err, c.want)
		}
	}
	after, err := os.ReadFile(n.Path(tahoeCfg))
	if err != nil || string(after) != string(before) || n.Settings.Nickname != "50%" {
		t.Errorf("a refused change was written, %v", err)
	}
}

func TestIntroducers(t *testing.T) {
	n := created(t)
	other := testIntroducer(t)
	other.Swissnum = "other"
	for _, name := range []string{"default", "yes", "1", "third: no", "a #b", "~", "null"} {
		err := n.SetIntroducer(name, other)
		if strings.Contains(name, ":") != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	known, err := n.Introducers()
	if err != nil || len(known) != 7 {
		t.Fatalf("%v, %v", known, err)
	}
	for _, k := range known {
		if (k.FURL.Text() != other.Text()) != (k.Petname == "second grid") {
			t.Errorf("%s: not changed", k.Petname)
		}
	}
	checkModes(t, n.Dir)

	// Unknown keys and comments survive an edit.
	if err := n.WritePrivate(introducersYAML, []byte("# mine\nother: 1\nintroducers:\n  a: {furl: '"+testFURL+"', note: x}\n")); err != nil {
		t.Fatal(err)
	}
	if err := n.SetIntroducer("a", other); err != nil {
		t.Fatal(err)
	}
	text, err := n.ReadPrivate(introducersYAML)
	if err != nil || !strings.Contains(text, "# mine") || !strings.Contains(text, "other: 1") || !strings.Contains(text, "note: x") || !strings.Contains(text, "/other") {
		t.Errorf("%s, %v", text, err)
	}
	// The address in tahoe.cfg is the default one.
	if err := n.Set(Setting{"client", "introducer.furl", testFURL}); err != nil {
		t.Fatal(err)
	}
	if known, err = n.Introducers(); err != nil || len(known) != 2 || len(n.Warnings) != 1 {
		t.Errorf("%v, %v, %v", known, err, n.Warnings)
	}
	if err := n.SetIntroducer("default", other); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Introducers(); !errors.Is(err, ErrConflict) {
		t.Errorf("two defaults: %v", err)
	}
}

func TestIntroducersRefuse(t *testing.T) {
	n := created(t)
	for _, c := range []struct {
		text string
		want error
	}{
		{"[", ErrSyntax}, {"a: b: c", ErrSyntax}, {"- a", ErrSyntax}, {"text", ErrSyntax}, {"introducers: 1", ErrSyntax}, {"introducers: [a]", ErrSyntax},
		{"introducers:\n", ErrSyntax}, {"introducers: {a: 1}", ErrSyntax}, {"introducers: {a: {}}", ErrValue}, {"introducers: {a: {furl: 1}}", ErrValue},
		{"introducers: {a: {furl: pb://x}}", ErrValue}, {"introducers: {1: {furl: '" + testFURL + "'}}", ErrValue},
		{"introducers: {../x: {furl: '" + testFURL + "'}}", ErrValue}, {"introducers: {'': {furl: '" + testFURL + "'}}", ErrValue},
		{"introducers: {\"a\\nb\": {furl: '" + testFURL + "'}}", ErrValue}, {"introducers: {a: &x {furl: '" + testFURL + "'}, b: *x}", ErrSyntax},
		{"introducers: {a: {furl: '" + testFURL + "'}, a: {furl: '" + testFURL + "'}}", ErrSyntax}, {"introducers: {}\nintroducers: {}", ErrSyntax},
		{"introducers: {a: {furl: \"" + testFURL + "\\n\"}}", ErrValue}, {"introducers: {a: !!binary aGk=}", ErrSyntax},
		{strings.Repeat("[", 30) + strings.Repeat("]", 30), ErrSyntax}, {"\x00", ErrSyntax}, {strings.Repeat("a", maxFile+1), ErrTooLong},
		{"introducers: {? [a] : {furl: '" + testFURL + "'}}", ErrValue}, {"<<: {}\nintroducers: {true: {furl: '" + testFURL + "'}}", ErrValue},
	} {
		if err := n.WritePrivate(introducersYAML, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
		known, err := n.Introducers()
		if !errors.Is(err, c.want) || known != nil {
			t.Errorf("%.80q: %v, %v, want %v", c.text, known, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "sisi4") {
			t.Errorf("the error quotes the address: %v", err)
		}
		if err := n.SetIntroducer("b", testIntroducer(t)); err == nil {
			t.Errorf("%.80q: was written over", c.text)
		}
	}
	for _, text := range []string{"", "# nothing\n", "{}", "introducers: {}\n"} {
		if err := n.WritePrivate(introducersYAML, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if known, err := n.Introducers(); err != nil || len(known) != 0 {
			t.Errorf("%q: %v, %v", text, known, err)
		}
		if err := n.SetIntroducer("b", testIntroducer(t)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

const goodServers = `storage:
  v0-4uazse3xb6uu5qpkb7tel2bm6bpea4jhuigdhqcuvvse7hugtsia:
    ann:
      nickname: bj
      permutation-seed-base32: abc
      anonymous-storage-FURL: ` + testFURL + `
      anonymous-storage-NURLs: !!set {a: , b: }
      list: [1, 1.5, true, null, x]
  bad: {ann: {}}
  v0-aa: {ann: {}}
  sisi4zenj7cxncgvdog7szg3yxbrnamy: {ann: {nickname: two}}
  sisi4zenj7cxncgvdog7szg3yxbrnama: {}
  sisi4zenj7cxncgvdog7szg3yxbrname: {ann: {1: x}}
  sisi4zenj7cxncgvdog7szg3yxbrnami: {ann: {when: 2026-11-23}}
  7: {ann: {}}
`

func TestStaticServers(t *testing.T) {
	n := created(t)
	if s, w, err := n.StaticServers(); s != nil || w != nil || err != nil {
		t.Errorf("without a file: %v %v %v", s, w, err)
	}
	if err := n.WritePrivate(serversYAML, []byte(goodServers)); err != nil {
		t.Fatal(err)
	}
	s, w, err := n.StaticServers()
	if err != nil || len(s) != 2 || len(w) != 6 {
		t.Fatalf("%v %v %v", s, w, err)
	}
	if s[0].Announcement["nickname"] != "two" || s[1].Announcement["anonymous-storage-FURL"] != testFURL ||
		fmt.Sprint(s[1].Announcement["anonymous-storage-NURLs"]) != "[a b]" || fmt.Sprint(s[1].Announcement["list"]) != "[1 1.5 true <nil> x]" {
		t.Errorf("%v", s)
	}
	for _, text := range []string{"[", "- a", "storage: []", "x", "storage: {a: 1, a: 2}"} {
		if err := n.WritePrivate(serversYAML, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.StaticServers(); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzIntroducers(f *testing.F) {
	f.Add("introducers: {a: {furl: '" + testFURL + "'}}")
	f.Add("introducers:\n  default:\n    furl: " + testFURL + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := parseYAML("x", text)
		if err != nil {
			return
		}
		found, err := introducersIn(doc)
		if err != nil || doc == nil {
			return
		}
		data, err := encodeYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseYAML("x", string(data))
		if err != nil {
			t.Fatalf("%q does not parse back: %v", data, err)
		}
		again, err := introducersIn(back)
		if err != nil || len(again) != len(found) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func FuzzServers(f *testing.F) {
	f.Add(goodServers)
	f.Fuzz(func(t *testing.T, text string) {
		var doc *yaml.Node
		var servers []StaticServer
		var err error
		bounds.Memory(t, len(text), 1024, func() {
			if doc, err = parseYAML("x", text); err == nil && doc != nil {
				servers, _, err = serversIn(doc)
			}
		})
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatal(err)
			}
			return
		}
		if doc == nil {
			return
		}
		data, err := encodeYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseYAML("x", string(data))
		if err != nil {
			t.Fatalf("%q does not parse back: %v", data, err)
		}
		if again, _, err := serversIn(back); err != nil || !reflect.DeepEqual(again, servers) {
			t.Fatalf("%q reads as %v, and then as %v, %v", text, servers, again, err)
		}
		for _, s := range servers {
			if !validServerID(s.ID) || s.Announcement == nil {
				t.Fatalf("%q", s.ID)
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "none")} {
		if _, err := Open(dir); !errors.Is(err, ErrNotNode) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	n := created(t)
	if err := os.WriteFile(n.Path("no_storage"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(n.Dir); !errors.Is(err, ErrOldConfig) {
		t.Errorf("%v", err)
	}
	_, running, err := Running(context.Background(), n.Dir)
	if running || err != nil {
		t.Errorf("%v %v", running, err)
	}
}
