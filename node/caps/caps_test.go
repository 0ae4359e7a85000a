package caps_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/tests/bounds"
)

// vector is what the real Tahoe says of one text; see tests/vectors/gen_caps.py.
type vector struct {
	Input    string
	Unknown  bool
	Error    *string
	Text     string
	ReadOnly *string `json:"readonly"`
	Verifier *string
	Index    *string
	IsRO     bool `json:"is_readonly"`
	IsMut    bool `json:"is_mutable"`
	IsDir    bool `json:"is_dir"`
	File     *string
	Dir      *string
}

func vectors(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/caps.json")
	if err != nil {
		t.Fatal(err)
	}
	var v []vector
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) < 200 {
		t.Fatalf("only %d vectors", len(v))
	}
	return v
}

func TestAgreesWithTahoe(t *testing.T) {
	kinds := map[string]int{}
	for _, v := range vectors(t) {
		c, err := caps.Parse(v.Input)
		switch {
		case v.Error != nil:
			want := map[string][]error{
				"MustBeReadonlyError":      {caps.ErrNotReadOnly},
				"MustBeDeepImmutableError": {caps.ErrNotImmutable},
				"BadURIError":              {caps.ErrFields, caps.ErrBase32, caps.ErrLength, caps.ErrNumber},
			}[*v.Error]
			if !isOneOf(err, want) {
				t.Errorf("%s: error %v, Tahoe says %s", v.Input, err, *v.Error)
			}
			kinds[*v.Error]++
			continue
		case err != nil:
			t.Errorf("%s: %v", v.Input, err)
			continue
		case v.Unknown:
			if _, ok := c.(caps.Unknown); !ok || c.Text() != v.Text {
				t.Errorf("%s: got %T %s", v.Input, c, c.Text())
			}
			kinds["unknown"]++
			continue
		}
		kinds[c.Kind()]++
		same(t, v, "text", c.Text(), &v.Text)
		same(t, v, "readonly", caps.ReadOnly(c).Text(), v.ReadOnly)
		if vc := caps.Verifier(c); vc == nil {
			if v.Verifier != nil {
				t.Errorf("%s: no verifier", v.Input)
			}
		} else {
			same(t, v, "verifier", vc.Text(), v.Verifier)
		}
		if si, ok := caps.Index(c); ok != (v.Index != nil) {
			t.Errorf("%s: has index: %v", v.Input, ok)
		} else if ok {
			same(t, v, "index", si.Text(), v.Index)
			if back, err := caps.ParseStorageIndex(si.Text()); err != nil || back != si {
				t.Errorf("%s: storage index does not parse back: %v", v.Input, err)
			}
		}
		if got := caps.IsReadOnly(c); got != v.IsRO {
			t.Errorf("%s: IsReadOnly %v", v.Input, got)
		}
		// Tahoe calls verifiers of mutable files immutable; we do not.
		if got := caps.IsMutable(c) && !caps.IsVerifier(c); got != v.IsMut {
			t.Errorf("%s: IsMutable %v", v.Input, got)
		}
		if caps.IsMutable(c) == caps.IsImmutable(c) {
			t.Errorf("%s: mutable and immutable agree", v.Input)
		}
		if got := caps.IsDir(c); got != v.IsDir {
			t.Errorf("%s: IsDir %v", v.Input, got)
		}
		if v.File != nil {
			f := caps.File(c)
			same(t, v, "file", f.Text(), v.File)
			if d, ok := caps.Dir(f); !ok || d.Text() != c.Text() {
				t.Errorf("%s: Dir(File) is not the directory", v.Input)
			}
		}
		if v.Dir != nil {
			d, ok := caps.Dir(c)
			if !ok {
				t.Fatalf("%s: cannot hold a directory", v.Input)
			}
			same(t, v, "dir", d.Text(), v.Dir)
		}
	}
	// 18 kinds, unknown, three errors of Tahoe.
	if len(kinds) != 22 {
		t.Errorf("vectors cover %d of 22 outcomes: %v", len(kinds), kinds)
	}
}

func isOneOf(err error, want []error) bool {
	for _, w := range want {
		if errors.Is(err, w) {
			return true
		}
	}
	return false
}

func same(t *testing.T, v vector, what, got string, want *string) {
	t.Helper()
	// Tahoe drops an MDMF extension; Text keeps it.
	if strings.Contains(v.Input, "MDMF") {
		got, _, _ = strings.Cut(got, ":3:131073")
		got = strings.TrimSuffix(got, ":")
	}
	if want == nil || got != *want {
		t.Errorf("%s: %s is %s, want %v", v.Input, what, got, want)
	}
}

