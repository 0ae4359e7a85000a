package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/furl"
	"warren/node/grid"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/taghash"
)

// record is every version of a slot that servers took, and what was written over what.
type record struct {
	mu       sync.Mutex // guards what follows
	versions map[version]map[int][]byte
	order    []version     // as they came first
	came     chan struct{} // a version has
	ours     []replacement // by our client
}

// version is the checkstring of an SDMF share.
type version string

func (v version) seqnum() uint64 { return binary.BigEndian.Uint64([]byte(v)[1:]) }

const checkstring = 57

type replacement struct{ old, with version }

// recorder is a server's shares, in memory, whose slots are recorded.
type recorder struct {
	*mem.Backend
	record *record
}

// Publish implements storage.Backend: slots are written through it.
func (r recorder) Publish(si caps.StorageIndex, drafts map[int]storage.Draft, remove []int) error {
	shares := map[int][]byte{}
	for num, d := range drafts {
		size, err := d.Size()
		if err != nil {
			return err
		}
		if m, err := container.OpenMutable(d, size); err == nil {
			if shares[num], err = m.Read(0, m.Length()); err != nil {
				return err
			}
		}
	}
	if err := r.Backend.Publish(si, drafts, remove); err != nil {
		return err
	}
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	for num, b := range shares {
		if len(b) < checkstring {
			continue
		}
		v := version(b[:checkstring])
		if r.record.versions[v] == nil {
			r.record.versions[v] = map[int][]byte{}
			r.record.order = append(r.record.order, v)
			select {
			case r.record.came <- struct{}{}:
			default:
			}
		}
		r.record.versions[v][num] = b
	}
	return nil
}

// recordedClient is how our client reaches such a server.
type recordedClient struct {
	storage.Client
	record *record
}

// ReadTestWrite implements storage.Client.
func (c recordedClient) ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets storage.SlotSecrets, tw map[int]storage.TestWrite, read []storage.ReadVector) (bool, map[int][][]byte, error) {
	wrote, held, err := c.Client.ReadTestWrite(ctx, si, secrets, tw, read)
	if wrote && err == nil {
		c.record.mu.Lock()
		defer c.record.mu.Unlock()
		for num, one := range tw {
			r := replacement{with: version(one.Write[0].Data[:checkstring])}
			if old := held[num]; len(old) > 0 && len(old[0]) == checkstring {
				r.old = version(old[0])
			}
			c.record.ours = append(c.record.ours, r)
		}
	}
	return wrote, held, err
}

// recordedGrid starts servers of which Tahoe learns by a servers.yaml, and we as it reads it.
func recordedGrid(t *testing.T, n int, rec *record) (yaml string, servers slots) {
	t.Helper()
	var text strings.Builder
	text.WriteString("storage:\n")
	for i := range n {
		seed := fmt.Appendf(nil, "server of races %04d", i) // 20 bytes
		backend := recorder{mem.New(0), rec}
		server := storage.NewServer(backend, storage.Options{NodeID: [20]byte(seed)})
		nurl, _ := serveGBS(t, server)
		address := furl.FURL{TubID: taghash.EncodeBase32(seed), Swissnum: storageSwissnum,
			Hints: []furl.Hint{{Type: "tcp", Host: nurl.Host, Port: nurl.Port}}}
		ann := map[string]any{"nickname": fmt.Sprint("server", i), "anonymous-storage-FURL": address.Text(), "anonymous-storage-NURLs": []any{nurl.Text()}}
		id := fmt.Sprint("races-", i)
		a, err := grid.ParseAnnouncement(id, ann, "test")
		if err != nil {
			t.Fatal(err)
		}
		var d net.Dialer
		c := gbs.NewClient(a.NURLs[0], d.DialContext)
		t.Cleanup(func() { c.Close() })
		servers = append(servers, grid.Server{ID: id, PermutationSeed: a.PermutationSeed, LeaseSeed: a.LeaseSeed, Client: recordedClient{c, rec}})
		b, err := json.Marshal(ann) // JSON is YAML
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "  %s:\n    ann: %s\n", id, b)
	}
	return text.String(), servers
}

