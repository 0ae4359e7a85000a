package gbs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"warren/node/caps"
	"warren/node/storage"
	"warren/tests/bounds"
)

// oracle encodes with somebody else's encoder.
func oracle(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func set(all ...int) cbor.Tag { return cbor.Tag{Number: 258, Content: append([]int{}, all...)} }

type object = map[string]any

func TestMessages(t *testing.T) {
	n := uint64(77)
	for _, c := range []struct {
		name   string
		encode []byte
		want   any
		decode func([]byte) (any, error)
		value  any
	}{
		{
			"allocation", allocation{[]int{0, 255}, 1 << 40}.encode(), object{"share-numbers": set(0, 255), "allocated-size": 1 << 40},
			func(b []byte) (any, error) { return decode(b, readAllocation) }, allocation{[]int{0, 255}, 1 << 40},
		},
		{
			"allocated", allocated{[]int{}, []int{24}}.encode(), object{"already-have": set(), "allocated": set(24)},
			func(b []byte) (any, error) { return decode(b, readAllocated) }, allocated{[]int{}, []int{24}},
		},
		{
			"shares", encodeShares([]int{1, 2}), set(1, 2),
			func(b []byte) (any, error) { return decode(b, readShares) }, []int{1, 2},
		},
		{
			"reason", encodeReason("\u2623"), object{"reason": "\u2623"},
			func(b []byte) (any, error) { return decode(b, readReason) }, "\u2623",
		},
		{
			"required", encodeRequired([]storage.Range{{Begin: 1, End: 1 << 33}}), object{"required": []object{{"begin": 1, "end": 1 << 33}}},
			func(b []byte) (any, error) { return decode(b, readRequired) }, []storage.Range{{Begin: 1, End: 1 << 33}},
		},
		{
			"version", encodeVersion(storage.Version{MaximumImmutableShareSize: 1, MaximumMutableShareSize: math.MaxUint64, AvailableSpace: 3, Application: "a"}),
			map[cbor.ByteString]any{
				protocolKey:    map[cbor.ByteString]any{immutableKey: 1, mutableKey: uint64(math.MaxUint64), availableKey: 3},
				applicationKey: []byte("a"),
			},
			func(b []byte) (any, error) { return decode(b, readVersion) },
			storage.Version{MaximumImmutableShareSize: 1, MaximumMutableShareSize: math.MaxUint64, AvailableSpace: 3, Application: "a"},
		},
		{
			"read-test-write", readTestWrite{
				map[int]storage.TestWrite{
					3: {Test: []storage.TestVector{{Offset: 1, Size: 2, Specimen: []byte("s")}}, Write: []storage.WriteVector{{Offset: 4, Data: []byte("data")}}, NewLength: &n},
					4: {},
				}, []storage.ReadVector{{Offset: 5, Size: 6}},
			}.encode(),
			object{
				"test-write-vectors": map[int]any{
					3: object{"test": []object{{"offset": 1, "size": 2, "specimen": []byte("s")}}, "write": []object{{"offset": 4, "data": []byte("data")}}, "new-length": 77},
					4: object{"test": []object{}, "write": []object{}, "new-length": nil},
				},
				"read-vector": []object{{"offset": 5, "size": 6}},
			},
			func(b []byte) (any, error) { return decode(b, readReadTestWrite) },
			readTestWrite{
				map[int]storage.TestWrite{
					3: {Test: []storage.TestVector{{Offset: 1, Size: 2, Specimen: []byte("s")}}, Write: []storage.WriteVector{{Offset: 4, Data: []byte("data")}}, NewLength: &n},
					4: {},
				}, []storage.ReadVector{{Offset: 5, Size: 6}},
			},
		},
		{
			"its result", readTestWriteResult{true, map[int][][]byte{0: {[]byte("x"), {}}, 9: {}}}.encode(),
			object{"success": true, "data": map[int]any{0: [][]byte{[]byte("x"), {}}, 9: [][]byte{}}},
			func(b []byte) (any, error) { return decode(b, readReadTestWriteResult) },
			readTestWriteResult{true, map[int][][]byte{0: {[]byte("x"), {}}, 9: {}}},
		},
	} {
		// The same data to another decoder, whatever the order of the keys.
		var ours, theirs any
		if err := cbor.Unmarshal(c.encode, &ours); err != nil {
			t.Errorf("%s: what we encode is not CBOR: %v", c.name, err)
		}
		if err := cbor.Unmarshal(oracle(t, c.want), &theirs); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%s encodes as %v, want %v", c.name, ours, theirs)
		}
		for _, b := range [][]byte{c.encode, oracle(t, c.want)} {
			if got, err := c.decode(b); err != nil || !reflect.DeepEqual(got, c.value) {
				t.Errorf("%s decodes as %+v, %v", c.name, got, err)
			}
		}
	}
}

