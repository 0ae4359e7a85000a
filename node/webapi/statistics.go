package webapi

import (
	"fmt"
	"html"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"warren/node/storage"
)

// statistics answers with the node's figures, as Tahoe's page of that name:
// t=json, t=openmetrics for Prometheus and its like, else a page.
func (s *server) statistics(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		plain(w, http.StatusMethodNotAllowed, "GET only")
		return
	}
	figures := s.Statistics()
	switch t := arg(r, "t"); t {
	case "", "html":
		var b strings.Builder
		b.WriteString("<!DOCTYPE html><meta charset=utf-8><title>Node Statistics</title><h1>Node Statistics</h1><ul>")
		each(figures, func(_, name, value string) {
			fmt.Fprintf(&b, "<li>%s: %s", html.EscapeString(name), html.EscapeString(value))
		})
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		fmt.Fprint(w, b.String()+"</ul>\n")
	case "json":
		if err := asJSON(w, "text/plain", figures); err != nil { // the type that Tahoe gives it
			fail(w, err)
		}
	case "openmetrics":
		var b strings.Builder
		each(figures, func(kind, name, value string) {
			fmt.Fprintf(&b, "tahoe_%s_%s %s\n", kind, metric(name), value)
		})
		w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
		fmt.Fprint(w, b.String()+"# EOF\n")
	default:
		plain(w, http.StatusBadRequest, "Unknown t value: "+quote(t))
	}
}

// each shows the counters and then the stats, by name.
func each(s storage.Statistics, show func(kind, name, value string)) {
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		show("counters", name, strconv.FormatUint(s.Counters[name], 10))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Stats)) {
		value := "NaN" // too few samples, as Tahoe says it
		if v := s.Stats[name]; v != nil {
			value = strconv.FormatFloat(*v, 'f', -1, 64)
		}
		show("stats", name, value)
	}
}

// metric is a name as OpenMetrics may have it, spelled as Tahoe does.
func metric(name string) string {
	percentile := regexp.MustCompile(`_(\d\d)_(\d)_percentile`)
	return percentile.ReplaceAllString(strings.ReplaceAll(name, ".", "_"), `{quantile="0.$1$2"}`)
}
