package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/expire"
	"warren/node/storage/storagetest"
)

// expireStep is one thing that Tahoe's storage server does with a directory.
type expireStep struct {
	Dir string `json:"dir"`
	Now int64  `json:"now"`
	Do  string `json:"do"`

	Files   any      `json:"files,omitempty"`
	Slots   any      `json:"slots,omitempty"`
	Indexes []string `json:"indexes,omitempty"`
	Renew   string   `json:"renew,omitempty"`
	Cancel  string   `json:"cancel,omitempty"`

	Enabled  bool     `json:"enabled"`
	Mode     string   `json:"mode"`
	Override int64    `json:"override"`
	Cutoff   int64    `json:"cutoff"`
	Types    []string `json:"types"`
}

// tahoeExpires has Tahoe do the steps.
func tahoeExpires(t *testing.T, steps ...expireStep) []json.RawMessage {
	t.Helper()
	in, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	out, err := TryRunInput(t, 2*time.Minute, bytes.NewReader(in), Python(t), Script(t, "expire_peer.py"))
	if err != nil {
		t.Fatal(err)
	}
	var results []json.RawMessage
	if err := json.Unmarshal([]byte(out), &results); err != nil || len(results) != len(steps) {
		t.Fatalf("%v: %s", err, out)
	}
	return results
}

// checkStep is a round of Tahoe's lease checker with our settings.
func checkStep(dir string, now int64, s expire.Settings) expireStep {
	types := []string{}
	if s.Mutable {
		types = append(types, "mutable")
	}
	if s.Immutable {
		types = append(types, "immutable")
	}
	return expireStep{Dir: dir, Now: now, Do: "expire", Enabled: s.Enabled, Mode: string(s.Mode), Override: s.Override, Cutoff: s.Cutoff, Types: types}
}

// ourServer opens a directory with a clock that stands still.
func ourServer(t *testing.T, dir string, now int64) *storage.Server {
	t.Helper()
	b, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return storage.NewServer(b, storage.Options{Now: func() time.Time { return time.Unix(now, 0) }})
}

// weExpire runs our lease checker through all shares once.
func weExpire(t *testing.T, dir string, now int64, s expire.Settings) expire.Results {
	t.Helper()
	server := ourServer(t, dir, now)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	crawler := expire.New(server, expire.Options{
		Settings: s, State: filepath.Join(t.TempDir(), "state"), Now: func() time.Time { return time.Unix(now, 0) },
		Sleep: func(ctx context.Context, d time.Duration) error {
			if d > time.Hour { // the round is over
				cancel()
			}
			return ctx.Err()
		},
	})
	crawler.Run(ctx)
	r, ok := crawler.State().Last()
	if !ok || r.Failures > 0 {
		t.Fatalf("%+v", r)
	}
	return r
}

