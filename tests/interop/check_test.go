package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
)

// ailment is something that happens to the shares of a 2-of-3 file, one on each of
// three servers, and what is found of it: by asking, and by verifying.
type ailment struct {
	name string
	harm func(t *testing.T, shares []string) // the share files, by number
	held int                                 // shares that servers say they hold
	good int                                 // shares that are
	bad  int                                 // those that count as corrupt
	// unseen says what Tahoe's verifier takes the share for, which is damaged: it
	// counts seen shares as good, and none as corrupt.
	unseen string
	seen   int
	// both: Tahoe's client repairs it as well, or cannot: see repairedByTheirs.
	both bool
}

// Where the parts of a share file begin: behind the container's header of 12 bytes,
// at the offsets which the share's own header has from 0x0c on.
const (
	atBlocks = iota
	atPlaintext
	atCrypttext
	atBlockHashes
	atChain
	atUEB
)

func inPart(part, offset int) func(*testing.T, []string) {
	return func(t *testing.T, shares []string) {
		alter(t, shares[1], func(b []byte) []byte {
			b[12+int(binary.BigEndian.Uint32(b[12+0x0c+4*part:]))+offset] ^= 0x10
			return b
		})
	}
}

func inHeader(offset int) func(*testing.T, []string) {
	return func(t *testing.T, shares []string) {
		alter(t, shares[1], func(b []byte) []byte { b[12+offset] ^= 0x10; return b })
	}
}

