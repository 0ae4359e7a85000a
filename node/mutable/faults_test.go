package mutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
)

// A writer's process ends after j of its writes, for each j, however it writes and
// whatever the encoding. While n >= 2k-1 readers see the old or the new version and the
// next writer builds on that and makes it whole. Below that there may be neither; who
// needs nothing of them replaces them.
func TestKilledBetweenShares(t *testing.T) {
	ways := map[string]func(s *Store, ctx context.Context, file caps.MutableWrite, old, new []byte) error{
		"modify": func(s *Store, ctx context.Context, file caps.MutableWrite, old, new []byte) error {
			return s.Modify(ctx, file, func([]byte) ([]byte, error) { return new, nil })
		},
		"overwrite": func(s *Store, ctx context.Context, file caps.MutableWrite, old, new []byte) error {
			return s.Overwrite(ctx, file, new)
		},
		"update": func(s *Store, ctx context.Context, file caps.MutableWrite, old, new []byte) error {
			at := 0
			for old[at] == new[at] {
				at++
			}
			return s.Update(ctx, file, uint64(at), new[at:])
		},
	}
	neither := 0
	for _, e := range []struct{ k, happy, n, servers int }{{3, 4, 5, 5}, {2, 3, 3, 3}, {1, 2, 3, 3}, {3, 4, 10, 4}, {1, 1, 1, 1}, {3, 4, 4, 4}} {
		for _, format := range []Format{SDMF, MDMF} {
			for how, change := range ways {
				for j := range e.servers + 1 {
					name := fmt.Sprintf("%v, %d-of-%d on %d, %s, after %d writes", format, e.k, e.n, e.servers, how, j)
					g := newTestGrid(t, e.servers)
					opts := Options{Needed: e.k, Happy: e.happy, Total: e.n, Attempts: 8}
					key := testKey(t)
					file := key.cap(format)
					old := testContents(200_000)
					changed := bytes.Clone(old)
					changed[150_000] ^= 1
					if _, err := g.store(t, opts).Create(ctx, Kind{format, key}, fixed(old)); err != nil {
						t.Fatal(err)
					}
					// The process is gone: neither its next write nor its next question comes.
					dying, kill := context.WithCancel(ctx)
					left := make(chan struct{}, j)
					for range j {
						left <- struct{}{}
					}
					for _, ts := range g.tests {
						ts.set(func(s *testServer) {
							s.before = func(write bool) error {
								if !write {
									return dying.Err()
								}
								select {
								case <-left:
									return nil
								default:
									kill()
									return dying.Err()
								}
							}
						})
					}
					err := change(g.store(t, opts), dying, file, old, changed)
					if j < e.servers && err == nil {
						t.Fatalf("%s: acknowledged", name)
					}
					kill()
					for _, ts := range g.tests {
						ts.set(func(s *testServer) { s.before = nil })
					}
					next := g.store(t, opts)
					got, _, err := next.Read(ctx, key.Cap().Read())
					switch {
					case err == nil && (bytes.Equal(got, old) || bytes.Equal(got, changed)):
						if j == 0 && !bytes.Equal(got, old) || j == e.servers && !bytes.Equal(got, changed) {
							t.Fatalf("%s: another version", name)
						}
						if err := next.Modify(ctx, file, func(now []byte) ([]byte, error) {
							// A writer looks at all servers, and so may find a newer one than the reader.
							if !bytes.Equal(now, changed) && !bytes.Equal(now, got) {
								t.Errorf("%s: the next writer found %d other bytes", name, len(now))
							}
							got = append(bytes.Clone(now), "more"...)
							return got, nil
						}); err != nil {
							t.Fatalf("%s: the next writer: %v", name, err)
						}
					case errors.Is(err, ErrNotEnoughShares) && e.n < 2*e.k-1:
						neither++
						if err := next.Modify(ctx, file, appendText("more")); !errors.Is(err, ErrNotEnoughShares) && !errors.Is(err, ErrNewerVersion) {
							t.Fatalf("%s: built on nothing: %v", name, err)
						}
						got = []byte("all new")
						if err := next.Overwrite(ctx, file, got); err != nil {
							t.Fatalf("%s: nothing is left to keep: %v", name, err)
						}
					default:
						t.Fatalf("%s: %d bytes, %v", name, len(got), err)
					}
					h, err := next.Check(ctx, file, CheckOptions{Verify: true})
					if err != nil || !h.Healthy() || len(h.Versions) != 1 {
						t.Fatalf("%s: not whole after the next write: %v", name, err)
					}
					if b, _, err := g.store(t, opts).Read(ctx, key.Cap().Read()); err != nil || !bytes.Equal(b, got) {
						t.Fatalf("%s: others after the next write: %v", name, err)
					}
				}
			}
		}
	}
	if neither == 0 {
		t.Error("no encoding with n < 2k-1 was left without a version: that is not tried then")
	}
}

