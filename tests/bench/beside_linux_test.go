package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"warren/tests/interop"
)

// plan is what a comparison does.
type plan struct {
	Needed   int   `json:"needed"`
	Happy    int   `json:"happy"`
	Total    int   `json:"total"`
	Servers  int   `json:"servers"`
	Size     int64 `json:"size"` // of the large file
	Puts     int   `json:"puts"` // small files
	PutSize  int64 `json:"putSize"`
	Together int   `json:"together"` // of them at a time
}

// The cases, and those who are compared.
const (
	caseUpload   = "upload"
	caseDownload = "download"
	casePuts     = "puts"

	ours     = "warren"
	foolscap = "Tahoe, Foolscap"
	gbs      = "Tahoe, GBS"
)

// BenchmarkBesideTahoe is a file of 1 GiB up and down, and 1,000 of 10 KiB, 8 at a
// time, through the web API, 3-of-10 to ten servers on this machine: ours, and the
// real Tahoe's over each of its two protocols, in turn in every round. It runs on
// the disk below TMPDIR, where our servers sync what they store before they say so
// and Tahoe's never do, and on tmpfs, where syncing costs nothing.
//
// WARREN_BENCH_SIZE is another size, in MiB. The table goes to standard output,
// everything measured to beside-tahoe.json (WARREN_BENCH_JSON).
func BenchmarkBesideTahoe(b *testing.B) {
	p := plan{Needed: 3, Happy: 7, Total: 10, Servers: 10, Size: 1024 * mebibyte, Puts: 1000, PutSize: 10 << 10, Together: 8}
	if s := os.Getenv("WARREN_BENCH_SIZE"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			b.Fatalf("WARREN_BENCH_SIZE is a number of MiB, not %q", s)
		}
		p.Size = int64(n) * mebibyte
	}
	file := os.Getenv("WARREN_BENCH_JSON")
	if file == "" {
		file = filepath.Join(interop.Root(b), "tests", "bench", "beside-tahoe.json")
	}
	compare(b, &figures[plan]{Plan: p}, p, file, func(c *comparison) { c.round(b) }, func(b *testing.B, m medium) {
		fmt.Print("\n", m.table(p))
		m.report(b)
	})
}

// compare has each medium's systems measured round by round, and saves all there is
// after each.
func compare[P any](b *testing.B, all *figures[P], p plan, file string, round func(*comparison), end func(*testing.B, medium)) {
	interop.Warren(b) // not onto the tmpfs
	all.Machine = machine(b)
	for _, m := range []struct{ name, dir string }{{"disk", os.TempDir()}, {"tmpfs", "/dev/shm"}} {
		b.Run(m.name, func(b *testing.B) {
			b.Setenv("TMPDIR", m.dir)
			needRoom(b, m.dir, m.name == "tmpfs", p)
			c := newComparison(b, p)
			c.tell = func(name, system string, s sample) {
				fmt.Fprintf(os.Stderr, "%s, round %d: %s, %s: %.2f s, CPU %.2f + %.2f s, others' %.2f s\n",
					m.name, len(c.rounds)+1, name, system, s.Seconds, s.ClientCPU, s.ServerCPU, s.OthersCPU)
			}
			done := medium{Name: m.name, Filesystem: filesystemOf(b, m.dir)}
			all.Media = append(all.Media, done)
			for b.Loop() {
				round(c)
				done.Rounds = c.rounds
				all.Media[len(all.Media)-1] = done
				all.save(b, file)
			}
			end(b, done)
		})
	}
}

// TestBesideTahoe is the smallest comparison of each kind, so that the big ones do not rot.
func TestBesideTahoe(t *testing.T) {
	p := plan{Needed: 2, Happy: 2, Total: 3, Servers: 3, Size: 3 * mebibyte, Puts: 16, PutSize: 10 << 10, Together: 8}
	c := newComparison(t, p)
	c.round(t)
	file := filepath.Join(t.TempDir(), "figures.json")
	done := medium{Name: "disk", Filesystem: filesystemOf(t, t.TempDir()), Rounds: c.rounds}
	(&figures[plan]{Plan: p, Machine: machine(t), Media: []medium{done}}).save(t, file)
	read := load[plan](t, file)
	if len(read.Media) != 1 || len(read.Media[0].Rounds) != 1 {
		t.Fatalf("read back %d media", len(read.Media))
	}
	r := read.Media[0].Rounds[0]
	for _, name := range []string{caseUpload, caseDownload, casePuts} {
		for _, system := range []string{ours, foolscap, gbs} {
			s, ok := r.Samples[name][system]
			if !ok {
				t.Fatalf("%s of %s was not measured", name, system)
			}
			if s.Seconds <= 0 || s.ClientRSS < mebibyte || s.ServerRSS < mebibyte || s.ClientCPU < 0 || s.ServerCPU < 0 {
				t.Errorf("%s of %s cannot be: %+v", name, system, s)
			}
		}
	}
	if y := r.Yardsticks; y.SHA256 <= 0 || y.Loopback <= 0 || y.WriteSync <= 0 {
		t.Errorf("yardsticks: %+v", y)
	}
	table := read.Media[0].table(read.Plan)
	if n := strings.Count(table, foolscap); n != 3 {
		t.Errorf("the table names %s %d times:\n%s", foolscap, n, table)
	}
	t.Logf("\n%s", table)
	c.smallest(t)
}

