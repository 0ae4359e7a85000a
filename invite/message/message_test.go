package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/node/furl"
)

const testFURL = "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaq@tcp:127.0.0.1:4321/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

func writecap() caps.Cap {
	return caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{1}, Fingerprint: [32]byte{2}}}
}

func sample(t testing.TB) Settings {
	f, err := furl.Parse(testFURL)
	if err != nil {
		t.Fatal(err)
	}
	return Settings{
		Nickname: "Our Grid", Introducer: f, Encoding: Encoding{3, 4, 5},
		Ours: &Ours{Invite: "k3-9", Grid: "Our Grid", Folder: "Müsli photos", Writecap: writecap(), Participant: "bob",
			Tor: TorNeeded, Mailbox: "ws://vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion/v1", Members: members()},
	}
}

// What the real programs send: tests/vectors/gen_invite.py.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/settings.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		From, Greeting, Settings, Nickname, Introducer string
		Needed, Happy, Total                           int
		HideIP                                         bool `json:"hide_ip"`
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 5 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		g, err := ParseGreeting([]byte(v.Greeting), Inviter)
		if err != nil || g.Ours {
			t.Fatalf("%s: %+v, %v", v.From, g, err)
		}
		var s Settings
		if v.Settings == "" {
			if g.Legacy == nil {
				t.Fatalf("%s: no settings", v.From)
			}
			s = *g.Legacy
		} else if s, err = ParseSettings([]byte(v.Settings)); err != nil {
			t.Fatalf("%s: %v", v.From, err)
		}
		if s.Nickname != v.Nickname || s.Introducer.Text() != v.Introducer || s.Encoding != (Encoding{v.Needed, v.Happy, v.Total}) || s.HideIP != v.HideIP || s.Ours != nil {
			t.Errorf("%s: read %v", v.From, s)
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseSettings(again); err != nil || back.String() != s.String() || back.Introducer.Text() != s.Introducer.Text() {
			t.Errorf("%s: what we write reads back as %v, %v", v.From, back, err)
		}
		// Numbers, all three: what Tahoe's newcomer needs.
		var m map[string]any
		if err := json.Unmarshal(again, &m); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"shares-needed", "shares-happy", "shares-total"} {
			if _, ok := m[k].(float64); !ok {
				t.Errorf("%s: %s is a %T", v.From, k, m[k])
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	s := sample(t)
	for _, change := range []func(){
		func() {},
		func() { s.Ours.Mailbox = "" },
		func() { s.Ours.Folder, s.Ours.Writecap, s.Ours.Participant = "", nil, "" },
		func() { s.HideIP, s.Ours.Tor = true, TorOnly },
		func() { s.Ours, s.Nickname = nil, "" },
	} {
		change()
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseSettings(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := back.Encode()
		if err != nil || string(again) != string(b) {
			t.Errorf("%s became %s (%v)", b, again, err)
		}
		wrapped, err := json.Marshal(string(b))
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := ParseSettings(wrapped); err != nil || twice.String() != s.String() {
			t.Errorf("inside a string: %v", err)
		}
	}
}

func TestHideIPByPresence(t *testing.T) {
	for _, value := range []string{"true", "false", "null", `""`} {
		s, err := ParseSettings([]byte(`{"introducer": "` + testFURL + `", "hide-ip": ` + value + `}`))
		if err != nil || !s.HideIP {
			t.Errorf("hide-ip %s: %v, %v", value, s.HideIP, err)
		}
	}
}

// hostile are settings that a stranger might send, and the error of each.
func hostile(t testing.TB) []struct {
	name, body, field string
	want              error
} {
	with := func(changes string) string {
		b, err := sample(t).Encode()
		if err != nil {
			t.Fatal(err)
		}
		var m, c map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(b, &m), json.Unmarshal([]byte(changes), &c)); err != nil {
			t.Fatal(err)
		}
		for k, v := range c {
			if inner, ok := strings.CutPrefix(k, "ours."); ok {
				var o map[string]json.RawMessage
				if err := json.Unmarshal(m["warren-v1"], &o); err != nil {
					t.Fatal(err)
				}
				o[inner] = v
				m["warren-v1"], _ = json.Marshal(o)
			} else {
				m[k] = v
			}
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	long := strings.Repeat("a", 101)
	return []struct {
		name, body, field string
		want              error
	}{
		{"nothing", ``, "", ErrJSON},
		{"not an object", `[1]`, "", ErrType},
		{"null", `null`, "", ErrType},
		{"cut short", `{"introducer": "`, "", ErrJSON},
		{"two values", `{} {}`, "", ErrJSON},
		{"NaN", `{"shares-needed": NaN}`, "", ErrJSON},
		{"10 MB", `{"x": "` + strings.Repeat("a", 10<<20) + `"}`, "", ErrTooLarge},
		{"deep", strings.Repeat(`{"a":`, 1000) + `1` + strings.Repeat(`}`, 1000), "", ErrJSON},
		{"not UTF-8", "{\"nickname\": \"\xff\"}", "", ErrJSON},
		{"a name twice", `{"introducer": "a", "introducer": "b"}`, "", ErrTwice},
		{"no introducer", `{"nickname": "x"}`, "introducer", ErrMissing},
		{"null introducer", `{"introducer": null}`, "introducer", ErrMissing},
		{"introducer a number", with(`{"introducer": 7}`), "introducer", ErrType},
		{"introducer not a FURL", with(`{"introducer": "http://example.org/"}`), "introducer", ErrForm},
		{"introducer with a newline", with(`{"introducer": "` + testFURL + `\ntcp = tcp"}`), "introducer", ErrCharacters},
		{"introducer with a comment", with(`{"introducer": "` + testFURL + ` #"}`), "introducer", ErrCharacters},
		{"introducer too long", with(`{"introducer": "` + strings.Repeat("p", 3000) + `"}`), "introducer", ErrLength},
		{"newline in the nickname", with(`{"nickname": "x\nreveal-IP-address = true"}`), "nickname", ErrCharacters},
		{"carriage return", with(`{"nickname": "x\ry"}`), "nickname", ErrCharacters},
		{"escape sequence", with(`{"nickname": "\u001b[2J"}`), "nickname", ErrCharacters},
		{"C1 control", with(`{"nickname": "\u009b2J"}`), "nickname", ErrCharacters},
		{"right-to-left override", with(`{"nickname": "a\u202etxt.exe"}`), "nickname", ErrCharacters},
		{"zero width", with(`{"nickname": "a\u200bb"}`), "nickname", ErrCharacters},
		{"line separator", with(`{"nickname": "a\u2028b"}`), "nickname", ErrCharacters},
		{"lone surrogate", with(`{"nickname": "a\ud800b"}`), "nickname", ErrCharacters},
		{"NUL", with(`{"nickname": "a\u0000b"}`), "nickname", ErrCharacters},
		{"long nickname", with(`{"nickname": "` + long + `"}`), "nickname", ErrLength},
		{"nickname a list", with(`{"nickname": ["x"]}`), "nickname", ErrType},
		{"bool for a number", with(`{"shares-needed": true}`), "shares-needed", ErrType},
		{"list for a number", with(`{"shares-needed": [3]}`), "shares-needed", ErrType},
		{"fraction", with(`{"shares-needed": 1.5}`), "shares-needed", ErrRange},
		{"exponent", with(`{"shares-total": 1e30}`), "shares-total", ErrRange},
		{"10^30", with(`{"shares-total": 1000000000000000000000000000000}`), "shares-total", ErrRange},
		{"10^30 as a string", with(`{"shares-total": "1000000000000000000000000000000"}`), "shares-total", ErrRange},
		{"negative", with(`{"shares-needed": -3}`), "shares-needed", ErrRange},
		{"zero", with(`{"shares-needed": 0}`), "shares-needed", ErrRange},
		{"blank in a number", with(`{"shares-needed": " 3"}`), "shares-needed", ErrRange},
		{"newline in a number", with(`{"shares-needed": "3\nx = y"}`), "shares-needed", ErrRange},
		{"k > n", with(`{"shares-needed": 6}`), "shares-needed", ErrRange},
		{"happy > n", with(`{"shares-happy": 6}`), "shares-happy", ErrRange},
		{"n > 256", with(`{"shares-total": 257}`), "shares-total", ErrRange},
		{"one number missing", `{"introducer": "` + testFURL + `", "shares-needed": 1, "shares-total": 2}`, "shares-happy", ErrMissing},
		{"numbers that contradict", with(`{"total": 7}`), "total", ErrTwice},
		{"ours a list", with(`{"warren-v1": []}`), "warren-v1", ErrType},
		{"folder ../", with(`{"ours.folder": "../../etc"}`), "folder", ErrCharacters},
		{"folder ..", with(`{"ours.folder": ".."}`), "folder", ErrCharacters},
		{"folder hidden", with(`{"ours.folder": ".ssh"}`), "folder", ErrCharacters},
		{"folder backslash", with(`{"ours.folder": "a\\b"}`), "folder", ErrCharacters},
		{"folder drive", with(`{"ours.folder": "C:"}`), "folder", ErrCharacters},
		{"folder device", with(`{"ours.folder": "nul.txt"}`), "folder", ErrCharacters},
		{"folder blank", with(`{"ours.folder": " "}`), "folder", ErrCharacters},
		{"folder an option", with(`{"ours.folder": "-rf"}`), "folder", ErrCharacters},
		{"folder not NFC", with(`{"ours.folder": "e\u0301"}`), "folder", ErrForm},
		{"folder empty", with(`{"ours.folder": ""}`), "folder", ErrLength},
		{"folder long", with(`{"ours.folder": "` + long + `"}`), "folder", ErrLength},
		{"participant x/../../y", with(`{"ours.participant": "x/../../y"}`), "participant", ErrCharacters},
		{"participant @metadata", with(`{"ours.participant": "@metadata"}`), "participant", ErrCharacters},
		{"participant missing", with(`{"ours.participant": null}`), "participant", ErrMissing},
		{"writecap missing", with(`{"ours.writecap": null}`), "writecap", ErrMissing},
		{"writecap a readcap", with(`{"ours.writecap": "` + caps.ReadOnly(writecap()).Text() + `"}`), "writecap", ErrType},
		{"writecap broken", with(`{"ours.writecap": "URI:DIR2:x:y"}`), "writecap", ErrForm},
		{"writecap unknown", with(`{"ours.writecap": "URI:DIR9:x"}`), "writecap", ErrType},
		{"writecap with a newline", with(`{"ours.writecap": "` + writecap().Text() + `\n"}`), "writecap", ErrForm},
		{"folder missing", with(`{"ours.folder": null}`), "folder", ErrMissing},
		{"tor unknown", with(`{"ours.tor": "off"}`), "tor", ErrRange},
		{"tor a bool", with(`{"ours.tor": true}`), "tor", ErrType},
		{"mailbox http", with(`{"ours.mailbox": "http://x/"}`), "mailbox", ErrForm},
		{"invite with a slash", with(`{"ours.invite": "a/b"}`), "invite", ErrCharacters},
		{"grid with an escape", with(`{"ours.grid": "\u001b]0;x\u0007"}`), "grid", ErrCharacters},
	}
}

func TestHostileSettings(t *testing.T) {
	for _, h := range hostile(t) {
		_, err := ParseSettings([]byte(h.body))
		var field *FieldError
		if !errors.Is(err, h.want) || !errors.As(err, &field) || field.Field != h.field {
			t.Errorf("%s: got %v, want %s: %v", h.name, err, h.field, h.want)
		}
		if err != nil && (strings.Contains(err.Error(), "pb://") || strings.Contains(err.Error(), "URI:") || strings.ContainsAny(err.Error(), "\x1b\n")) {
			t.Errorf("%s: the error quotes what came: %q", h.name, err)
		}
	}
}

func TestGreeting(t *testing.T) {
	for _, role := range []Role{Inviter, Newcomer} {
		g, err := ParseGreeting(EncodeGreeting(role), role)
		if err != nil || !g.Ours {
			t.Errorf("%s: %+v, %v", role, g, err)
		}
	}
	for _, c := range []struct {
		body string
		want error
	}{
		{`{}`, ErrAbilities}, {`{"abilities": {}}`, ErrAbilities}, {`{"abilities": {"client-v1": {}}}`, ErrAbilities},
		{`{"abilities": []}`, ErrType}, {`[]`, ErrType}, {`{"offer": {}}`, ErrMissing}, {`{"offer": {"message": "{"}}`, ErrJSON},
		{`{"offer": {"message": 1}}`, ErrType}, {`{"offer": {"file": {}}}`, ErrMissing}, {`{"abilities": null}`, ErrAbilities},
	} {
		if _, err := ParseGreeting([]byte(c.body), Inviter); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.body, err)
		}
	}
	if !json.Valid(LegacyAnswer()) {
		t.Error("the legacy answer is not JSON")
	}
}

func TestAcknowledgement(t *testing.T) {
	a := Acknowledgement{Participant: "bob", Keys: map[string]string{"node": "pub-v0-abc", "author": "AAAA/+="}}
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseAcknowledgement(b)
	if err != nil || back.Participant != "bob" || len(back.Keys) != 2 || back.Keys["author"] != "AAAA/+=" {
		t.Errorf("%+v, %v", back, err)
	}
	for _, c := range []struct {
		body, field string
		want        error
	}{
		{`{}`, "warren-v1", ErrMissing},
		{`{"warren-v1": {}}`, "ack", ErrMissing},
		{`{"warren-v1": {"ack": true}}`, "ack", ErrType},
		{`{"warren-v1": {"ack": "no"}}`, "ack", ErrRange},
		{`{"warren-v1": {"ack": "ok", "participant": "../x"}}`, "participant", ErrCharacters},
		{`{"warren-v1": {"ack": "ok", "keys": []}}`, "keys", ErrType},
		{`{"warren-v1": {"ack": "ok", "keys": {"Node": "x"}}}`, "keys", ErrCharacters},
		{`{"warren-v1": {"ack": "ok", "keys": {"node": "x y"}}}`, "keys", ErrCharacters},
		{`{"warren-v1": {"ack": "ok", "keys": {"node": "x\n"}}}`, "keys", ErrCharacters},
		{`{"warren-v1": {"ack": "ok", "keys": {"node": 7}}}`, "keys", ErrType},
		{`{"warren-v1": {"ack": "ok", "keys": {"node": "` + strings.Repeat("x", 300) + `"}}}`, "keys", ErrLength},
		{`{"warren-v1": {"ack": "ok", "keys": {"a":"x","b":"x","c":"x","d":"x","e":"x","f":"x","g":"x","h":"x","i":"x"}}}`, "keys", ErrTooLarge},
		{`{"warren-v1": {"refused": "\u001b[2J"}}`, "refused", ErrCharacters},
		{`{"warren-v1": {"refused": {}}}`, "refused", ErrType},
	} {
		_, err := ParseAcknowledgement([]byte(c.body))
		var field *FieldError
		if !errors.Is(err, c.want) || !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%s: %v", c.body, err)
		}
	}
}

