package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Whoever has the token can listen to the log, and reports hold what was logged.
func TestLogsAndIncidents(t *testing.T) {
	d := start(t)
	token, err := d.cfg.APIToken()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := func(token string) (*websocket.Conn, int) {
		ws, resp, err := websocket.Dial(ctx, d.Node.URL()+"private/logs/v1", &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"tahoe-lafs " + token}}})
		if err == nil {
			t.Cleanup(func() { ws.CloseNow() })
		}
		return ws, resp.StatusCode
	}
	if _, status := dial("wrong"); status != http.StatusUnauthorized {
		t.Errorf("without the token: status %d", status)
	}
	ws, _ := dial(token.Text())
	if ws == nil {
		t.Fatal("no stream")
	}
	for d.journal.Level() != slog.LevelDebug { // until the node has seen us
		if ctx.Err() != nil {
			t.Fatal("nobody listens")
		}
		time.Sleep(time.Millisecond)
	}
	began := float64(time.Now().UnixMicro()) / 1e6
	d.opts.Log.With("server", "v0-abc").Debug("a detail", "n", 7)
	for {
		kind, b, err := ws.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var record struct {
			Timestamp float64 `json:"timestamp"`
			Task      string  `json:"task_uuid"`
			Level     []int   `json:"task_level"`
			Type      string  `json:"message_type"`
			Message   string  `json:"message"`
			Server    string  `json:"server"`
			N         int     `json:"n"`
		}
		if err := json.Unmarshal(b, &record); err != nil || kind != websocket.MessageText {
			t.Fatalf("%s: %v", b, err)
		}
		if record.Message != "a detail" {
			continue
		}
		if record.Timestamp < began || record.Timestamp > began+60 || record.Task == "" || len(record.Level) != 1 || record.Type == "" || record.Server != "v0-abc" || record.N != 7 {
			t.Errorf("%s", b)
		}
		break
	}
	var more []*websocket.Conn
	for range maxListeners - 1 {
		ws, _ := dial(token.Text())
		more = append(more, ws)
	}
	if ws, status := dial(token.Text()); ws != nil || status != http.StatusServiceUnavailable {
		t.Errorf("one too many: status %d", status)
	}
	for _, ws := range append(more, ws) {
		ws.CloseNow()
	}

	d.opts.Log.Warn("something odd")
	for i := range maxIncidents + 2 {
		resp, err := http.PostForm(d.Node.URL()+"report_incident", url.Values{"details": {fmt.Sprintf("it broke, %d", i)}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	dir := d.cfg.Path("logs", "incidents")
	reports, err := os.ReadDir(dir)
	if err != nil || len(reports) != maxIncidents {
		t.Fatalf("%d reports: %v", len(reports), err)
	}
	last := filepath.Join(dir, reports[len(reports)-1].Name())
	b, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if !strings.Contains(lines[0], fmt.Sprintf("it broke, %d", maxIncidents+1)) || !strings.Contains(string(b), "something odd") {
		t.Errorf("%s", b)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
	if info, err := os.Stat(last); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// Who listens and does not keep up is cut off, and holds nobody up.
func TestJournalOfTheSlow(t *testing.T) {
	j := newJournal()
	log := slog.New(j.handler(slog.DiscardHandler))
	c := j.listen()
	for i := range maxBehind + 1 {
		log.Debug("word", "i", i)
	}
	n := 0
	for range c {
		n++
	}
	if n != maxBehind || len(j.recent) != maxRecent || j.Level() != slog.LevelInfo {
		t.Errorf("%d records, %d kept, level %v", n, len(j.recent), j.Level())
	}
	log.Debug("not recorded when nobody listens")
	if last := string(j.recent[len(j.recent)-1]); !strings.Contains(last, `"i":1000`) {
		t.Error(last)
	}
}
