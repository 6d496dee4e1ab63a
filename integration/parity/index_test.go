package parity

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// found is what an index says of a repository (docker's registry API,
// version 1, which searches still use).
type found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// startIndex serves a small index until the test ends and returns its address.
func startIndex(t *testing.T) string {
	list := []found{
		{"tools/busybox", "A few tools", 12, false, true},
		{"busybox", "Busybox base image.", 3000, true, false},
		{"someone/busybox", strings.Repeat("A description that is longer than a table likes ", 3), 7, false, false},
		{"nobody/busybox", "", 0, false, false},
		{"odd/busybox", "Two\nlines and 日本語 and \"quotes\"", 3, false, false},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/_ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Docker-Registry-Standalone", "true")
		_, _ = w.Write([]byte("true"))
	})
	mux.HandleFunc("GET /v1/search", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil {
			n = 25
		}
		results := []found{}
		for _, f := range list {
			if strings.Contains(f.Name, r.FormValue("q")) && len(results) < n {
				results = append(results, f)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"query": r.FormValue("q"), "num_results": len(results), "results": results})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
