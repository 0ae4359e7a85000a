package story

import (
	"fmt"
	"testing"

	"warren/tests/interop"
)

// proxy is the way to one storage server.
type proxy struct {
	*interop.Proxy
	server *node
}

// behind makes a storage server of the grid, starts it, and puts a proxy before it.
func (h *house) behind(t testing.TB, name string) *proxy {
	t.Helper()
	port := interop.FreePort(t)
	p := &proxy{interop.StartProxy(h.t, port), &node{h: h, name: name, dir: h.path(name)}}
	h.must(t, "create-node", "--nickname="+name, "--introducer="+h.furlFile, "--webport=none",
		"--shares-needed=1", "--shares-happy=1", "--shares-total=1", fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port),
		fmt.Sprintf("--location=tcp:127.0.0.1:%d", p.Port()), p.server.dir)
	p.server.start(t)
	h.servers = append(h.servers, p.server)
	return p
}
