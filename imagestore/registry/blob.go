package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// resetAfter is how many bytes must move for earlier failures of the same
// transfer to be forgiven.
const resetAfter = 256 << 10

// errRange says that a registry answered a request for the rest of a blob with
// something else.
var errRange = errors.New("wrong range")

// blobReader streams one blob. When the connection breaks or stalls it asks
// for the rest and goes on, so what it gives out is one unbroken stream. It
// verifies nothing but the length: the reader of the stream hashes it.
type blobReader struct {
	repo *repository
	ctx  context.Context // of the pull: the reader does not outlive it
	desc ocispec.Descriptor

	body   io.ReadCloser // nil: not connected
	watch  *watch
	offset int64    // bytes given out
	breaks patience // failures since offset failed
	failed int64    // offset of the last failure
	whole  bool     // ranges come out wrong: ask for all, read over what is known
	pieced bool     // what was given out came by more than one request
	err    error    // final

	onRead func(offset int64) // progress; may be nil
}

// openBlob prepares the stream of a blob; the first Read connects.
func (r *repository) openBlob(ctx context.Context, desc ocispec.Descriptor) *blobReader {
	return &blobReader{repo: r, ctx: ctx, desc: desc, breaks: patience{c: r.c, max: maxBreaks}}
}

// Read reads on, through as many connections as it takes.
func (b *blobReader) Read(p []byte) (int, error) {
	for b.err == nil {
		n, err := b.read(p)
		b.offset += int64(n)
		switch {
		case b.offset > b.desc.Size:
			err = fmt.Errorf("%w: longer than %d bytes", ErrVerify, b.desc.Size)
			n = 0
		case err == nil, errors.Is(err, io.EOF) && b.offset == b.desc.Size:
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		if n > 0 && b.onRead != nil {
			b.onRead(b.offset)
		}
		b.settle(err)
		if n > 0 || err == nil {
			return n, nil
		}
	}
	return 0, b.err
}

// read reads from the connection, making one first if there is none.
func (b *blobReader) read(p []byte) (int, error) {
	if b.body == nil {
		if err := b.connect(); err != nil {
			return 0, err
		}
	}
	b.watch.touch()
	n, err := b.body.Read(p)
	b.watch.rest()
	if err = b.watch.explain(err); err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return n, err
}

// settle decides after an error whether the stream goes on.
func (b *blobReader) settle(err error) {
	if err == nil {
		return
	}
	b.disconnect()
	if errors.Is(err, io.EOF) {
		b.err = io.EOF
		return
	}
	if b.offset-b.failed >= resetAfter {
		b.breaks.forgive()
	}
	b.failed = b.offset
	again := transient(err) || unreachable(err)
	if errors.Is(err, errRange) && !b.whole {
		b.whole, again = true, true
	}
	b.err = b.breaks.next(b.ctx, err, again)
}

// connect asks the registry for the blob from the offset on, and for a foreign
// layer that it does not have, the places that the manifest names.
func (b *blobReader) connect() error {
	var ctx context.Context
	ctx, b.watch = watched(b.ctx, b.repo.c.o.Stall)
	err := b.fetch(ctx, b.repo.url("blobs", b.desc.Digest.String()), b.repo.do)
	if isForeign(b.desc.MediaType) && isMissing(err) {
		err = b.fetchForeign(ctx, err)
	}
	if err != nil {
		err = b.watch.explain(err)
		b.disconnect()
	}
	return err
}

func isMissing(err error) bool { return hasStatus(err, http.StatusNotFound) }

// hasStatus reports whether a registry answered with one of these codes.
func hasStatus(err error, codes ...int) bool {
	var status *errcode.ErrorResponse
	return errors.As(err, &status) && slices.Contains(codes, status.StatusCode)
}

// fetchForeign tries the URLs of a foreign layer with the client that has no
// credentials. A remote registry cannot make it ask services of this machine.
func (b *blobReader) fetchForeign(ctx context.Context, err error) error {
	for _, s := range b.desc.URLs {
		u, perr := url.Parse(s)
		if perr != nil || u.Host == "" || isLoopback(u.Hostname()) && !isLoopback(b.repo.hostname()) {
			err = fmt.Errorf("%w: foreign layer URL %q", ErrUnsafe, printable(s))
			continue
		}
		u.User = nil
		if err = b.fetch(ctx, u, b.repo.doPlain); err == nil {
			return nil
		}
	}
	return err
}

// doPlain is do for other hosts: no credentials, whatever they answer.
func (r *repository) doPlain(req *http.Request, accept ...int) (*http.Response, error) {
	req.Header.Set("User-Agent", r.c.o.UserAgent)
	resp, err := r.c.plain.Do(req)
	if err != nil {
		return nil, tidyURLError(err)
	}
	return accepted(resp, accept)
}

type doer func(req *http.Request, accept ...int) (*http.Response, error)

// fetch requests the rest of the blob. A server that does not know ranges
// sends it whole: then what is known already is read over.
func (b *blobReader) fetch(ctx context.Context, u *url.URL, do doer) error {
	req, err := b.repo.request(ctx, http.MethodGet, u)
	if err != nil {
		return err
	}
	if b.offset > 0 && !b.whole {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(b.offset, 10)+"-")
	}
	resp, err := do(req, http.StatusOK, http.StatusPartialContent)
	if hasStatus(err, http.StatusRequestedRangeNotSatisfiable) {
		return fmt.Errorf("%w: %w", errRange, err)
	}
	if err != nil {
		return err
	}
	if err := b.position(resp); err != nil {
		resp.Body.Close()
		return err
	}
	b.body = resp.Body
	return nil
}

