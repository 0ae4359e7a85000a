package bounds

import "testing"

// refusal hears what a test would be told.
type refusal struct {
	testing.TB
	failed bool
}

func (r *refusal) Helper()               {}
func (r *refusal) Errorf(string, ...any) { r.failed = true }

var sink []byte

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		takes int
		fails bool
	}{{0, false}, {10 * 1000, false}, {base + 100*1000, true}, {1 << 26, true}} {
		r := &refusal{TB: t}
		Memory(r, 1000, 20, func() { sink = make([]byte, c.takes) })
		if r.failed != c.fails {
			t.Errorf("%d bytes: failed %v", c.takes, r.failed)
		}
	}
	sink = nil
}