// cloneDir copies a storage directory.
func cloneDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "storage")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func leaseCount(t *testing.T, file []byte) int {
	t.Helper()
	var leases []container.Stored
	if mutable, _ := container.IsMutable(file[:32]); mutable {
		m, err := container.OpenMutable(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		leases, err = m.Leases()
		if err != nil {
			t.Fatal(err)
		}
	} else {
		leases = shareLeases(t, openImmutable(t, file))
	}
	return len(leases)
}

// TestLeaseCheckers: a directory with shares of both kinds and both versions, whose
// leases Tahoe and we have renewed in turn, loses the same shares to Tahoe's lease
// checker and to ours, whatever the settings; the other program reads what is left,
// renews there, and its checker goes on.
func TestLeaseCheckers(t *testing.T) {
	t.Parallel()
	const day, t0 = 24 * 3600, 1790000000
	dir := filepath.Join(t.TempDir(), "storage")
	index := func(n int) caps.StorageIndex { return caps.StorageIndex{byte(n*37 + 1), byte(n)} }
	name := func(n int) string { i := index(n); return hex.EncodeToString(i[:]) }
	var files, slots [][]any
	var fileNames, slotNames []string
	for n := range 8 {
		files = append(files, []any{name(n), n%2 + 1})
		slots = append(slots, []any{name(10 + n), n%2 + 1})
		fileNames, slotNames = append(fileNames, name(n)), append(slotNames, name(10+n))
	}
	own := storage.LeaseSecrets{Renew: storagetest.Secret('r'), Cancel: storagetest.Secret('c')}
	we := func(dir string, now int64, lease storage.LeaseSecrets, which ...int) {
		t.Helper()
		server := ourServer(t, dir, now)
		defer server.Close()
		for _, n := range which {
			if err := storage.Local(server).AddLease(t.Context(), index(n), lease); err != nil {
				t.Fatal(err)
			}
		}
	}
	they := func(dir string, now int64, renew, cancel string, which ...int) expireStep {
		s := expireStep{Dir: dir, Now: now, Do: "lease", Renew: renew, Cancel: cancel}
		for _, n := range which {
			s.Indexes = append(s.Indexes, name(n))
		}
		return s
	}
	// What is made on day 0, renewed by us on day 20, by Tahoe on day 25, by both; and
	// leases of others: ours on day 10, Tahoe's on day 22.
	tahoeExpires(t, expireStep{Dir: dir, Now: t0, Do: "fill", Files: files, Slots: slots})
	other := storage.LeaseSecrets{Renew: storagetest.Secret('o'), Cancel: storagetest.Secret('p')}
	we(dir, t0+10*day, other, 3, 13)
	we(dir, t0+20*day, own, 0, 1, 10, 11)
	tahoeExpires(t, they(dir, t0+22*day, "q", "s", 3, 4, 14), they(dir, t0+25*day, "r", "c", 1, 2, 11, 12))
	we(dir, t0+26*day, own, 2)
	if n := len(shareFiles(t, dir)); n != 24 {
		t.Fatalf("%d share files", n)
	}
	// A share that neither can read.
	broken := filepath.Join(dir, "shares", "aa", caps.StorageIndex{0, 1}.Text())
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "0"), bytes.Repeat([]byte("no share"), 50), 0o600); err != nil {
		t.Fatal(err)
	}

	all := expire.Settings{Enabled: true, Mode: expire.Age, Override: 31 * day, Immutable: true, Mutable: true}
	date := expire.Settings{Enabled: true, Mode: expire.CutoffDate, Cutoff: t0 + 21*day, Immutable: true, Mutable: true}
	with := func(s expire.Settings, change func(*expire.Settings)) expire.Settings { change(&s); return s }
	var theirs, ours string
	gone := map[int]bool{}
	cases := []struct {
		settings expire.Settings
		now      int64
	}{
		{all, t0 + 31*day}, {all, t0 + 31*day + 1}, {all, t0 + 45*day}, {all, t0 + 400*day},
		{with(all, func(s *expire.Settings) { s.Override = 60 * day }), t0 + 81*day},
		{with(all, func(s *expire.Settings) { s.Override = 7 * day }), t0 + 31*day},
		{with(all, func(s *expire.Settings) { s.Mutable = false }), t0 + 45*day},
		{with(all, func(s *expire.Settings) { s.Immutable = false }), t0 + 45*day},
		{with(all, func(s *expire.Settings) { s.Enabled = false }), t0 + 45*day},
		{date, t0 + 30*day}, {with(date, func(s *expire.Settings) { s.Cutoff = t0 }), t0 + 400*day},
		{with(date, func(s *expire.Settings) { s.Cutoff++ }), t0 + 30*day},
		{all, t0 + 52*day}, // the last one is gone on with
	}
	var steps []expireStep
	for _, c := range cases {
		steps = append(steps, checkStep(cloneDir(t, dir), c.now, c.settings))
	}
	accounts := tahoeExpires(t, steps...)
	for i, c := range cases {
		theirs, ours = steps[i].Dir, cloneDir(t, dir)
		var account struct {
			Corrupt   [][]any           `json:"corrupt-shares"`
			Recovered map[string]uint64 `json:"space-recovered"`
		}
		if err := json.Unmarshal(accounts[i], &account); err != nil {
			t.Fatal(err)
		}
		r := weExpire(t, ours, c.now, c.settings)
		a, b := slices.Sorted(maps.Keys(shareFiles(t, theirs))), slices.Sorted(maps.Keys(shareFiles(t, ours)))
		if !slices.Equal(a, b) {
			t.Errorf("%d: %+v:\n Tahoe keeps %s\n we keep     %s", i, c.settings, a, b)
		}
		gone[25-len(b)] = true
		if r.Going().Shares != account.Recovered["configured-shares"] || r.Going().Bytes != account.Recovered["configured-sharebytes"] ||
			r.Total().Shares-1 != account.Recovered["examined-shares"] || len(r.Unreadable) != 1 || len(account.Corrupt) != 1 {
			t.Errorf("%d: we counted %+v, Tahoe %+v", i, r, account)
		}
		removed := r.Removed[storage.Immutable].Plus(r.Removed[storage.Mutable]).Shares
		if removed != account.Recovered["actual-shares"] {
			t.Errorf("%d: we removed %d shares, Tahoe %d", i, removed, account.Recovered["actual-shares"])
		}
	}
	if len(gone) < 6 {
		t.Errorf("the settings made little difference: %v", gone)
	}

	// In mode age without a duration Tahoe's document and its program differ: we do as
	// the document says.
	own31 := with(all, func(s *expire.Settings) { s.Override = 0 })
	kept, dropped := cloneDir(t, dir), cloneDir(t, dir)
	tahoeExpires(t, checkStep(kept, t0+45*day, own31))
	weExpire(t, dropped, t0+45*day, own31)
	if n, m := len(shareFiles(t, kept)), len(shareFiles(t, dropped)); n != 25 || m >= n {
		t.Errorf("without a duration: Tahoe keeps %d, we keep %d", n, m)
	}

	// The directory that Tahoe's checker has cleaned is ours now, and the other way
	// round: what is left reads, takes leases, and is checked by the other.
	// As of day 52: 2, 11 and 12 were renewed on day 25 or 26; the others' leases are of day 22.
	left := []int{1, 2, 3, 4, 11, 12, 14}
	got := func(dir string) []string {
		seen := map[string]bool{}
		for file := range shareFiles(t, dir) {
			seen[filepath.Base(filepath.Dir(file))] = true
		}
		delete(seen, filepath.Base(broken))
		return slices.Sorted(maps.Keys(seen))
	}
	var want []string
	for _, n := range left {
		want = append(want, index(n).Text())
	}
	slices.Sort(want)
	if a := got(theirs); !slices.Equal(a, want) {
		t.Fatalf("left: %v, want %v", a, want)
	}
	server := ourServer(t, theirs, t0+53*day)
	for _, n := range left {
		kind, text := storage.Immutable, strings.Repeat("f", 1000)
		if n >= 10 {
			kind, text = storage.Mutable, strings.Repeat("s", 1000)
		}
		if data, err := storage.Local(server).ReadShare(t.Context(), kind, index(n), 0, 0, 2000); err != nil || string(data) != text {
			t.Errorf("%d, after Tahoe's checker: %d bytes, %v", n, len(data), err)
		}
	}
	server.Close()
	var read map[string]*string
	if err := json.Unmarshal(tahoeExpires(t, expireStep{Dir: ours, Now: t0 + 53*day, Do: "read", Files: fileNames, Slots: slotNames})[0], &read); err != nil {
		t.Fatal(err)
	}
	for n := range 18 {
		text, asked := read[name(n)]
		if asked && (text != nil) != slices.Contains(left, n) || text != nil && len(*text) != 1000 {
			t.Errorf("%d, after our checker: %v", n, text)
		}
	}
	we(theirs, t0+53*day, own, 4, 12)
	tahoeExpires(t, they(ours, t0+53*day, "r", "c", 4, 12))
	weExpire(t, theirs, t0+80*day, all)
	tahoeExpires(t, checkStep(ours, t0+80*day, all))
	want = []string{index(4).Text(), index(12).Text()}
	slices.Sort(want)
	if a, b := got(theirs), got(ours); !slices.Equal(a, want) || !slices.Equal(b, want) {
		t.Errorf("after both: %v and %v, want %v", a, b, want)
	}
	for name, file := range shareFiles(t, theirs) {
		if strings.HasPrefix(name, "aa") {
			continue
		}
		if n := leaseCount(t, file); n == 0 {
			t.Errorf("%s has no lease", fmt.Sprint(name))
		}
	}
}

