package gbs

import (
	"net"
	"net/http"
	"sync"
)

// A crowd bounds how many clients are connected: each has a file and some memory of
// this process, and asking costs nobody anything.
type crowd struct {
	most int

	mu sync.Mutex
	// mu guards what follows.
	busy map[net.Conn]bool // in the midst of a request
	idle []net.Conn        // the others; who has been so for the longest comes first
}

// changed is http.Server.ConnState. Above the bound the longest idle one is closed;
// where all are busy, the one that has just come.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	if c.busy == nil {
		c.busy = map[net.Conn]bool{}
	}
	delete(c.busy, conn)
	for i, other := range c.idle {
		if other == conn {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			break
		}
	}
	var leaves net.Conn
	switch state {
	case http.StateActive:
		c.busy[conn] = true
	case http.StateNew, http.StateIdle:
		c.idle = append(c.idle, conn)
		if len(c.idle)+len(c.busy) > c.most {
			leaves = c.idle[0]
			c.idle = c.idle[1:]
		}
	}
	c.mu.Unlock()
	if leaves == nil {
		return
	}
	// Below TLS, which would say goodbye and wait until the other takes it.
	if below, ok := leaves.(interface{ NetConn() net.Conn }); ok {
		leaves = below.NetConn()
	}
	leaves.Close()
}
