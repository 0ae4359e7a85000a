package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"testing"
	"time"

	bine "github.com/cretz/bine/control"
)

// An answer that comes too late would be taken for the next command's: the session
// ends with the connection that it came on. A refusal of tor's ends nothing.
func TestSessionEndsWhenOutOfStep(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		ends bool
	}{
		"too late": {fmt.Errorf("GETINFO: %w", os.ErrDeadlineExceeded), true},
		"gone":     {io.EOF, true},
		"refused":  {&textproto.Error{Code: 552, Msg: "Unrecognized option"}, false},
		"ours":     {errors.New("another service"), false},
		"none":     {nil, false},
	} {
		var far [2]net.Conn
		var links [2]*link
		for i := range links {
			near, other := net.Pipe()
			links[i], far[i] = &link{conn: near, bine: bine.NewConn(textproto.NewConn(near))}, other
		}
		s := &Session{commands: links[0], listener: links[1]}
		if err := s.Do(func(*bine.Conn) error { return c.err }); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		for i := range far {
			far[i].SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := far[i].Read(make([]byte, 1)); errors.Is(err, io.EOF) != c.ends {
				t.Errorf("%s: connection %d: %v", name, i, err)
			}
			far[i].Close()
			links[i].conn.Close()
		}
	}
}
