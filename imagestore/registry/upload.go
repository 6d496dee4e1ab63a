package registry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

const (
	// uploadChunk is how many bytes go out in one request. Many registries
	// keep only what came by requests that ended well, and a proxy before them
	// passes a request on when it has all of it.
	uploadChunk = 32 << 20
	// leastChunk is how small requests may become for proxies that refuse
	// larger ones, as nginx does above its client_max_body_size.
	leastChunk = 256 << 10
	// worthNoting is the size in bytes from which an upload is noted in the
	// store, to go on after a kill.
	worthNoting = 1 << 20
)

// source gives out the bytes of a blob, from the start each time it is
// opened. Its digest and size may be known only when all has been read.
type source interface {
	open() (io.ReadCloser, error)
	// known is the descriptor before reading; ok is false if reading finds it.
	known() (desc ocispec.Descriptor, ok bool)
	mediaType() string
}

// upload is one blob on its way to a registry: POST opens a session, PATCHes
// send the bytes in chunks, PUT names the digest (distribution spec, "Pushing
// a blob in chunks"). When it breaks, the registry is asked how far it got.
type upload struct {
	repo *repository
	id   string // as shown; empty: not shown
	out  *outflow
	note *imagestore.UploadNote // nil: does not outlive the process
	// progress, which may be nil, hears how many bytes of the source went out.
	progress func(int64)

	s       *session // nil: none is open
	suspect bool     // the session broke, or is of an earlier process
	parts   int      // requests that the session has taken, at least
	whole   bool     // chunks did not work: one request, and no way back into it
	taken   int64    // the most bytes that a registry has said to have
}

// noted is what a note in the store says of an upload.
type noted struct {
	Location string `json:"location"`
}

// upload sends a blob and returns the descriptor of what was sent.
func (r *repository) upload(ctx context.Context, u *upload) (ocispec.Descriptor, error) {
	u.repo = r
	defer u.out.close()
	u.recall()
	p := patience{c: r.c, max: maxTries, id: u.id}
	for {
		before := u.taken
		desc, err := u.try(ctx)
		if err == nil {
			return desc, u.forget()
		}
		if u.taken-before >= resetAfter {
			p.forgive()
		}
		begun := u.s != nil
		again := u.mends(err) || u.shrinks(err) || transient(err) || begun && unreachable(err) || hasStatus(err, http.StatusUnauthorized) && begun
		u.suspect = true
		if err := p.next(ctx, err, again); err != nil {
			return desc, err
		}
	}
}

// recall takes a session up that an earlier process has left. It must lead to
// the same registry.
func (u *upload) recall() {
	var n noted
	if u.note == nil || !u.note.Read(&n) {
		return
	}
	l, err := url.Parse(n.Location)
	if err != nil || l.User != nil || !sameOrigin(l, u.repo.url("blobs/uploads", "")) {
		return
	}
	u.s, u.suspect, u.parts = &session{repo: u.repo, location: l}, true, 1
}

// keep notes where the session stands now.
func (u *upload) keep() {
	if u.note == nil || u.whole {
		return
	}
	if err := u.note.Write(noted{Location: u.s.location.String()}); err != nil {
		u.repo.c.log.Debug("upload will not go on after a kill", "error", err)
	}
}

func (u *upload) forget() error {
	if u.note == nil {
		return nil
	}
	return u.note.Forget()
}

// mends reports whether an error may come of a session that was resumed or got
// several requests: then all is sent again, in one.
func (u *upload) mends(err error) bool {
	refused := hasStatus(err, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented)
	if !refused || u.whole || u.s == nil || u.parts == 0 && !u.inParts() {
		return false
	}
	u.repo.c.log.Debug("upload in parts refused, sending the blob as a whole", "error", err)
	u.s, u.whole = nil, true
	if u.note != nil {
		_ = u.note.Write(noted{}) // nobody is to go on with that
	}
	return true
}

// inParts reports whether one request is not enough for all of the blob.
func (u *upload) inParts() bool {
	desc, ok := u.out.src.known()
	return !ok || desc.Size > u.chunk()
}

// shrinks reports whether smaller requests may pass where one was too large.
// The size holds for what is sent to this repository from now on.
func (u *upload) shrinks(err error) bool {
	if !hasStatus(err, http.StatusRequestEntityTooLarge) || u.s == nil || u.whole {
		return false
	}
	size := u.chunk() / 4
	if size < max(leastChunk, u.s.least) {
		return false
	}
	u.repo.c.log.Debug("request too large, sending smaller ones", "bytes", size)
	u.repo.chunk.Store(size)
	return true
}

// chunk is how many bytes the next request may have.
func (u *upload) chunk() int64 {
	if n := u.repo.chunk.Load(); n > 0 {
		return n
	}
	return max(u.repo.c.o.Chunk, u.s.least)
}

// try brings the upload from where it stands to its end.
func (u *upload) try(ctx context.Context) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	if err := u.position(ctx); err != nil {
		return none, err
	}
	for {
		more, err := u.out.more()
		if err != nil {
			return none, err
		}
		if !more {
			break
		}
		if err := u.patch(ctx); err != nil {
			return none, err
		}
		u.parts++
		u.taken = max(u.taken, u.out.pos)
		u.keep()
	}
	got := ocispec.Descriptor{MediaType: u.out.src.mediaType(), Digest: u.out.hash.Digest(), Size: u.out.pos}
	if want, ok := u.out.src.known(); ok && (want.Digest != got.Digest || want.Size != got.Size) {
		return none, fmt.Errorf("%w: blob %s in the store is damaged: it is %s", ErrVerify, want.Digest, got.Digest)
	}
	return got, u.commit(ctx, got.Digest)
}

