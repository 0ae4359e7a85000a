//go:build !linux

package tornet

import (
	"fmt"
	"os/exec"
)

// Namespace exists on Linux only.
type Namespace struct{}

// NewNamespace fails here.
func NewNamespace(map[string]string) (*Namespace, error) {
	return nil, fmt.Errorf("%w: it needs Linux", ErrNoNamespace)
}

// Allow does nothing here.
func (*Namespace) Allow(uint16) {}

// Start fails here.
func (*Namespace) Start(*exec.Cmd) error { return ErrNoNamespace }

// Stray has seen nothing here.
func (*Namespace) Stray() ([]Packet, int) { return nil, 0 }

// Close does nothing here.
func (*Namespace) Close() error { return nil }
