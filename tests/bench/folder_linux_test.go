package bench

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"warren/invite/message"
	"warren/magicfolder"
	"warren/magicfolder/snapshot"
	"warren/node/caps"
	"warren/tests/interop"
)

// Those who share a folder.
const (
	pairOurs    = "warren"
	pairTheirs  = "magic-folder 24.3 on Tahoe"
	pairOursFar = "warren, 50 ms"
	pairMixed   = "warren to magic-folder"
	pairMixed2  = "magic-folder to warren"
)

// roundTrip is that of the pair that is far from its servers.
const roundTrip = 50 * time.Millisecond

var folderEncoding = message.Encoding{Needed: needed, Happy: happy, Total: total}

// member is one participant.
type member struct {
	dir       string // the folder
	processes []*interop.Process
	client    *interop.WebClient   // its node
	real      *interop.MagicFolder // nil: ours
	name      string               // of the folder
}

// idle waits until it has nothing to do.
func (m *member) idle(b testing.TB) {
	b.Helper()
	if m.real != nil {
		m.real.Idle(b, m.name)
		return
	}
	interop.Eventually(b, 10*time.Minute, "our folder is up to date", func() error {
		var list []magicfolder.Status
		out, err := interop.TryRun(b, time.Minute, interop.Warren(b), "-d", m.client.Dir, "folder", "status", "--json", m.name)
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err == nil && (len(list) != 1 || list[0].State != magicfolder.StateCurrent) {
			err = fmt.Errorf("%+v", list)
		}
		return err
	})
}

// pair is a folder between two participants on a grid of five servers, 3-of-5; the
// programs of servers and introducer are the first participant's.
type pair struct {
	members [2]*member
	grid    *system
	furl    string // of the introducer
}

func (p *pair) idle(b testing.TB) {
	b.Helper()
	for _, m := range p.members {
		m.idle(b)
	}
}

