package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// source gives out the bytes of a blob, from the start each time it is
// opened. Its digest and size may be known only when all has been read.
type source interface {
	open() (io.ReadCloser, error)
	// known is the descriptor before reading; ok is false if reading finds it.
	known() (desc ocispec.Descriptor, ok bool)
	mediaType() string
}

// upload sends a blob in one upload session: POST opens it, PATCH streams the
// bytes, PUT names the digest. It returns the descriptor of what was sent.
// progress, which may be nil, hears how many bytes of the source are read.
func (r *repository) upload(ctx context.Context, src source, progress func(int64)) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	err := r.c.again(ctx, func() error {
		s, err := r.startUpload(ctx, nil)
		if err == nil {
			desc, err = s.send(ctx, src, progress)
		}
		return err
	})
	return desc, err
}

// session is an open upload.
type session struct {
	repo     *repository
	location *url.URL
	token    string // the Authorization that opened it, for the same origin only
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
	if base.Port() == "443" && u.Port() == "" && u.Scheme == "https" {
		u.Host = base.Host // some registries forget the port that they were asked at
	}
	if !sameOrigin(u, base) || u.User != nil {
		return fmt.Errorf("%w: %s wants the upload sent to %s://%s", ErrUnsafe, base.Host, printable(u.Scheme), printable(u.Host))
	}
	s.location = u
	return nil
}

// send streams the source into the session and commits it.
func (s *session) send(ctx context.Context, src source, progress func(int64)) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	content, err := src.open()
	if err != nil {
		return none, err
	}
	defer content.Close()
	ctx, w := watched(ctx, s.repo.c.o.Stall)
	defer w.stop()
	body := &countedBody{r: content, hash: digest.Canonical.Digester(), watch: w, progress: progress}
	if err := s.patch(ctx, src, body); err != nil {
		return none, w.explain(err)
	}
	got := ocispec.Descriptor{MediaType: src.mediaType(), Digest: body.hash.Digest(), Size: body.n}
	if want, ok := src.known(); ok && (want.Digest != got.Digest || want.Size != got.Size) {
		return none, fmt.Errorf("%w: blob %s in the store is damaged: it is %s", ErrVerify, want.Digest, got.Digest)
	}
	w.patience(commitWait)
	return got, w.explain(s.commit(ctx, got.Digest))
}

// patch sends the bytes. The body cannot be sent twice, so the token that
// opened the session goes along at once.
func (s *session) patch(ctx context.Context, src source, body *countedBody) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, s.location.String(), body)
	if err != nil {
		return err
	}
	if desc, ok := src.known(); ok {
		req.ContentLength = desc.Size
		if desc.Size == 0 {
			req.Body = http.NoBody
		}
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if s.token != "" {
		req.Header.Set("Authorization", s.token)
	}
	resp, err := s.repo.do(req, http.StatusAccepted, http.StatusNoContent)
	if body.err != nil {
		err = body.err // the reason, where net/http only sees a broken request
	}
	if err != nil {
		return err
	}
	resp.Body.Close()
	return s.moveTo(resp, s.location)
}

// commit ends the session: the registry compares the digest.
func (s *session) commit(ctx context.Context, d digest.Digest) error {
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
		return err
	}
	return resp.Body.Close()
}

// countedBody is the body of an upload: it hashes and counts what goes out.
type countedBody struct {
	r        io.Reader
	hash     digest.Digester
	n        int64
	err      error // what the source failed with
	watch    *watch
	progress func(int64)
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.watch.touch()
	b.hash.Hash().Write(p[:n])
	b.n += int64(n)
	if n > 0 && b.progress != nil {
		b.progress(b.n)
	}
	switch {
	case err == io.EOF:
		b.watch.patience(commitWait)
	case err != nil:
		b.err = err
	}
	return n, err
}

// mount asks the registry to take a blob over from another of its
// repositories. If it does not, the session it opens instead is returned.
func (r *repository) mount(ctx context.Context, d digest.Digest, from string) (*session, error) {
	ctx = r.allow(ctx, from, "pull")
	return r.startUpload(ctx, url.Values{"mount": {d.String()}, "from": {from}})
}

// putManifest writes a manifest under a tag.
func (r *repository) putManifest(ctx context.Context, tag string, doc *document) error {
	return r.c.again(ctx, func() error {
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
		return nil
	})
}
