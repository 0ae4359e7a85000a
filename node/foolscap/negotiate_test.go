package foolscap

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"warren/node/foolscap/banana"
)

func TestBadRequests(t *testing.T) {
	tub := newTub(t, certificate(t), nil)
	ok := formatRequest(tub.ID(), "h")
	for _, c := range []struct{ name, request, want string }{
		{"another tub", strings.Replace(ok, tub.ID(), strings.Repeat("a", 32), 1), "unknown TubID"},
		{"no tub", strings.Replace(ok, tub.ID(), "", 1), "unknown TubID"},
		{"a browser", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "not a Foolscap request"},
		{"a post", strings.Replace(ok, "GET", "POST", 1), "not a Foolscap request"},
		{"old HTTP", strings.Replace(ok, "HTTP/1.1", "HTTP/1.0", 1), "not a Foolscap request"},
		{"no words", "\r\n\r\n", "not a Foolscap request"},
		{"no encryption", "GET /id/" + tub.ID() + " HTTP/1.1\r\n\r\n", "asks for no encryption"},
		{"too long", "GET /id/" + strings.Repeat("a", 5000) + " HTTP/1.1\r\n\r\n", ""},
		{"cut", "GET /id/", ""},
	} {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { tub.ServeConn(theirs); close(done) }()
		ours.SetDeadline(time.Now().Add(time.Minute))
		go func() {
			io.WriteString(ours, c.request)
			if c.name == "cut" {
				ours.Close()
			}
		}()
		answer, _ := io.ReadAll(ours)
		if !strings.Contains(string(answer), c.want) || c.want != "" && !strings.HasPrefix(string(answer), "HTTP/1.1 500 ") {
			t.Errorf("%s: %q, want %q", c.name, answer, c.want)
		}
		<-done
		ours.Close()
	}
}

func TestBadResponses(t *testing.T) {
	for header, want := range map[string]string{
		"": "does not speak Foolscap", "SSH-2.0-x": "does not speak Foolscap", "HTTP/1.1": "does not speak Foolscap",
		"HTTP/1.1 404 Not Found":                                 "no such tub",
		"HTTP/1.1 500 Internal Server Error: unknown TubID \x1b": "no such tub",
		"HTTP/1.1 101 Switching Protocols":                       "no encryption",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2":        "no encryption",
	} {
		if err := parseResponse(header); !errors.Is(err, ErrNegotiation) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", header, err)
		}
	}
	if err := parseResponse(strings.TrimSuffix(switchingProtocols, "\r\n\r\n")); err != nil {
		t.Error(err)
	}
}

// hello speaks the encrypted phase with a tub and returns the block that answers.
func hello(t *testing.T, tub *Tub, certs []tls.Certificate, change func(map[string]string)) (map[string]string, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { tub.ServeConn(theirs); close(done) }()
	defer func() { ours.Close(); <-done }()
	ours.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(ours, formatRequest(tub.ID(), "h"))
	r := bufio.NewReader(ours)
	if header, err := readBlock(r); err != nil || parseResponse(header) != nil {
		t.Fatalf("%q, %v", header, err)
	}
	secure := tls.Client(buffered{ours, r}, &tls.Config{InsecureSkipVerify: true, Certificates: certs})
	block := map[string]string{"banana-negotiation-range": "3 3", "initial-vocab-table-range": "0 1", "my-incarnation": "x", "last-connection": "none 0"}
	if len(certs) > 0 {
		block["my-tub-id"] = TubID(certs[0].Certificate[0])
	}
	change(block)
	go io.WriteString(secure, formatBlock(block))
	sr := bufio.NewReader(secure)
	if _, err := readBlock(sr); err != nil { // the tub's hello
		return nil, err
	}
	text, err := readBlock(sr)
	if err != nil {
		return nil, err
	}
	return parseBlock(text)
}