// What is damaged in every share is an error and never wrong bytes: damaged before the
// reader comes, and after it looked at the heads. (Tahoe's test_corrupt_all_* and
// *_late.) Private keys are no reader's business.
func TestCorruptionOfAllShares(t *testing.T) {
	const k, n = 3, 5
	type place func(o offsets) uint64
	at := func(i uint64) place { return func(offsets) uint64 { return i } }
	parts := map[string]place{
		"version": at(0), "seqnum": at(1), "root hash": at(9),
		"public key":   func(o offsets) uint64 { return o.publicKey.from },
		"signature":    func(o offsets) uint64 { return o.signature.from },
		"chain number": func(o offsets) uint64 { return o.chain.from },
		"chain hash":   func(o offsets) uint64 { return o.chain.from + 2 },
		"block tree":   func(o offsets) uint64 { return o.tree.from },
		"block":        func(o offsets) uint64 { return o.data.from },
		"private key":  func(o offsets) uint64 { return o.privateKey.from },
	}
	heads := map[Format]map[string]place{
		SDMF: {"IV": at(41), "k": at(57), "n": at(58), "segment size": at(59), "data length": at(67), "offsets": at(75)},
		MDMF: {"k": at(41), "n": at(42), "segment size": at(43), "data length": at(51), "offsets": at(59), "salt": func(o offsets) uint64 { return o.data.from }},
	}
	for format, more := range heads {
		for name, where := range parts {
			more[name] = where
		}
		for name, where := range more {
			for _, late := range []bool{false, true} {
				for _, size := range []int{1000, 300_000} {
					what := fmt.Sprintf("%v: %s, %d bytes, late %v", format, name, size, late)
					g := newTestGrid(t, n)
					opts := Options{Needed: k, Happy: n, Total: n}
					key := testKey(t)
					want := testContents(size)
					if _, err := g.store(t, opts).Create(ctx, Kind{format, key}, fixed(want)); err != nil {
						t.Fatal(err)
					}
					si := key.Cap().StorageIndex()
					inHead := false
					damage := func() {
						for i, shares := range g.shares(si) {
							for num, b := range shares {
								_, o, err := parseHeader(b)
								if err != nil {
									t.Error(err)
									return
								}
								inHead = where(o) < headSize && where(o) != o.data.from
								b = bytes.Clone(b)
								b[where(o)] ^= 2 // of the version: one that there is not
								g.put(key.Cap(), i, num, b)
							}
						}
					}
					if late {
						whenFetched(g, 1, damage)
					} else {
						damage()
					}
					got, _, err := g.store(t, opts).Read(ctx, key.Cap().Read())
					// Late, what the first question brought is not asked for again.
					harmless := name == "private key" || late && (size == 1000 || inHead)
					switch {
					case err == nil && bytes.Equal(got, want) && harmless:
					case err == nil:
						t.Errorf("%s: read %d bytes", what, len(got))
					case !errors.Is(err, ErrNotEnoughShares):
						t.Errorf("%s: %v", what, err)
					case name == "private key":
						t.Errorf("%s: a reader wants the private key: %v", what, err)
					}
				}
			}
		}
	}
}

