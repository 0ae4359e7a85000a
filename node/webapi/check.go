package webapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"warren/node/caps"
)

// CheckOptions says how thorough a check is: see immutable.CheckOptions and
// mutable.CheckOptions.
type CheckOptions struct{ Verify, AddLease bool }

// ShareAt is one share on one server.
type ShareAt struct {
	Server string
	Share  int
}

// Health is what a check found of one file or directory, as Tahoe counts it.
type Health struct {
	Index                caps.StorageIndex
	Summary              string // Tahoe's sentence
	Healthy, Recoverable bool
	Happiness            int // servers of happiness of the good shares
	Good                 int // distinct good shares, of Needed and Expected
	Needed, Expected     int
	Hosts                int // servers with good shares
	Wrong                int // shares of versions other than the best

	RecoverableVersions, UnrecoverableVersions int

	// Corrupt shares are damaged, Incompatible ones of a version that we do not know.
	Corrupt, Incompatible []ShareAt
	Responding            []string            // servers that said what they hold
	Sharemap              map[string][]string // servers of each share
	// Troubles say what could not be found out; NoLease are servers that hold shares
	// and did not take our lease.
	Troubles, NoLease []string
}

// Repaired is what a check with repair found and achieved.
type Repaired struct {
	Before, After         *Health
	Attempted, Successful bool
	Failure               error // why a repair that was attempted was no success
}

// Checker is a Grid that can say how well a file or directory is stored, and repair
// it. The answers for what is held in its capability are nil; ErrUnsupported is that
// for a kind which cannot be checked. Other errors are that of the context and, of
// CheckAndRepair, that nothing could be made.
type Checker interface {
	Check(ctx context.Context, c caps.Cap, o CheckOptions) (*Health, error)
	CheckAndRepair(ctx context.Context, c caps.Cap, o CheckOptions) (*Repaired, error)
}

// checkArgs reads what a check is asked to do.
func checkArgs(r *http.Request) (o CheckOptions, repair bool, err error) {
	for name, value := range map[string]*bool{"verify": &o.Verify, "add-lease": &o.AddLease, "repair": &repair} {
		if *value, err = boolean(arg(r, name), false); err != nil {
			return o, repair, err
		}
	}
	return o, repair, nil
}

// output reads output=, whose value must be one of those, the first when it is not
// given. The answer is in capital letters.
func output(r *http.Request, known ...string) (string, error) {
	given := arg(r, "output")
	form := cmp.Or(strings.ToUpper(given), known[0])
	if !slices.Contains(known, form) {
		return "", bad("Unknown output value: %q", given)
	}
	return form, nil
}

// check handles t=check of a file or directory.
func (s *server) check(w http.ResponseWriter, r *http.Request, c caps.Cap) error {
	o, repair, err := checkArgs(r)
	if err != nil {
		return err
	}
	form, err := output(r, "HTML", "JSON")
	if err != nil {
		return err
	}
	grid, ok := s.Grid.(Checker)
	if !ok {
		return ErrUnsupported
	}
	var health *Health
	var repaired *Repaired
	if repair {
		repaired, err = grid.CheckAndRepair(r.Context(), c, o)
	} else {
		health, err = grid.Check(r.Context(), c, o)
	}
	switch {
	case errors.Is(err, ErrUnsupported):
		return &webError{http.StatusNotImplemented, fmt.Sprintf("Checking a %s capability is not supported by this version.", c.Kind())}
	case err != nil:
		return err
	case arg(r, "when_done") != "":
		return s.done(w, r, "")
	}
	return s.answerCheck(w, form, health, repaired)
}

// answerCheck tells of a check, or of a repair when repaired is not nil, or, when
// both are nil, of a literal.
func (s *server) answerCheck(w http.ResponseWriter, form string, health *Health, repaired *Repaired) error {
	switch {
	case form == "JSON" && repaired != nil:
		return asJSON(w, "text/plain", repairedJSON(repaired))
	case form == "JSON":
		return asJSON(w, "text/plain", healthJSON(health))
	}
	var b strings.Builder
	switch {
	case repaired != nil:
		repairedPage(&b, repaired)
	case health != nil:
		fmt.Fprintf(&b, "File Check Results for SI=%s\n\n", health.Index.Text())
		healthPage(&b, health)
	default:
		b.WriteString("File Check Results for LIT file\n\nLiteral files are always healthy: their data is contained in the URI\n")
	}
	return s.page(w, http.StatusOK, "text", struct{ Title, Text string }{"Check Results", b.String()})
}