func TestBadHellos(t *testing.T) {
	slave, master := ordered(t)
	tub := newTub(t, master, nil)
	set := func(key, value string) func(map[string]string) {
		return func(b map[string]string) { b[key] = value }
	}
	for _, c := range []struct {
		name   string
		change func(map[string]string)
		want   string
	}{
		{"no version", func(b map[string]string) { delete(b, "banana-negotiation-range") }, "no banana-negotiation-range"},
		{"old version", set("banana-negotiation-range", "1 2"), "no common banana version"},
		{"new version", set("banana-negotiation-range", "4 9"), "no common banana version"},
		{"version words", set("banana-negotiation-range", "a b"), "malformed range"},
		{"version backwards", set("banana-negotiation-range", "3 1"), "malformed range"},
		{"one version", set("banana-negotiation-range", "3"), "malformed range"},
		{"negative", set("banana-negotiation-range", "-3 3"), "malformed range"},
		{"new words", set("initial-vocab-table-range", "2 5"), "no common vocabulary"},
		{"no words", set("initial-vocab-table-range", ""), "malformed range"},
		{"another's id", set("my-tub-id", tub.ID()), "TubID mismatch"},
		{"no id", func(b map[string]string) { delete(b, "my-tub-id") }, "TubID mismatch"},
	} {
		block, err := hello(t, tub, []tls.Certificate{slave}, c.change)
		if err != nil || block["error"] != c.want {
			t.Errorf("%s: %v, %v; want %q", c.name, block, err, c.want)
		}
	}
	for name, change := range map[string]func(map[string]string){
		"an error":          set("error", "no"),
		"a line end inside": set("x", "a\nb"),
		"too long":          set("x", strings.Repeat("a", 5000)),
	} {
		if block, err := hello(t, tub, []tls.Certificate{slave}, change); err == nil && block["error"] == "" {
			t.Errorf("%s: %v", name, block)
		}
	}
	if _, err := hello(t, tub, nil, func(map[string]string) {}); err == nil {
		t.Error("a peer without a certificate was accepted")
	}
	block, err := hello(t, tub, []tls.Certificate{slave}, func(map[string]string) {})
	a, _, derr := parseDecision(block)
	if err != nil || derr != nil || a.vocabulary != 1 {
		t.Errorf("a good hello: %v, %v, %v", block, err, derr)
	}
	block, err = hello(t, tub, []tls.Certificate{slave}, set("initial-vocab-table-range", "0 0"))
	if a, _, derr := parseDecision(block); err != nil || derr != nil || a.vocabulary != 0 {
		t.Errorf("without words: %v, %v", block, err)
	}
}