// startPair starts everything; behind: with proxies before the servers.
func startPair(b testing.TB, kind string, behind bool) *pair {
	b.Helper()
	interop.NeedPeers(b)
	p := plan{Needed: needed, Happy: happy, Total: total, Servers: total}
	s := &system{name: kind, behind: behind}
	if kind == pairOursFar {
		s.behind, s.far = true, roundTrip/2
	}
	dir, mailbox, out := b.TempDir(), interop.OurMailbox(b), &pair{grid: s}
	for i, name := range []string{"alice", "bob"} {
		out.members[i] = &member{dir: filepath.Join(dir, name), name: "bench"}
		if err := os.Mkdir(out.members[i].dir, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	alice, bob := out.members[0], out.members[1]
	program, furl := interop.Warren(b), ""
	if kind == pairTheirs {
		program, furl = interop.Tahoe(b), interop.StartIntroducer(b).FURL
	} else {
		furl = interop.StartOurIntroducer(b).FURL
	}
	introducer := func(program string) string {
		if program == interop.Warren(b) {
			return interop.SecretFile(b, furl)
		}
		return furl
	}
	out.furl = furl
	s.serve(b, p, program, introducer(program))
	real := func(m *member) {
		on := &system{name: kind}
		on.connect(b, p, interop.Tahoe(b), furl)
		m.client, m.real = on.client, interop.StartMagicFolder(b, on.client, mailbox)
		m.processes = []*interop.Process{on.client.Process, m.real.Process()}
	}
	warren := func(m *member, collective string) {
		n := interop.JoinFolder(b, furl, mailbox, collective, folderEncoding, m.name, filepath.Base(m.dir), m.dir)
		m.client, m.processes = n.Web(b), []*interop.Process{n.Process()}
	}
	switch kind {
	case pairTheirs:
		real(alice)
		real(bob)
		alice.real.Share(b, alice.name, "alice", alice.dir)
		alice.real.Invite(b, bob.real, bob.name, "bob", bob.dir)
	case pairMixed, pairMixed2:
		real(bob)
		warren(alice, bob.real.Share(b, bob.name, "bob", bob.dir))
		if kind == pairMixed2 {
			out.members[0], out.members[1] = bob, alice
		}
	default:
		// Both join what the grid has: nobody is the other's inviter.
		maker := interop.StartOurClient(b, furl, needed, happy, total, total)
		collective := interop.MakeFolderDirectory(b, maker, nil)
		maker.Process.Kill()
		warren(alice, collective)
		warren(bob, collective)
	}
	s.client = out.members[0].client
	return out
}

// table prints what was measured of whom, and each beside ours.
type table struct {
	title, unit string
	names       []string
	values      map[string][]float64 // the columns of each
	columns     []string
}

func (x *table) add(name string, values ...float64) {
	if x.values == nil {
		x.values = map[string][]float64{}
	}
	if x.values[name] == nil {
		x.names = append(x.names, name)
	}
	x.values[name] = values
}

func (x *table) show(b testing.TB) {
	b.Helper()
	fmt.Print(x.text(b))
	if err := x.save(b, "folders.json"); err != nil {
		b.Fatal(err)
	}
}

// save puts the table into a JSON file, beside those of other benchmarks, in the place of
// the one that this benchmark left there before.
func (x *table) save(b testing.TB, file string) error {
	b.Helper()
	type measured struct {
		Title   string               `json:"title"`
		Unit    string               `json:"unit"`
		Columns []string             `json:"columns"`
		Values  map[string][]float64 `json:"values"`
		Machine map[string]string    `json:"machine"`
	}
	all := map[string]measured{}
	old, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(old, &all)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	all[b.Name()] = measured{x.title, x.unit, x.columns, x.values, machine(b)}
	out, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(out, '\n'), 0o644)
}

func (x *table) text(b testing.TB) string {
	b.Helper()
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		b.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s (load average %s)\n", x.title, strings.Fields(string(load))[0])
	for _, name := range x.names {
		fmt.Fprintf(&out, "  %-28s", name)
		for i, v := range x.values[name] {
			fmt.Fprintf(&out, "  %s %.4g", x.columns[i], v)
			if o := x.values[pairOurs]; o != nil && name != pairOurs && o[i] > 0 {
				fmt.Fprintf(&out, " (%.3g x ours)", v/o[i])
			}
		}
		fmt.Fprintf(&out, " %s\n", x.unit)
	}
	return out.String()
}

// percentile of sorted values.
func percentile(sorted []float64, p float64) float64 {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// number of something from the environment, for shorter or longer runs.
func fromEnvironment(b testing.TB, name string, usual int) int {
	b.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("%s is a number from 1, not %q", name, s)
	}
	return n
}

const editSize = 10 << 10

// edit writes a file with bytes of its own at once, as editors do that care, and
// waits until the other has them.
func edit(b testing.TB, from, to *member, name string, body []byte) time.Duration {
	b.Helper()
	temporary := filepath.Join(filepath.Dir(from.dir), ".edit")
	if err := os.WriteFile(temporary, body, 0o644); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := os.Rename(temporary, filepath.Join(from.dir, name)); err != nil {
		b.Fatal(err)
	}
	for {
		if got, err := os.ReadFile(filepath.Join(to.dir, name)); err == nil && bytes.Equal(got, body) {
			return time.Since(start)
		}
		if time.Since(start) > 5*time.Minute {
			b.Fatalf("%s did not come in 5 minutes", name)
		}
		<-time.After(3 * time.Millisecond)
	}
}

// BenchmarkFolderLatency is the time from the save of a file of 10 KiB to the moment
// when the other participant's file has its bytes, at random phase of all polls: ten
// edits each time, so that -benchtime 3x are thirty. magic-folder polls and scans each
// second here, which is as often as it can; the times are those of loopback, but where
// the line has 50 ms.
func BenchmarkFolderLatency(b *testing.B) {
	const edits = 10
	x := table{title: "from an edit of 10 KiB to the other's disk", unit: "s", columns: []string{"p50", "p95", "most"}}
	for _, kind := range []string{pairOurs, pairOursFar, pairTheirs, pairMixed, pairMixed2} {
		b.Run(kind, func(b *testing.B) {
			p := startPair(b, kind, false)
			// Different files: an edit that magic-folder notices in the moment in which it
			// ends its work on the same file is lost to it.
			name := func(i int) string { return fmt.Sprintf("file %d", i%edits) }
			seed := uint64(1000)
			for i := range edits {
				seed++
				edit(b, p.members[0], p.members[1], name(i), random(seed, editSize))
			}
			var all []float64
			for b.Loop() {
				for i := range edits {
					p.idle(b)
					<-time.After(rand.N(5 * time.Second)) // the phase
					seed++
					all = append(all, edit(b, p.members[0], p.members[1], name(i), random(seed, editSize)).Seconds())
				}
			}
			slices.Sort(all)
			x.add(kind, percentile(all, 0.5), percentile(all, 0.95), all[len(all)-1])
			b.ReportMetric(percentile(all, 0.5), "p50-s")
			b.ReportMetric(percentile(all, 0.95), "p95-s")
			b.ReportMetric(0, "ns/op")
		})
	}
	x.show(b)
}

// BenchmarkFolderFiles is 300 files of 10 KiB at once, until the last of them stands
// in the other's folder.
func BenchmarkFolderFiles(b *testing.B) {
	const files = 300
	x := table{title: "300 files of 10 KiB to the other participant", unit: "s", columns: []string{"mean"}}
	for _, kind := range []string{pairOurs, pairTheirs} {
		b.Run(kind, func(b *testing.B) {
			p := startPair(b, kind, false)
			batch, times := 0, []float64{}
			for b.Loop() {
				batch++
				p.idle(b)
				arrivals := spread10(b, p, fmt.Sprintf("batch %d", batch), files, editSize)
				times = append(times, arrivals[len(arrivals)-1].Seconds())
			}
			sum := 0.0
			for _, t := range times {
				sum += t
			}
			x.add(kind, sum/float64(len(times)))
			b.ReportMetric(sum/float64(len(times)), "s/300-files")
			b.ReportMetric(0, "ns/op")
		})
	}
	x.show(b)
}

// spread10 writes so many files, 100 a directory, and gives the times after which the
// other has each tenth of them. What has come is compared at the end.
func spread10(b testing.TB, p *pair, name string, files, size int) []time.Duration {
	b.Helper()
	from, to := filepath.Join(p.members[0].dir, name), filepath.Join(p.members[1].dir, name)
	place := func(i int) string { return filepath.Join(fmt.Sprint(i/100), fmt.Sprintf("file %d", i)) }
	body := func(i int) []byte { // each of its own
		out := random(uint64(i), size)
		return append(fmt.Appendf(out[:0], "%s %d ", name, i), out[len(name)+10:]...)
	}
	start := time.Now()
	for i := range files {
		if i%100 == 0 {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(from, place(i))), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(from, place(i)), body(i), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	var arrivals []time.Duration
	for limit := 20*time.Minute + time.Duration(files)*time.Second; len(arrivals) < 10; {
		have := 0
		for d := range (files + 99) / 100 {
			entries, err := os.ReadDir(filepath.Join(to, fmt.Sprint(d)))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				b.Fatal(err)
			}
			have += len(entries)
		}
		for len(arrivals) < 10 && have >= files*(len(arrivals)+1)/10 {
			arrivals = append(arrivals, time.Since(start))
		}
		if time.Since(start) > limit {
			b.Fatalf("%d of %d files within %v", have, files, limit)
		}
		<-time.After(20 * time.Millisecond)
	}
	for i := range files {
		if got, err := os.ReadFile(filepath.Join(to, place(i))); err != nil || !bytes.Equal(got, body(i)) {
			b.Fatalf("file %d is not the one that was written (%v)", i, err)
		}
	}
	return arrivals
}

// BenchmarkFolderMany is 10,000 files of 10 KiB (WARREN_BENCH_FILES), until the last
// stands in the other's folder, beside the time of 30,000 raw puts: as magic-folder stores
// it, each file is three immutable objects, its content, some 500 bytes of metadata and a
// directory of some 1,500. Ours are two: the metadata stands in the directory. A tenth of each kind is put through the web API of the same node to the same
// servers just before, 24 at a time as the folder does, and its time taken ten times.
func BenchmarkFolderMany(b *testing.B) {
	files := fromEnvironment(b, "WARREN_BENCH_FILES", 10_000)
	p := startPair(b, pairOurs, false)
	c := &comparison{unit: random(99, mebibyte), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 24}}}
	defer c.http.CloseIdleConnections()
	raw := 0.0
	for _, size := range []int64{editSize, 500, 1500} {
		c.plan = plan{Puts: files / 10, PutSize: size, Together: 24}
		start := time.Now()
		if err := c.putMany(p.grid); err != nil {
			b.Fatal(err)
		}
		raw += 10 * time.Since(start).Seconds()
	}
	batch := 0
	x := table{title: fmt.Sprintf("%d files of 10 KiB, 3-of-5 on five servers", files), unit: "s", columns: []string{""}}
	for b.Loop() {
		batch++
		p.idle(b)
		at := spread10(b, p, fmt.Sprintf("batch %d", batch), files, editSize)
		all := at[9].Seconds()
		// The first tenth waits for the files to be written and to settle.
		early, late := (at[4]-at[0]).Seconds()/4, (at[9]-at[5]).Seconds()/4
		x.add(pairOurs, all)
		x.add(fmt.Sprintf("%d raw puts", 3*files), raw)
		fmt.Printf("arrivals of the tenths: %.1f\n", secondsOf(at))
		b.ReportMetric(all, "s")
		b.ReportMetric(all/raw, "of-raw-puts")
		b.ReportMetric(late/early, "late-of-early")
	}
	b.ReportMetric(0, "ns/op")
	for _, m := range p.members {
		fmt.Printf("peak memory of a participant: %.0f MiB\n", m.memory(b))
	}
	x.show(b)
}

