package durable

import "testing"

func TestKernelsThatTellErrors(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc-v657": true, "5.17": true, "10.0": true,
		"5.16.20-generic": false, "5.8.0": false, "4.19.0": false, "": false, "x.y": false,
	} {
		if got := tellsErrorsSince(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}
