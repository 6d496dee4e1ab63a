package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// hubName and hubHost: images whose reference names no registry live at
// docker.io, whose API answers under another name.
const (
	hubName = "docker.io"
	hubHost = "registry-1.docker.io"
)

// maxErrorBody is how much of an error response is read.
const maxErrorBody = 16 << 10

// repository is one repository of one registry, and how to talk to it.
type repository struct {
	c      *Client
	domain string // as in references: docker.io
	path   string // library/busybox
	host   string // where the API answers, with port
	scheme string

	chunk atomic.Int64 // bytes of an upload that pass in one request, once a larger one was refused
}

// repository finds out how the registry of a reference is reached. It returns
// a context that carries the rights that tokens are asked for.
func (c *Client) repository(ctx context.Context, name reference.Named, actions ...string) (*repository, context.Context) {
	r := &repository{c: c, domain: reference.Domain(name), path: reference.Path(name)}
	r.host = r.domain
	if r.host == hubName {
		r.host = hubHost
	}
	r.scheme = c.scheme(ctx, r.host)
	return r, r.allow(ctx, r.path, actions...)
}

// allow adds the right to do these actions in a repository of the same
// registry to those that the context carries.
func (r *repository) allow(ctx context.Context, path string, actions ...string) context.Context {
	return auth.AppendScopesForHost(ctx, r.host, auth.ScopeRepository(path, actions...))
}

// url is the address of something in the repository: kind is manifests, blobs,
// tags or blobs/uploads.
func (r *repository) url(kind, name string) *url.URL {
	return &url.URL{Scheme: r.scheme, Host: r.host, Path: "/v2/" + r.path + "/" + kind + "/" + name}
}

// hostname is the registry's host without the port.
func (r *repository) hostname() string {
	return (&url.URL{Host: r.host}).Hostname()
}

// request makes a request without a body.
func (r *repository) request(ctx context.Context, method string, u *url.URL) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, u.Redacted(), err)
	}
	return req, nil
}

// do sends a request with the user's credentials if the registry asks for
// them, and accepts only the given status codes. The caller closes the body.
func (r *repository) do(req *http.Request, accept ...int) (*http.Response, error) {
	start := time.Now()
	resp, err := r.c.auth.Do(req)
	if err != nil {
		return nil, tidyURLError(err)
	}
	r.c.log.Debug("registry request", "method", req.Method, "host", req.URL.Host, "path", req.URL.Path,
		"status", resp.StatusCode, "took", time.Since(start).Round(time.Millisecond))
	return accepted(resp, accept)
}

// reach finds out whether the registry can be connected to, and is content
// with any answer. A push to one that is not there then ends before it has
// said what it prepares, as docker's does.
func (r *repository) reach(ctx context.Context) error {
	return r.c.again(ctx, func() error {
		req, err := r.request(ctx, http.MethodGet, &url.URL{Scheme: r.scheme, Host: r.host, Path: "/v2/"})
		if err != nil {
			return err
		}
		resp, err := r.c.plain.Do(req)
		if err != nil {
			return tidyURLError(err)
		}
		return resp.Body.Close()
	})
}

// accepted returns the response if its status is one of those wanted, and
// otherwise the error that it carries.
func accepted(resp *http.Response, accept []int) (*http.Response, error) {
	for _, code := range accept {
		if resp.StatusCode == code {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	return nil, responseError(resp)
}

// errStorage says that not the registry refused a request, but the storage
// that it redirects to: no login helps.
var errStorage = errors.New("storage of the registry failed")

// firstURL is what was asked before all redirects.
func firstURL(r *http.Request) *url.URL {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return r.URL
}

// responseError reads the error that a registry answered with, in the format
// of the distribution spec, section "Error Codes".
func responseError(resp *http.Response) error {
	u := *resp.Request.URL
	u.RawQuery, u.User = "", nil
	if asked := firstURL(resp.Request); !sameOrigin(asked, &u) {
		return fmt.Errorf("%w: %s redirects to %s, which answers %s", errStorage, asked.Host, printable(u.Host), printable(resp.Status))
	}
	e := &errcode.ErrorResponse{Method: resp.Request.Method, URL: &u, StatusCode: resp.StatusCode}
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err == nil && json.Unmarshal(raw, &body) == nil {
		e.Errors = body.Errors
	}
	if said, ok := challengeError(resp); ok {
		e.Errors = append(errcode.Errors{said}, e.Errors...)
	}
	for i := range e.Errors {
		e.Errors[i].Detail = nil // of any shape and size, and docker does not show it
		e.Errors[i].Message = printable(e.Errors[i].Message)
		e.Errors[i].Code = printable(e.Errors[i].Code)
	}
	return e
}

// challengeError reads why a token was refused (RFC 6750, section 3.1).
// Registries answer so, for one, when there is no such repository: the code that
// goes before those of the body says that no other token will do.
func challengeError(resp *http.Response) (errcode.Error, bool) {
	if resp.StatusCode != http.StatusUnauthorized {
		return errcode.Error{}, false
	}
	for _, challenge := range resp.Header.Values("Www-Authenticate") {
		switch scheme, rest, _ := strings.Cut(challenge, " "); {
		case !strings.EqualFold(scheme, "bearer"):
		case strings.Contains(rest, `error="insufficient_scope"`):
			return errcode.Error{Code: errcode.ErrorCodeDenied, Message: "requested access to the resource is denied"}, true
		case strings.Contains(rest, `error="invalid_token"`):
			return errcode.Error{Code: errcode.ErrorCodeUnauthorized, Message: "authentication required"}, true
		}
	}
	return errcode.Error{}, false
}

// printable keeps what a registry says to one line without control characters,
// which a terminal might obey.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
	if len(s) > 512 {
		s = s[:512] + "…"
	}
	return s
}