// position checks that a response continues where the stream stands, or goes
// there.
func (b *blobReader) position(resp *http.Response) error {
	start := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		if err := b.checkRange(resp.Header.Get("Content-Range")); err != nil {
			return err
		}
		start = b.offset
		b.pieced = true
	}
	if n := resp.ContentLength; n >= 0 && start+n != b.desc.Size {
		return fmt.Errorf("%w: manifest says %d bytes, registry sends %d", ErrVerify, b.desc.Size, start+n)
	}
	if skip := b.offset - start; skip > 0 {
		if _, err := io.CopyN(io.Discard, b.watch.reader(resp.Body), skip); err != nil {
			return fmt.Errorf("read over what is known: %w: %w", errBroken, err)
		}
	}
	return nil
}

// checkRange demands that a part is the one asked for: from the offset to the
// end of the blob, whose length may be left open (RFC 9110, section 14.4).
func (b *blobReader) checkRange(got string) error {
	part := fmt.Sprintf("bytes %d-%d/", b.offset, b.desc.Size-1)
	if !b.whole && (got == part+strconv.FormatInt(b.desc.Size, 10) || got == part+"*") {
		return nil
	}
	return fmt.Errorf("%w: %w: asked for bytes from %d of %d, got range %q",
		ErrVerify, errRange, b.offset, b.desc.Size, printable(got))
}

func (b *blobReader) disconnect() {
	if b.watch != nil {
		b.watch.stop()
		b.watch = nil
	}
	if b.body != nil {
		b.body.Close()
		b.body = nil
	}
}

// Close ends the stream.
func (b *blobReader) Close() error {
	b.disconnect()
	return nil
}

// smallBlob fetches and verifies a blob that is kept in memory: a config.
func (r *repository) smallBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	b := r.openBlob(ctx, desc)
	defer b.Close()
	raw, err := readLimited(b, "blob "+desc.Digest.String())
	if err != nil {
		return nil, err
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest {
		return nil, fmt.Errorf("blob %w: expected digest %s, got %s", ErrVerify, desc.Digest, got)
	}
	return raw, nil
}

// hasBlob asks whether the repository has a blob.
func (r *repository) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.c.o.Stall+time.Minute, errStalled)
	defer cancel()
	req, err := r.request(ctx, http.MethodHead, r.url("blobs", d.String()))
	if err != nil {
		return false, err
	}
	resp, err := r.do(req, http.StatusOK)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

// isEOF reports whether a stream came to its proper end.
func isEOF(err error) bool { return err == io.EOF }
