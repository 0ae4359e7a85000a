package story

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"warren/invite/code"
	"warren/invite/message"
	"warren/invite/wormhole"
)

// hostile is an inviter that sends what it likes. It returns the code.
func (h *house) hostile(t testing.TB, greeting, payload []byte) string {
	t.Helper()
	state, err := wormhole.NewState(message.AppID, h.box, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	s := wormhole.New(wormhole.Config{Dial: d.DialContext, MakeCode: func(plate string) (string, error) {
		c, err := code.New(rand.Reader, plate, 2)
		return c.Text(), err
	}}, state)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() { s.Run(ctx) })
	text, err := s.Code(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range [][]byte{greeting, payload} {
		if err := s.Send(i, b); err != nil {
			t.Fatal(err)
		}
	}
	h.secret(text)
	return text
}

// What a hostile inviter may send: nothing is made, and the error says which field.
func TestHostileInviter(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 0)
	b, err := os.ReadFile(h.furlFile[1:])
	if err != nil {
		t.Fatal(err)
	}
	furl := strings.TrimSpace(string(b))
	const writecap = "URI:DIR2:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	ours := func(change map[string]any) map[string]any {
		m := map[string]any{"invite": "abc", "grid": "grid", "tor": "optional", "folder": "docs", "participant": "bob", "writecap": writecap}
		for k, v := range change {
			m[k] = v
		}
		return m
	}
	base := func(change map[string]any) []byte {
		m := map[string]any{"nickname": "grid", "introducer": furl, "shares-needed": 1, "shares-happy": 1, "shares-total": 1, "warren-v1": ours(nil)}
		for k, v := range change {
			if v == nil {
				delete(m, k)
				continue
			}
			m[k] = v
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	greeting := message.EncodeGreeting(message.Inviter)
	for i, c := range []struct {
		what     string
		greeting []byte
		payload  []byte
		want     string
	}{
		{"newline in the nickname", greeting, base(map[string]any{"nickname": "grid\nreveal-IP-address = true"}), "nickname"},
		{"escape in the nickname", greeting, base(map[string]any{"nickname": "grid\x1b[2J"}), "nickname"},
		{"newline in the FURL", greeting, base(map[string]any{"introducer": furl + "\n[tor]"}), "introducer"},
		{"no FURL", greeting, base(map[string]any{"introducer": nil}), "introducer"},
		{"k above n", greeting, base(map[string]any{"shares-needed": 5, "shares-total": 3}), "shares-needed"},
		{"happy above n", greeting, base(map[string]any{"shares-happy": 3}), "shares-happy"},
		{"true for a number", greeting, base(map[string]any{"shares-needed": true}), "shares-needed"},
		{"10^30", greeting, base(map[string]any{"shares-total": json.RawMessage("1000000000000000000000000000000")}), "shares-total"},
		{"a folder above", greeting, base(map[string]any{"warren-v1": ours(map[string]any{"folder": "../../etc"})}), "folder"},
		{"a folder with a newline", greeting, base(map[string]any{"warren-v1": ours(map[string]any{"folder": "docs\n"})}), "folder"},
		{"a participant above", greeting, base(map[string]any{"warren-v1": ours(map[string]any{"participant": "x/../../y"})}), "participant"},
		{"a readcap as writecap", greeting, base(map[string]any{"warren-v1": ours(map[string]any{"writecap": strings.Replace(writecap, "DIR2", "DIR2-RO", 1)})}), "writecap"},
		{"a mailbox that is none", greeting, base(map[string]any{"warren-v1": ours(map[string]any{"mailbox": "file:///etc/passwd"})}), "mailbox"},
		{"an unknown tor", greeting, base(map[string]any{"warren-v1": ours(map[string]any{"tor": "never"})}), "tor"},
		{"no JSON", greeting, []byte("hello"), "not the JSON expected"},
		{"a list", greeting, []byte("[1]"), "of the wrong type"},
		{"too deep", greeting, []byte(strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)), "not the JSON expected"},
		{"twice", greeting, []byte(`{"nickname":"a","nickname":"b"}`), "given twice"},
		{"no abilities", []byte(`{}`), base(nil), "no invite protocol that we know"},
		{"a newcomer, too", message.EncodeGreeting(message.Newcomer), base(nil), "no invite protocol that we know"},
		{"large", greeting, []byte(`{"nickname":"` + strings.Repeat("x", 200<<10) + `"}`), "too large"},
	} {
		name := fmt.Sprintf("guest%d", i)
		_, _, args := h.joinArgs(name, h.hostile(t, c.greeting, c.payload))
		r := h.do(t, args...)
		wantError(t, r, 7, c.want, "the inviter's program sent something that cannot be used; nothing was changed here")
		h.untouched(t, name)
		if strings.Contains(r.err, "\x1b") || strings.Contains(r.err, "etc") {
			t.Errorf("%s: foreign text in %q", c.what, r.err)
		}
		if t.Failed() {
			t.Fatalf("that was: %s", c.what)
		}
	}

	// A mailbox that answers with ten megabytes.
	flood := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.Write(r.Context(), websocket.MessageText, []byte(`{"type":"welcome","welcome":{"motd":"`+strings.Repeat("x", 10<<20)+`"}}`))
		c.Read(r.Context())
	}))
	defer flood.Close()
	_, _, args := h.joinArgs("flooded", "7-amusement-aztec", "--mailbox=ws"+strings.TrimPrefix(flood.URL, "http")+"/v1")
	wantError(t, h.do(t, args...), 1, "too large", "")
	h.untouched(t, "flooded")
}
