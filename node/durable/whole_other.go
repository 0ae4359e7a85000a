//go:build !linux

package durable

import "errors"

// wholeSync syncs the filesystem of a directory: not on this system.
type wholeSync struct{}

func openWhole(string) wholeSync { return wholeSync{} }

func (wholeSync) Sync() error  { return errors.ErrUnsupported }
func (wholeSync) Close() error { return nil }