// system is a client and its servers.
type system struct {
	name    string
	client  *interop.WebClient
	servers []*interop.Process
	dirs    []string // node directories of the servers
	// proxies, if wanted, stand before the servers, each byte so late each way.
	behind  bool
	far     time.Duration
	proxies []*interop.Proxy
}

// processes are the servers and the client.
func (s *system) processes() []*interop.Process {
	return append([]*interop.Process{s.client.Process}, s.servers...)
}

// comparison is the systems, and what was measured of them.
type comparison struct {
	plan    plan
	systems []*system
	http    *http.Client
	unit    []byte // what bodies are made of
	bodies  uint64 // made so far
	rounds  []round
	// tell, if not nil, hears of each sample: an hour is long.
	tell func(name, system string, s sample)
}

// newComparison starts the systems. All but one stand still (SIGSTOP) at any time:
// idle nodes are not free, a Tahoe client over GBS asks every server each second.
func newComparison(t testing.TB, p plan) *comparison {
	t.Helper()
	interop.NeedPeers(t)
	c := &comparison{plan: p, unit: random(99, 8*mebibyte),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: p.Together}}}
	t.Cleanup(c.http.CloseIdleConnections)
	var mine *system
	var theirs []*system
	interop.Together(t, func() {
		intro := interop.StartOurIntroducer(t)
		mine = &system{name: ours}
		mine.serve(t, p, interop.Warren(t), interop.SecretFile(t, intro.FURL))
		mine.connect(t, p, interop.Warren(t), interop.SecretFile(t, intro.FURL))
	}, func() {
		intro := interop.StartIntroducer(t)
		overGBS := &system{name: gbs}
		overGBS.serve(t, p, interop.Tahoe(t), intro.FURL)
		// The same servers, which speak both, and a client that is told which to use.
		overFoolscap := &system{name: foolscap, servers: overGBS.servers, dirs: overGBS.dirs}
		for _, s := range []*system{overFoolscap, overGBS} {
			s.connect(t, p, interop.Tahoe(t), intro.FURL)
			theirs = append(theirs, s)
		}
	})
	c.systems = append([]*system{mine}, theirs...)
	for _, s := range c.systems {
		s.checkProtocol(t)
	}
	for _, s := range c.systems {
		s.signal(t, syscall.SIGSTOP)
	}
	return c
}

// serve makes and starts the servers.
func (s *system) serve(t testing.TB, p plan, program, introducer string) {
	t.Helper()
	for i := range p.Servers {
		name, port := fmt.Sprintf("server%d", i), interop.FreePort(t)
		dir := filepath.Join(t.TempDir(), name)
		location := port
		if s.behind {
			proxy := interop.StartProxy(t, port)
			proxy.Far(s.far)
			s.proxies, location = append(s.proxies, proxy), proxy.Port()
		}
		interop.Run(t, 2*time.Minute, program, "create-node", "--introducer="+introducer, "--nickname="+name, "--webport=none", "--listen=tcp",
			fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", location), dir)
		run := []string{"-d", dir, "run"}
		if filepath.Base(program) == "tahoe" {
			// As clients, which they are too, they would ask each other every second.
			forceFoolscap(t, dir)
			run = []string{"run", "--allow-stdin-close", dir}
		}
		s.servers, s.dirs = append(s.servers, interop.Start(t, program, run...)), append(s.dirs, dir)
	}
}

// connect makes and starts the client.
func (s *system) connect(t testing.TB, p plan, program, introducer string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "client")
	interop.Run(t, 2*time.Minute, program, "create-client", "--introducer="+introducer,
		fmt.Sprintf("--webport=tcp:%d:interface=127.0.0.1", interop.FreePort(t)), fmt.Sprintf("--shares-needed=%d", p.Needed),
		fmt.Sprintf("--shares-happy=%d", p.Happy), fmt.Sprintf("--shares-total=%d", p.Total), dir)
	if s.name == foolscap {
		forceFoolscap(t, dir)
	}
	s.client = interop.RunClient(t, program, dir, p.Servers)
}

