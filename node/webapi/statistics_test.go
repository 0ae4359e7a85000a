package webapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"warren/node/storage"
)

func TestStatistics(t *testing.T) {
	figures := storage.Statistics{
		Counters: map[string]uint64{"storage_server.add-lease": 3},
		Stats:    map[string]*float64{"storage_server.latencies.read.99_9_percentile": nil},
	}
	figures.Set("storage_server.disk_total", 941088460800)
	figures.Set("storage_server.latencies.read.50_0_percentile", 0.25)
	h := New(Config{Statistics: func() storage.Statistics { return figures }})
	get := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://127.0.0.1:3456"+path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := get("GET", "/statistics?t=json")
	var got map[string]map[string]*float64
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/plain" {
		t.Fatalf("%d %v %v: %s", w.Code, w.Header(), err, w.Body)
	}
	if len(got) != 2 || *got["counters"]["storage_server.add-lease"] != 3 || *got["stats"]["storage_server.disk_total"] != 941088460800 {
		t.Errorf("%s", w.Body)
	}
	if v, ok := got["stats"]["storage_server.latencies.read.99_9_percentile"]; v != nil || !ok {
		t.Errorf("too few samples: %v", v)
	}
	w = get("GET", "/statistics?t=openmetrics")
	want := `tahoe_counters_storage_server_add-lease 3
tahoe_stats_storage_server_disk_total 941088460800
tahoe_stats_storage_server_latencies_read{quantile="0.500"} 0.25
tahoe_stats_storage_server_latencies_read{quantile="0.999"} NaN
# EOF
`
	if w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
	if w = get("GET", "/statistics"); w.Code != 200 || !strings.Contains(w.Body.String(), "<li>storage_server.disk_total: 941088460800") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w = get("GET", "/statistics?t=x"); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w = get("POST", "/statistics"); w.Code != 405 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
