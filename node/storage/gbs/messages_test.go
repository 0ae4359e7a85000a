package gbs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"warren/node/storage"
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

func TestBadMessages(t *testing.T) {
	rtw := func(b []byte) error { _, err := decode(b, readReadTestWrite); return err }
	create := func(b []byte) error { _, err := decode(b, readAllocation); return err }
	good := object{"test": []any{}, "write": []any{}, "new-length": nil}
	but := func(key string, value any) any {
		m := object{}
		for k, v := range good {
			m[k] = v
		}
		m[key] = value
		return object{"test-write-vectors": map[int]any{1: m}, "read-vector": []any{}}
	}
	if err := rtw(oracle(t, but("new-length", nil))); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for _, c := range []struct {
		name   string
		decode func([]byte) error
		body   []byte
	}{
		{"empty", create, nil},
		{"text", create, []byte("hello")},
		{"an array", create, oracle(t, []int{1})},
		{"null", create, []byte{0xf6}},
		{"a float", create, oracle(t, 1.5)},
		{"undefined", create, []byte{0xf7}},
		{"break alone", create, []byte{0xff}},
		{"reserved length", create, []byte{0xbc}},
		{"cut short", create, allocation{[]int{0}, 1000}.encode()[:30]},
		{"two messages", create, slices.Concat(allocation{}.encode(), allocation{}.encode())},
		{"a missing key", create, oracle(t, object{"share-numbers": set(1)})},
		{"an extra key", create, oracle(t, object{"share-numbers": set(1), "allocated-size": 1, "more": 1})},
		{"a repeated key", create, []byte("\xa2\x6eallocated-size\x01\x6eallocated-size\x01")},
		{"byte string keys", create, oracle(t, map[cbor.ByteString]any{"share-numbers": set(1), "allocated-size": 1})},
		{"a list for a set", create, oracle(t, object{"share-numbers": []int{1}, "allocated-size": 1})},
		{"another tag", create, oracle(t, object{"share-numbers": cbor.Tag{Number: 259, Content: []int{}}, "allocated-size": 1})},
		{"a share beyond 255", create, oracle(t, object{"share-numbers": set(256), "allocated-size": 1})},
		{"a negative share", create, oracle(t, object{"share-numbers": set(-1), "allocated-size": 1})},
		{"257 shares", create, oracle(t, object{"share-numbers": set(make([]int, 257)...), "allocated-size": 1})},
		{"a null size", create, oracle(t, object{"share-numbers": set(1), "allocated-size": nil})},
		{"a tagged size", create, oracle(t, object{"share-numbers": set(1), "allocated-size": cbor.Tag{Number: 1, Content: 5}})},
		{"a size of 2^64", create, slices.Concat([]byte("\xa2\x6dshare-numbers\xd9\x01\x02\x80\x6eallocated-size"), []byte("\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00"))},
		{"an indefinite map", create, []byte("\xbf\xff")},
		{"an array of 2^64-1", create, []byte("\xa2\x6dshare-numbers\xd9\x01\x02\x9b\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"a string of 2^64-1", create, []byte("\xa2\x7b\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"text that is not UTF-8", create, []byte("\xa2\x61\xff\x01\x61\xfe\x01")},
		{"rtw: no new-length", rtw, oracle(t, object{"test-write-vectors": map[int]any{1: object{"test": []any{}, "write": []any{}}}, "read-vector": []any{}})},
		{"rtw: a boolean length", rtw, oracle(t, but("new-length", true))},
		{"rtw: 31 tests", rtw, oracle(t, but("test", slices.Repeat([]any{object{"offset": 0, "size": 0, "specimen": []byte{}}}, 31)))},
		{"rtw: text data", rtw, oracle(t, but("write", []any{object{"offset": 0, "data": "text"}}))},
		{"rtw: a negative offset", rtw, oracle(t, but("write", []any{object{"offset": -1, "data": []byte{}}}))},
		{"rtw: a text share", rtw, oracle(t, object{"test-write-vectors": map[string]any{"1": good}, "read-vector": []any{}})},
		{"rtw: a repeated share", rtw, slices.Concat([]byte("\xa2\x72test-write-vectors\xa2"), bytes.Repeat(slices.Concat([]byte{1}, oracle(t, good)), 2), []byte("\x6bread-vector\x80"))},
		{"rtw: 31 reads", rtw, oracle(t, object{"test-write-vectors": map[int]any{}, "read-vector": slices.Repeat([]any{object{"offset": 0, "size": 0}}, 31)})},
		{"version: deep nesting", func(b []byte) error { _, err := decode(b, readVersion); return err },
			slices.Concat([]byte("\xa1\x41x"), bytes.Repeat([]byte{0x81}, 100), []byte{0})},
		{"reason: empty", func(b []byte) error { _, err := decode(b, readReason); return err }, encodeReason("")},
		{"reason: too long", func(b []byte) error { _, err := decode(b, readReason); return err }, encodeReason(strings.Repeat("x", maxReason+1))},
	} {
		if err := c.decode(c.body); !errors.Is(err, errCBOR) {
			t.Errorf("%s: %v", c.name, err)
		}
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
	for _, h := range []string{
		"", "bytes", "bytes=", "bytes=-", "bytes=5-", "bytes=-5", "bytes=9-5", "bytes=0-1,3-4", "beets=0-9", "0-9", "bytes=a-b", "bytes=+1-5",
		"bytes=-1-5", "bytes=0x0-0x9", "bytes=0-1_0", "bytes=0--1", "bytes=0-18446744073709551616", "bytes=0-18446744073709551615", "bytes=1e3-2e3",
		"bytes=0-9223372036854775807", "bytes==0-9", "bytes=\u0660-\u0669",
	} {
		if got, err := parseRange(h); !errors.Is(err, errRange) {
			t.Errorf("Range %q: %v, %v", h, got, err)
		}
	}
	for h, want := range map[string]byteRange{"bytes 0-9/*": {0, 10}, " bytes 5-5/10": {5, 6}, "bytes 5-20/10": {5, 21}} {
		if got, err := parseContentRange(h); err != nil || got != want {
			t.Errorf("Content-Range %q: %v, %v", h, got, err)
		}
	}
	for _, h := range []string{"", "bytes", "bytes 0-9", "bytes */10", "bytes 10-11/10", "bytes 9-5/*", "bytes=0-9/*", "octets 0-9/*", "bytes 0-9/x", "bytes a-9/*", "bytes -9/*", "bytes 0-/*"} {
		if got, err := parseContentRange(h); !errors.Is(err, errRange) {
			t.Errorf("Content-Range %q: %v, %v", h, got, err)
		}
	}
}

func TestSecretHeaders(t *testing.T) {
	long := strings.Repeat("QUFB", 10) + "QUE=" // 32 bytes
	need := []secretKind{leaseRenew, uploadSecret}
	got, err := parseSecrets([]string{" upload-secret QUJD ", "lease-renew-secret " + long}, need)
	if err != nil || string(got[uploadSecret]) != "ABC" || len(got[leaseRenew]) != 32 {
		t.Errorf("%v", err)
	}
	up := "upload-secret QUJD"
	for _, h := range [][]string{
		nil, {up}, {up, up}, {up, "lease-renew-secret " + long, "write-enabler " + long}, {up, "lease-cancel-secret " + long},
		{up, "lease-renew-secret"}, {up, "lease-renew-secret "}, {up, "lease-renew-secret QUJD"}, {up, "lease-renew-secret " + long[:43]},
		{up, "lease-renew-secret " + long + "QUFB"}, {up, "Lease-Renew-Secret " + long}, {up, "lease-renew-secret " + long + ", x"}, {up, ""},
		{"upload-secret ====", "lease-renew-secret " + long}, {"upload-secret QUJ", "lease-renew-secret " + long}, {"upload-secret QUJE=", "lease-renew-secret " + long},
		{"upload-secret " + strings.Repeat("QUFB", 1000), "lease-renew-secret " + long}, {"upload-secret QUJ\u00e9", "lease-renew-secret " + long},
	} {
		_, err := parseSecrets(h, need)
		if !errors.Is(err, errSecrets) {
			t.Errorf("%q: %v", h, err)
		} else if strings.Contains(err.Error(), "QUJ") {
			t.Errorf("the error tells a secret: %v", err)
		}
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
	f.Fuzz(func(t *testing.T, b []byte) {
		same(t, b, readReadTestWrite, readTestWrite.encode)
		same(t, b, readReadTestWriteResult, readTestWriteResult.encode)
		same(t, b, readAllocation, allocation.encode)
		same(t, b, readAllocated, allocated.encode)
		same(t, b, readVersion, encodeVersion)
		same(t, b, readReason, encodeReason)
		same(t, b, readRequired, encodeRequired)
		same(t, b, readShares, encodeShares)
	})
}

func same[T any](t *testing.T, b []byte, read func(*reader) (T, error), encode func(T) []byte) {
	v, err := decode(b, read)
	if err != nil {
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

// FuzzHeaders: what parses formats to what parses the same.
func FuzzHeaders(f *testing.F) {
	f.Add("bytes=0-9")
	f.Add("bytes 0-9/*")
	f.Add("upload-secret QUJD")
	f.Fuzz(func(t *testing.T, h string) {
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
