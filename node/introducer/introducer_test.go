package introducer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"warren/node/foolscap"
	"warren/node/foolscap/banana"
	"warren/node/furl"
	"warren/node/taghash"
)

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func signingKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTub(t testing.TB, cert tls.Certificate, hints ...furl.Hint) *foolscap.Tub {
	t.Helper()
	tub, err := foolscap.New(foolscap.Config{
		Certificate: cert, Location: hints, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tub.Close)
	return tub
}

// serve starts an introducer; stop ends it with its tub, as a process would.
func serve(t testing.TB, cert tls.Certificate, l net.Listener) (s *Server, f furl.FURL, stop func()) {
	t.Helper()
	tub := newTub(t, cert, furl.Hint{Type: "tcp", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port})
	s = NewServer("warren/test", nil)
	f = s.Register(tub, "swissnum")
	go tub.Serve(l)
	stop = func() { s.Close(); tub.Close() }
	t.Cleanup(stop)
	return s, f, stop
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func counter() func() (int64, error) {
	n := int64(0)
	return func() (int64, error) { n++; return n, nil }
}

func receive(t testing.TB, c <-chan Announcement) Announcement {
	t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(time.Minute):
		t.Fatal("no announcement came")
	}
	panic("unreachable")
}

const furlText = "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@tcp:127.0.0.1:1/secretsecret"

func TestPublishAndSubscribe(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	cert := certificate(t)
	_, f, stop := serve(t, cert, l)
	key := signingKey(t)
	publisher, err := NewClient(newTub(t, certificate(t)), f, ClientOptions{
		Nickname: "h\u00e9", Version: "warren/1", Key: key, Sequence: counter(), CachePath: filepath.Join(t.TempDir(), "none.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	cache := filepath.Join(t.TempDir(), "cache.yaml")
	subscriber, err := NewClient(newTub(t, certificate(t)), f, ClientOptions{Nickname: "sub", CachePath: cache})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan Announcement, 10)
	subscriber.Subscribe(Storage, func(a Announcement) { got <- a })
	if err := publisher.Publish(Storage, map[string]any{"anonymous-storage-FURL": furlText}); err != nil {
		t.Fatal(err)
	}
	a := receive(t, got)
	if a.Nickname != "h\u00e9" || a.KeyID != KeyID(key.Public().(ed25519.PublicKey)) || a.Cached ||
		a.Values["anonymous-storage-FURL"] != furlText || a.Values["seqnum"] != int64(1) {
		t.Fatalf("%#v", a.Values)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", a, a, a, a); strings.Contains(s, "secret") {
		t.Errorf("an announcement prints its address: %s", s)
	}
	// A change arrives; the same thing under the old number would not.
	if err := publisher.Publish(Storage, map[string]any{"anonymous-storage-FURL": furlText, "more": []any{1, "x"}}); err != nil {
		t.Fatal(err)
	}
	if a = receive(t, got); a.Values["seqnum"] != int64(2) {
		t.Fatalf("%#v", a.Values)
	}
	// The introducer restarts and forgets; both come back and publish again.
	stop()
	server, _, _ := serve(t, cert, listen(t, l.Addr().String()))
	later, err := NewClient(newTub(t, certificate(t)), f, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close()
	gotLater := make(chan Announcement, 10)
	later.Subscribe(Storage, func(a Announcement) { gotLater <- a })
	if again := receive(t, gotLater); !reflect.DeepEqual(again.Values, a.Values) {
		t.Fatalf("%#v", again.Values)
	}
	if n := len(server.Announcements()); n != 1 {
		t.Errorf("%d announcements", n)
	}
	subscriber.Close()
	if len(got) != 0 {
		t.Errorf("%d announcements were delivered twice", len(got))
	}
	// The cache holds it, and a client without its introducer knows it.
	dead := f
	dead.Hints = nil
	offline, err := NewClient(newTub(t, certificate(t)), dead, ClientOptions{CachePath: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer offline.Close()
	offline.Subscribe(Storage, func(a Announcement) { got <- a })
	if c := receive(t, got); !c.Cached || !reflect.DeepEqual(c.Values, a.Values) || c.KeyID != a.KeyID {
		t.Fatalf("from the cache: %#v", c.Values)
	}
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("cache: %v, %v", info.Mode(), err)
	}
}

// A node's own introducer needs no network.
func TestLoopback(t *testing.T) {
	tub, err := foolscap.New(foolscap.Config{Certificate: certificate(t)}) // cannot dial
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	s := NewServer("warren/test", nil)
	defer s.Close()
	c, err := NewClient(tub, s.Register(tub, "s"), ClientOptions{Key: signingKey(t), Sequence: counter()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make(chan Announcement, 1)
	c.Subscribe(Storage, func(a Announcement) { got <- a })
	if err := c.Publish(Storage, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	receive(t, got)
	if st := c.Status(); !st.Ready || st.LastError != nil || st.LastReceived.IsZero() {
		t.Errorf("%+v", st)
	}
}

// An introducer that answers late, over a circuit that has stalled, is asked again;
// one that refuses is not, and the status says so.
func TestLateAndRefused(t *testing.T) {
	tub, err := foolscap.New(foolscap.Config{Certificate: certificate(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	stalled := map[string]chan struct{}{"get_version": make(chan struct{}), "subscribe_v2": make(chan struct{}), "publish_v2": make(chan struct{})}
	calls := map[string]int{} // one call runs at a time
	f := tub.Register(&foolscap.Object{Handler: foolscap.HandlerFunc(func(ctx context.Context, c foolscap.Call) (any, error) {
		defer c.Args.Release()
		calls[c.Method]++
		select {
		case <-stalled[c.Method]:
		case <-ctx.Done():
		}
		switch c.Method {
		case "get_version":
			return banana.Dict{{Key: []byte(v2), Value: banana.Dict{}}}, nil
		case "publish_v2":
			return nil, foolscap.Violation("full")
		}
		return nil, nil
	})}, "s")
	c, err := newClient(tub, f, ClientOptions{Key: signingKey(t), Sequence: counter()}, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	await := func(what string, cond func(ClientStatus) bool) {
		t.Helper()
		for limit := time.After(time.Minute); !cond(c.Status()); {
			select {
			case <-limit:
				t.Fatalf("%s: %+v", what, c.Status())
			case <-time.After(time.Millisecond):
			}
		}
	}
	isLate := func(s ClientStatus) bool { return late(s.LastError) && !s.Subscribed }
	c.Subscribe(Storage, func(Announcement) {})
	await("get_version is late", isLate)
	close(stalled["get_version"])
	await("it is an introducer", func(s ClientStatus) bool { return s.Ready })
	await("subscribe_v2 is late", isLate)
	close(stalled["subscribe_v2"])
	await("subscribed", func(s ClientStatus) bool { return s.Subscribed && s.LastError == nil })
	if err := c.Publish(Storage, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	await("publish_v2 is late", func(s ClientStatus) bool { return late(s.LastError) && s.Subscribed })
	close(stalled["publish_v2"])
	var refused *foolscap.Failure
	await("refused", func(s ClientStatus) bool { return errors.As(s.LastError, &refused) })
	if !strings.Contains(refused.Message, "full") {
		t.Error(refused)
	}
	c.Close()
	tub.Close()
	for method, n := range calls {
		if n < 2 {
			t.Errorf("%s was called %d times", method, n)
		}
	}
}

// rawClient calls an introducer with what a hostile program would send.
func rawClient(t testing.TB, f furl.FURL) (*foolscap.Tub, *foolscap.Remote, context.Context) {
	t.Helper()
	tub := newTub(t, certificate(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r, err := tub.Reference(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	return tub, r, ctx
}

func sign(t testing.TB, key ed25519.PrivateKey, message string) Signed {
	t.Helper()
	good, err := Sign(map[string]any{"service-name": "x"}, key)
	if err != nil {
		t.Fatal(err)
	}
	good.Message = []byte(message)
	good.Signature = []byte("v0-" + taghash.EncodeBase32(ed25519.Sign(key, good.Message)))
	return good
}

func TestHostileCallers(t *testing.T) {
	s, f, _ := serve(t, certificate(t), listen(t, "127.0.0.1:0"))
	_, r, ctx := rawClient(t, f)
	canary := &foolscap.Object{}
	good := sign(t, signingKey(t), `{"service-name":"storage"}`).tuple()
	for name, c := range map[string]struct {
		method string
		args   foolscap.Args
	}{
		"no method":           {"remove_all", foolscap.Args{}},
		"no arguments":        {"publish_v2", foolscap.Args{}},
		"no tuple":            {"publish_v2", foolscap.With("x", canary)},
		"tuple of two":        {"publish_v2", foolscap.With(good[:2], canary)},
		"unsigned":            {"publish_v2", foolscap.With(banana.Tuple{good[0], nil, nil}, canary)},
		"foreign signature":   {"publish_v2", foolscap.With(banana.Tuple{[]byte("{}"), good[1], good[2]}, canary)},
		"no canary":           {"publish_v2", foolscap.With(good, nil)},
		"too long":            {"publish_v2", foolscap.With(banana.Tuple{make([]byte, 1<<20), good[1], good[2]}, canary)},
		"too many args":       {"publish_v2", foolscap.With(good, canary, 1)},
		"no subscriber":       {"subscribe_v2", foolscap.With(nil, []byte("storage"), banana.Dict{})},
		"service not a name":  {"subscribe_v2", foolscap.With(canary, []byte("a b"), banana.Dict{})},
		"service is a number": {"subscribe_v2", foolscap.With(canary, 1, banana.Dict{})},
		"info is a list":      {"subscribe_v2", foolscap.With(canary, []byte("storage"), []any{})},
	} {
		var failure *foolscap.Failure
		if _, err := r.Call(ctx, c.method, c.args); !errors.As(err, &failure) || !failure.IsClass("foolscap.tokens.Violation") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.Announcements()); n != 0 {
		t.Errorf("%d announcements were taken", n)
	}
	// One tub gets so many announcements and no more.
	for i := range maxPerPeer + 1 {
		_, err := r.Call(ctx, "publish_v2", foolscap.With(sign(t, signingKey(t), `{"service-name":"storage"}`).tuple(), canary))
		if (err != nil) != (i == maxPerPeer) {
			t.Fatalf("announcement %d: %v", i, err)
		}
	}
	for i := range maxSubscriptions + 1 {
		_, err := r.Call(ctx, "subscribe_v2", foolscap.With(&foolscap.Object{}, []byte("storage"), banana.Dict{}))
		if (err != nil) != (i == maxSubscriptions) {
			t.Fatalf("subscription %d: %v", i, err)
		}
	}
}

// A full introducer forgets those who are gone before it refuses.
func TestFullServer(t *testing.T) {
	s, f, _ := serve(t, certificate(t), listen(t, "127.0.0.1:0"))
	oldTub, old, ctx := rawClient(t, f)
	if _, err := old.Call(ctx, "publish_v2", foolscap.With(sign(t, signingKey(t), `{"service-name":"old"}`).tuple(), &foolscap.Object{})); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.bytes += maxKeptBytes - 40
	s.mu.Unlock()
	_, r, ctx := rawClient(t, f)
	publish := func() error {
		_, err := r.Call(ctx, "publish_v2", foolscap.With(sign(t, signingKey(t), `{"service-name":"storage"}`).tuple(), &foolscap.Object{}))
		return err
	}
	if err := publish(); err == nil {
		t.Fatal("a full introducer took one")
	}
	s.mu.Lock()
	var canary *foolscap.Remote
	for _, k := range s.announcements {
		canary = k.canary
	}
	s.mu.Unlock()
	oldTub.Close()
	<-canary.Done()
	if err := publish(); err != nil {
		t.Fatal(err)
	}
}

func TestBadAnnouncements(t *testing.T) {
	key := signingKey(t)
	long := strings.Repeat("a", 40000)
	for _, c := range []struct{ name, message string }{
		{"empty", ""}, {"no JSON", "x"}, {"null", "null"}, {"list", "[]"}, {"number", "1"}, {"two values", "{}{}"},
		{"cut", `{"service-name":"storage"`}, {"not UTF-8", "{\"service-name\":\"storage\",\"x\":\"\xff\"}"},
		{"no service", `{}`}, {"service is a number", `{"service-name":1}`}, {"service is empty", `{"service-name":""}`},
		{"service with a line end", `{"service-name":"a\nb"}`}, {"service too long", `{"service-name":"` + long[:65] + `"}`},
		{"too long", `{"service-name":"storage","x":"` + long + `"}`},
		{"nickname is a number", `{"service-name":"storage","nickname":1}`},
		{"nickname too long", `{"service-name":"storage","nickname":"` + long[:401] + `"}`},
		{"version is an object", `{"service-name":"storage","my-version":{}}`},
		{"furl is a list", `{"service-name":"storage","anonymous-storage-FURL":[]}`},
		{"furl is no furl", `{"service-name":"storage","anonymous-storage-FURL":"http://x"}`},
		{"furl too long", `{"service-name":"storage","anonymous-storage-FURL":"pb://` + long[:9000] + `"}`},
		{"nurls are a string", `{"service-name":"storage","anonymous-storage-NURLs":"pb://"}`},
		{"nurl is a number", `{"service-name":"storage","anonymous-storage-NURLs":[1]}`},
		{"too many nurls", `{"service-name":"storage","anonymous-storage-NURLs":["a"` + strings.Repeat(`,"a"`, 64) + `]}`},
		{"seqnum is a string", `{"service-name":"storage","seqnum":"1"}`}, {"seqnum is a float", `{"service-name":"storage","seqnum":1.5}`},
		{"seqnum is negative", `{"service-name":"storage","seqnum":-1}`}, {"seqnum is huge", `{"service-name":"storage","seqnum":99999999999999999999}`},
		{"seed is null", `{"service-name":"storage","permutation-seed-base32":null}`},
		{"number out of range", `{"service-name":"storage","x":1e999}`}, {"NaN", `{"service-name":"storage","x":NaN}`},
		{"key too long", `{"service-name":"storage","` + long[:101] + `":1}`},
		{"too deep", `{"service-name":"storage","x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`},
	} {
		if _, err := sign(t, key, c.message).Verify(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	good := sign(t, key, `{"service-name":"storage"}`)
	if _, err := good.Verify(); err != nil {
		t.Fatal(err)
	}
	secret := sign(t, key, `{"service-name":"storage","x":"secret"}`)
	if s := fmt.Sprintf("%v %+v %#v %s %x", secret, secret, &secret, secret, secret); strings.Contains(s, "secret") || strings.Contains(s, "736563") {
		t.Errorf("a signed announcement prints as %s", s)
	}
	for name, c := range map[string]struct {
		change func(*Signed)
		want   error
	}{
		"no signature":      {func(s *Signed) { s.Signature = nil }, ErrUnsigned},
		"no key":            {func(s *Signed) { s.Key = nil }, ErrUnsigned},
		"other kind of key": {func(s *Signed) { s.Key = append([]byte("v1-"), s.Key[3:]...) }, ErrUnsigned},
		"upper-case key":    {func(s *Signed) { s.Key = append([]byte("v0-"), strings.ToUpper(string(s.Key[3:]))...) }, ErrUnsigned},
		"short key":         {func(s *Signed) { s.Key = s.Key[:40] }, ErrUnsigned},
		"long signature":    {func(s *Signed) { s.Signature = append(s.Signature, 'a') }, ErrUnsigned},
		"another's key":     {func(s *Signed) { s.Key = sign(t, signingKey(t), "{}").Key }, ErrSignature},
		"changed message":   {func(s *Signed) { s.Message = append(s.Message, ' ') }, ErrSignature},
	} {
		s := Signed{append([]byte{}, good.Message...), append([]byte{}, good.Signature...), append([]byte{}, good.Key...)}
		c.change(&s)
		if _, err := s.Verify(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestReplays(t *testing.T) {
	key := signingKey(t)
	tub := newTub(t, certificate(t))
	c, err := NewClient(tub, furl.FURL{TubID: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Swissnum: "s"}, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []any
	c.Subscribe(Storage, func(a Announcement) { got = append(got, a.Values["v"]) })
	for _, m := range []string{
		`{"service-name":"other","v":"unasked"}`,
		`{"service-name":"storage","v":"first"}`,
		`{"service-name":"storage","v":"unnumbered"}`,
		`{"service-name":"storage","v":"five","seqnum":5}`,
		`{"service-name":"storage","v":"replay","seqnum":4}`,
		`{"service-name":"storage","v":"same number","seqnum":5}`,
		`{"service-name":"storage","v":"no number"}`,
		`{"seqnum":5, "v":"five", "service-name":"storage"}`,
		`{"service-name":"storage","v":"six","seqnum":6}`,
	} {
		c.announced([]any{"rubbish", sign(t, key, m).tuple()})
	}
	if want := []any{"first", "unnumbered", "five", "six"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := len(c.Announcements(Storage)); n != 1 {
		t.Errorf("%d known", n)
	}
}

func TestCacheFormat(t *testing.T) {
	values := map[string]any{
		"service-name": "storage", "nickname": "h\u00e9llo \U0001f600\n#: x", "version": int64(0), "app-versions": []any{},
		"plain": "pb://a@tcp:127.0.0.1:1,tor:x.onion:2/s#v=1", "empty": "", "float": 1.0, "exp": 1e21, "small": 1e-7, "none": nil, "yes": "yes", "=": "=",
		"date": "2024-01-01", "time": "12:30:45", "octal": "0777", "tilde": "~", "control": "\x00\u0085\u2028\ufeff",
		"list": []any{"a", []any{int64(1), []any{}}, map[string]any{"x": map[string]any{"y": []any{true}}, "z": "1"}},
		"map":  map[string]any{}, "neg": int64(-5), "1": "1e3", "colon:": "a:", "<<": "<<", "space": " a ",
	}
	key := KeyID(signingKey(t).Public().(ed25519.PublicKey))
	text := formatCache([]Announcement{{KeyID: key, Values: values}})
	got, err := parseCache(text)
	if err != nil || len(got) != 1 || got[0].KeyID != key || !reflect.DeepEqual(got[0].Values, values) {
		t.Fatalf("%s\n%v\n%#v", text, err, got)
	}
	for name, bad := range map[string]string{"scalar": "x", "map": "a: b", "broken": "- [", "tab": "\t"} {
		if got, err := parseCache([]byte(bad)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Single bad entries do not hide the good ones.
	some, err := parseCache([]byte("- 1\n- {ann: 1, key_s: x}\n- {key_s: " + key + "}\n- {ann: {service-name: a}, key_s: v0-x}\n" +
		"- {ann: {[1]: 2, service-name: a}, key_s: " + key + "}\n- {ann: {service-name: good}, key_s: " + key + "}\n"))
	if err != nil || len(some) != 1 || some[0].ServiceName != "good" {
		t.Errorf("%v, %v", some, err)
	}
}

// What PyYAML 6 writes without quotes for a text, and YAML 1.2 takes for something
// else, is a text.
func TestTahoesPlainTexts(t *testing.T) {
	key := KeyID(signingKey(t).Public().(ed25519.PublicKey))
	for _, text := range []string{"08", "089", "1e3", "5e33", "12e03", "-1e3", "+.5", "+1e3", "1e+3", "0o17", "2001-1-1", "._1", "0x1G", "y"} {
		got, err := parseCache([]byte("- ann:\n    nickname: " + text + "\n    service-name: storage\n  key_s: " + key + "\n"))
		if err != nil || len(got) != 1 || got[0].Nickname != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]any{"0": int64(0), "-5": int64(-5), "20": int64(20), "1.5": 1.5, "1.0e+21": 1e21, "1.0e-07": 1e-7, "-0.5": -0.5} {
		got, err := parseCache([]byte("- ann: {service-name: storage, n: " + text + "}\n  key_s: " + key + "\n"))
		if err != nil || len(got) != 1 || got[0].Values["n"] != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestStorageAnnouncement(t *testing.T) {
	f, err := furl.Parse(furlText)
	if err != nil {
		t.Fatal(err)
	}
	const seed = "aaaa"
	if a := StorageAnnouncement(f, nil, seed); len(a) != 2 || a["anonymous-storage-FURL"] != furlText || a["permutation-seed-base32"] != seed {
		t.Errorf("%v", len(a))
	}
	n := furl.NURL{SPKIHash: strings.Repeat("A", 43), Host: "h", Port: 1, Swissnum: "s", Version: 1}
	if a := StorageAnnouncement(f, []furl.NURL{n}, seed); !reflect.DeepEqual(a["anonymous-storage-NURLs"], []any{n.Text()}) {
		t.Error("no NURLs")
	}
}

// A message that is taken is taken again after JSON and after the cache.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"service-name":"storage","nickname":"\u00e9","seqnum":1,"x":[1,1.5,null,true,{"a":"b: c"}]}`))
	f.Add([]byte(`{"service-name":"a","1":"=","":"<<"}`))
	id := KeyID(make(ed25519.PublicKey, ed25519.PublicKeySize))
	f.Fuzz(func(t *testing.T, message []byte) {
		values, err := parseMessage(message)
		if err != nil {
			return
		}
		a, err := check(id, values)
		if err != nil {
			return
		}
		again, err := json.Marshal(a.Values)
		if err != nil {
			t.Fatal(err)
		}
		// As text: JSON's writer leaves the fraction of 1.0 away, as it may.
		w, err := parseMessage(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if third, err := json.Marshal(w); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%s became %s: %v", again, third, err)
		}
		text := formatCache([]Announcement{a})
		cached, err := parseCache(text)
		if err != nil || len(cached) != 1 || !reflect.DeepEqual(cached[0].Values, a.Values) {
			t.Fatalf("%s: %v\n%#v\n%#v", text, err, cached, a.Values)
		}
	})
}

func FuzzCache(f *testing.F) {
	f.Add([]byte("- ann: {service-name: storage}\n  key_s: v0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseCache(b)
		if err != nil {
			return
		}
		again, err := parseCache(formatCache(list))
		if err != nil || len(again) != len(list) {
			t.Fatalf("%v, %v", again, err)
		}
		for i := range list {
			if fmt.Sprint(list[i].Values) != fmt.Sprint(again[i].Values) {
				t.Fatalf("%#v became %#v", list[i].Values, again[i].Values)
			}
		}
	})
}