// TestLargeWritesAreNotCopied: they are sent from where they stand, between the pieces
// around them, and the message is the same.
func TestLargeWritesAreNotCopied(t *testing.T) {
	large := bytes.Repeat([]byte("large "), largePiece/6+1)
	n := uint64(1)
	q := readTestWrite{map[int]storage.TestWrite{
		0: {Write: []storage.WriteVector{{Data: []byte("head")}, {Offset: 4, Data: large}, {Offset: 9, Data: []byte("tail")}}, NewLength: &n},
		1: {Write: []storage.WriteVector{{Data: large}, {Offset: 5, Data: large}}},
	}, []storage.ReadVector{{Size: 57}}}
	pieces := q.pieces()
	same := 0
	for _, p := range pieces {
		if len(p) == len(large) && &p[0] == &large[0] {
			same++
		}
	}
	if same != 3 || len(pieces) != 7 {
		t.Errorf("%d pieces, %d of them without a copy", len(pieces), same)
	}
	if got, err := decode(q.encode(), readReadTestWrite); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("decodes differently: %v", err)
	}
}

// TestManyWrites: they are counted over all shares.
func TestManyWrites(t *testing.T) {
	for _, c := range []struct {
		shares []int
		want   error
	}{{[]int{5}, nil}, {[]int{3, 2}, nil}, {[]int{5, 0}, nil}, {[]int{6}, errCBOR}, {[]int{3, 3}, errCBOR}, {[]int{1, 1, 1, 1, 1, 1}, errCBOR}} {
		q := readTestWrite{Shares: map[int]storage.TestWrite{}}
		for i, n := range c.shares {
			q.Shares[i] = storage.TestWrite{Write: make([]storage.WriteVector, n)}
		}
		_, err := decode(q.encode(), func(r *reader) (readTestWrite, error) { return r.readTestWrite(5) })
		if !errors.Is(err, c.want) {
			t.Errorf("%v writes where 5 may be: %v", c.shares, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	for h, want := range map[string]byteRange{
		"bytes=0-0": {0, 1}, "bytes=5-9": {5, 10}, "BYTES = 5 - 9": {5, 10}, "bytes=0-9223372036854775805": {0, math.MaxInt64 - 1},
	} {
		if got, err := parseRange(h); err != nil || got != want {
			t.Errorf("Range %q: %v, %v", h, got, err)
		}
	}
	for h, want := range map[string]byteRange{"bytes 0-9/*": {0, 10}, " bytes 5-5/10": {5, 6}, "bytes 5-20/10": {5, 21}} {
		if got, err := parseContentRange(h); err != nil || got != want {
			t.Errorf("Content-Range %q: %v, %v", h, got, err)
		}
	}
	got, err := parseSecrets([]string{" upload-secret QUJD ", "lease-renew-secret " + secret32}, []secretKind{leaseRenew, uploadSecret})
	if err != nil || string(got[uploadSecret]) != "ABC" || len(got[leaseRenew]) != 32 {
		t.Errorf("%v", err)
	}
}

// TestOldCertificates: nodes of long ago signed theirs with MD5. (openssl req -x509
// -md5 -newkey rsa:1024 -nodes -subj /CN=newpb_thingy -days 1)
func TestOldCertificates(t *testing.T) {
	block, _ := pem.Decode([]byte(`-----BEGIN CERTIFICATE-----
MIICCjCCAXOgAwIBAgIUWKvOdsToNyL5ouIMIhvXqK4ePKIwDQYJKoZIhvcNAQEE
BQAwFzEVMBMGA1UEAwwMbmV3cGJfdGhpbmd5MB4XDTI2MTEyMzEzNTk0MVoXDTI2
MTEyNDEzNTk0MVowFzEVMBMGA1UEAwwMbmV3cGJfdGhpbmd5MIGfMA0GCSqGSIb3
DQEBAQUAA4GNADCBiQKBgQCYs/un6Q01rdIc6NZChkL1SXEJw3wBUmiXg2f2VQzd
64oBjBS47NlKt/ECa5gQFSqFmsSJEhLg0cQxG6rLVAqOUUG5BxoSUtqPZ8MI4/Ez
j9r/lz/itW3wQRi0ZOLIclNfBh9rqO8TPuMK3jVUIgh/dilyJ2/eiMv+dI0jnrD4
0wIDAQABo1MwUTAdBgNVHQ4EFgQUx2sZ0koS1kJJZ+PqAxGdFQNh1UkwHwYDVR0j
BBgwFoAUx2sZ0koS1kJJZ+PqAxGdFQNh1UkwDwYDVR0TAQH/BAUwAwEB/zANBgkq
hkiG9w0BAQQFAAOBgQByb78WPJcz4YxCF/RBseCmiYPLUvai1qkH6zhmlPBM9axo
eQYuHa9H7X9F6TDH4GQS4zMM33GEi6CLFovgV1eSm4XWZBF4id6mlqsdZ5kkrhxG
1u72J2OmaVDmdiqyOPA1ECgJIG/5pDBIEXlpN4tnfAh0UEogkbsn2lhiTxSkgg==
-----END CERTIFICATE-----
`))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPin(leaf, SPKIHash(leaf)); err != nil {
		t.Error(err)
	}
	if err := checkPin(leaf, strings.Repeat("A", 43)); !errors.Is(err, ErrCertificate) {
		t.Errorf("another key: %v", err)
	}
}

// FuzzMessages: no message makes us panic, what we accept is well-formed to
// another decoder, and reads the same when encoded again.
func FuzzMessages(f *testing.F) {
	n := uint64(5)
	f.Add(readTestWrite{map[int]storage.TestWrite{3: {Test: []storage.TestVector{{Size: 1}}, Write: []storage.WriteVector{{Data: []byte("x")}}, NewLength: &n}}, []storage.ReadVector{{Size: 1}}}.encode())
	f.Add(readTestWriteResult{true, map[int][][]byte{1: {[]byte("x")}}}.encode())
	f.Add(allocation{[]int{1, 2}, 3}.encode())
	f.Add(allocated{[]int{1}, nil}.encode())
	f.Add(encodeVersion(storage.Version{Application: "x"}))
	f.Add(encodeReason("why"))
	f.Add(encodeRequired([]storage.Range{{Begin: 1, End: 2}}))
	f.Add(watchAsk{time.Second, map[caps.StorageIndex]storage.Tag{{1}: {2}, {3}: {}}}.encode())
	f.Add(encodeWatched(map[caps.StorageIndex]storage.Tag{{1}: {2}}))
	f.Add([]byte("\xa2\x72test-write-vectors\xa1\x01\xa3\x65write\x9a\x00\x0f\xff\xff\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		same(t, b, readReadTestWrite, readTestWrite.encode)
		same(t, b, readReadTestWriteResult, readTestWriteResult.encode)
		same(t, b, readAllocation, allocation.encode)
		same(t, b, readAllocated, allocated.encode)
		same(t, b, readVersion, encodeVersion)
		same(t, b, readReason, encodeReason)
		same(t, b, readRequired, encodeRequired)
		same(t, b, readShares, encodeShares)
		same(t, b, readWatchAsk, watchAsk.encode)
		same(t, b, readWatched, encodeWatched)
	})
}

func same[T any](t *testing.T, b []byte, read func(*reader) (T, error), encode func(T) []byte) {
	var v T
	var err error
	bounds.Memory(t, len(b), 64, func() { v, err = decode(b, read) })
	if err != nil {
		if !errors.Is(err, errCBOR) {
			t.Fatal(err)
		}
		return
	}
	if err := cbor.Wellformed(b); err != nil {
		t.Fatalf("accepted, and not CBOR: %v", err)
	}
	again, err := decode(encode(v), read)
	if err != nil || !reflect.DeepEqual(again, v) {
		t.Fatalf("%+v encodes to %+v, %v", v, again, err)
	}
}

// FuzzHeaders: what parses formats to what parses the same; nobody is let in who does
// not say the one thing.
func FuzzHeaders(f *testing.F) {
	f.Add("bytes=0-9")
	f.Add("bytes 0-9/*")
	f.Add("upload-secret QUJD")
	f.Add(authorization("sekrit"))
	f.Add("text/html, application/cbor;q=0.5")
	f.Fuzz(func(t *testing.T, h string) {
		if good := authorization("sekrit"); authorized(h, good) != (h == good) {
			t.Fatalf("%q is let in", h)
		}
		if acceptsCBOR(http.Header{"Accept": {h}}) && !strings.Contains(h, cborType) {
			t.Fatalf("%q is taken to want CBOR", h)
		}
		isCBOR(h)
		bounds.Memory(t, len(h), 8, func() { parseSecrets([]string{h}, []secretKind{uploadSecret}) })
		if r, err := parseRange(h); err == nil {
			if again, err := parseRange(r.header()); err != nil || again != r || r.Begin >= r.End {
				t.Fatalf("%q: %v, %v, %v", h, r, again, err)
			}
		}
		if r, err := parseContentRange(h); err == nil {
			if again, err := parseContentRange(r.contentRange()); err != nil || again != r || r.Begin >= r.End {
				t.Fatalf("%q: %v, %v, %v", h, r, again, err)
			}
		}
		for _, kind := range []secretKind{uploadSecret, leaseRenew} {
			got, err := parseSecrets([]string{h}, []secretKind{kind})
			if err != nil {
				continue
			}
			again, err := parseSecrets([]string{formatSecret(kind, got[kind])}, []secretKind{kind})
			if err != nil || !bytes.Equal(again[kind], got[kind]) {
				t.Fatalf("%q: %v", h, err)
			}
		}
	})
}
