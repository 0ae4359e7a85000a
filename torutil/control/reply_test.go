package control

import (
	"reflect"
	"testing"
)

func TestParseListeners(t *testing.T) {
	tcp := func(a string) Address { return Address{"tcp", a} }
	for _, c := range []struct {
		in    string
		local bool
		want  []Address
	}{
		{``, true, nil},
		{`"127.0.0.1:9050"`, true, []Address{tcp("127.0.0.1:9050")}},
		// Tails: one port for each kind of program.
		{`"127.0.0.1:9050" "127.0.0.1:9061" "127.0.0.1:9062" "127.0.0.1:9150"`, true,
			[]Address{tcp("127.0.0.1:9050"), tcp("127.0.0.1:9061"), tcp("127.0.0.1:9062"), tcp("127.0.0.1:9150")}},
		// Whonix: the gateway's address is for other machines.
		{`"10.152.152.10:9050" "127.0.0.1:9050"`, true, []Address{tcp("127.0.0.1:9050")}},
		{`"10.152.152.10:9050" "127.0.0.1:9050" "0.0.0.0:9051" "unix:/run/tor/socks"`, false, []Address{tcp("10.152.152.10:9050")}},
		{`"unix:/run/tor/socks" "127.0.0.1:9050"`, true, []Address{tcp("127.0.0.1:9050"), {"unix", "/run/tor/socks"}}},
		{`"unix:\"/run/with space/socks\""`, true, []Address{{"unix", "/run/with space/socks"}}},
		{`"0.0.0.0:9050" "[::]:9051"`, true, []Address{tcp("127.0.0.1:9050"), tcp("[::1]:9051")}},
		{`127.0.0.1:9050`, true, []Address{tcp("127.0.0.1:9050")}},
	} {
		got, err := parseListeners(c.in, c.local)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{`"127.0.0.1:9050`, `"127.0.0.1:9050""127.0.0.1:9051"`, `"tor.example:9050"`, `"127.0.0.1"`, `"unix:"`, `"x\`, `"127.0.0.1:99999"`} {
		if got, err := parseListeners(in, true); err == nil {
			t.Errorf("%s: %v, no error", in, got)
		}
	}
}

func TestParseBootstrap(t *testing.T) {
	for _, c := range []struct {
		in               string
		percent          int
		summary, warning string
		ok               bool
	}{
		{`NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"`, 100, "Done", "", true},
		{`NOTICE BOOTSTRAP PROGRESS=14 TAG=handshake SUMMARY="Handshaking with a relay"`, 14, "Handshaking with a relay", "", true},
		{`WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting to a relay" WARNING="Network is unreachable" REASON=NOROUTE COUNT=5 RECOMMENDATION=warn HOSTID="AA" HOSTADDR="192.0.2.1:9001"`, 5, "Connecting to a relay", "Network is unreachable", true},
		{`NOTICE BOOTSTRAP PROGRESS=5 SUMMARY="a \"quoted\" \033[31mred\007 word"`, 5, `a "quoted" [31mred word`, "", true},
		{`NOTICE CIRCUIT_ESTABLISHED`, 0, "", "", false},
		{`NOTICE BOOTSTRAP PROGRESS=101`, 0, "", "", false},
		{`NOTICE BOOTSTRAP PROGRESS=x`, 0, "", "", false},
		{`NOTICE BOOTSTRAP SUMMARY="x"`, -1, "x", "", false},
		{`NOTICE BOOTSTRAP PROGRESS=1 SUMMARY="x`, 0, "", "", false},
		{``, 0, "", "", false},
	} {
		percent, summary, warning, ok := parseBootstrap(c.in)
		if ok != c.ok || ok && (percent != c.percent || summary != c.summary || warning != c.warning) {
			t.Errorf("%s: %d %q %q %v", c.in, percent, summary, warning, ok)
		}
	}
}

func TestParsePortFile(t *testing.T) {
	for in, want := range map[string]Address{
		"PORT=127.0.0.1:9051\n":                         {"tcp", "127.0.0.1:9051"},
		"PORT=127.0.0.1:9051\nUNIX_PORT=/run/control\n": {"tcp", "127.0.0.1:9051"},
		"UNIX_PORT=/run/control\n":                      {"unix", "/run/control"},
	} {
		if got, err := parsePortFile(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "PORT=127.0.0.1:90", "\n", "X=1\n"} {
		if got, err := parsePortFile(in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestTail(t *testing.T) {
	log := &tail{}
	for range 100 {
		log.Write([]byte("line\x1b[2J\n"))
	}
	for range 100 {
		log.Write(make([]byte, 1000))
	}
	log.Write([]byte("\nlast"))
	if n := len(log.text()); n > tailLines*(tailWidth+1) || len(log.partial) != 4 {
		t.Errorf("%d bytes kept, %q", n, log.partial)
	}
	if log.contains("\x1b") {
		t.Error("an escape sequence came through")
	}
}

func FuzzReplies(f *testing.F) {
	f.Add(`"127.0.0.1:9050" "unix:/x"`)
	f.Add(`NOTICE BOOTSTRAP PROGRESS=14 SUMMARY="Handshaking with a relay"`)
	f.Add("PORT=127.0.0.1:9051\n")
	f.Fuzz(func(t *testing.T, s string) {
		parseBootstrap(s)
		parsePortFile(s)
		all, err := parseListeners(s, true)
		if err != nil {
			return
		}
		for _, a := range all {
			if a.Network != "unix" && a.Network != "tcp" || a.Address == "" {
				t.Fatalf("%q -> %v", s, all)
			}
			if a.Network != "tcp" {
				continue
			}
			again, err := parseListeners(`"`+a.Address+`"`, true)
			if err != nil || len(again) != 1 || again[0] != a {
				t.Fatalf("%q -> %v -> %v, %v", s, a, again, err)
			}
		}
	})
}
