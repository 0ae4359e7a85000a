package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// figures are all that was measured, as the JSON file has it.
type figures[P any] struct {
	Plan    P                 `json:"plan"`
	Machine map[string]string `json:"machine"`
	Media   []medium          `json:"media"`
}

// medium is what was measured on a disk, or on tmpfs.
type medium struct {
	Name       string  `json:"name"`
	Filesystem string  `json:"filesystem"`
	Rounds     []round `json:"rounds"`
}

// round is what was measured of the machine, and, by case and system.
type round struct {
	Yardsticks yardsticks                   `json:"yardsticks"`
	Samples    map[string]map[string]sample `json:"samples"`
}

func (f *figures[P]) save(t testing.TB, file string) {
	t.Helper()
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func load[P any](t testing.TB, file string) (f figures[P]) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// spread is a median and its range.
type spread struct{ median, least, most float64 }

// over takes a value from every round.
func (m medium) over(value func(round) float64) spread {
	var all []float64
	for _, r := range m.Rounds {
		all = append(all, value(r))
	}
	slices.Sort(all)
	n := len(all)
	return spread{(all[(n-1)/2] + all[n/2]) / 2, all[0], all[n-1]}
}

func (m medium) of(name, system string, value func(sample) float64) spread {
	return m.over(func(r round) float64 { return value(r.Samples[name][system]) })
}

func seconds(s sample) float64 { return s.Seconds }

// ratio is how many times as long as ours a system took, round by round.
func (m medium) ratio(name, system string) spread {
	return m.over(func(r round) float64 { return r.Samples[name][system].Seconds / r.Samples[name][ours].Seconds })
}

// table is for people.
func (m medium) table(p plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d-of-%d, %d servers, on %s (%s), %d rounds\n", p.Needed, p.Total, p.Servers, m.Name, m.Filesystem, len(m.Rounds))
	for _, y := range []struct {
		text string
		get  func(yardsticks) float64
	}{
		{"SHA-256 on one core, MiB/s", func(y yardsticks) float64 { return y.SHA256 }},
		{"loopback, MiB/s", func(y yardsticks) float64 { return y.Loopback }},
		{"write and fsync, MiB/s", func(y yardsticks) float64 { return y.WriteSync }},
		{"10 KiB files made and synced, /s", func(y yardsticks) float64 { return y.SmallSync }},
		{"load average", func(y yardsticks) float64 { return y.Load }},
	} {
		v := m.over(func(r round) float64 { return y.get(r.Yardsticks) })
		fmt.Fprintf(&b, "  %s: %.4g (%.4g to %.4g)\n", y.text, v.median, v.least, v.most)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\t\tmedian s\trange\trate\tours is x times as fast\tCPU s client + servers\tothers' CPU\tpeak MiB client, server")
	for _, name := range []string{caseUpload, caseDownload, casePuts} {
		for _, system := range []string{ours, foolscap, gbs} {
			s := m.of(name, system, seconds)
			rate := fmt.Sprintf("%.0f MiB/s", float64(p.Size)/mebibyte/s.median)
			if name == casePuts {
				rate = fmt.Sprintf("%.0f/s", float64(p.Puts)/s.median)
			}
			faster := ""
			if system != ours {
				r := m.ratio(name, system)
				faster = fmt.Sprintf("%.2f (%.2f to %.2f)", r.median, r.least, r.most)
			}
			failed := 0
			for _, r := range m.Rounds {
				failed += r.Samples[name][system].Failed
			}
			if failed > 0 {
				faster += fmt.Sprintf(", failed %d times before", failed)
			}
			mib := func(n int64) float64 { return float64(n) / mebibyte }
			fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f to %.2f\t%s\t%s\t%.2f + %.2f\t%.2f\t%.0f, %.0f\n", name, system, s.median, s.least, s.most, rate, faster,
				m.of(name, system, func(s sample) float64 { return s.ClientCPU }).median,
				m.of(name, system, func(s sample) float64 { return s.ServerCPU }).median,
				m.of(name, system, func(s sample) float64 { return s.OthersCPU }).median,
				m.of(name, system, func(s sample) float64 { return mib(s.ClientRSS) }).most,
				m.of(name, system, func(s sample) float64 { return mib(s.ServerRSS) }).most)
		}
	}
	w.Flush()
	return b.String()
}

// report is the same for go test's own line, and the tools that read it.
func (m medium) report(b *testing.B) {
	for _, name := range []string{caseUpload, caseDownload, casePuts} {
		b.ReportMetric(m.of(name, ours, seconds).median, name+"-s")
		b.ReportMetric(m.ratio(name, foolscap).median, name+"-x-Foolscap")
		b.ReportMetric(m.ratio(name, gbs).median, name+"-x-GBS")
	}
	b.ReportMetric(0, "ns/op")
}