// TestStatisticsNames: what Tahoe's server and ours have done is counted under the
// same names, and alike.
func TestStatisticsNames(t *testing.T) {
	t.Parallel()
	type statistics struct {
		Counters map[string]uint64   `json:"counters"`
		Stats    map[string]*float64 `json:"stats"`
	}
	var theirs, ours statistics
	if err := json.Unmarshal(tahoeExpires(t, expireStep{Dir: filepath.Join(t.TempDir(), "storage"), Now: 1790000000, Do: "stats"})[0], &theirs); err != nil {
		t.Fatal(err)
	}
	b, err := disk.Open(filepath.Join(t.TempDir(), "storage"))
	if err != nil {
		t.Fatal(err)
	}
	server := storage.NewServer(b, storage.Options{ReservedSpace: 12345})
	defer server.Close()
	c, ctx, si, slot := storage.Local(server), t.Context(), caps.StorageIndex{1}, caps.StorageIndex{2}
	lease, upload := storage.LeaseSecrets{Renew: storagetest.Secret('r')}, storagetest.Secret('u')
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, err = c.CreateImmutable(ctx, si, upload, lease, []int{0, 1}, 1000)
	must(err)
	_, err = c.WriteImmutable(ctx, si, 0, upload, 0, make([]byte, 1000))
	must(err)
	must(c.AbortImmutable(ctx, si, 1, upload))
	_, err = c.ListShares(ctx, storage.Immutable, si)
	must(err)
	_, err = c.ReadShare(ctx, storage.Immutable, si, 0, 0, 100)
	must(err)
	_, _, err = c.ReadTestWrite(ctx, slot, storage.SlotSecrets{LeaseSecrets: lease}, map[int]storage.TestWrite{0: {Write: []storage.WriteVector{{Data: []byte("s")}}}}, nil)
	must(err)
	_, err = c.ReadSlot(ctx, slot, []int{0}, []storage.ReadVector{{Size: 1}})
	must(err)
	must(c.AddLease(ctx, si, lease))
	text, err := json.Marshal(server.Statistics())
	must(err)
	must(json.Unmarshal(text, &ours))
	if !maps.Equal(ours.Counters, theirs.Counters) {
		t.Errorf("counters:\n ours   %v\n theirs %v", ours.Counters, theirs.Counters)
	}
	a, want := slices.Sorted(maps.Keys(ours.Stats)), slices.Sorted(maps.Keys(theirs.Stats))
	if len(want) < 50 || !slices.Equal(a, want) {
		t.Errorf("stats:\n ours   %s\n theirs %s", a, want)
	}
	for name, v := range theirs.Stats {
		if mine := ours.Stats[name]; (mine == nil) != (v == nil) {
			t.Errorf("%s: ours %v, theirs %v", name, mine, v)
		}
	}
	if *ours.Stats["storage_server.reserved_space"] != 12345 || *ours.Stats["storage_server.accepting_immutable_shares"] != 1 {
		t.Errorf("ours %s", text)
	}
}
