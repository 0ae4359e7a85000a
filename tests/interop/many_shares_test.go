package interop

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/furl"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/gbs"
	"warren/node/storage/storagetest"
)

// manyShares is how many shares TestManyShares makes, unless WARREN_SHARES says
// another number: WARREN_SHARES=1000000 is the promise, and takes some minutes to make
// and to remove.
const manyShares = 8_000

// startLimit is how long the start may take, until the first answer: the promise, and
// twice that in everyday runs, in which it waits for whatever else the machine does.
const startLimit = 15 * time.Second

// TestManyShares starts a server on a directory full of shares, which looks after their
// leases, and asks it for everything: it must not look through them before.
func TestManyShares(t *testing.T) {
	t.Parallel()
	count, limit := manyShares, 2*startLimit
	if text := os.Getenv("WARREN_SHARES"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		limit = startLimit
	}
	dir := filepath.Join(t.TempDir(), "node")
	makeNode(t, Warren(t), "create-node", "", dir, "--nickname=full", "--webport=none")
	// Once, as everybody does: keys are made then.
	p := runNode(t, Warren(t), dir)
	waitForFile(t, p, filepath.Join(dir, "private", "storage.furl"))
	if err := p.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	cfg := filepath.Join(dir, "tahoe.cfg")
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	expiring := strings.Replace(string(text), "[storage]\n", "[storage]\nexpire.enabled = true\nexpire.mode = age\n", 1)
	if err := os.WriteFile(cfg, []byte(expiring), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	some := fill(t, filepath.Join(dir, "storage", "shares"), count)
	t.Logf("%d shares made in %v", count, time.Since(began))

	pem, err := os.ReadFile(filepath.Join(dir, "private", "node.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := gbs.LoadCertificate(pem)
	if err != nil {
		t.Fatal(err)
	}
	address, err := furl.Parse(readFile(t, dir, "private", "storage.furl"))
	if err != nil {
		t.Fatal(err)
	}
	nurl, err := gbs.NURL(cert, address.Hints[0].Host, address.Hints[0].Port, false, address.Swissnum)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	c := gbs.NewClient(nurl, d.DialContext)
	defer c.Close()

	began = time.Now()
	p = runNode(t, Warren(t), dir)
	Eventually(t, time.Minute, "the server answers", func() error {
		_, err := c.Version(t.Context())
		return err
	})
	took := time.Since(began)
	t.Logf("it answers %v after its start", took)
	if took > limit {
		t.Errorf("%d shares: it answers %v after its start", count, took)
	}
	var slowest time.Duration
	ask := func(what string, do func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		if err := do(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	for i, si := range some {
		ask("list", func(ctx context.Context) error {
			got, err := c.ListShares(ctx, storage.Immutable, si)
			if err == nil && len(got) != perIndex {
				err = fmt.Errorf("shares %v", got)
			}
			return err
		})
		ask("read", func(ctx context.Context) error {
			got, err := c.ReadShare(ctx, storage.Immutable, si, i%perIndex, 0, 100)
			if err == nil && string(got) != shareText {
				err = fmt.Errorf("%q", got)
			}
			return err
		})
		fresh := caps.StorageIndex{1, byte(i)}
		ask("upload", func(ctx context.Context) error {
			if _, _, err := c.CreateImmutable(ctx, fresh, storagetest.Secret('u'), storage.LeaseSecrets{}, []int{0}, 3); err != nil {
				return err
			}
			done, err := c.WriteImmutable(ctx, fresh, 0, storagetest.Secret('u'), 0, []byte("new"))
			if err == nil && !done {
				err = fmt.Errorf("not done")
			}
			return err
		})
		ask("lease", func(ctx context.Context) error {
			return c.AddLease(ctx, fresh, storage.LeaseSecrets{Renew: storagetest.Secret('l')})
		})
	}
	t.Logf("the slowest of %d requests took %v", 4*len(some), slowest)
	if err := p.Stop(time.Minute); err != nil {
		t.Error(err)
	}
}

const (
	perIndex  = 4
	shareText = "a share"
)

// fill makes shares, most of them as further names of a few files, and says where some
// of them are.
func fill(t *testing.T, shares string, count int) (some []caps.StorageIndex) {
	t.Helper()
	layout, err := container.NewImmutable(uint64(len(shareText)), container.Lease{Expires: uint32(time.Now().Add(container.LeaseDuration).Unix())})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	const names = 10_000 // of one file; some filesystems end at 65,000
	first := ""
	for i := range count / perIndex {
		var si caps.StorageIndex
		binary.BigEndian.PutUint64(si[:], uint64(i)*0x9e3779b97f4a7c15) // spread over all prefixes
		text := si.Text()
		dir := filepath.Join(shares, text[:2], text)
		must(os.MkdirAll(dir, 0o700))
		if i%(count/perIndex/25) == 0 {
			some = append(some, si)
		}
		for n := range perIndex {
			path := filepath.Join(dir, strconv.Itoa(n))
			if (i*perIndex+n)%names != 0 {
				must(os.Link(first, path))
				continue
			}
			first = path
			f, err := os.Create(path)
			must(err)
			must(container.Apply(f, append(layout, container.Patch{Offset: container.ImmutableDataOffset, Data: []byte(shareText)})))
			must(f.Close())
		}
	}
	return some
}