// commit ends the session. Where the answer to an earlier attempt was lost, the
// registry no longer knows the session, and has the blob.
func (u *upload) commit(ctx context.Context, d digest.Digest) error {
	err := u.s.commit(ctx, d)
	if refused(err) {
		if has, herr := u.repo.hasBlob(ctx, d); herr == nil && has {
			return nil
		}
	}
	return err
}

// position opens a session, or finds out how far the open one got, and brings
// the source to the same place.
func (u *upload) position(ctx context.Context) error {
	var at int64
	if u.s != nil && u.suspect {
		var err error
		if !u.whole {
			at, err = u.s.status(ctx)
		}
		if err != nil && !refused(err) {
			return err
		}
		if at == 0 || u.out.seek(at) != nil {
			u.repo.c.log.Debug("upload begins anew", "error", err)
			u.s, at = nil, 0
		}
	}
	if u.s == nil {
		s, err := u.repo.startUpload(ctx, nil)
		if err != nil {
			return err
		}
		u.s, u.parts = s, 0
		u.keep()
	}
	u.suspect, u.taken = false, max(u.taken, at)
	return u.out.seek(at)
}

// patch sends the next bytes. A request cannot be sent twice, so the token
// that the session was last asked with goes along at once.
func (u *upload) patch(ctx context.Context) error {
	ctx, w := watched(ctx, u.repo.c.o.Stall)
	defer w.stop()
	body, size := u.body(w)
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, u.s.location.String(), body)
	if err != nil {
		return err
	}
	from := u.out.pos
	if desc, ok := u.out.src.known(); ok {
		req.ContentLength = size
		if size < desc.Size {
			req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", from, from+size-1))
		}
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if u.s.token != "" {
		req.Header.Set("Authorization", u.s.token)
	}
	resp, err := u.repo.do(req, http.StatusAccepted, http.StatusNoContent)
	if err == nil {
		err = resp.Body.Close()
	}
	err = w.explain(err)
	w.stop()
	<-body.closed // net/http may read on after it has answered
	if u.out.err != nil {
		return u.out.err // the reason, where net/http only sees a broken request
	}
	if err != nil {
		return err
	}
	if req.ContentLength > 0 && u.out.pos != from+size {
		return fmt.Errorf("%w: registry took %d bytes of %d", errBroken, u.out.pos-from, size)
	}
	return u.s.moveTo(resp, u.s.location)
}

// body is what the next request sends, and how much that is where it is known.
func (u *upload) body(w *watch) (*chunkBody, int64) {
	size := u.chunk()
	desc, ok := u.out.src.known()
	if u.whole {
		size = 1<<63 - 1
	}
	if ok {
		size = min(size, desc.Size-u.out.pos)
	}
	return &chunkBody{u: u, left: size, watch: w, closed: make(chan struct{})}, size
}

// chunkBody is the body of one request. It waits for nobody, but is not done
// with the outflow before it is closed.
type chunkBody struct {
	u      *upload
	left   int64
	watch  *watch
	closed chan struct{}
}

func (b *chunkBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.watch.patience(commitWait)
		return 0, io.EOF
	}
	n, err := b.u.out.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.watch.touch()
	if n > 0 && b.u.progress != nil {
		b.u.progress(b.u.out.pos)
	}
	if err == io.EOF {
		b.watch.patience(commitWait)
	}
	return n, err
}

// Close may be called more than once, but by one goroutine at a time.
func (b *chunkBody) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	return nil
}

// outflow gives out the bytes of a source from any place on, and hashes each
// of them once.
type outflow struct {
	src    source
	r      io.ReadCloser // nil: not open
	buf    *bufio.Reader // over r
	pos    int64         // of the next byte
	hashed int64         // how far the hash goes
	hash   digest.Digester
	err    error // what the source failed with
}

func newOutflow(src source) *outflow {
	return &outflow{src: src, hash: digest.Canonical.Digester()}
}

// Read reads on.
func (f *outflow) Read(p []byte) (int, error) {
	n, err := f.buf.Read(p)
	if fresh := f.pos + int64(n) - f.hashed; fresh > 0 {
		f.hash.Hash().Write(p[int64(n)-fresh : n])
		f.hashed += fresh
	}
	f.pos += int64(n)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// more reports whether there is anything left.
func (f *outflow) more() (bool, error) {
	_, err := f.buf.Peek(1)
	if err == io.EOF {
		return false, nil
	}
	return err == nil, err
}

// seek goes to a place. What lies before it is read over, for the hash, and
// because a layer that is compressed on the way has no other way there.
func (f *outflow) seek(to int64) error {
	if f.r == nil || f.pos > to {
		f.close()
		r, err := f.src.open()
		if err != nil {
			return err
		}
		f.r, f.buf, f.pos, f.err = r, bufio.NewReaderSize(r, 64<<10), 0, nil
	}
	if to == f.pos {
		return nil
	}
	_, err := io.CopyN(io.Discard, f, to-f.pos)
	if err != nil {
		return fmt.Errorf("read over what is sent: %w", err)
	}
	return nil
}

func (f *outflow) close() {
	if f.r != nil {
		f.r.Close()
		f.r = nil
	}
}
