package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warren/node/config"
	"warren/node/upkeep"
)

// TestUpkeepControl: the settings reach upkeep, a round can be asked for, and the
// status tells how it stands: without servers it waits.
func TestUpkeepControl(t *testing.T) {
	d := start(t, config.Setting{Section: "upkeep", Key: "enabled", Value: "false"}, config.Setting{Section: "upkeep", Key: "history", Value: "false"})
	token, err := d.cfg.APIToken()
	if err != nil {
		t.Fatal(err)
	}
	const cap = "URI:DIR2:aaaaaaaaaaaaaaaaaaaaaaaaaa:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba"
	if err := os.WriteFile(filepath.Join(d.cfg.Dir, "private", "aliases"), []byte("home: "+cap+"\nodd: URI:CHK:x\nolder: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(method, verb, body string, out any) {
		t.Helper()
		code, text := call(t, d, token.Text(), method, verb, body)
		if code != 200 {
			t.Fatalf("%s %s: status %d: %s", method, verb, code, text)
		}
		if strings.Contains(text, "URI:") {
			t.Errorf("%s: a capability in the answer", verb)
		}
		if err := json.Unmarshal([]byte(text), out); err != nil {
			t.Fatal(err)
		}
	}
	var s Status
	ask("GET", "status", "", &s)
	if u := s.Upkeep; u == nil || u.Automatic || !u.Repair || u.History || u.Current != nil || u.Last != nil || u.Risks == nil || u.Failures == nil {
		t.Errorf("before: %+v", s.Upkeep)
	}
	for want := range uint64(2) {
		var begun UpkeepRound
		if ask("POST", "upkeep", `{"all": true, "repair": false}`, &begun); begun.Number != want+1 {
			t.Errorf("round %d", begun.Number)
		}
	}
	var u upkeep.Status
	ask("GET", "upkeep", "", &u)
	if u.Current == nil || u.Current.Number != 2 || !u.Current.All || u.Current.Open != 1 || u.Known != 1 || !strings.Contains(u.Current.Unnamed, `"odd" does not name a directory; the alias "older"`) {
		t.Errorf("after: %+v, %+v", u, u.Current)
	}
	if code, _ := call(t, d, token.Text(), "POST", "upkeep", `{"verify": true}`); code != 400 {
		t.Errorf("an unknown wish: status %d", code)
	}
	if code, _ := call(t, d, "", "POST", "upkeep", `{}`); code != 401 {
		t.Errorf("without the token: status %d", code)
	}
}
