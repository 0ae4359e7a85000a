package mutable

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"warren/node/caps"
)

// checked is what the tests compare of a Health.
type checked struct {
	healthy, recoverable                                             bool
	recoverableVersions, unrecoverableVersions                       int
	good, hosts, wrong, happiness, corrupt, incompatible, responding int
	summary                                                          string
}

func summarize(h *Health) checked {
	return checked{
		h.Healthy(), h.Recoverable(), h.RecoverableVersions(), h.UnrecoverableVersions(),
		h.Good(), h.Hosts(), h.Wrong(), h.Happiness(), len(h.Corrupt), len(h.Incompatible), len(h.Responding), h.Summary(),
	}
}

func mustCheck(t *testing.T, s *Store, c caps.Cap, o CheckOptions) *Health {
	t.Helper()
	h, err := s.Check(ctx, c, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The counts are Tahoe's, of what may befall a file.
func TestCheck(t *testing.T) {
	const k, n = 3, 5
	whole := checked{true, true, 1, 0, 5, 5, 0, 5, 0, 0, 5, "Healthy"}
	for _, format := range []Format{SDMF, MDMF} {
		for _, c := range []struct {
			name    string
			prepare func(g *testGrid, s *Store, file caps.MDMFWrite, old []map[int][]byte)
			verify  bool
			want    checked
		}{
			{name: "whole", want: whole},
			{name: "whole, verified", verify: true, want: whole},
			{name: "two shares are gone", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				g.remove(file, 0)
				g.remove(file, 3)
			}, want: checked{false, true, 1, 0, 3, 3, 0, 3, 0, 0, 5, "Unhealthy: 3 shares (enc 3-of-5)"}},
			{name: "three shares are gone", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				for i := range 3 {
					g.remove(file, i)
				}
			}, want: checked{false, false, 0, 1, 2, 2, 0, 2, 0, 0, 5, "Unhealthy: some versions are unrecoverable no versions are recoverable"}},
			{name: "nothing is there", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				for i := range 5 {
					g.remove(file, i)
				}
			}, want: checked{false, false, 0, 0, 0, 0, 0, 0, 0, 0, 5, "Unhealthy: no versions are recoverable"}},
			{name: "two servers are stale", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, old []map[int][]byte) {
				g.restore(file, old, 0, 1)
			}, want: checked{false, true, 1, 1, 3, 3, 2, 5, 0, 0, 5, "Unhealthy: some versions are unrecoverable 3 shares (enc 3-of-5)"}},
			{name: "three servers are stale", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, old []map[int][]byte) {
				g.restore(file, old, 0, 1, 2)
			}, want: checked{false, true, 1, 1, 3, 3, 2, 5, 0, 0, 5, "Unhealthy: some versions are unrecoverable 3 shares (enc 3-of-5)"}},
			{name: "a server is away", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				g.at(file.StorageIndex(), 2).set(func(s *testServer) { s.down = true })
			}, want: checked{false, true, 1, 0, 4, 4, 0, 4, 0, 0, 4, "Unhealthy: 4 shares (enc 3-of-5)"}},
			{name: "a key is damaged", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 1, func(o offsets) uint64 { return o.publicKey.from + 7 })
			}, want: checked{false, true, 1, 0, 4, 4, 0, 4, 1, 0, 5, "Unhealthy: 4 shares (enc 3-of-5) Corrupt Shares: "}},
			{name: "a block is damaged, unseen", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 1, func(o offsets) uint64 { return o.data.to - 1 })
			}, want: whole},
			{name: "a block is damaged", verify: true, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 1, func(o offsets) uint64 { return o.data.to - 1 })
			}, want: checked{false, true, 1, 0, 4, 4, 0, 4, 1, 0, 5, "Unhealthy: 4 shares (enc 3-of-5) Corrupt Shares: "}},
			{name: "a format to come", prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 4, func(offsets) uint64 { return 0 })
				g.at(file.StorageIndex(), 4).set(func(s *testServer) { s.mangle = func(_ int, b []byte) []byte { b[0] = 9; return b } })
			}, want: checked{false, true, 1, 0, 4, 4, 0, 4, 0, 1, 5, "Unhealthy: 4 shares (enc 3-of-5)"}},
		} {
			t.Run(format.String()+" "+c.name, func(t *testing.T) {
				g := newTestGrid(t, n)
				s := g.store(t, Options{Needed: k, Happy: 1, Total: n})
				key := testKey(t)
				file := key.cap(format)
				if _, err := s.Create(ctx, Kind{format, key}, fixed([]byte("first"))); err != nil {
					t.Fatal(err)
				}
				old := g.shares(file.StorageIndex())
				if err := s.Overwrite(ctx, file, testContents(200_000)); err != nil {
					t.Fatal(err)
				}
				if c.prepare != nil {
					c.prepare(g, s, key.MDMFCap(), old)
				}
				dir, _ := caps.Dir(file)
				for _, cp := range []caps.Cap{file, caps.ReadOnly(file), caps.Verifier(file), dir, caps.Verifier(dir)} {
					h := mustCheck(t, g.store(t, Options{Needed: k, Happy: 1, Total: n}), cp, CheckOptions{Verify: c.verify})
					got := summarize(h)
					if rest, ok := strings.CutPrefix(got.summary, c.want.summary); ok && strings.HasSuffix(c.want.summary, ": ") && strings.Contains(rest, "-sh") {
						got.summary = c.want.summary
					}
					if got != c.want {
						t.Errorf("%s: %+v, not %+v", cp.Kind(), got, c.want)
					}
					if away := n - got.responding; len(h.Troubles) != away {
						t.Errorf("%v", h.Troubles)
					}
					if len(h.Sharemap()) != got.good+got.wrong {
						t.Errorf("%v", h.Sharemap())
					}
				}
			})
		}
	}
	s := newTestGrid(t, 1).store(t, Options{Needed: 1, Happy: 1, Total: 1})
	for _, c := range []caps.Cap{nil, caps.LIT{}, caps.CHK{}, caps.DirCHK{}} {
		if _, err := s.Check(ctx, c, CheckOptions{}); !errors.Is(err, ErrNotMutable) {
			t.Error(err)
		}
	}
}