func TestExtensionIsKept(t *testing.T) {
	n := 0
	for _, v := range vectors(t) {
		if !strings.HasSuffix(v.Input, ":3:131073") {
			continue
		}
		n++
		if c, err := caps.Parse(v.Input); err != nil || c.Text() != v.Input {
			t.Errorf("%s: %v", v.Input, err)
		}
	}
	if n < 6 {
		t.Fatalf("%d extensions", n)
	}
}

const (
	k16 = "6jtmro7b6ufxp2j24q6kln6gvq"
	h32 = "ch2tpwsbhxrtbrsurdlsetzi2dr2ifvjsyn24azoc7rujiaymqma"
)

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		text string
		want error
		part string
	}{
		{"", caps.ErrEmpty, ""},
		{"URI:LIT:" + strings.Repeat("a", caps.MaxText), caps.ErrTooLong, ""},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10", caps.ErrFields, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:5:6", caps.ErrFields, ""},
		{"URI:CHK:" + k16 + ":" + h32 + ":03:10:5", caps.ErrNumber, "needed shares"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:+10:5", caps.ErrNumber, "total shares"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:-5", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:1e3", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10: 5", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:5\n", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:9223372036854775808", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:10:99999999999999999999999", caps.ErrNumber, "size"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:\u0661\u0660:5", caps.ErrNumber, "total shares"},
		{"URI:CHK:" + k16 + ":" + h32 + ":0:10:5", caps.ErrEncoding, "shares"},
		{"URI:CHK:" + k16 + ":" + h32 + ":11:10:5", caps.ErrEncoding, "shares"},
		{"URI:CHK:" + k16 + ":" + h32 + ":3:257:5", caps.ErrEncoding, "shares"},
		{"URI:CHK-Verifier:" + k16 + ":" + h32 + ":3:10:5junk", caps.ErrNumber, "size"},
		{"URI:DIR2-CHK:" + k16 + ":" + h32 + ":3:10:5:", caps.ErrFields, ""},
		{"URI:SSK:" + k16, caps.ErrFields, "hash"},
		{"URI:SSK:" + k16 + ":" + h32 + ":", caps.ErrFields, ""},
		{"URI:SSK:" + k16 + ":" + h32 + "\n", caps.ErrBase32, "hash"},
		{"URI:SSK:" + k16 + ":" + k16, caps.ErrLength, "hash"},
		{"URI:SSK:" + h32 + ":" + h32, caps.ErrLength, "write key"},
		{"URI:SSK:" + k16[:25] + "r:" + h32, caps.ErrBase32, "write key"}, // stray bits
		{"URI:SSK-RO:" + strings.ToUpper(k16) + ":" + h32, caps.ErrBase32, "read key"},
		{"URI:SSK-Verifier:" + k16 + "======:" + h32, caps.ErrBase32, "storage index"},
		{"URI:DIR2:\x00" + k16[1:] + ":" + h32, caps.ErrBase32, "write key"},
		{"URI:MDMF:" + k16 + "\n:" + h32, caps.ErrBase32, "write key"},
		{"URI:LIT:0", caps.ErrBase32, "data"},
		{"URI:LIT:aa:", caps.ErrFields, ""},
		{"URI:LIT:a\na", caps.ErrBase32, "data"},
		{"ro.URI:SSK:" + k16 + ":" + h32, caps.ErrNotReadOnly, ""},
		{"ro.URI:DIR2-MDMF:" + k16 + ":" + h32, caps.ErrNotReadOnly, ""},
		{"imm.URI:DIR2-RO:" + k16 + ":" + h32, caps.ErrNotImmutable, ""},
		{"imm.URI:SSK:" + k16 + ":" + h32, caps.ErrNotImmutable, ""},
	} {
		got, err := caps.Parse(c.text)
		var e *caps.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Part != c.part || got != nil {
			t.Errorf("%.80q: cap %v, error %v, want %v in %q", c.text, got, err, c.want, c.part)
			continue
		}
		if strings.Contains(err.Error(), k16[:10]) || strings.Contains(err.Error(), h32[:10]) {
			t.Errorf("%.80q: the error quotes the secret: %v", c.text, err)
		}
	}
	for _, s := range []string{"", k16 + "a", k16[:25] + "r", h32} {
		if _, err := caps.ParseStorageIndex(s); !errors.Is(err, caps.ErrBase32) {
			t.Errorf("storage index %q: %v", s, err)
		}
	}
}

