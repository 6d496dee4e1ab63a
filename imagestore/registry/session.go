package registry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// session is an open upload.
type session struct {
	repo     *repository
	location *url.URL
	token    string // the Authorization last used with it, for the same origin only
	least    int64  // the fewest bytes that it wants in a request, but the last
}

// startUpload opens an upload session. With query it may ask for a mount; then
// a nil session without an error says that the blob has been mounted.
func (r *repository) startUpload(ctx context.Context, query url.Values) (*session, error) {
	ctx, w := watched(ctx, r.c.o.Stall)
	defer w.stop()
	u := r.url("blobs/uploads", "")
	u.RawQuery = query.Encode()
	req, err := r.request(ctx, http.MethodPost, u)
	if err != nil {
		return nil, err
	}
	resp, err := r.do(req, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return nil, w.explain(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated && query != nil {
		return nil, nil
	}
	s := &session{repo: r, token: resp.Request.Header.Get("Authorization")}
	if n, err := strconv.ParseUint(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 40); err == nil {
		s.least = int64(n)
	}
	return s, s.moveTo(resp, req.URL)
}

// moveTo takes the next address of the session from a response. It must stay
// at the registry: a blob, and the token that goes with it, are sent nowhere
// else.
func (s *session) moveTo(resp *http.Response, base *url.URL) error {
	header := resp.Header.Get("Location")
	if header == "" {
		return fmt.Errorf("%w: registry names no place for the upload", ErrVerify)
	}
	u, err := base.Parse(header)
	if err != nil {
		return fmt.Errorf("%w: upload location %q", ErrVerify, printable(header))
	}
	if base.Scheme == "https" && u.Hostname() == base.Hostname() && (u.Port() == "" || u.Port() == base.Port() || u.Scheme == "http" && u.Port() == "80") {
		// Behind a proxy that ends TLS some registries do not know how, or at
		// what port, they were asked.
		u.Scheme, u.Host = base.Scheme, base.Host
	}
	if !sameOrigin(u, base) || u.User != nil {
		return fmt.Errorf("%w: %s wants the upload sent to %s://%s", ErrUnsafe, base.Host, printable(u.Scheme), printable(u.Host))
	}
	s.location = u
	return nil
}

// status asks how many bytes the session has, from the first one on. 0 also
// stands for a registry that does not tell, and for one byte: some registries
// say "0-0" before the first.
func (s *session) status(ctx context.Context) (int64, error) {
	ctx, w := watched(ctx, s.repo.c.o.Stall)
	defer w.stop()
	req, err := s.repo.request(ctx, http.MethodGet, s.location)
	if err != nil {
		return 0, err
	}
	resp, err := s.repo.do(req, http.StatusNoContent, http.StatusAccepted, http.StatusOK)
	if err != nil {
		return 0, w.explain(err)
	}
	resp.Body.Close()
	s.token = resp.Request.Header.Get("Authorization")
	if resp.Header.Get("Location") != "" {
		if err := s.moveTo(resp, s.location); err != nil {
			return 0, err
		}
	}
	last, ok := strings.CutPrefix(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "0-")
	n, err := strconv.ParseInt(last, 10, 62)
	if !ok || err != nil || n <= 0 {
		return 0, nil
	}
	return n + 1, nil
}

// commit ends the session: the registry compares the digest.
func (s *session) commit(ctx context.Context, d digest.Digest) error {
	ctx, w := watched(ctx, commitWait)
	defer w.stop()
	u := *s.location
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	req, err := s.repo.request(ctx, http.MethodPut, &u)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := s.repo.do(req, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return w.explain(err)
	}
	return resp.Body.Close()
}

// mount asks the registry to take a blob over from another of its
// repositories. If it does not, the session it opens instead is returned.
func (r *repository) mount(ctx context.Context, d digest.Digest, from string) (*session, error) {
	ctx = r.allow(ctx, from, "pull")
	return r.startUpload(ctx, url.Values{"mount": {d.String()}, "from": {from}})
}

// putManifest writes a manifest under a tag. linked says that the registry has
// understood its subject, and lists it among the referrers by itself.
func (r *repository) putManifest(ctx context.Context, tag string, doc *document) (linked bool, err error) {
	err = r.c.again(ctx, func() error {
		ctx, w := watched(ctx, commitWait)
		defer w.stop()
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url("manifests", tag).String(), bytes.NewReader(doc.raw))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", doc.desc.MediaType)
		resp, err := r.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return w.explain(err)
		}
		defer resp.Body.Close()
		if d := resp.Header.Get("Docker-Content-Digest"); d != "" && !strings.EqualFold(d, doc.desc.Digest.String()) {
			return fmt.Errorf("%w: registry stored manifest %s as %s", ErrVerify, doc.desc.Digest, printable(d))
		}
		linked = resp.Header.Get("OCI-Subject") != ""
		return nil
	})
	return linked, err
}
