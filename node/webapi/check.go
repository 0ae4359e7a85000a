package webapi

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"warren/node/caps"
	"warren/node/immutable"
)

// Checker is a Grid that can say how well a file is stored, and repair it. The
// answers for a file that is held in its capability are nil; ErrUnsupported is that
// for a kind which cannot be checked.
type Checker interface {
	Check(ctx context.Context, c caps.Cap, o immutable.CheckOptions) (*immutable.Health, error)
	CheckAndRepair(ctx context.Context, c caps.Cap, o immutable.CheckOptions) (*immutable.Repaired, error)
}

// check handles t=check of a file or directory.
func (s *server) check(w http.ResponseWriter, r *http.Request, c caps.Cap) error {
	var o immutable.CheckOptions
	var repair bool
	for name, value := range map[string]*bool{"verify": &o.Verify, "add-lease": &o.AddLease, "repair": &repair} {
		var err error
		if *value, err = boolean(arg(r, name), false); err != nil {
			return err
		}
	}
	output := strings.ToUpper(arg(r, "output"))
	switch output {
	case "":
		output = "HTML"
	case "HTML", "JSON":
	default:
		return bad("Unknown output value: %q", arg(r, "output"))
	}
	grid, ok := s.Grid.(Checker)
	if !ok {
		return ErrUnsupported
	}
	var health *immutable.Health
	var repaired *immutable.Repaired
	var err error
	if repair {
		repaired, err = grid.CheckAndRepair(r.Context(), c, o)
	} else {
		health, err = grid.Check(r.Context(), c, o)
	}
	switch {
	case errors.Is(err, ErrUnsupported):
		return &webError{http.StatusNotImplemented, fmt.Sprintf("Checking a %s capability is not supported by this version: it checks immutable files and immutable directories.", c.Kind())}
	case err != nil:
		return err
	case arg(r, "when_done") != "":
		return s.done(w, r, "")
	case output == "JSON" && repaired != nil:
		return asJSON(w, "text/plain", repairedJSON(repaired))
	case output == "JSON":
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
	w.Header().Set("Content-Type", "text/html;charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html><meta charset=utf-8><title>Check Results</title><pre>%s</pre>\n", html.EscapeString(b.String()))
	return nil
}

// healthJSON is Tahoe's account of a check, field for field. What Tahoe passes over
// in silence is told in fields of our own, which are there only then: shares of
// versions not known, what could not be found out, leases that were not renewed.
func healthJSON(h *immutable.Health) map[string]any {
	if h == nil { // a literal
		return map[string]any{"storage-index": "", "results": map[string]any{"healthy": true}}
	}
	sharemap := map[string][]string{}
	for share, servers := range h.Shares {
		sharemap[strconv.Itoa(share)] = servers
	}
	located := func(list []immutable.ShareAt) [][3]any {
		out := [][3]any{}
		for _, at := range list {
			out = append(out, [3]any{at.Server, h.Index.Text(), at.Share})
		}
		return out
	}
	recoverable := 0
	if h.Recoverable() {
		recoverable = 1
	}
	results := map[string]any{
		"count-happiness":              h.Happiness(),
		"count-shares-good":            len(h.Shares),
		"count-shares-needed":          h.Needed,
		"count-shares-expected":        h.Total,
		"count-good-share-hosts":       h.Hosts(),
		"count-corrupt-shares":         len(h.Corrupt),
		"list-corrupt-shares":          located(h.Corrupt),
		"servers-responding":           slices.Concat([]string{}, h.Responding),
		"sharemap":                     sharemap,
		"count-wrong-shares":           0, // of mutable files only
		"count-recoverable-versions":   recoverable,
		"count-unrecoverable-versions": 1 - recoverable,
		"healthy":                      h.Healthy(),
		"recoverable":                  h.Recoverable(),
	}
	if len(h.Incompatible) > 0 {
		results["list-incompatible-shares"] = located(h.Incompatible)
	}
	if len(h.Troubles) > 0 {
		var troubles []string
		for _, t := range h.Troubles {
			troubles = append(troubles, t.String())
		}
		results["troubles"] = troubles
	}
	if len(h.Leases) > 0 {
		var failed []string
		for _, t := range h.Leases {
			failed = append(failed, t.Server)
		}
		results["lease-failures"] = failed
	}
	return map[string]any{"storage-index": h.Index.Text(), "summary": h.Summary, "results": results}
}

// repairedJSON is Tahoe's account of a check with repair. Why a repair did not
// succeed is told in a field of our own.
func repairedJSON(r *immutable.Repaired) map[string]any {
	m := map[string]any{
		"storage-index":       r.Before.Index.Text(),
		"repair-attempted":    r.Attempted,
		"repair-successful":   r.Successful(),
		"pre-repair-results":  healthJSON(r.Before),
		"post-repair-results": healthJSON(r.After),
	}
	if r.Failure != nil {
		m["repair-failure"] = r.Failure.Error()
	}
	return m
}

func repairedPage(b *strings.Builder, r *immutable.Repaired) {
	fmt.Fprintf(b, "File Check-And-Repair Results for SI=%s\n\n", r.Before.Index.Text())
	switch {
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

func healthPage(b *strings.Builder, h *immutable.Health) {
	switch {
	case h.Healthy():
		b.WriteString("Healthy")
	case h.Recoverable():
		b.WriteString("Not Healthy!")
	default:
		b.WriteString("Not Recoverable!")
	}
	fmt.Fprintf(b, " : %s\n", h.Summary)
	fmt.Fprintf(b, "Share Counts: need %d-of-%d, have %d\n", h.Needed, h.Total, len(h.Shares))
	fmt.Fprintf(b, "Happiness Level: %d\nHosts with good shares: %d\n", h.Happiness(), h.Hosts())
	for share := range h.Total {
		for _, server := range h.Shares[share] {
			fmt.Fprintf(b, "Good share: sh#%d on %s\n", share, server)
		}
	}
	for _, at := range h.Corrupt {
		fmt.Fprintf(b, "Corrupt share: sh#%d on %s\n", at.Share, at.Server)
	}
	for _, at := range h.Incompatible {
		fmt.Fprintf(b, "Share of an unknown version: sh#%d on %s\n", at.Share, at.Server)
	}
	for _, t := range h.Troubles {
		fmt.Fprintf(b, "Not known: %v\n", t)
	}
	for _, t := range h.Leases {
		fmt.Fprintf(b, "No lease: %v\n", t)
	}
}