// restore puts shares of old back on servers.
func (g *testGrid) restore(file caps.MDMFWrite, old []map[int][]byte, servers ...int) {
	for _, i := range servers {
		for num, b := range old[i] {
			g.put(caps.SSKWrite{WriteKey: file.WriteKey, Fingerprint: file.Fingerprint}, i, num, b)
		}
	}
}

// Every byte of a share counts: whichever is damaged, verify finds it.
func TestVerifyFindsEveryByte(t *testing.T) {
	flips := 0
	for _, format := range []Format{SDMF, MDMF} {
		g := newTestGrid(t, 1)
		s := g.store(t, Options{Needed: 1, Happy: 1, Total: 1})
		key := testKey(t)
		if _, err := s.Create(ctx, Kind{format, key}, fixed([]byte("text"))); err != nil {
			t.Fatal(err)
		}
		share := g.shares(key.Cap().StorageIndex())[0][0]
		_, o, err := parseHeader(share)
		if err != nil {
			t.Fatal(err)
		}
		server := g.at(key.Cap().StorageIndex(), 0)
		damaged := bytes.Clone(share)
		server.set(func(s *testServer) { s.frozen = map[int][]byte{0: damaged} })
		for i := range share {
			if format == MDMF && uint64(i) >= o.publicKey.to && uint64(i) < o.data.from {
				continue // room that holds nothing
			}
			damaged[i] ^= byte(1 + i%255)
			h := mustCheck(t, s, key.cap(format), CheckOptions{Verify: true})
			if h.Good() != 0 || len(h.Corrupt)+len(h.Incompatible) != 1 {
				t.Fatalf("%v: byte %d: %+v", format, i, summarize(h))
			}
			damaged[i] = share[i]
			flips++
		}
		// And whichever length it is cut to.
		for _, size := range []int{0, 1, 40, 106, 122, 500, len(share) - 33, len(share) - 1} {
			server.set(func(s *testServer) { s.frozen = map[int][]byte{0: share[:size]} })
			if h := mustCheck(t, s, key.cap(format), CheckOptions{Verify: true}); h.Good() != 0 || len(h.Corrupt) != 1 {
				t.Errorf("%v: %d bytes: %+v", format, size, summarize(h))
			}
		}
		server.set(func(s *testServer) { s.frozen = nil })
		if h := mustCheck(t, s, key.cap(format), CheckOptions{Verify: true}); !h.Healthy() {
			t.Errorf("%+v", summarize(h))
		}
	}
	if flips < 3800 {
		t.Errorf("%d bytes", flips)
	}
}

