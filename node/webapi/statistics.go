package webapi

import (
	"fmt"
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
func (s *server) statistics(w http.ResponseWriter, r *http.Request) error {
	t, err := asked(r, "json", "openmetrics")
	if err != nil {
		return err
	}
	figures := s.Statistics()
	if h, ok := s.Grid.(Historian); ok {
		maps.Copy(figures.Counters, h.Counters())
	}
	switch t {
	case "json":
		return asJSON(w, "text/plain", figures) // the type that Tahoe gives it
	case "openmetrics":
		var b strings.Builder
		each(figures, func(kind, name, value string) {
			fmt.Fprintf(&b, "tahoe_%s_%s %s\n", kind, metric(name), value)
		})
		w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
		fmt.Fprint(w, b.String()+"# EOF\n")
		return nil
	}
	var list []item
	each(figures, func(_, name, value string) { list = append(list, item{Text: name + ": " + value}) })
	return s.page(w, http.StatusOK, "list", listPage{"Node Statistics", []part{{Items: list}}})
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
