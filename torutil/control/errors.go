package control

import (
	"errors"
	"fmt"
)

var (
	// ErrNotReady: Tor cannot be reached, or is not up yet. Nothing else was
	// tried; a retry is right.
	ErrNotReady = errors.New("tor is not ready")

	// ErrNoTor: there is no tor program to launch.
	ErrNoTor = errors.New("no tor program found")

	// ErrAuth: a tor answered and does not let us control it.
	ErrAuth = errors.New("tor refuses control")

	// ErrClosed: the Tor was closed.
	ErrClosed = errors.New("tor control is closed")
)

// notReady says why, and what to do about it.
func notReady(hint string, err error) error {
	return fmt.Errorf("%w: %w (%s)", ErrNotReady, err, hint)
}