// Repair publishes the best version everywhere, and discards no other unasked.
func TestRepair(t *testing.T) {
	const k, n = 3, 5
	for _, format := range []Format{SDMF, MDMF} {
		for _, c := range []struct {
			name    string
			prepare func(g *testGrid, file caps.MDMFWrite, old []map[int][]byte)
			verify  bool
			want    string
			force   bool // it must be
			lost    bool
		}{
			{name: "shares are gone", want: "new", prepare: func(g *testGrid, file caps.MDMFWrite, _ []map[int][]byte) {
				g.remove(file, 0)
				g.remove(file, 1)
			}},
			{name: "servers are stale", want: "new", prepare: func(g *testGrid, file caps.MDMFWrite, old []map[int][]byte) {
				g.restore(file, old, 0, 1)
			}},
			{name: "a signature is damaged", want: "new", prepare: func(g *testGrid, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 1, func(o offsets) uint64 { return o.publicKey.from + 7 })
			}},
			{name: "a block is damaged", verify: true, want: "new", prepare: func(g *testGrid, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 1, func(o offsets) uint64 { return o.data.from })
			}},
			{name: "a private key is damaged", verify: true, want: "new", prepare: func(g *testGrid, file caps.MDMFWrite, _ []map[int][]byte) {
				g.damage(file, 2, func(o offsets) uint64 { return o.privateKey.from + 100 })
			}},
			{name: "the newest has too few shares", want: "old", force: true, prepare: func(g *testGrid, file caps.MDMFWrite, old []map[int][]byte) {
				g.restore(file, old, 0, 1, 2)
			}},
			{name: "nothing can be recovered", lost: true, prepare: func(g *testGrid, file caps.MDMFWrite, old []map[int][]byte) {
				for i := range 3 {
					g.remove(file, i)
				}
			}},
		} {
			t.Run(format.String()+" "+c.name, func(t *testing.T) {
				g := newTestGrid(t, n)
				s := g.store(t, Options{Needed: k, Happy: 4, Total: n, Attempts: 8})
				key := testKey(t)
				file := key.cap(format)
				if _, err := s.Create(ctx, Kind{format, key}, fixed([]byte("old"))); err != nil {
					t.Fatal(err)
				}
				old := g.shares(file.StorageIndex())
				if err := s.Overwrite(ctx, file, []byte("new")); err != nil {
					t.Fatal(err)
				}
				c.prepare(g, key.MDMFCap(), old)
				fresh := g.store(t, Options{Needed: k, Happy: 4, Total: n, Attempts: 8})
				before := g.shares(file.StorageIndex())
				r, err := fresh.CheckAndRepair(ctx, caps.ReadOnly(file), CheckOptions{Verify: c.verify})
				if err != nil || r.Attempted || r.After != r.Before {
					t.Fatalf("from a readcap: %+v, %v", r, err)
				}
				r, err = fresh.CheckAndRepair(ctx, file, CheckOptions{Verify: c.verify})
				if err != nil || !r.Attempted || r.Before.Healthy() {
					t.Fatalf("%+v, %v", r, err)
				}
				if c.force || c.lost {
					want := ErrMustForce
					if c.lost {
						want = ErrNotEnoughShares
					}
					if r.Successful() || !errors.Is(r.Failure, want) || r.After != r.Before {
						t.Fatalf("%+v", r)
					}
					for i, shares := range g.shares(file.StorageIndex()) {
						for num, b := range shares {
							if !bytes.Equal(b, before[i][num]) {
								t.Error("a share was written")
							}
						}
					}
					if err := fresh.Repair(ctx, file, true); c.lost != errors.Is(err, ErrNotEnoughShares) || !c.lost && err != nil {
						t.Fatalf("forced: %v", err)
					}
					if c.lost {
						return
					}
				} else if !r.Successful() || !r.After.Healthy() || len(r.After.Corrupt) > 0 {
					t.Fatalf("%+v: %+v", r, summarize(r.After))
				}
				h := mustCheck(t, s, file, CheckOptions{Verify: true})
				if !h.Healthy() || h.Best().Seqnum != 3 || len(h.Corrupt) > 0 {
					t.Errorf("%+v", summarize(h))
				}
				got, _, err := s.Read(ctx, key.Cap().Read())
				if err != nil || string(got) != c.want {
					t.Errorf("%q, %v", got, err)
				}
				r, err = fresh.CheckAndRepair(ctx, file, CheckOptions{Verify: true})
				if err != nil || r.Attempted {
					t.Errorf("what is whole was repaired: %v", err)
				}
			})
		}
	}
}

