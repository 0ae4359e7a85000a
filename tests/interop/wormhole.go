package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/invite"
	"warren/invite/mailbox"
	"warren/invite/message"
)

func loopback(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func within(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// OurMailbox serves our mailbox in this process and returns its WebSocket URL.
func OurMailbox(t testing.TB) string { t.Helper(); return ourMailbox(t) }

func ourMailbox(t testing.TB) string {
	t.Helper()
	s, err := mailbox.Open(mailbox.Config{Path: filepath.Join(t.TempDir(), "mailbox.db")})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); h.Close() })
	return "ws" + strings.TrimPrefix(h.URL, "http") + "/v1"
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func finished(t testing.TB, i *invite.Inviter, id string, acknowledged bool) {
	t.Helper()
	Eventually(t, 2*time.Minute, "the invite is done", func() error {
		for _, v := range i.List() {
			if v.ID == id && v.State == invite.Done && v.Acknowledged == acknowledged {
				return nil
			}
		}
		return fmt.Errorf("%+v", i.List())
	})
}

func join(t testing.TB, url, code string) (message.Settings, error) {
	return invite.Accept(within(t, 2*time.Minute), invite.AcceptOptions{
		CodeOrLink: code, Mailbox: url, Dial: loopback,
		Reply: func(context.Context, message.Settings) (message.Acknowledgement, error) {
			return message.Acknowledgement{Keys: map[string]string{"node": "pub-v0-x"}}, nil
		},
	})
}
