package gbs

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/mem"
)

// wantBad is how many bad inputs there must be of each kind.
const wantBad = 25

// secret32 is a secret of 32 bytes, as headers have it.
var secret32 = strings.Repeat("QUFB", 10) + "QUE="

// asked is a server that has an upload under way, in badSI a share of ten bytes and
// in badSlot a slot, and that is asked for things in the wrong way.
type asked struct {
	t       *testing.T
	server  *Server
	storage *storage.Server
	backend *mem.Backend
}

var badSI, badSlot, badUpload = caps.StorageIndex{1}, caps.StorageIndex{2}, caps.StorageIndex{3}

const badSwissnum = "sekritswissnum"

func newAsked(t *testing.T) asked {
	backend := mem.New(0)
	server := storage.NewServer(backend, storage.Options{})
	a := asked{t, NewServer(server.As(storage.Account{}), badSwissnum, Options{}), server, backend}
	for _, si := range []caps.StorageIndex{badSI, badUpload} {
		code, text := a.ask("POST", "immutable/"+si.Text(), a.header(leaseRenew, leaseCancel, uploadSecret), allocation{[]int{0}, 10}.encode())
		if code != http.StatusOK {
			t.Fatal(code, text)
		}
	}
	h := a.header(uploadSecret)
	h.Set("Content-Range", "bytes 0-9/*")
	if code, text := a.ask("PATCH", "immutable/"+badSI.Text()+"/0", h, []byte("0123456789")); code != http.StatusCreated {
		t.Fatal(code, text)
	}
	q := readTestWrite{Shares: map[int]storage.TestWrite{0: {Write: []storage.WriteVector{{Data: []byte("slot")}}}}}
	if code, text := a.ask("POST", "mutable/"+badSlot.Text()+"/read-test-write", a.header(leaseRenew, leaseCancel, writeEnabler), q.encode()); code != http.StatusOK {
		t.Fatal(code, text)
	}
	return a
}

// header is a good one, with good secrets of the kinds.
func (a asked) header(kinds ...secretKind) http.Header {
	h := http.Header{"Authorization": {authorization(badSwissnum)}}
	for _, k := range kinds {
		h.Add(secretHeader, formatSecret(k, bytes.Repeat([]byte{'s'}, 32)))
	}
	return h
}