func TestDecisions(t *testing.T) {
	good := func() map[string]string {
		return map[string]string{"banana-decision-version": "3", "initial-vocab-table-index": "1 5dc0", "current-connection": "x 7"}
	}
	v, _ := banana.Initial(1)
	b := good()
	b["initial-vocab-table-index"] = "1 " + v.Hash()
	if a, current, err := parseDecision(b); err != nil || a.vocabulary != 1 || current != "x 7" {
		t.Errorf("%v, %q, %v", a, current, err)
	}
	for name, change := range map[string]func(map[string]string){
		"wrong hash":      func(map[string]string) {},
		"no hash":         func(b map[string]string) { b["initial-vocab-table-index"] = "1" },
		"unknown table":   func(b map[string]string) { b["initial-vocab-table-index"] = "2 abcd" },
		"table word":      func(b map[string]string) { b["initial-vocab-table-index"] = "x y" },
		"no version":      func(b map[string]string) { delete(b, "banana-decision-version") },
		"other version":   func(b map[string]string) { b["banana-decision-version"] = "1" },
		"long connection": func(b map[string]string) { b["current-connection"] = strings.Repeat("a", 201) },
		"refused":         func(b map[string]string) { b["error"] = "no\x1b" },
	} {
		b := good()
		change(b)
		if _, _, err := parseDecision(b); !errors.Is(err, ErrNegotiation) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := parseDecision(map[string]string{"error": "Duplicate connection"}); !errors.Is(err, ErrDuplicate) {
		t.Error(err)
	}
}

func TestReplaces(t *testing.T) {
	existing := agreed{peerIncarnation: "peer", seqnum: 5}
	for _, c := range []struct {
		incarnation, last string
		want              bool
	}{
		{"", "me 5", false}, {"peer", "", false}, {"restarted", "none 0", true}, {"peer", "none 0", false},
		{"peer", "past 5", true}, {"peer", "me 5", true}, {"peer", "me 4", false}, {"peer", "me 6", false}, {"peer", "me x", false}, {"peer", "me", false},
	} {
		h := map[string]string{"my-incarnation": c.incarnation}
		if c.last != "" {
			h["last-connection"] = c.last
		}
		if got := replaces(h, existing, "me", false); got != c.want {
			t.Errorf("%q %q: %v", c.incarnation, c.last, got)
		}
		// Over the existing one nothing was ever heard.
		want := c.want || c.incarnation == "peer" && (c.last == "none 0" || c.last == "me 4")
		if got := replaces(h, existing, "me", true); got != want {
			t.Errorf("unheard, %q %q: %v", c.incarnation, c.last, got)
		}
	}
}

// What a peer may send after negotiation, and what it gets for it.
func TestBadMessages(t *testing.T) {
	slave, master := ordered(t)
	tub := newTub(t, master, nil)
	tub.Register(echo(), "s")
	args := banana.Sequence{Type: "arguments", Items: []any{0}}
	seq := func(kind string, items ...any) any { return banana.Sequence{Type: kind, Items: items} }
	failure := (&Failure{Class: "x"}).sequence()
	for _, c := range []struct {
		name string
		v    any
		want string // in an answer; "" when the connection ends
	}{
		{"a number", 1, ""},
		{"a list", []any{}, ""},
		{"a call of nothing", seq("call"), ""},
		{"a call without arguments", seq("call", 1, 0, []byte("x")), ""},
		{"a negative request", seq("call", -1, 0, []byte("x"), args), ""},
		{"a bytes request", seq("call", []byte("1"), 0, []byte("x"), args), ""},
		{"a method number", seq("call", 1, 0, 1, args), ""},
		{"an answer of nothing", seq("answer"), ""},
		{"an answer to bytes", seq("answer", []byte("x"), 1), ""},
		{"an unknown object", seq("call", 1, 77, []byte("x"), args), "no such object"},
		{"an unknown method", seq("call", 1, 0, []byte("x"), args), "no such method"},
		{"arguments of another kind", seq("call", 1, 0, []byte("x"), []any{}), "malformed arguments"},
		{"too few arguments", seq("call", 1, 0, []byte("x"), seq("arguments", 2, 1)), "malformed arguments"},
		{"negative arguments", seq("call", 1, 0, []byte("x"), seq("arguments", -1)), "malformed arguments"},
		{"a name without value", seq("call", 1, 0, []byte("x"), seq("arguments", 0, []byte("a"))), "malformed arguments"},
		{"a name twice", seq("call", 1, 0, []byte("x"), seq("arguments", 0, []byte("a"), 1, []byte("a"), 1)), "argument twice"},
		{"a number as name", seq("call", 1, 0, []byte("x"), seq("arguments", 0, 1, 1)), "malformed arguments"},
		{"an unknown copyable", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("copyable", []byte("os.system")))), "unknown copyable"},
		{"a gift", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("their-reference", 1, []byte("pb://")))), "gifts are refused"},
		{"an instance", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("instance"))), "unknown sequence type"},
		{"a reference to us", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("your-reference", 9))), "reference to no object"},
		{"a reference to nothing", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("my-reference"))), "malformed my-reference"},
		{"a reference to zero", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("my-reference", 0))), "malformed my-reference"},
		{"too much given back", seq("call", 1, 0, []byte("decref"), seq("arguments", 2, 1, 1)), ""},
		{"a failure without class", seq("call", 1, 0, []byte("x"), seq("arguments", 1, seq("copyable", []byte(failureCopyable)))), "malformed failure"},
		{"a failure as argument", seq("call", 1, 0, []byte("x"), seq("arguments", 1, failure)), "no such method"},
		{"a deep message", seq("call", 1, 0, []byte("x"), seq("arguments", 1, deep(40))), "nested too deep"},
		{"a long string", seq("call", 1, 0, []byte("x"), seq("arguments", 1, make([]byte, 300<<10))), "string too long"},
	} {
		answer := exchange(t, tub, slave, c.v)
		if c.name == "too much given back" { // of what was never sent: Foolscap lets it pass
			c.want = "answer"
		}
		if c.want == "" {
			if answer != nil {
				t.Errorf("%s: %v", c.name, answer)
			}
			continue
		}
		if answer == nil || !strings.Contains(fmtAnswer(answer), c.want) {
			t.Errorf("%s: %v, want %q", c.name, fmtAnswer(answer), c.want)
		}
	}
}