// Servers that fail a part of the questions, lose a share between two of them, or hold
// shares that nobody placed there: Tahoe's test_problems.
func TestProblems(t *testing.T) {
	const k, n = 3, 5
	opts := Options{Needed: k, Happy: 3, Total: n, Attempts: 8}
	for _, format := range []Format{SDMF, MDMF} {
		t.Run(format.String(), func(t *testing.T) {
			key := testKey(t)
			file := key.cap(format)
			si := file.StorageIndex()
			want := testContents(300_000)
			fresh := func() (*testGrid, *Store) {
				g := newTestGrid(t, n)
				if _, err := g.store(t, opts).Create(ctx, Kind{format, key}, fixed(want)); err != nil {
					t.Fatal(err)
				}
				return g, g.store(t, opts)
			}
			reads := func(g *testGrid, s *Store, what string) {
				t.Helper()
				if got, _, err := s.Read(ctx, key.Cap().Read()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", what, len(got), err)
				}
			}
			writes := func(g *testGrid, s *Store, what string) {
				t.Helper()
				err := s.Modify(ctx, file, appendText("more"))
				got, _, rerr := g.store(t, opts).Read(ctx, key.Cap().Read())
				if err != nil || rerr != nil || !bytes.Equal(got, append(bytes.Clone(want), "more"...)) {
					t.Errorf("%s: wrote: %v; read %d bytes, %v", what, err, len(got), rerr)
				}
			}

			// The head is answered, what comes after is not (blocks, hashes, the private key).
			g, s := fresh()
			for _, i := range []int{0, 1} {
				ts := g.at(si, i)
				ts.set(func(s *testServer) {
					s.asked = func(head bool) {
						if !head {
							ts.set(func(s *testServer) { s.frozen = map[int][]byte{} })
						}
					}
				})
			}
			reads(g, s, "two servers lose their shares between two questions")
			for _, ts := range g.tests {
				ts.set(func(s *testServer) { s.asked, s.frozen = nil, nil })
			}
			writes(g, g.store(t, opts), "afterwards")

			// A server breaks down at its first write, and at every call after it.
			g, s = fresh()
			bad := g.at(si, 0)
			bad.set(func(s *testServer) {
				s.before = func(write bool) error {
					if write {
						s.down = true // under the server's lock
					}
					return nil
				}
			})
			writes(g, s, "the first server breaks amid the write")

			// Shares twice and three times over, and one of a number that there is not.
			g, s = fresh()
			all := g.shares(si)
			for num, b := range all[0] {
				g.put(key.Cap(), 1, num, b)
				g.put(key.Cap(), 2, num, b)
			}
			for _, b := range all[1] {
				g.put(key.Cap(), 3, 200, b)
			}
			reads(g, s, "shares that are there more than once")
			writes(g, s, "shares that are there more than once")

			// Another writer comes between a look and the write that follows it.
			g, s = fresh()
			rival := g.store(t, opts)
			tries := 0
			if err := s.Modify(ctx, file, func(old []byte) ([]byte, error) {
				if tries++; tries == 1 {
					if err := rival.Update(ctx, file, 5, []byte("rival")); err != nil {
						t.Error(err)
					}
				}
				return append(bytes.Clone(old), "more"...), nil
			}); err != nil || tries != 2 {
				t.Errorf("a version that came since: %d tries, %v", tries, err)
			}
			if got, _, err := s.Read(ctx, key.Cap().Read()); err != nil || !bytes.Equal(got[5:10], []byte("rival")) || !bytes.HasSuffix(got, []byte("more")) || len(got) != len(want)+4 {
				t.Errorf("a version that came since: %v", err)
			}

			// All servers are full: nothing is stored, the old one stays.
			g, s = fresh()
			for _, ts := range g.tests {
				ts.set(func(s *testServer) { s.full = true })
			}
			for what, change := range map[string]func() error{
				"modify":    func() error { return s.Modify(ctx, file, appendText("more")) },
				"overwrite": func() error { return s.Overwrite(ctx, file, []byte("x")) },
				"update":    func() error { return s.Update(ctx, file, 0, []byte("x")) },
			} {
				if err := change(); !errors.Is(err, ErrUnhappy) || !errors.Is(err, storage.ErrNoSpace) {
					t.Errorf("%s on full servers: %v", what, err)
				}
			}
			reads(g, s, "full servers")

			// All fail.
			for _, ts := range g.tests {
				ts.set(func(s *testServer) { s.down = true })
			}
			if _, _, err := s.Read(ctx, key.Cap().Read()); !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, errDown) {
				t.Errorf("no server answers: %v", err)
			}
		})
	}
}

// k-1 and k servers whose disks went back to an older version: whoever never saw the file
// reads the new one, and the next write, of whatever kind, builds on it and leaves no
// old share behind.
func TestStaleShares(t *testing.T) {
	const k, n = 3, 10
	opts := Options{Needed: k, Happy: 7, Total: n}
	for _, format := range []Format{SDMF, MDMF} {
		for _, stale := range []int{k - 1, k} {
			for _, how := range []string{"modify", "update"} {
				what := fmt.Sprintf("%v, %d stale, %s", format, stale, how)
				g := newTestGrid(t, n)
				key := testKey(t)
				file := key.cap(format)
				s := g.store(t, opts)
				if _, err := s.Create(ctx, Kind{format, key}, fixed(testContents(200_000))); err != nil {
					t.Fatal(err)
				}
				old := g.shares(file.StorageIndex())
				want := append([]byte("new "), testContents(200_000)...)
				if err := s.Overwrite(ctx, file, want); err != nil {
					t.Fatal(err)
				}
				which := make([]int, stale)
				for i := range which {
					which[i] = i
				}
				g.restore(key.MDMFCap(), old, which...)
				if got, v, err := g.store(t, opts).Read(ctx, key.Cap().Read()); err != nil || !bytes.Equal(got, want) || v.Seqnum != 2 {
					t.Errorf("%s: %d bytes of version %d, %v", what, len(got), v.Seqnum, err)
				}
				next := g.store(t, opts)
				var err error
				if how == "modify" {
					err = next.Modify(ctx, file, appendText("more"))
				} else {
					err = next.Update(ctx, file, uint64(len(want)), []byte("more"))
				}
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				want = append(want, "more"...)
				h, err := next.Check(ctx, file, CheckOptions{Verify: true})
				if err != nil || !h.Healthy() || len(h.Versions) != 1 || h.Best().Seqnum != 3 {
					t.Errorf("%s: not whole after a write: %v", what, err)
				}
				if got, _, err := g.store(t, opts).Read(ctx, key.Cap().Read()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", what, len(got), err)
				}
			}
		}
	}
}