// forceFoolscap has a Tahoe node use no other protocol as a client.
func forceFoolscap(t testing.TB, dir string) {
	t.Helper()
	path := filepath.Join(dir, "tahoe.cfg")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(old), "\n[client]\n", "\n[client]\nforce_foolscap = true\n", 1)
	if changed == string(old) {
		t.Fatalf("%s has no section [client]", path)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkProtocol sees to it that what is measured is what it is called: Tahoe's
// clients show a Foolscap connection with its hint.
func (s *system) checkProtocol(t testing.TB) {
	t.Helper()
	page := string(s.client.Must(t, "GET", "/?t=json", nil))
	hinted := strings.Contains(page, `"connection_status": "Connected to `)
	if s.name == foolscap && !hinted || s.name == gbs && hinted {
		t.Fatalf("the client of %q uses another protocol: %s", s.name, page)
	}
}

func (s *system) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	for _, p := range s.processes() {
		if err := syscall.Kill(p.Pid(), sig); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
}

// clear deletes what the servers store, and leaves the directories of prefixes,
// which a server may know to be there.
func (s *system) clear(t testing.TB) {
	t.Helper()
	for _, dir := range s.dirs {
		stored, err := filepath.Glob(filepath.Join(dir, "storage", "shares", "[a-z2-7][a-z2-7]", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range stored {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// body is the next body of this size, unlike all others.
func (c *comparison) body(size int64) *body {
	c.bodies++
	return &body{unit: c.unit, tag: fmt.Appendf(nil, "body %20d ", c.bodies), size: size}
}

// round measures every case of every system once, and the machine. Each round
// begins with another system.
func (c *comparison) round(t testing.TB) {
	t.Helper()
	r := round{Yardsticks: measureMachine(t), Samples: map[string]map[string]sample{caseUpload: {}, caseDownload: {}, casePuts: {}}}
	for i := range c.systems {
		s := c.systems[(i+len(c.rounds))%len(c.systems)]
		s.signal(t, syscall.SIGCONT)
		s.client.WaitConnected(t, c.plan.Servers)
		// They may have been away for minutes: connections that this cost are made here.
		interop.Eventually(t, 2*time.Minute, s.name+": a first file", func() error {
			_, err := c.put(s, c.body(100<<10))
			return err
		})

		var stored string
		large := c.body(c.plan.Size)
		run := func(name string, do func() error) {
			got := c.attempt(t, s, do)
			r.Samples[name][s.name] = got
			if c.tell != nil {
				c.tell(name, s.name, got)
			}
		}
		run(caseUpload, func() (err error) {
			stored, err = c.put(s, large)
			return err
		})
		run(caseDownload, func() error { return c.get(s, stored, large) })
		s.clear(t)
		run(casePuts, func() error { return c.putMany(s) })
		s.clear(t)
		s.signal(t, syscall.SIGSTOP)
	}
	c.rounds = append(c.rounds, r)
}

// attempt measures until it works, and counts how often it did not. Ours must work.
// Tahoe's clients may not: while one derives the key of a large file it does nothing
// else, and over GBS it then takes servers for gone whose answers are late.
func (c *comparison) attempt(t testing.TB, s *system, do func() error) sample {
	t.Helper()
	const most = 5
	for failed := 0; ; failed++ {
		got, err := measure(t, s, do)
		if err == nil {
			got.Failed = failed
			return got
		}
		if s.name == ours || failed+1 == most {
			t.Fatalf("%s, %d times: %v", s.name, failed+1, err)
		}
		s.client.WaitConnected(t, c.plan.Servers)
	}
}

// put stores a body and returns its readcap.
func (c *comparison) put(s *system, body *body) (readcap string, err error) {
	req, err := http.NewRequest("PUT", s.client.URL+"/uri", body.reader())
	if err != nil {
		return "", err
	}
	req.ContentLength = body.size
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		page := string(text)
		// Tahoe's begins with a style sheet.
		return "", fmt.Errorf("PUT /uri: status %d: %.300s", resp.StatusCode, page[max(0, strings.Index(page, "<span>")):])
	}
	return string(text), nil
}

// get fetches a body and compares it.
func (c *comparison) get(s *system, readcap string, want *body) error {
	resp, err := c.http.Get(s.client.URL + "/uri/" + readcap)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /uri: status %d", resp.StatusCode)
	}
	return want.equal(resp.Body)
}

// putMany stores the small files.
func (c *comparison) putMany(s *system) error {
	work := make(chan *body, c.plan.Puts)
	for range c.plan.Puts {
		work <- c.body(c.plan.PutSize)
	}
	close(work)
	var wg sync.WaitGroup
	failed := make(chan error, c.plan.Together)
	for range c.plan.Together {
		wg.Go(func() {
			for body := range work {
				if _, err := c.put(s, body); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// body is a unit again and again, with a tag of its own in front: making and
// comparing it costs nothing that would be seen in what is measured.
type body struct {
	unit, tag []byte
	size      int64
}

func (b *body) reader() io.Reader {
	return io.LimitReader(io.MultiReader(bytes.NewReader(b.tag), &cycle{unit: b.unit}), b.size)
}

// equal reads r to its end.
func (b *body) equal(r io.Reader) error {
	want, buf, at := b.reader(), make([]byte, 256<<10), int64(0)
	expect := make([]byte, len(buf))
	for {
		n, err := r.Read(buf)
		if _, e := io.ReadFull(want, expect[:n]); e != nil || !bytes.Equal(expect[:n], buf[:n]) {
			return fmt.Errorf("not the bytes that were stored, from %d on", at)
		}
		at += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if at != b.size {
		return fmt.Errorf("%d bytes of %d", at, b.size)
	}
	return nil
}

// cycle repeats a unit for ever.
type cycle struct {
	unit []byte
	at   int
}

func (c *cycle) Read(p []byte) (int, error) {
	n := copy(p, c.unit[c.at:])
	c.at = (c.at + n) % len(c.unit)
	return n, nil
}