// TestRaceWithTahoe: while the real Tahoe's node adds entries to a directory as fast as it
// can, our client adds 200: each as soon as the first share of a version of Tahoe's has
// arrived, or, since Tahoe pauses for seconds when it was refused, a tenth of one later.
// No version of Tahoe's that could be read loses an entry by a write of ours; what Tahoe
// loses of its own, and of ours, its retry does (PEERS.md, defect 14). Ours stand at the end.
func TestRaceWithTahoe(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	const each, k, n = 200, 3, 5
	ctx := t.Context()
	rec := &record{versions: map[version]map[int][]byte{}, came: make(chan struct{}, 1)}
	yaml, servers := recordedGrid(t, n, rec)
	client := filepath.Join(t.TempDir(), "client")
	makeNode(t, Tahoe(t), "create-client", "", client, "--webport="+freeEndpoint(t), "--shares-needed=3", "--shares-happy=4", "--shares-total=5")
	if err := os.WriteFile(filepath.Join(client, "private", "servers.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	tahoe := RunClient(t, Tahoe(t), client, n)
	dirs := &dirnode.Dirs{Mutable: mutableStore(t, servers, k, 4, n)}
	dir, err := dirs.Make(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(name string) dirnode.Entry {
		return dirnode.NewEntry(name, caps.LIT{Data: []byte(name)}, nil)
	}

	began := time.Now()
	acked := map[string]bool{} // theirs
	refused := 0
	var changes []dirnode.Change // ours that were reported as stored
	over := make(chan struct{})
	Together(t, func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			name := fmt.Sprintf("theirs %d", i)
			_, code, err := tahoe.Do("PUT", "/uri/"+url.PathEscape(dir.Text())+"/"+url.PathEscape(name)+"?t=uri&replace=false", strings.NewReader(entry(name).Cap().Text()))
			if err != nil {
				t.Error(err)
				return
			}
			if code/100 == 2 {
				acked[name] = true
			} else {
				refused++ // an uncoordinated write, or a name that stands from an attempt before
			}
		}
	}, func() {
		defer close(over)
		for i := range each {
			select { // what came before is ours
			case <-rec.came:
			default:
			}
			select {
			case <-rec.came:
			case <-time.After(100 * time.Millisecond):
			}
			ch := dirnode.Change{Entry: entry(fmt.Sprintf("ours %d", i)), Overwrite: dirnode.Never}
			if err := dirs.Edit(ctx, dir, []dirnode.Change{ch}); err != nil {
				t.Errorf("%s: %v", ch.Entry.Name, err)
				return
			}
			changes = append(changes, ch)
		}
	})
	raced := time.Since(began)
	gone, err := dirs.Uphold(ctx, dir, changes)
	if err != nil {
		t.Fatal(err)
	}

	// Tahoe's own view of the end.
	var listing []json.RawMessage
	var is struct{ Children map[string]any }
	if err := json.Unmarshal(tahoe.Must(t, "GET", "/uri/"+url.PathEscape(dir.Text())+"?t=json", nil), &listing); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(listing[1], &is); err != nil {
		t.Fatal(err)
	}
	for _, ch := range changes {
		if is.Children[ch.Entry.Name] == nil {
			t.Errorf("%s does not stand at the end", ch.Entry.Name)
		}
	}
	if len(changes) != each || len(acked) < 10 {
		t.Errorf("stored: %d of ours, %d of theirs", len(changes), len(acked))
	}

	// What each version held, as far as it could ever be read.
	names := rec.decode(t, dir, k)
	mine := map[version]bool{}
	for _, r := range rec.ours {
		mine[r.with] = true
	}
	turns := 0
	for i, v := range rec.order[1:] {
		if mine[v] != mine[rec.order[i]] {
			turns++
		}
	}
	checked := 0
	for _, r := range slices.Compact(slices.SortedFunc(slices.Values(rec.ours), func(a, b replacement) int { return strings.Compare(string(a.old+a.with), string(b.old+b.with)) })) {
		// What is older than the version before ours was replaced already.
		if names[r.old] == nil || names[r.with] == nil || r.old.seqnum()+1 < r.with.seqnum() {
			continue
		}
		checked++
		for name := range names[r.old] {
			if !names[r.with][name] {
				t.Errorf("our version %d, over version %d, lost %s", r.with.seqnum(), r.old.seqnum(), name)
			}
		}
	}
	lost := 0
	for name := range acked {
		if is.Children[name] != nil {
			continue
		}
		lost++
		first, by := uint64(0), false
		for _, v := range rec.order {
			if names[v][name] && (first == 0 || v.seqnum() < first) {
				first = v.seqnum()
			}
		}
		for _, v := range rec.order {
			by = by || !mine[v] && v.seqnum() >= first && names[v] != nil && !names[v][name]
		}
		if first == 0 || !by {
			t.Errorf("%s, which Tahoe stored in version %d, is gone, and no version of Tahoe's is without it", name, first)
		}
	}
	t.Logf("%v: %d versions (%d could be read), %d turns; Tahoe stored %d, refused %d, and lost %d of its own and %d of ours; %d replacements of ours looked at",
		raced, len(rec.order), len(names), turns, len(acked), refused, lost, gone, checked)
	if turns < 10 || checked < each/2 {
		t.Errorf("%d turns, %d replacements: that is no race", turns, checked)
	}
}

// decode reads the names in every version of which k shares were ever stored.
func (r *record) decode(t *testing.T, dir caps.DirWrite, k int) map[version]map[string]bool {
	t.Helper()
	out := map[version]map[string]bool{}
	local := newSlots(t, 1)
	store := mutableStore(t, local, k, 1, k)
	for v, shares := range r.versions {
		if len(shares) < k {
			continue
		}
		local.set(t, dir, []map[int][]byte{shares})
		contents, got, err := store.Read(t.Context(), dir.Read())
		if err != nil || got.Seqnum != v.seqnum() || !bytes.Equal(got.RootHash[:], []byte(v)[9:41]) {
			t.Fatalf("version %d: %v", v.seqnum(), err)
		}
		entries, err := dirnode.Writable(dir).Unpack(contents)
		if err != nil {
			t.Fatal(err)
		}
		out[v] = map[string]bool{}
		for _, e := range entries {
			out[v][e.Name] = true
		}
	}
	if len(out) == 0 {
		t.Fatal("nothing was recorded: " + fmt.Sprint(len(r.versions), " versions"))
	}
	return out
}
