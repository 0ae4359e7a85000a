package torutil

import "net"

// Addresses lists this machine's addresses, without loopback and link-local ones:
// what tub.location's AUTO announces. It asks the machine, not the network.
func Addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []string
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.IsLinkLocalUnicast() {
			continue
		}
		list = append(list, n.IP.String())
	}
	return list
}