// healthJSON is Tahoe's account of a check, field for field. What Tahoe passes over
// in silence is told in fields of our own, which are there only then: shares of
// versions not known, what could not be found out, leases that were not renewed.
func healthJSON(h *Health) map[string]any {
	if h == nil { // a literal
		return map[string]any{"storage-index": "", "results": map[string]any{"healthy": true}}
	}
	sharemap := map[string][]string{}
	for share, servers := range h.Sharemap {
		sharemap[share] = slices.Sorted(slices.Values(servers))
	}
	results := map[string]any{
		"count-happiness":              h.Happiness,
		"count-shares-good":            h.Good,
		"count-shares-needed":          h.Needed,
		"count-shares-expected":        h.Expected,
		"count-good-share-hosts":       h.Hosts,
		"count-corrupt-shares":         len(h.Corrupt),
		"list-corrupt-shares":          located(h.Index, h.Corrupt),
		"servers-responding":           slices.Concat([]string{}, h.Responding),
		"sharemap":                     sharemap,
		"count-wrong-shares":           h.Wrong,
		"count-recoverable-versions":   h.RecoverableVersions,
		"count-unrecoverable-versions": h.UnrecoverableVersions,
		"healthy":                      h.Healthy,
		"recoverable":                  h.Recoverable,
	}
	if len(h.Incompatible) > 0 {
		results["list-incompatible-shares"] = located(h.Index, h.Incompatible)
	}
	if len(h.Troubles) > 0 {
		results["troubles"] = h.Troubles
	}
	if len(h.NoLease) > 0 {
		results["lease-failures"] = h.NoLease
	}
	return map[string]any{"storage-index": h.Index.Text(), "summary": h.Summary, "results": results}
}

// located tells where shares lie as Tahoe's JSON does.
func located(index caps.StorageIndex, list []ShareAt) [][3]any {
	out := [][3]any{}
	for _, at := range list {
		out = append(out, [3]any{at.Server, index.Text(), at.Share})
	}
	return out
}

// repairedJSON is Tahoe's account of a check with repair. Why a repair did not
// succeed is told in a field of our own.
func repairedJSON(r *Repaired) map[string]any {
	if r == nil { // a literal
		return map[string]any{"storage-index": "", "repair-attempted": false}
	}
	m := map[string]any{
		"storage-index":       r.Before.Index.Text(),
		"repair-attempted":    r.Attempted,
		"repair-successful":   r.Successful,
		"pre-repair-results":  healthJSON(r.Before),
		"post-repair-results": healthJSON(r.After),
	}
	if r.Failure != nil {
		m["repair-failure"] = r.Failure.Error()
	}
	return m
}

func repairedPage(b *strings.Builder, r *Repaired) {
	fmt.Fprintf(b, "File Check-And-Repair Results for SI=%s\n\n", r.Before.Index.Text())
	switch {
	case !r.Attempted && !r.Before.Healthy:
		b.WriteString("No repair attempted: it needs the capability to write\n")
	case !r.Attempted:
		b.WriteString("No repair necessary\n")
	case r.Failure != nil:
		fmt.Fprintf(b, "Repair unsuccessful: %v\n", r.Failure)
	default:
		b.WriteString("Repair successful\n")
	}
	b.WriteString("\nPost-Repair Checker Results:\n")
	healthPage(b, r.After)
	if r.Attempted {
		b.WriteString("\nPre-Repair Checker Results:\n")
		healthPage(b, r.Before)
	}
}

func healthPage(b *strings.Builder, h *Health) {
	fmt.Fprintf(b, "%s : %s\n", h.word(), h.Summary)
	fmt.Fprintf(b, "Share Counts: need %d-of-%d, have %d\n", h.Needed, h.Expected, h.Good)
	fmt.Fprintf(b, "Happiness Level: %d\nHosts with good shares: %d\nWrong Shares: %d\n", h.Happiness, h.Hosts, h.Wrong)
	fmt.Fprintf(b, "Recoverable Versions: %d\nUnrecoverable Versions: %d\n", h.RecoverableVersions, h.UnrecoverableVersions)
	for _, share := range slices.SortedFunc(maps.Keys(h.Sharemap), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)) // 9 before 10
	}) {
		for _, server := range h.Sharemap[share] {
			fmt.Fprintf(b, "Good share: sh#%s on %s\n", share, server)
		}
	}
	for _, at := range h.Corrupt {
		fmt.Fprintf(b, "Corrupt share: sh#%d on %s\n", at.Share, at.Server)
	}
	for _, at := range h.Incompatible {
		fmt.Fprintf(b, "Share of an unknown version: sh#%d on %s\n", at.Share, at.Server)
	}
	for _, t := range h.Troubles {
		fmt.Fprintf(b, "Not known: %s\n", t)
	}
	for _, server := range h.NoLease {
		fmt.Fprintf(b, "No lease: %s\n", server)
	}
}

// word is Tahoe's word for it.
func (h *Health) word() string {
	switch {
	case h.Healthy:
		return "Healthy"
	case h.Recoverable:
		return "Not Healthy!"
	}
	return "Not Recoverable!"
}