func deep(n int) any {
	if n == 0 {
		return 1
	}
	return []any{deep(n - 1)}
}

func fmtAnswer(v any) string {
	s, _ := v.(banana.Sequence)
	var b strings.Builder
	b.WriteString(s.Type)
	for _, item := range s.Items {
		switch item := item.(type) {
		case []byte:
			b.WriteString(" " + string(item))
		case banana.Sequence:
			b.WriteString(" " + fmtAnswer(item))
		}
	}
	return b.String()
}

// exchange sends one message and returns the answer, nil when the tub hangs up.
func exchange(t *testing.T, tub *Tub, cert tls.Certificate, message any) any {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { tub.ServeConn(theirs); close(done) }()
	defer func() { ours.Close(); <-done }()
	ours.SetDeadline(time.Now().Add(time.Minute))
	peer := newTub(t, cert, nil)
	io.WriteString(ours, formatRequest(tub.ID(), "h"))
	r := bufio.NewReader(ours)
	if _, err := readBlock(r); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(buffered{ours, r}, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
	go io.WriteString(secure, formatBlock(map[string]string{"banana-negotiation-range": "3 3", "initial-vocab-table-range": "0 1",
		"my-tub-id": peer.ID(), "my-incarnation": peer.incarnation, "last-connection": "none 0"}))
	sr := bufio.NewReader(secure)
	for range 2 { // hello and decision
		if _, err := readBlock(sr); err != nil {
			t.Fatal(err)
		}
	}
	v, _ := banana.Initial(1)
	b, err := (&banana.Encoder{Vocabulary: v}).Append(nil, message)
	if err != nil {
		t.Fatal(err)
	}
	go secure.Write(b)
	answer, err := banana.NewDecoder(sr, v, banana.DefaultLimits()).Next()
	if err != nil {
		return nil
	}
	return answer
}

func FuzzBlock(f *testing.F) {
	f.Add("banana-negotiation-range: 3 3\r\nmy-tub-id: abc\r\nlast-connection: none 0")
	f.Add("banana-decision-version: 3\r\ninitial-vocab-table-index: 1 5dc0\r\ncurrent-connection: x 1")
	f.Add("GET /id/abc HTTP/1.1\r\nUpgrade: TLS/1.0")
	f.Add("HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0, PB/1.0")
	f.Fuzz(func(t *testing.T, s string) {
		parseRequest(s)
		parseResponse(s)
		block, err := parseBlock(s)
		if err != nil {
			return
		}
		checkVersion(block)
		chooseVocabulary(block)
		parseDecision(block)
		replaces(block, agreed{}, "x", true)
		again, err := parseBlock(strings.TrimSuffix(formatBlock(block), "\r\n\r\n"))
		if err != nil || !reflect.DeepEqual(again, block) {
			t.Fatalf("%q became %q, %v", block, again, err)
		}
	})
}
