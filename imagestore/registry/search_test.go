package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A registry with docker's search endpoint is asked there.
func TestSearchEndpoint(t *testing.T) {
	f := newFake(t)
	var asked string
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/search" {
			return false
		}
		asked = r.URL.Query().Get("q") + " " + r.URL.Query().Get("n")
		_ = json.NewEncoder(w).Encode(map[string]any{"results": []map[string]any{
			{"name": "a/x", "description": "one\x1b[31m\ntwo", "star_count": 3, "is_official": true},
			{"name": "b/x"},
			{"name": "c/x"},
		}})
		return true
	}
	c, _ := newClient(t)
	found, err := c.Search(t.Context(), f.host+"/x", 2)
	if err != nil || asked != "x 2" || len(found) != 2 {
		t.Fatalf("%v, asked %q, found %v", err, asked, found)
	}
	if got := found[0]; got.Name != "a/x" || got.StarCount != 3 || !got.IsOfficial || strings.ContainsAny(got.Description, "\x1b\n") {
		t.Errorf("found %+v", got)
	}
}

// Others have a catalog, in pages.
func TestSearchCatalog(t *testing.T) {
	f := newFake(t)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/v1/search":
			http.NotFound(w, r)
		case r.URL.Path != "/v2/_catalog":
			return false
		case r.URL.Query().Get("last") == "":
			w.Header().Set("Link", `</v2/_catalog?last=b>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["app/one","other"]}`)
		default:
			fmt.Fprint(w, `{"repositories":["two/app"]}`)
		}
		return true
	}
	c, _ := newClient(t)
	found, err := c.Search(t.Context(), f.host+"/app", 10)
	if err != nil || len(found) != 2 || found[0].Name != f.host+"/app/one" || found[1].Name != f.host+"/two/app" {
		t.Errorf("%v, found %v", err, found)
	}
	if found, err = c.Search(t.Context(), f.host+"/app", 1); err != nil || len(found) != 1 {
		t.Errorf("limit 1: %v, found %v", err, found)
	}
}

func TestServerName(t *testing.T) {
	for in, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io",
		"registry-1.docker.io": "docker.io", "example.com": "example.com",
		"http://localhost:5000/v2/": "localhost:5000", "localhost:5000/x": "localhost:5000",
	} {
		if got := ServerName(in); got != want {
			t.Errorf("ServerName(%q) = %q, want %q", in, got, want)
		}
	}
}
