package immutable

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"warren/node/taghash"
)

// Tahoe before 1.3 wrote hashes of the plaintext into the UEB, and the tree of them
// into the room that is unused since. Such files verify, and a repair keeps the UEB,
// without which no share would be worth anything.
func TestOlderUEB(t *testing.T) {
	m := makeFile(t, 2, 4, 9000, func(cfg *Config) { cfg.SegmentSize = 1024 })
	s, err := newShape(2, 4, 9000, 1024)
	if err != nil {
		t.Fatal(err)
	}
	l := newLayout(s)
	ueb := m.shares[0][l.ueb+4:]
	at := bytes.Index(ueb, []byte("segment_size:"))
	hash := bytes.Repeat([]byte{7}, 32)
	older := bytes.Join([][]byte{ueb[:at], []byte("plaintext_hash:"), taghash.Netstring(hash), []byte("plaintext_root_hash:"), taghash.Netstring(hash), ueb[at:]}, nil)
	for i, share := range m.shares {
		m.shares[i] = append(binary.BigEndian.AppendUint32(bytes.Clone(share[:l.ueb]), uint32(len(older))), older...)
	}
	m.chk.UEBHash = taghash.UEBHash(older)

	g := m.gridOf(t, 4, map[int][]int{0: {1}, 1: {3}})
	c := newClient(t, g, 2, 1, 4)
	mustDownload(t, c, m.chk, m.data)
	r := mustRepair(t, c, m.chk, CheckOptions{Verify: true})
	if !r.Successful() || len(r.Before.Shares) != 2 {
		t.Fatalf("%+v, before %+v, after %+v", r, r.Before, r.After)
	}
	m.isTrue(t, g, r.After)

	tree := bytes.Clone(m.shares[0])
	tree[l.crypttext-1] = 9
	fresh := newGrid(t, 1)
	fresh.nodes[0].put(t, m.chk.StorageIndex(), 0, tree)
	if h := mustCheck(t, newClient(t, fresh, 2, 1, 4), m.chk, CheckOptions{Verify: true}); len(h.Shares) != 1 {
		t.Errorf("with a plaintext hash tree: %+v", h)
	}
}

// A share that nothing can be written in the place of, for it cannot be read either,
// does not stop a repair.
func TestRepairBesideUnreadableShares(t *testing.T) {
	m := makeFile(t, 2, 4, 20_000)
	g := m.gridOf(t, 4, map[int][]int{0: {0}, 1: {1}, 2: {2}, 3: {3}})
	broken := errors.New("a bad sector")
	g.nodes[2].onRead = func(context.Context, int, uint64, uint64) error { return broken }
	r := mustRepair(t, newClient(t, g, 2, 1, 4), m.chk, CheckOptions{Verify: true})
	if !r.Successful() || len(r.Before.Troubles) != 1 || len(r.After.Shares[2]) != 1 || r.After.Shares[2][0] == g.nodes[2].id {
		t.Errorf("%+v, before %+v, after %+v", r, r.Before, r.After)
	}
	m.isTrue(t, g, r.After)
}
