package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"warren/node/durable"
)

// journal is the node's log as others than its operator's terminal see it: the last
// records, for incident reports, and a stream of all for /private/logs/v1. A record is
// a JSON object in the form of Tahoe's (eliot's): timestamp in seconds, task_uuid,
// task_level, message_type, beside level, message and what the record names.
type journal struct {
	mu        sync.Mutex
	recent    [][]byte // oldest first
	listeners map[chan []byte]bool
}

const (
	maxRecent    = 1000 // records that are kept
	maxListeners = 16
	maxBehind    = 1000 // records that a listener may be late
	maxIncidents = 50   // reports that are kept
	maxDetails   = 64 << 10
)

func newJournal() *journal { return &journal{listeners: map[chan []byte]bool{}} }

// handler writes the journal, beside what base does.
func (j *journal) handler(base slog.Handler) slog.Handler {
	return slog.NewMultiHandler(base, slog.NewJSONHandler(j, &slog.HandlerOptions{Level: j,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
				return slog.Float64("timestamp", float64(a.Value.Time().UnixMicro())/1e6)
			}
			if len(groups) == 0 && a.Key == slog.MessageKey {
				a.Key = "message"
			}
			return a
		}}))
}

// Level has details recorded only while somebody listens.
func (j *journal) Level() slog.Level {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.listeners) > 0 {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Write takes one record, as slog's JSON handler writes it.
func (j *journal) Write(line []byte) (int, error) {
	record := fmt.Appendf(nil, `{"task_uuid":%q,"task_level":[1],"message_type":"warren:log",`, rand.Text())
	record = append(record, bytes.TrimSpace(line)[1:]...)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.recent) == maxRecent {
		j.recent = slices.Delete(j.recent, 0, 1)
	}
	j.recent = append(j.recent, record)
	for c := range j.listeners {
		select {
		case c <- record:
		default: // too late with what it has
			delete(j.listeners, c)
			close(c)
		}
	}
	return len(line), nil
}

// listen gives what is recorded from now on; nil when too many listen. The channel is
// closed when the listener is too late.
func (j *journal) listen() chan []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.listeners) == maxListeners {
		return nil
	}
	c := make(chan []byte, maxBehind)
	j.listeners[c] = true
	return c
}

func (j *journal) leave(c chan []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.listeners, c)
}

// stream is /private/logs/v1: a websocket that sends a text message for each record.
func (j *journal) stream(w http.ResponseWriter, r *http.Request) {
	records := j.listen()
	if records == nil {
		http.Error(w, "too many are listening already", http.StatusServiceUnavailable)
		return
	}
	defer j.leave(records)
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	ctx := ws.CloseRead(r.Context())
	for {
		select {
		case <-ctx.Done():
			return
		case record, ok := <-records:
			if !ok {
				ws.Close(websocket.StatusPolicyViolation, "too late with what was sent before")
				return
			}
			sending, cancel := context.WithTimeout(ctx, time.Minute)
			err := ws.Write(sending, websocket.MessageText, record)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

// report writes what is in the journal, and what somebody says of it, to a file of its
// own in dir. The oldest reports go when there are many.
func (j *journal) report(dir, version, details string, now time.Time) error {
	if len(details) > maxDetails {
		details = strings.ToValidUTF8(details[:maxDetails], "")
	}
	head, err := json.Marshal(map[string]any{
		"timestamp": float64(now.UnixMicro()) / 1e6, "message_type": "warren:incident", "version": version, "details": details,
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	text := bytes.Join(append([][]byte{head}, j.recent...), []byte("\n"))
	j.mu.Unlock()
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o700), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	name := "incident-" + now.UTC().Format("2006-01-02--15-04-05.000000") + "Z.jsonl"
	if err := durable.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o600); err != nil {
		return err
	}
	reports, err := filepath.Glob(filepath.Join(dir, "incident-*.jsonl"))
	if err != nil {
		return err
	}
	slices.Sort(reports)
	for _, old := range reports[:max(0, len(reports)-maxIncidents)] {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	return nil
}