func secondsOf(ds []time.Duration) (out []float64) {
	for _, d := range ds {
		out = append(out, d.Seconds())
	}
	return out
}

// memory is the peak of its processes together, in MiB.
func (m *member) memory(b testing.TB) float64 {
	b.Helper()
	n := int64(0)
	for _, p := range m.processes {
		n += peak(b, p)
	}
	return float64(n) / mebibyte
}

// processor is the time that its processes had on a processor, in seconds, as exact as
// the scheduler knows it: a hundredth of a second is half an idle minute of ours.
func (m *member) processor(b testing.TB) float64 {
	b.Helper()
	sum := 0.0
	for _, p := range m.processes {
		tasks, err := filepath.Glob(proc(p, "task/*/schedstat"))
		if err != nil || len(tasks) == 0 {
			b.Fatalf("%s (%v)", proc(p, "task"), err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				b.Fatal(err)
			}
			sum += number(b, strings.Fields(string(text))[0]) / 1e9
		}
	}
	return sum
}

// BenchmarkFolderIdle is what a participant in a folder of 100 files uses while nothing
// happens: of processor time in a minute, taken sixty times, and of memory at most
// since its start.
func BenchmarkFolderIdle(b *testing.B) {
	x := table{title: "an idle participant, node and folder", columns: []string{"CPU seconds an hour", "peak MiB"}}
	for _, kind := range []string{pairOurs, pairTheirs} {
		b.Run(kind, func(b *testing.B) {
			p := startPair(b, kind, false)
			spread10(b, p, "files", 100, editSize)
			p.idle(b)
			<-time.After(2 * time.Minute) // after a change one looks more often
			used, minutes := 0.0, 0.0
			for b.Loop() {
				before := p.members[0].processor(b) + p.members[1].processor(b)
				<-time.After(time.Minute)
				used += p.members[0].processor(b) + p.members[1].processor(b) - before
				minutes++
			}
			hour := used / 2 / minutes * 60
			memory := max(p.members[0].memory(b), p.members[1].memory(b))
			x.add(kind, hour, memory)
			b.ReportMetric(hour, "CPU-s/hour")
			b.ReportMetric(memory, "peak-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
	x.show(b)
}

// BenchmarkFolderWire is what goes between both participants and the servers for an edit
// of 10 KiB, both ways, less what goes in the same time when nothing happens.
func BenchmarkFolderWire(b *testing.B) {
	const edits = 5
	x := table{title: "on the wire for an edit of 10 KiB, both participants", columns: []string{"KiB", "idle KiB/s"}}
	for _, kind := range []string{pairOurs, pairTheirs} {
		b.Run(kind, func(b *testing.B) {
			p := startPair(b, kind, true)
			passed := func() (n float64) {
				for _, x := range p.grid.proxies {
					up, down := x.Passed()
					n += float64(up+down) / 1024
				}
				return n
			}
			seed := uint64(2000)
			for i := range edits {
				seed++
				edit(b, p.members[0], p.members[1], fmt.Sprint(i), random(seed, editSize))
			}
			p.idle(b)
			<-time.After(45 * time.Second)
			before, start := passed(), time.Now()
			<-time.After(20 * time.Second)
			idle := (passed() - before) / time.Since(start).Seconds()
			var all []float64
			for b.Loop() {
				before, start := passed(), time.Now()
				for i := range edits {
					seed++
					edit(b, p.members[0], p.members[1], fmt.Sprint(i), random(seed, editSize))
					p.idle(b)
				}
				all = append(all, (passed()-before-idle*time.Since(start).Seconds())/edits)
			}
			slices.Sort(all)
			x.add(kind, percentile(all, 0.5), idle)
			b.ReportMetric(percentile(all, 0.5), "KiB/edit")
			b.ReportMetric(idle, "idle-KiB/s")
			b.ReportMetric(0, "ns/op")
		})
	}
	x.show(b)
}

// BenchmarkFolderHistory is a participant that joins a folder of one file which has
// 1,000 versions (WARREN_BENCH_VERSIONS), and one that joins the same with one version,
// both on one grid of ours: ours, and magic-folder on Tahoe.
func BenchmarkFolderHistory(b *testing.B) {
	versions := fromEnvironment(b, "WARREN_BENCH_VERSIONS", 1000)
	interop.NeedPeers(b)
	p := plan{Needed: needed, Happy: happy, Total: total, Servers: total}
	intro, s, mailbox := interop.StartOurIntroducer(b), &system{name: ours}, interop.OurMailbox(b)
	s.serve(b, p, interop.Warren(b), interop.SecretFile(b, intro.FURL))
	s.connect(b, p, interop.Warren(b), interop.SecretFile(b, intro.FURL))
	tahoe := &system{name: gbs}
	tahoe.connect(b, p, interop.Tahoe(b), intro.FURL)
	real := interop.StartMagicFolder(b, tahoe.client, mailbox)
	folders := map[int]string{}
	for _, n := range []int{1, versions} {
		folders[n] = history(b, s.client, n)
	}
	x := table{title: fmt.Sprintf("joining a folder with a history %d deep", versions), unit: "s", columns: []string{"in all", "more than with one version"}}
	round := 0
	for _, kind := range []string{pairOurs, pairTheirs} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				took := map[int]float64{}
				for _, n := range []int{1, versions} {
					round++
					name, dir := fmt.Sprintf("folder %d", round), b.TempDir()
					start := time.Now()
					if kind == pairOurs {
						interop.JoinFolder(b, intro.FURL, mailbox, folders[n], folderEncoding, name, "ours", dir)
					} else {
						real.Invited(b, s.client, mailbox, folders[n], name, fmt.Sprintf("real %d", round), dir)
					}
					interop.Eventually(b, 20*time.Minute, "the file", func() error {
						got, err := os.ReadFile(filepath.Join(dir, "file"))
						if want := version(n - 1); err == nil && string(got) != want {
							err = fmt.Errorf("it holds %q", got)
						}
						return err
					})
					took[n] = time.Since(start).Seconds()
				}
				x.add(kind, took[versions], took[versions]-took[1])
				b.ReportMetric(took[versions], "s")
				b.ReportMetric(took[versions]-took[1], "more-s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	x.show(b)
}

func version(i int) string { return fmt.Sprintf("version %d", i) }

// history makes a folder with one participant, whose one file has so many versions, and
// gives its Collective's writecap.
func history(b testing.TB, c *interop.WebClient, versions int) string {
	b.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32))
	var parents []magicfolder.Cap
	for i := range versions {
		parents = []magicfolder.Cap{interop.PutSnapshot(b, c, key, snapshot.Metadata{Relpath: "file", Author: snapshot.Author{Name: "writer"},
			Modified: 1_700_000_000 + int64(i), Parents: parents}, []byte(version(i)))}
	}
	personal, err := caps.Parse(interop.MakeFolderDirectory(b, c, map[string][2]string{snapshot.Mangle("file"): {"dirnode", parents[0].Text()}}))
	if err != nil {
		b.Fatal(err)
	}
	return interop.MakeFolderDirectory(b, c, map[string][2]string{"writer": {"dirnode", caps.ReadOnly(personal).Text()}})
}

// TestFolderMeasures is a little of each, so that the big ones do not rot.
func TestFolderMeasures(t *testing.T) {
	p := startPair(t, pairOurs, true)
	if at := spread10(t, p, "few", 20, 1000); len(at) != 10 || at[9] < at[0] {
		t.Errorf("arrivals %v", at)
	}
	if took := edit(t, p.members[0], p.members[1], "edited", random(1, editSize)); took <= 0 {
		t.Errorf("an edit took %v", took)
	}
	p.idle(t)
	if m := p.members[0]; m.processor(t) <= 0 || m.memory(t) < 1 {
		t.Errorf("%v s, %v MiB", m.processor(t), m.memory(t))
	}
	if up, down := p.grid.proxies[0].Passed(); up < editSize/needed || down == 0 {
		t.Errorf("%d and %d bytes passed", up, down)
	}
	dir := t.TempDir()
	collective := history(t, p.members[0].client, 3)
	interop.JoinFolder(t, p.furl, interop.OurMailbox(t), collective, folderEncoding, "old", "reader", dir)
	interop.Eventually(t, 2*time.Minute, "the newest version", func() error {
		got, err := os.ReadFile(filepath.Join(dir, "file"))
		if err == nil && string(got) != version(2) {
			err = fmt.Errorf("it holds %q", got)
		}
		return err
	})
	x := table{title: "a table", unit: "s", columns: []string{"p50"}}
	x.add(pairOurs, 2)
	x.add(pairTheirs, 6)
	if text := x.text(t); !strings.Contains(text, "(3 x ours)") {
		t.Errorf("the table is %q", text)
	}
	file := filepath.Join(t.TempDir(), "folders.json")
	for range 2 {
		if err := x.save(t, file); err != nil {
			t.Fatal(err)
		}
	}
	saved, err := os.ReadFile(file)
	if err != nil || !json.Valid(saved) || strings.Count(string(saved), `"title": "a table"`) != 1 {
		t.Errorf("saved %s (%v)", saved, err)
	}
}