func alter(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func lose(numbers ...int) func(*testing.T, []string) {
	return func(t *testing.T, shares []string) {
		for _, n := range numbers {
			if err := os.Remove(shares[n]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

var ailments = []ailment{
	{name: "nothing", harm: func(*testing.T, []string) {}, held: 3, good: 3},
	{name: "a share lost", harm: lose(1), held: 2, good: 2, both: true},
	{name: "two lost", harm: lose(0, 2), held: 1, good: 1},
	{name: "all lost", harm: lose(0, 1, 2)},
	{name: "on top of another", harm: func(t *testing.T, shares []string) {
		if err := os.Rename(shares[1], filepath.Join(filepath.Dir(shares[0]), "1")); err != nil {
			t.Fatal(err)
		}
	}, held: 3, good: 3},
	{name: "under another number", harm: func(t *testing.T, shares []string) {
		if err := os.Rename(shares[1], filepath.Join(filepath.Dir(shares[1]), "2")); err != nil {
			t.Fatal(err)
		}
	}, held: 2, good: 2, bad: 1, both: true,
		unseen: "Tahoe takes a share's block hash tree for right when it fits its own blocks", seen: 2},
	{name: "of another number", harm: func(t *testing.T, shares []string) {
		b, err := os.ReadFile(shares[2])
		if err != nil {
			t.Fatal(err)
		}
		alter(t, shares[1], func([]byte) []byte { return b })
	}, held: 3, good: 2, bad: 1, unseen: "Tahoe takes a share's block hash tree for right when it fits its own blocks", seen: 3},
	{name: "a block", harm: inPart(atBlocks, 5), both: true, held: 3, good: 2, bad: 1},
	{name: "the last block", harm: inPart(atPlaintext, -1), held: 3, good: 2, bad: 1},
	{name: "crypttext hash tree, root", harm: inPart(atCrypttext, 1), held: 3, good: 2, bad: 1},
	{name: "crypttext hash tree, leaf", harm: inPart(atCrypttext, 40), held: 3, good: 2, bad: 1},
	{name: "block hash tree, root", harm: inPart(atBlockHashes, 1), held: 3, good: 2, bad: 1},
	{name: "block hash tree, leaf", harm: inPart(atBlockHashes, 70), held: 3, good: 2, bad: 1},
	{name: "share hash chain, hash", harm: inPart(atChain, 5), held: 3, good: 2, bad: 1},
	{name: "share hash chain, number", harm: inPart(atChain, 0), held: 3, good: 2, bad: 1},
	{name: "UEB", harm: inPart(atUEB, 100), both: true, held: 3, good: 2, bad: 1},
	{name: "UEB's length", harm: inPart(atUEB, 2), held: 3, good: 2, bad: 1},
	{name: "share version", harm: inHeader(3), both: true, held: 3, good: 2, bad: 0},
	{name: "offset of the hash tree", harm: inHeader(0x17), held: 3, good: 2, bad: 1},
	{name: "offset of the UEB", harm: inHeader(0x23), held: 3, good: 2, bad: 1},
	{name: "block size", harm: inHeader(7), held: 3, good: 2, bad: 1, unseen: "nobody reads it", seen: 3},
	{name: "plaintext hash tree", harm: inPart(atPlaintext, 50), both: true, held: 3, good: 2, bad: 1, unseen: "nobody reads it", seen: 3},
	{name: "cut short", harm: func(t *testing.T, shares []string) {
		alter(t, shares[1], func(b []byte) []byte { return b[:len(b)-1000] })
	}, held: 3, good: 2, bad: 1},
}

// ourFields are in our node's account where Tahoe's is silent.
var ourFields = []string{"list-incompatible-shares", "troubles", "lease-failures"}

// account is what a node says of a check, without the order of what has none, and
// without ourFields.
func account(t testing.TB, c *WebClient, cap, args string) (map[string]any, int, string) {
	t.Helper()
	b, code, err := c.Do("POST", "/uri/"+url.PathEscape(cap)+"?t=check&output=JSON"+args, nil)
	if err != nil {
		t.Fatal(err)
	}
	if code != 200 {
		return nil, code, string(b)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for _, part := range []any{m, m["pre-repair-results"], m["post-repair-results"]} {
		part, _ := part.(map[string]any)
		results, _ := part["results"].(map[string]any)
		for _, name := range ourFields {
			if results[name] != nil && !strings.HasPrefix(name, "list-incompatible") {
				t.Errorf("%s: %v", name, results[name])
			}
			delete(results, name)
		}
		for _, name := range []string{"servers-responding", "list-corrupt-shares"} {
			if list, ok := results[name].([]any); ok {
				sort.Slice(list, func(i, j int) bool { return fmt.Sprint(list[i]) < fmt.Sprint(list[j]) })
			}
		}
	}
	return m, code, ""
}

func results(m map[string]any) map[string]any {
	r, _ := m["results"].(map[string]any)
	return r
}

// kept is a file on three servers, to be put back as it was.
type kept struct {
	cap, verify string
	dirs        []string          // of its shares, one a server
	paths       []string          // of its share files as they were stored, by number
	bytes       map[string][]byte // by path
}

func keep(t testing.TB, stores []string, cap string) *kept {
	t.Helper()
	parsed, err := caps.Parse(cap)
	if err != nil {
		t.Fatal(err)
	}
	index, _ := caps.Index(parsed)
	k := &kept{cap: cap, verify: caps.Verifier(parsed).Text(), paths: make([]string, 3), bytes: map[string][]byte{}}
	for _, store := range stores {
		dir := filepath.Join(store, "storage", "shares", index.Text()[:2], index.Text())
		k.dirs = append(k.dirs, dir)
		for path, b := range filesIn(t, dir) {
			n, err := strconv.Atoi(filepath.Base(path))
			if err != nil || n > 2 || k.paths[n] != "" {
				t.Fatalf("share file %s: %v", path, err)
			}
			k.paths[n], k.bytes[path] = path, b
		}
	}
	if slices.Contains(k.paths, "") {
		t.Fatalf("shares are missing: %v", k.paths)
	}
	return k
}

func filesIn(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, path := range paths {
		if out[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// restore makes the shares what they were.
func (k *kept) restore(t testing.TB) {
	t.Helper()
	for _, dir := range k.dirs {
		for path := range filesIn(t, dir) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, b := range k.bytes {
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sound counts the share files that hold what was stored under their number, and
// the others. Leases behind the data do not count.
func (k *kept) sound(t testing.TB) (good, bad int) {
	t.Helper()
	for _, dir := range k.dirs {
		for path, b := range filesIn(t, dir) {
			n, err := strconv.Atoi(filepath.Base(path))
			if err != nil {
				t.Fatal(err)
			}
			want := k.bytes[k.paths[n]]
			want = want[12 : len(want)-72]
			if len(b) >= 12+len(want) && bytes.Equal(b[12:12+len(want)], want) && (len(b)-12-len(want))%72 == 0 {
				good++
			} else {
				bad++
			}
		}
	}
	return good, bad
}

// TestCheckAndRepair is {our client, Tahoe's client} x {our servers, Tahoe's servers}:
// both clients say the same of every ailment, what one repairs the other finds
// healthy, and repaired shares are the original ones.
func TestCheckAndRepair(t *testing.T) {
	NeedPeers(t)
	for _, servers := range []string{"our servers", "Tahoe's servers"} {
		t.Run(servers, func(t *testing.T) {
			t.Parallel()
			stores := make([]string, 3)
			var furl string
			start := StartStorage
			if servers == "our servers" {
				start = StartOurStorage
			}
			furl = StartOurIntroducer(t).FURL
			var run []func()
			for i := range stores {
				run = append(run, func() { _, stores[i] = start(t, furl, fmt.Sprintf("storage%d", i)) })
			}
			Together(t, run...)
			ours, theirs := startClients(t, furl, 2, 3, 3, 3)
			sameHealth(t, ours, theirs, stores, servers == "our servers")
			t.Run("leases", func(t *testing.T) { sameLeases(t, ours, theirs, stores) })
			if servers == "our servers" { // what follows is the clients' own
				t.Run("other capabilities", func(t *testing.T) { sameOthers(t, ours, theirs) })
				t.Run("commands", func(t *testing.T) { sameChecks(t, ours, stores) })
			}
		})
	}
}

// sameHealth has both clients check every ailment, our client repair every one, or
// those that Tahoe's repairs too, and Tahoe's those.
func sameHealth(t *testing.T, ours, theirs *WebClient, stores []string, every bool) {
	if len(ailments) < 20 {
		t.Errorf("only %d ailments", len(ailments))
	}
	for i, a := range ailments {
		from := []*WebClient{ours, theirs}[i%2]
		data := body(uint64(i), 1<<20+100_000) // two segments
		file := keep(t, stores, string(from.Must(t, "PUT", "/uri", bytes.NewReader(data))))
		t.Run(a.name, func(t *testing.T) {
			a.harm(t, file.paths)
			verified := a.checked(t, ours, theirs, file)
			if a.good < 2 {
				x, code, text := account(t, ours, file.cap, "&repair=true")
				y, theirCode, theirText := account(t, theirs, file.cap, "&repair=true")
				first, _, _ := strings.Cut(text, "\n")
				if x != nil || y != nil || code != 410 || theirCode != 410 || !strings.HasPrefix(theirText, first) {
					t.Errorf("repair: ours %d %s, Tahoe's %d %s", code, text, theirCode, theirText)
				}
				return
			}
			if every || a.both {
				a.repairedByOurs(t, ours, theirs, file, verified, data)
			}
			if a.both {
				file.restore(t)
				a.harm(t, file.paths)
				a.repairedByTheirs(t, ours, theirs, file, data)
			}
		})
	}
}

// checked compares what the two clients find, and returns what ours says after it
// has verified.
func (a ailment) checked(t *testing.T, ours, theirs *WebClient, file *kept) (verified map[string]any) {
	t.Helper()
	for _, verify := range []bool{false, true} {
		args, good, bad := "", a.held, 0
		if verify {
			args, good, bad = "&verify=true", a.good, a.bad
		}
		x, code, text := account(t, ours, file.verify, args) // which Tahoe's web API does not take
		y, theirCode, theirText := account(t, theirs, file.cap, args)
		if code != 200 || theirCode != 200 {
			t.Fatalf("ours: %d %s, Tahoe's: %d %.300s", code, text, theirCode, theirText)
		}
		if r := results(x); r["count-shares-good"] != float64(good) || r["count-corrupt-shares"] != float64(bad) || r["healthy"] != (good == 3) {
			t.Errorf("verify %v: %s", verify, compact(x))
		}
		if verify && a.unseen != "" {
			if r := results(y); r["count-shares-good"] != float64(a.seen) || r["count-corrupt-shares"] != 0.0 {
				t.Errorf("Tahoe's sees what it did not see (%s): %s", a.unseen, compact(y))
			}
		} else if !reflect.DeepEqual(x, y) {
			t.Errorf("verify %v:\nours    %s\nTahoe's %s", verify, compact(x), compact(y))
		}
		verified = x
	}
	return verified
}

// repairedByOurs: what our client repairs is what it was, and Tahoe finds it healthy.
func (a ailment) repairedByOurs(t *testing.T, ours, theirs *WebClient, file *kept, verified map[string]any, data []byte) {
	t.Helper()
	x, code, text := account(t, ours, file.verify, "&verify=true&repair=true&add-lease=true")
	if code != 200 {
		t.Fatalf("our repair: %d %s", code, text)
	}
	after, _ := x["post-repair-results"].(map[string]any)
	if !reflect.DeepEqual(x["pre-repair-results"], verified) || x["repair-attempted"] != (a.good < 3) || x["repair-successful"] != (a.good < 3) || results(after)["count-shares-good"] != 3.0 {
		t.Errorf("our repair: %s", compact(x))
	}
	if good, bad := file.sound(t); good < 3 || (bad > 0) != (a.held > a.good || a.bad > 0) {
		t.Errorf("after our repair: %d shares as they were, %d others", good, bad)
	}
	y, code, text := account(t, theirs, file.cap, "&verify=true")
	if code != 200 || results(y)["healthy"] != true || a.unseen == "" && !reflect.DeepEqual(results(y)["sharemap"], results(after)["sharemap"]) {
		t.Errorf("after our repair: Tahoe's: %d %s %s", code, text, compact(y))
	}
	readBy(t, theirs, file.cap, data)
}

// repairedByTheirs: what Tahoe's client repairs ours finds healthy. It does not
// repair where a damaged share is: its uploader believes the server that it holds
// the share, so that none is made again elsewhere.
func (a ailment) repairedByTheirs(t *testing.T, ours, theirs *WebClient, file *kept, data []byte) {
	t.Helper()
	y, code, text := account(t, theirs, file.cap, "&verify=true&repair=true")
	if code != 200 {
		t.Fatalf("Tahoe's repair: %d %s", code, text)
	}
	seen := a.good
	if a.unseen != "" {
		seen = a.seen
	}
	inTheWay := a.held > a.good && a.unseen == ""
	if y["repair-attempted"] != (seen < 3) || y["repair-successful"] != (seen < 3 && !inTheWay) {
		t.Errorf("Tahoe's repair: %s", compact(y))
	}
	if seen == 3 || inTheWay {
		return
	}
	x, code, text := account(t, ours, file.cap, "&verify=true")
	if code != 200 || results(x)["healthy"] != true {
		t.Errorf("after Tahoe's repair: ours: %d %s %s", code, text, compact(x))
	}
	if good, _ := file.sound(t); good < 3 {
		t.Errorf("after Tahoe's repair: %d shares as they were", good)
	}
	readBy(t, ours, file.cap, data)
}

func readBy(t *testing.T, c *WebClient, cap string, want []byte) {
	t.Helper()
	if got := c.Must(t, "GET", "/uri/"+url.PathEscape(cap), nil); !bytes.Equal(got, want) {
		t.Errorf("%d other bytes were read", len(got))
	}
}

// sameLeases: each client adds its lease to what the other stored, once.
func sameLeases(t *testing.T, ours, theirs *WebClient, stores []string) {
	for seed, by := range map[uint64][2]*WebClient{1000: {ours, theirs}, 1001: {theirs, ours}} {
		file := keep(t, stores, string(by[0].Must(t, "PUT", "/uri", bytes.NewReader(body(seed, 5000)))))
		// Tahoe's client answers before the servers have.
		leases := func(want int) {
			t.Helper()
			Eventually(t, time.Minute, fmt.Sprint(want, " leases"), func() error {
				found := 0
				for _, dir := range file.dirs {
					for path, b := range filesIn(t, dir) {
						n := binary.BigEndian.Uint32(b[8:])
						if stored := file.bytes[path]; int(n) != 1+(len(b)-len(stored))/72 || !bytes.Equal(b[12:len(stored)-72], stored[12:len(stored)-72]) {
							return fmt.Errorf("%d leases in %d bytes, that were %d with one", n, len(b), len(stored))
						}
						found += int(n)
					}
				}
				if found != want {
					return fmt.Errorf("%d leases", found)
				}
				return nil
			})
		}
		leases(3)
		for _, c := range []*WebClient{by[0], by[1], by[0], by[1]} {
			if _, code, text := account(t, c, file.cap, "&add-lease=true"); code != 200 {
				t.Errorf("%d %s", code, text)
			}
			if c == by[1] { // and no more when they are renewed
				leases(6)
			}
		}
	}
}

// sameOthers: directories, literals, and paths.
func sameOthers(t *testing.T, ours, theirs *WebClient) {
	cap := string(ours.Must(t, "PUT", "/uri", bytes.NewReader(body(2000, 5000))))
	children := fmt.Sprintf(`{"a file": ["filenode", {"ro_uri": %q}], "small": ["filenode", {"ro_uri": "URI:LIT:nbswy3dp"}]}`, cap)
	frozen := string(ours.Must(t, "POST", "/uri?t=mkdir-immutable", strings.NewReader(children)))
	mutable := string(ours.Must(t, "POST", "/uri?t=mkdir-with-children", strings.NewReader(children)))
	paths := []string{
		url.PathEscape("URI:LIT:nbswy3dp"), url.PathEscape("URI:DIR2-LIT:"), url.PathEscape(frozen), url.PathEscape(lostCHK),
		url.PathEscape(mutable), url.PathEscape(lostSSK), url.PathEscape(lostDir),
	}
	for _, format := range []string{"SDMF", "MDMF"} {
		paths = append(paths, url.PathEscape(string(theirs.Must(t, "PUT", "/uri?format="+format, strings.NewReader("some bytes")))),
			url.PathEscape(string(theirs.Must(t, "POST", "/uri?t=mkdir&format="+format, nil))))
	}
	for _, dir := range []string{frozen, mutable} {
		for _, name := range []string{"a%20file", "small", "nothing"} {
			paths = append(paths, url.PathEscape(dir)+"/"+name)
		}
	}
	for _, path := range paths {
		for _, args := range []string{"&output=JSON", "&output=json&verify=true", "&output=JSON&repair=true", "", "&verify=nonsense"} {
			x, code, err := ours.Do("POST", "/uri/"+path+"?t=check"+args, nil)
			y, theirCode, theirErr := theirs.Do("POST", "/uri/"+path+"?t=check"+args, nil)
			if err != nil || theirErr != nil {
				t.Fatal(err, theirErr)
			}
			if code != theirCode {
				t.Errorf("%.12s…%s: ours %d, Tahoe's %d %.200s", path, args, code, theirCode, y)
			}
			if code != 200 || !strings.Contains(strings.ToLower(args), "json") {
				continue
			}
			var a, b map[string]any
			if err := errors.Join(json.Unmarshal(x, &a), json.Unmarshal(y, &b)); err != nil {
				t.Fatal(err)
			}
			if a["repair-successful"] == false {
				delete(a, "repair-failure") // of which Tahoe does not speak
			}
			for _, m := range []map[string]any{a, b} { // in no order
				for _, part := range []any{m, m["pre-repair-results"], m["post-repair-results"]} {
					part, _ := part.(map[string]any)
					delete(results(part), "servers-responding")
				}
			}
			if !reflect.DeepEqual(a, b) {
				t.Errorf("%.12s…%s:\nours    %s\nTahoe's %s", path, args, compact(a), compact(b))
			}
		}
	}
}

// sameChecks: "warren check" says what "tahoe check" says, on our node.
func sameChecks(t *testing.T, ours *WebClient, stores []string) {
	file := keep(t, stores, string(ours.Must(t, "PUT", "/uri", bytes.NewReader(body(3000, 5000)))))
	commands := func(args ...string) (string, error) {
		t.Helper()
		args = append([]string{"-d", ours.Dir, "check"}, args...)
		theirs, err := TryRun(t, time.Minute, Tahoe(t), args...)
		if err != nil {
			t.Errorf("tahoe check: %v", err)
		}
		mine, err := TryRun(t, time.Minute, Warren(t), args...)
		if mine != theirs {
			t.Errorf("warren check: %q, tahoe check: %q", mine, theirs)
		}
		return mine, err
	}
	if out, err := commands("--add-lease", file.cap); err != nil || !strings.HasPrefix(out, "Summary: Healthy\n") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := commands("URI:LIT:nbswy3dp"); err != nil || !strings.HasPrefix(out, "Summary: Healthy (LIT)\n") {
		t.Errorf("%q, %v", out, err)
	}
	inPart(atBlocks, 5)(t, file.paths)
	var exit *exec.ExitError
	if out, err := commands("--verify", file.cap); !errors.As(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(out, " corrupt shares:\n  server v0-") {
		t.Errorf("%q, %v", out, err)
	}
	out, err := TryRun(t, time.Minute, Warren(t), "-d", ours.Dir, "check", "--verify", "--repair", file.verify)
	if err != nil || !strings.HasSuffix(out, " repair successful\n") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := commands("--verify", "--repair", file.cap); err != nil || !strings.HasPrefix(out, "Summary: healthy\n") || strings.Contains(out, "repair ") {
		t.Errorf("%q, %v", out, err)
	}
	out, err = TryRun(t, time.Minute, Warren(t), "-d", ours.Dir, "check", "--json", file.cap)
	var account struct{ Summary string }
	if err != nil || json.Unmarshal([]byte(out), &account) != nil || account.Summary != "Healthy" {
		t.Errorf("%q, %v", out, err)
	}
	dir := string(ours.Must(t, "POST", "/uri?t=mkdir", nil))
	for _, args := range [][]string{{dir}, {"--verify", "--repair", dir}} {
		if out, err := commands(args...); err != nil || !strings.HasPrefix(strings.ToLower(out), "summary: healthy\n") {
			t.Errorf("%q, %v", out, err)
		}
	}
}