func TestConfirmationAndRefusal(t *testing.T) {
	if err := ParseConfirmation(EncodeConfirmation()); err != nil {
		t.Error(err)
	}
	for _, body := range []string{`{}`, `{"warren-v1": {}}`, `{"warren-v1": {"member": false}}`, `{"warren-v1": {"member": 1}}`, `[]`} {
		if err := ParseConfirmation([]byte(body)); err == nil {
			t.Errorf("%s passed", body)
		}
	}
	for in, want := range map[string]string{
		"the disk is full":        "the disk is full",
		"a\nb\x1b[2Jc":            "a b [2Jc",
		"":                        "no reason given",
		strings.Repeat("ä", 1000): strings.Repeat("ä", 99),
	} {
		_, err := ParseAcknowledgement(EncodeRefusal(in))
		var r *Refusal
		if !errors.As(err, &r) || !errors.Is(err, ErrRefused) || r.Reason != want {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

func TestRedacted(t *testing.T) {
	s := sample(t)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", s.Ours), fmt.Sprintf("%v", *s.Ours)} {
		if strings.Contains(text, "bbbbb") || strings.Contains(text, "URI:") {
			t.Errorf("%s tells a secret", text)
		}
	}
}

func FuzzSettings(f *testing.F) {
	b, err := sample(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, h := range hostile(f) {
		if len(h.body) < 5000 {
			f.Add([]byte(h.body))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSettings(b)
		if err != nil {
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if s.Encoding == (Encoding{}) {
			s.Encoding = Encoding{1, 1, 1}
		}
		out, err := s.Encode()
		if err != nil {
			t.Fatalf("what was accepted does not encode: %v", err)
		}
		back, err := ParseSettings(out)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := back.Encode(); err != nil || string(again) != string(out) {
			t.Fatalf("%s became %s", out, again)
		}
	})
}

func FuzzExchange(f *testing.F) {
	f.Add(EncodeGreeting(Newcomer))
	f.Add([]byte(`{"offer": {"message": "{}"}}`))
	f.Add([]byte(`{"warren-v1": {"ack": "ok", "keys": {"node": "x"}}}`))
	f.Add(EncodeRefusal("no"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseGreeting(b, Inviter)
		ParseGreeting(b, Newcomer)
		ParseConfirmation(b)
		a, err := ParseAcknowledgement(b)
		if err != nil {
			return
		}
		out, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseAcknowledgement(out)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := back.Encode(); err != nil || string(again) != string(out) {
			t.Fatalf("%s became %s (%v)", out, again, err)
		}
	})
}
