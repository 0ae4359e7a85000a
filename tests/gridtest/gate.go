package gridtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// gate lets calls through while the server is up.
type gate struct {
	client storage.Client
	down   *atomic.Bool
}

// pass makes a call. An answer that comes when the server has gone meanwhile is
// lost, though what the call did may stand.
func pass(g *gate, call func() error) error {
	if g.down.Load() {
		return ErrDown
	}
	err := call()
	if g.down.Load() {
		return ErrDown
	}
	return err
}

func (g *gate) Version(ctx context.Context) (v storage.Version, err error) {
	err = pass(g, func() (err error) { v, err = g.client.Version(ctx); return })
	return v, err
}

func (g *gate) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) (already, allocated []int, err error) {
	err = pass(g, func() (err error) {
		already, allocated, err = g.client.CreateImmutable(ctx, si, upload, lease, shares, size)
		return
	})
	return already, allocated, err
}

func (g *gate) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (done bool, err error) {
	err = pass(g, func() (err error) {
		done, err = g.client.WriteImmutable(ctx, si, share, upload, offset, data)
		return
	})
	return done, err
}

func (g *gate) AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret) error {
	return pass(g, func() error { return g.client.AbortImmutable(ctx, si, share, upload) })
}

func (g *gate) ListShares(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex) (list []int, err error) {
	err = pass(g, func() (err error) { list, err = g.client.ListShares(ctx, kind, si); return })
	return list, err
}

func (g *gate) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) (data []byte, err error) {
	err = pass(g, func() (err error) { data, err = g.client.ReadShare(ctx, kind, si, share, offset, size); return })
	return data, err
}

func (g *gate) AddLease(ctx context.Context, si caps.StorageIndex, lease storage.LeaseSecrets) error {
	return pass(g, func() error { return g.client.AddLease(ctx, si, lease) })
}

func (g *gate) AdviseCorrupt(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, reason string) error {
	return pass(g, func() error { return g.client.AdviseCorrupt(ctx, kind, si, share, reason) })
}

func (g *gate) ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets storage.SlotSecrets, tw map[int]storage.TestWrite, read []storage.ReadVector) (wrote bool, reads map[int][][]byte, err error) {
	err = pass(g, func() (err error) {
		wrote, reads, err = g.client.ReadTestWrite(ctx, si, secrets, tw, read)
		return
	})
	return wrote, reads, err
}

func (g *gate) ReadSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []storage.ReadVector) (reads map[int][][]byte, err error) {
	err = pass(g, func() (err error) { reads, err = g.client.ReadSlot(ctx, si, shares, read); return })
	return reads, err
}

func (g *gate) Watches() bool { return storage.Watches(g.client) }

// Watch ends as well when the server goes down.
func (g *gate) Watch(ctx context.Context, have map[caps.StorageIndex]storage.Tag, wait time.Duration) (changed map[caps.StorageIndex]storage.Tag, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !g.down.Load() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel()
	}()
	err = pass(g, func() (err error) { changed, err = storage.Watch(ctx, g.client, have, wait); return })
	return changed, err
}

// certificate is a self-signed one, as a node's.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "newpb_thingy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
