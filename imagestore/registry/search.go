package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// searchHost answers searches in Docker Hub.
const searchHost = "index.docker.io"

// Found is one repository that a search found.
type Found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
}

// Search asks Docker Hub, or the registry that the term begins with
// (HOST/WORD), for repositories: by docker's search endpoint, and where a
// registry has none by its catalog, whose names are then compared here.
func (c *Client) Search(ctx context.Context, term string, limit int) ([]Found, error) {
	if strings.Contains(term, "://") {
		return nil, &userError{text: `Invalid repository name (ex: "registry.domain.tld/myrepos")`, kind: ErrReference}
	}
	host, word := searchHost, term
	if before, after, ok := strings.Cut(term, "/"); ok && looksLikeHost(before) {
		host, word = before, after
		if ServerName(before) == hubName {
			host = searchHost
		}
	}
	r := &repository{c: c, domain: host, host: host, scheme: c.scheme(ctx, host)}
	list, err := r.search(ctx, word, limit)
	var status *errcode.ErrorResponse
	if host != searchHost && errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return r.searchCatalog(ctx, word, limit)
	}
	return list, err
}

// looksLikeHost is how references tell a registry from a folder of Docker Hub
// (distribution/reference, splitDockerDomain).
func looksLikeHost(s string) bool { return strings.ContainsAny(s, ".:") || s == "localhost" }

func (r *repository) search(ctx context.Context, word string, limit int) ([]Found, error) {
	query := url.Values{"q": {word}, "n": {strconv.Itoa(limit)}}
	u := &url.URL{Scheme: r.scheme, Host: r.host, Path: "/v1/search", RawQuery: query.Encode()}
	var answer struct {
		Results []Found `json:"results"`
	}
	if _, err := r.getJSON(ctx, u, "search results", &answer); err != nil {
		return nil, err
	}
	for i := range answer.Results {
		f := &answer.Results[i]
		f.Name, f.Description = printable(f.Name), printable(f.Description)
	}
	return answer.Results[:min(limit, len(answer.Results))], nil
}

// searchCatalog looks through the names of all repositories (distribution
// spec, "Listing Repositories", an extension). Each is shown with its registry,
// so that it can be pulled as it stands.
func (r *repository) searchCatalog(ctx context.Context, word string, limit int) ([]Found, error) {
	ctx = auth.AppendScopesForHost(ctx, r.host, auth.ScopeRegistryCatalog)
	next := &url.URL{Scheme: r.scheme, Host: r.host, Path: "/v2/_catalog", RawQuery: "n=1000"}
	var found []Found
	for range maxTagPages {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		link, err := r.getJSON(ctx, next, "catalog of "+r.host, &page)
		if err != nil {
			return nil, err
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, word) && len(found) < limit {
				found = append(found, Found{Name: r.host + "/" + printable(name)})
			}
		}
		after, err := nextPage(link, next)
		if err != nil || after == nil || len(found) >= limit {
			return found, err
		}
		next = after
	}
	return found, nil
}

// getJSON fetches and decodes one answer, and returns its Link header.
func (r *repository) getJSON(ctx context.Context, u *url.URL, what string, v any) (link string, err error) {
	err = r.c.again(ctx, func() error {
		ctx, w := watched(ctx, r.c.o.Stall)
		defer w.stop()
		req, err := r.request(ctx, http.MethodGet, u)
		if err != nil {
			return err
		}
		resp, err := r.do(req, http.StatusOK)
		if err != nil {
			return w.explain(err)
		}
		defer resp.Body.Close()
		raw, err := readLimited(w.reader(resp.Body), what)
		if err != nil {
			return w.explain(err)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			return fmt.Errorf("%s: %w: %w", what, ErrVerify, err)
		}
		link = resp.Header.Get("Link")
		return nil
	})
	return link, err
}