func TestUnknown(t *testing.T) {
	for _, c := range []struct {
		text    string
		ro, imm bool
		bare    string
	}{
		{"lafs://x", false, false, "lafs://x"},
		{"ro.lafs://x", true, false, "lafs://x"},
		{"imm.lafs://x", true, true, "lafs://x"},
	} {
		got, err := caps.Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		u := got.(caps.Unknown)
		if u.AllegedReadOnly() != c.ro || u.AllegedImmutable() != c.imm || u.Bare() != c.bare ||
			caps.IsReadOnly(u) != c.ro || caps.IsImmutable(u) != c.imm || caps.IsMutable(u) || caps.IsDir(u) {
			t.Errorf("%s: wrong answers", c.text)
		}
		if r := caps.ReadOnly(u); (r != nil) != c.ro {
			t.Errorf("%s: ReadOnly is %v", c.text, r)
		}
		if caps.Verifier(u) != nil {
			t.Errorf("%s: has a verifier", c.text)
		}
		if _, ok := caps.Index(u); ok {
			t.Errorf("%s: has an index", c.text)
		}
	}
}

// TestNeverPrints: no implicit way of turning a cap into text shows its secret.
func TestNeverPrints(t *testing.T) {
	seen := map[reflect.Type]bool{}
	for _, v := range vectors(t) {
		c, err := caps.Parse(v.Input)
		if err != nil || len(v.Input) < 15 {
			continue
		}
		seen[reflect.TypeOf(c)] = true
		ptr := reflect.New(reflect.TypeOf(c))
		ptr.Elem().Set(reflect.ValueOf(c))
		var out strings.Builder
		for _, x := range []any{c, ptr.Interface(), []any{c}, struct{ C caps.Cap }{c}, map[string]caps.Cap{"x": c}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U"} {
				fmt.Fprintf(&out, verb+"\n", x)
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "cap", x)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "cap", x)
			if b, err := json.Marshal(x); err == nil {
				t.Errorf("%T: marshals as JSON: %s", x, b)
			}
		}
		if b, err := xml.Marshal(c); err == nil {
			t.Errorf("%T: marshals as XML: %s", c, b)
		}
		if want := "<" + c.Kind() + " cap>"; c.String() != want || fmt.Sprint(c) != want {
			t.Errorf("prints as %s, want %s", c, want)
		}
		parts := strings.FieldsFunc(c.Text(), func(r rune) bool { return r == ':' || r == '/' })
		for _, secret := range parts[2:] {
			if len(secret) > 8 && strings.Contains(out.String(), secret) {
				t.Errorf("%T leaks a part of its text:\n%s", c, out.String())
			}
		}
		// Numbers of a byte array: "[242 102".
		if strings.Contains(out.String(), "[242") || strings.Contains(out.String(), "0xf2") || strings.Contains(out.String(), "f266") {
			t.Errorf("%T leaks bytes:\n%s", c, out.String())
		}
	}
	if len(seen) != 19 {
		t.Errorf("only %d of 19 types seen", len(seen))
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Input)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c caps.Cap
		var err error
		bounds.Memory(t, len(s), 16, func() { c, err = caps.Parse(s) })
		if err != nil {
			var e *caps.Error
			if !errors.As(err, &e) || c != nil {
				t.Fatalf("%T with cap %v", err, c)
			}
			return
		}
		// A true prefix is dropped, everything else stays byte for byte.
		if got := c.Text(); got != s && "ro."+got != s && "imm."+got != s {
			t.Fatalf("%q became %q", s, got)
		}
		back, err := caps.Parse(c.Text())
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%q does not parse back: %v", c.Text(), err)
		}
		if r := caps.ReadOnly(c); r != nil && !caps.IsReadOnly(r) {
			t.Fatalf("read-only form of %q is writable", s)
		}
		if v := caps.Verifier(c); v != nil {
			a, _ := caps.Index(c)
			if b, ok := caps.Index(v); !ok || a != b {
				t.Fatalf("verifier of %q has another index", s)
			}
		}
		if d, ok := caps.Dir(c); ok && caps.File(d).Text() != c.Text() {
			t.Fatalf("directory of %q lies in another file", s)
		}
	})
}