// Two versions equally new are not chosen between without force.
func TestRepairOfTwins(t *testing.T) {
	g := newTestGrid(t, 6)
	s := g.store(t, Options{Needed: 2, Happy: 3, Total: 6, Attempts: 8})
	file := mustCreate(t, s, []byte("base"))
	si := file.StorageIndex()
	base := g.shares(si)
	if err := s.Overwrite(ctx, file, []byte("left")); err != nil {
		t.Fatal(err)
	}
	left := g.shares(si)
	m := caps.MDMFWrite{WriteKey: file.WriteKey, Fingerprint: file.Fingerprint}
	g.restore(m, base, 0, 1, 2, 3, 4, 5)
	if err := g.store(t, Options{Needed: 2, Happy: 3, Total: 6}).Overwrite(ctx, file, []byte("right")); err != nil {
		t.Fatal(err)
	}
	g.restore(m, left, 0, 1, 2)
	fresh := g.store(t, Options{Needed: 2, Happy: 3, Total: 6, Attempts: 8})
	h := mustCheck(t, fresh, file, CheckOptions{})
	if got, want := summarize(h), (checked{false, true, 2, 0, 3, 3, 3, 6, 0, 0, 6, "Unhealthy: multiple versions are recoverable 3 shares (enc 2-of-6)"}); got != want {
		t.Errorf("%+v", got)
	}
	if err := fresh.Repair(ctx, file, false); !errors.Is(err, ErrMustForce) {
		t.Fatal(err)
	}
	if err := fresh.Repair(ctx, file, true); err != nil {
		t.Fatal(err)
	}
	if h := mustCheck(t, fresh, file, CheckOptions{Verify: true}); !h.Healthy() || h.Best().Seqnum != 3 {
		t.Errorf("%+v", summarize(h))
	}
	if got := mustRead(t, fresh, file); got != "left" && got != "right" {
		t.Errorf("%q", got)
	}
}

// A check renews leases where there are shares, and says where it could not.
func TestCheckAddsLeases(t *testing.T) {
	g := newTestGrid(t, 4)
	s := g.store(t, Options{Needed: 1, Happy: 1, Total: 3})
	file := mustCreate(t, s, []byte("text"))
	g.at(file.StorageIndex(), 1).set(func(s *testServer) { s.noLease = true })
	h := mustCheck(t, s, file.Verify(), CheckOptions{AddLease: true})
	var asked []int
	for i := range 4 {
		g.at(file.StorageIndex(), i).set(func(s *testServer) {
			if s.leased > 0 {
				asked = append(asked, i)
			}
		})
	}
	if !slices.Equal(asked, []int{0, 1, 2}) || len(h.Leases) != 1 || h.Leases[0].Server != g.Permuted(file.StorageIndex())[1].ID || !h.Healthy() {
		t.Errorf("%v, %+v", asked, h.Leases)
	}
}