func (a asked) ask(method, path string, h http.Header, body []byte) (code int, text string) {
	r := httptest.NewRequest(method, "/storage/v1/"+path, bytes.NewReader(body))
	r.Header = h
	w := httptest.NewRecorder()
	a.server.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// unchanged checks that nothing that was asked for was done, not even in part.
func (a asked) unchanged(what string) {
	a.t.Helper()
	c := storage.Local(a.storage)
	for _, s := range []struct {
		kind storage.ShareKind
		si   caps.StorageIndex
		want string
	}{{storage.Immutable, badSI, "0123456789"}, {storage.Mutable, badSlot, "slot"}} {
		if shares, err := c.ListShares(a.t.Context(), s.kind, s.si); err != nil || !slices.Equal(shares, []int{0}) {
			a.t.Errorf("%s: shares %v, %v", what, shares, err)
		}
		if got, err := c.ReadShare(a.t.Context(), s.kind, s.si, 0, 0, 100); err != nil || string(got) != s.want {
			a.t.Errorf("%s: a share holds %q, %v", what, got, err)
		}
	}
	if advisories := a.backend.Advisories(); len(advisories) > 0 {
		a.t.Errorf("%s: advisories %v", what, advisories)
	}
}

// refused asks, and checks the answer.
func (a asked) refused(what, method, path string, h http.Header, body []byte, wantCode int, wantText string) {
	a.t.Helper()
	code, text := a.ask(method, path, h, body)
	if code != wantCode || text != wantText {
		a.t.Errorf("%s: %d %q; want %d %q", what, code, text, wantCode, wantText)
	}
	a.unchanged(what)
}

// a badBody is a message with what is wrong with it.
type badBody struct {
	name, want string
	body       []byte
}

func badAllocations(t *testing.T) []badBody {
	return []badBody{
		{"empty", "ends early", nil},
		{"text", "expected a map", []byte("hello")},
		{"an array", "expected a map", oracle(t, []int{1})},
		{"null", "expected a map", []byte{0xf6}},
		{"a float", "a float, or an ill-formed simple value", oracle(t, 1.5)},
		{"undefined", "expected a map", []byte{0xf7}},
		{"break alone", "indefinite length", []byte{0xff}},
		{"reserved length", "indefinite length", []byte{0xbc}},
		{"cut short", "ends early", allocation{[]int{0}, 1000}.encode()[:30]},
		{"two messages", "something follows", slices.Concat(allocation{}.encode(), allocation{}.encode())},
		{"a missing key", "expected a map of 2 keys", oracle(t, object{"share-numbers": set(1)})},
		{"an extra key", "expected a map of 2 keys", oracle(t, object{"share-numbers": set(1), "allocated-size": 1, "more": 1})},
		{"an unknown key", "an unknown or repeated key", oracle(t, object{"share-numbers": set(1), "allocated-sizes": 1})},
		{"a repeated key", "an unknown or repeated key", []byte("\xa2\x6eallocated-size\x01\x6eallocated-size\x01")},
		{"byte string keys", "expected a text string", oracle(t, map[cbor.ByteString]any{"share-numbers": set(1), "allocated-size": 1})},
		{"a list for a set", "expected a set", oracle(t, object{"share-numbers": []int{1}, "allocated-size": 1})},
		{"another tag", "expected a set", oracle(t, object{"share-numbers": cbor.Tag{Number: 259, Content: []int{}}, "allocated-size": 1})},
		{"a set of text", "expected an unsigned integer", oracle(t, object{"share-numbers": cbor.Tag{Number: 258, Content: []string{"1"}}, "allocated-size": 1})},
		{"a share beyond 255", "share number out of range", oracle(t, object{"share-numbers": set(256), "allocated-size": 1})},
		{"a negative share", "expected an unsigned integer", oracle(t, object{"share-numbers": set(-1), "allocated-size": 1})},
		{"257 shares", "too many elements", oracle(t, object{"share-numbers": set(make([]int, 257)...), "allocated-size": 1})},
		{"a null size", "expected an unsigned integer", oracle(t, object{"share-numbers": set(1), "allocated-size": nil})},
		{"a text size", "expected an unsigned integer", oracle(t, object{"share-numbers": set(1), "allocated-size": "1"})},
		{"a negative size", "expected an unsigned integer", oracle(t, object{"share-numbers": set(1), "allocated-size": -1})},
		{"a tagged size", "expected an unsigned integer", oracle(t, object{"share-numbers": set(1), "allocated-size": cbor.Tag{Number: 1, Content: 5}})},
		{"a size of 2^64", "expected an unsigned integer", slices.Concat([]byte("\xa2\x6dshare-numbers\xd9\x01\x02\x80\x6eallocated-size"), []byte("\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00"))},
		{"an indefinite map", "indefinite length", []byte("\xbf\xff")},
		{"an array of 2^64-1", "too many elements", []byte("\xa2\x6dshare-numbers\xd9\x01\x02\x9b\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"an array longer than the message", "ends early", []byte("\xa2\x6dshare-numbers\xd9\x01\x02\x98\xc8\x01")},
		{"a string of 2^64-1", "ends early", []byte("\xa2\x7b\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"text that is not UTF-8", "text is not UTF-8", []byte("\xa2\x61\xff\x01\x61\xfe\x01")},
	}
}

func badSlotWrites(t *testing.T) []badBody {
	but := func(key string, value any) object {
		share := object{"test": []any{}, "write": []any{}, "new-length": nil}
		share[key] = value
		return object{"test-write-vectors": map[int]any{1: share}, "read-vector": []any{}}
	}
	good := but("new-length", nil)
	if _, err := decode(oracle(t, good), readReadTestWrite); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	top := func(key string, value any) []byte {
		q := but("new-length", nil)
		q[key] = value
		return oracle(t, q)
	}
	one := oracle(t, good["test-write-vectors"].(map[int]any)[1])
	return []badBody{
		{"empty", "ends early", nil},
		{"an allocation", "an unknown or repeated key", allocation{[]int{1}, 1}.encode()},
		{"no reads", "expected a map of 2 keys", oracle(t, object{"test-write-vectors": map[int]any{}})},
		{"three keys", "expected a map of 2 keys", top("more", 1)},
		{"shares in an array", "expected a map", top("test-write-vectors", []any{1})},
		{"a text share", "expected an unsigned integer", oracle(t, object{"test-write-vectors": map[string]any{"1": 1}, "read-vector": []any{}})},
		{"a share beyond 255", "share number out of range", oracle(t, object{"test-write-vectors": map[int]any{256: 1}, "read-vector": []any{}})},
		{"a repeated share", "a repeated key", slices.Concat([]byte("\xa2\x72test-write-vectors\xa2"), bytes.Repeat(slices.Concat([]byte{1}, one), 2), []byte("\x6bread-vector\x80"))},
		{"2^64-1 shares", "too many elements", []byte("\xa2\x72test-write-vectors\xbb\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"a share that is null", "expected a map", top("test-write-vectors", map[int]any{1: nil})},
		{"no new-length", "expected a map of 3 keys", top("test-write-vectors", map[int]any{1: object{"test": []any{}, "write": []any{}}})},
		{"a boolean length", "expected an unsigned integer", oracle(t, but("new-length", true))},
		{"a negative length", "expected an unsigned integer", oracle(t, but("new-length", -1))},
		{"31 tests", "too many elements", oracle(t, but("test", slices.Repeat([]any{object{"offset": 0, "size": 0, "specimen": []byte{}}}, 31)))},
		{"a test without specimen", "expected a map of 3 keys", oracle(t, but("test", []any{object{"offset": 0, "size": 0}}))},
		{"a text specimen", "expected a byte string", oracle(t, but("test", []any{object{"offset": 0, "size": 0, "specimen": ""}}))},
		{"Tahoe's old operator", "an unknown or repeated key", oracle(t, but("test", []any{object{"offset": 0, "operator": "eq", "specimen": []byte{}}}))},
		{"tests in a map", "expected an array", oracle(t, but("test", object{}))},
		{"writes that are null", "expected an array", oracle(t, but("write", nil))},
		{"a write of text", "expected a byte string", oracle(t, but("write", []any{object{"offset": 0, "data": "text"}}))},
		{"a write at a negative offset", "expected an unsigned integer", oracle(t, but("write", []any{object{"offset": -1, "data": []byte{}}}))},
		{"a write that ends early", "ends early", oracle(t, but("write", []any{object{"data": []byte("0123456789"), "offset": 0}}))[:60]},
		{"more writes than bytes", "ends early", []byte("\xa2\x72test-write-vectors\xa1\x01\xa3\x65write\x9a\x00\x0f\xff\xff\x80")},
		{"too many writes", "too many elements", []byte("\xa2\x72test-write-vectors\xa1\x01\xa3\x65write\x9a\x00\x10\x00\x01\x80")},
		{"31 reads", "too many elements", top("read-vector", slices.Repeat([]any{object{"offset": 0, "size": 0}}, 31))},
		{"a read without size", "expected a map of 2 keys", top("read-vector", []any{object{"offset": 0}})},
		{"a read of a float", "a float, or an ill-formed simple value", top("read-vector", []any{object{"offset": 0.5, "size": 1}})},
		{"something behind", "something follows", append(oracle(t, good), 0)},
	}
}

func badReasons(t *testing.T) []badBody {
	return []badBody{
		{"empty", "ends early", nil},
		{"text", "expected a map", oracle(t, "reason")},
		{"no key", "expected a map of 1 keys", oracle(t, object{})},
		{"another key", "an unknown or repeated key", oracle(t, object{"reasons": "x"})},
		{"bytes", "expected a text string", oracle(t, object{"reason": []byte("x")})},
		{"not UTF-8", "text is not UTF-8", []byte("\xa1\x66reason\x61\xff")},
		{"nothing", "a reason has 1 to 32765 bytes", encodeReason("")},
	}
}

func TestBadBodies(t *testing.T) {
	a := newAsked(t)
	lease := []secretKind{leaseRenew, leaseCancel}
	for _, c := range []struct {
		path    string
		secrets []secretKind
		all     []badBody
		enough  int
	}{
		{"immutable/" + badUpload.Text(), append(lease, uploadSecret), badAllocations(t), wantBad},
		{"mutable/" + badSlot.Text() + "/read-test-write", append(lease, writeEnabler), badSlotWrites(t), wantBad},
		{"immutable/" + badSI.Text() + "/0/corrupt", nil, badReasons(t), 7},
		{"mutable/" + badSlot.Text() + "/0/corrupt", nil, badReasons(t), 7},
	} {
		if len(c.all) < c.enough {
			t.Errorf("%s: only %d bad bodies", c.path, len(c.all))
		}
		for _, b := range c.all {
			a.refused(c.path+": "+b.name, "POST", c.path, a.header(c.secrets...), b.body, http.StatusBadRequest, "gbs: malformed CBOR message: "+b.want)
		}
	}
	// What a client reads: a server may be as bad.
	for _, c := range []struct {
		name   string
		decode func([]byte) error
		body   []byte
	}{
		{"reason: too long", decoding(readReason), encodeReason(strings.Repeat("x", maxReason+1))},
		{"version: deep nesting", decoding(readVersion), slices.Concat([]byte("\xa1\x41x"), bytes.Repeat([]byte{0x81}, 100), []byte{0})},
		{"version: text keys", decoding(readVersion), oracle(t, object{applicationKey: []byte("x"), protocolKey: object{}})},
		{"version: no protocol", decoding(readVersion), oracle(t, map[cbor.ByteString]any{applicationKey: []byte("x")})},
		{"version: the application twice", decoding(readVersion), []byte("\xa2\x53application-version\x41a\x53application-version\x41b")},
		{"version: 65 keys", decoding(readVersion), []byte("\xb8\x41")},
		{"allocated: null", decoding(readAllocated), oracle(t, object{"already-have": nil, "allocated": set()})},
		{"allocated: one key", decoding(readAllocated), oracle(t, object{"already-have": set()})},
		{"shares: an array", decoding(readShares), oracle(t, []int{1})},
		{"shares: far out", decoding(readShares), oracle(t, set(1000))},
		{"required: a list of lists", decoding(readRequired), oracle(t, object{"required": [][]int{{1, 2}}})},
		{"required: no end", decoding(readRequired), oracle(t, object{"required": []any{object{"begin": 1}}})},
		{"result: success 1", decoding(readReadTestWriteResult), oracle(t, object{"success": 1, "data": map[int]any{}})},
		{"result: success null", decoding(readReadTestWriteResult), oracle(t, object{"success": nil, "data": map[int]any{}})},
		{"result: text data", decoding(readReadTestWriteResult), oracle(t, object{"success": true, "data": map[int]any{1: []string{"x"}}})},
		{"result: 31 parts", decoding(readReadTestWriteResult), oracle(t, object{"success": true, "data": map[int]any{1: slices.Repeat([][]byte{{}}, 31)}})},
		{"result: a share twice", decoding(readReadTestWriteResult), []byte("\xa2\x67success\xf5\x64data\xa2\x01\x80\x01\x80")},
	} {
		if err := c.decode(c.body); !errors.Is(err, errCBOR) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func decoding[T any](read func(*reader) (T, error)) func([]byte) error {
	return func(b []byte) error { _, err := decode(b, read); return err }
}

func TestBadRanges(t *testing.T) {
	a := newAsked(t)
	ranges := []string{
		"", " ", "bytes", "bytes=", "bytes=-", "bytes=5-", "bytes=-5", "bytes=9-5", "bytes=0-1,3-4", "bytes=0-1;3-4", "beets=0-9", "0-9", "=0-9",
		"bytes=a-b", "bytes=+1-5", "bytes=1-+5", "bytes=-1-5", "bytes=0x0-0x9", "bytes=0-1_0", "bytes=0--1", "bytes=1 2-5", "bytes 0-9",
		"bytes=0-18446744073709551616", "bytes=0-18446744073709551615", "bytes=9223372036854775807-9223372036854775807", "bytes=0-9223372036854775807",
		"bytes=1e3-2e3", "bytes==0-9", "bytes=\u0660-\u0669", "bytes=0-9\x00", "bytes=0.0-9.0", "bytes=" + strings.Repeat("9", 5000) + "-1",
	}
	contents := []string{
		"", " ", "bytes", "bytes ", "bytes 0-9", "bytes /10", "bytes */10", "bytes 10-11/10", "bytes 9-5/*", "bytes=0-9/*", "octets 0-9/*", "BYTES 0-9/*",
		"bytes 0-9/x", "bytes 0-9/-10", "bytes 0-9/", "bytes 0-9/10/10", "bytes 0-9/* ,", "bytes a-9/*", "bytes -9/*", "bytes 0-/*", "bytes 0 9/*",
		"bytes +0-9/*", "bytes 0-0x9/*", "bytes 0-9,10-19/*", "bytes 0-18446744073709551615/*", "bytes 0-9223372036854775807/*",
		"bytes 9223372036854775806-9223372036854775807/*", "bytes 0-9/18446744073709551616", "bytes 1e0-9/*", "bytes \u0660-\u0669/*",
	}
	if len(ranges) < wantBad || len(contents) < wantBad {
		t.Errorf("only %d and %d", len(ranges), len(contents))
	}
	for _, r := range ranges {
		h := a.header()
		h["Range"] = []string{r}
		for _, path := range []string{"immutable/" + badSI.Text() + "/0", "mutable/" + badSlot.Text() + "/0"} {
			a.refused(fmt.Sprintf("Range %.40q", r), "GET", path, h, nil, http.StatusRequestedRangeNotSatisfiable, errRange.Error())
		}
	}
	for _, r := range contents {
		h := a.header(uploadSecret)
		h["Content-Range"] = []string{r}
		a.refused(fmt.Sprintf("Content-Range %.40q", r), "PATCH", "immutable/"+badUpload.Text()+"/0", h, []byte("0123456789"), http.StatusRequestedRangeNotSatisfiable, errRange.Error())
	}
	// The form is right, and what it says is not.
	for _, c := range []struct {
		method, name, value, body string
		code                      int
	}{
		{"GET", "Range", "bytes=10-10", "", 204},
		{"GET", "Range", "bytes=10-9223372036854775805", "", 204},
		{"GET", "Range", "bytes=9223372036854775805-9223372036854775805", "", 204},
		{"PATCH", "Content-Range", "bytes 0-10/*", "0123456789x", 416},
		{"PATCH", "Content-Range", "bytes 10-10/*", "x", 416},
		{"PATCH", "Content-Range", "bytes 9223372036854775805-9223372036854775805/*", "x", 416},
		{"PATCH", "Content-Range", "bytes 0-9/*", "012345678", 400},
		{"PATCH", "Content-Range", "bytes 0-8/*", "0123456789", 400},
	} {
		si, h := badSI, a.header()
		if c.method == "PATCH" {
			si, h = badUpload, a.header(uploadSecret)
		}
		h.Set(c.name, c.value)
		if code, text := a.ask(c.method, "immutable/"+si.Text()+"/0", h, []byte(c.body)); code != c.code {
			t.Errorf("%s %s: %d %q, want %d", c.name, c.value, code, text, c.code)
		}
		a.unchanged(c.value)
	}
}

func TestBadAuthorization(t *testing.T) {
	a := newAsked(t)
	good := authorization(badSwissnum)
	encoded := strings.TrimPrefix(good, "Tahoe-LAFS ")
	bad := [][]string{
		nil, {""}, {" "}, {"Tahoe-LAFS"}, {"Tahoe-LAFS "}, {encoded}, {"Tahoe-LAFS" + encoded}, {"Tahoe-LAFS  " + encoded}, {"Tahoe-LAFS\t" + encoded},
		{"tahoe-lafs " + encoded}, {"TAHOE-LAFS " + encoded}, {"Basic " + encoded}, {"Bearer " + encoded}, {"Tahoe-LAFS " + badSwissnum},
		{good + "="}, {good[:len(good)-1]}, {good + " "}, {" " + good}, {good + "\x00"}, {good + ", " + good}, {"Tahoe-LAFS " + strings.ToLower(encoded)},
		{"Tahoe-LAFS " + base64.URLEncoding.EncodeToString([]byte(badSwissnum+"\xff"))}, {"Tahoe-LAFS " + base64.StdEncoding.EncodeToString([]byte(badSwissnum+"x"))},
		{"Tahoe-LAFS " + base64.StdEncoding.EncodeToString([]byte(badSwissnum[1:]))}, {"Tahoe-LAFS " + base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(badSwissnum)))},
		{"wrong", good}, {"Tahoe-LAFS " + strings.Repeat("A", 15000)}, {"Tahoe-LAFS \u00e9"},
	}
	if len(bad) < wantBad {
		t.Errorf("only %d", len(bad))
	}
	for _, h := range bad {
		for _, c := range []struct {
			method, path string
			secrets      []secretKind
		}{
			{"GET", "version", nil},
			{"GET", "immutable/" + badSI.Text() + "/0", nil},
			{"PUT", "lease/" + badSI.Text(), []secretKind{leaseRenew, leaseCancel}},
			{"PUT", "immutable/" + badUpload.Text() + "/0/abort", []secretKind{uploadSecret}},
		} {
			header := a.header(c.secrets...)
			delete(header, "Authorization")
			if h != nil {
				header["Authorization"] = h
			}
			a.refused(fmt.Sprintf("%s with %.40q", c.path, h), c.method, c.path, header, nil, http.StatusUnauthorized, errUnauthorized.Error())
		}
	}
}

func TestBadSecrets(t *testing.T) {
	a := newAsked(t)
	renew, cancel := "lease-renew-secret "+secret32, "lease-cancel-secret "+secret32
	bad := [][]string{
		nil, {renew}, {cancel}, {renew, renew}, {cancel, cancel}, {renew, cancel, renew}, {renew, cancel, "upload-secret QUJD"}, {renew, cancel, ""},
		{renew, "upload-secret " + secret32}, {renew, "write-enabler " + secret32}, {renew + ", " + cancel}, {renew + "," + cancel, ""},
		{renew, ""}, {renew, "lease-cancel-secret"}, {renew, "lease-cancel-secret "}, {renew, secret32}, {renew, "lease-cancel-secret=" + secret32},
		{renew, "lease-cancel-secret QUJD"}, {renew, "lease-cancel-secret " + secret32[:43]}, {renew, "lease-cancel-secret " + secret32 + "QUFB"},
		{renew, "Lease-Cancel-Secret " + secret32}, {renew, "lease-cancel-secret " + secret32 + ", x"}, {renew, "lease-cancel-secret ===="},
		{renew, "lease-cancel-secret " + secret32[:43] + "\u00e9"}, {renew, "lease-cancel-secret " + secret32[:42] + "F="}, {renew, "lease-cancel-secret " + strings.Repeat("QUFB", 1000)},
		{renew, "lease-cancel-secret " + strings.Replace(secret32, "QUFB", "Q-_B", 1)}, {renew, "lease-cancel-secret " + secret32[:20] + "\n" + secret32[20:40]},
		{renew, "lease-cancel-secret " + secret32[:20] + " " + secret32[20:]}, {renew, "\x00lease-cancel-secret " + secret32},
	}
	if len(bad) < wantBad {
		t.Errorf("only %d", len(bad))
	}
	for _, h := range bad {
		header := a.header()
		header[http.CanonicalHeaderKey(secretHeader)] = h
		a.refused(fmt.Sprintf("%.80q", h), "PUT", "lease/"+badSI.Text(), header, nil, http.StatusBadRequest, errSecrets.Error())
	}
	// Upload secrets may have any length but none.
	for _, text := range []string{"", "====", "QUJ", "QUJE=", "QUI\u00e9", "QQ", "QR==", strings.Repeat("QUFB", 1000)} {
		header := a.header()
		header.Set(secretHeader, "upload-secret "+text)
		a.refused(fmt.Sprintf("upload secret %.40q", text), "PUT", "immutable/"+badUpload.Text()+"/0/abort", header, nil, http.StatusBadRequest, errSecrets.Error())
	}
	// Well-formed, and wrong.
	header := a.header()
	header.Set(secretHeader, formatSecret(uploadSecret, []byte("another")))
	a.refused("another upload secret", "PUT", "immutable/"+badUpload.Text()+"/0/abort", header, nil, http.StatusUnauthorized, storage.ErrUnauthorized.Error())
	header = a.header(leaseRenew, leaseCancel)
	header.Add(secretHeader, formatSecret(writeEnabler, bytes.Repeat([]byte("x"), 32)))
	a.refused("another write enabler", "POST", "mutable/"+badSlot.Text()+"/read-test-write", header, readTestWrite{}.encode(), http.StatusUnauthorized, storage.ErrUnauthorized.Error())
}
