package place

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"unio/build/source"
)

// fileKey names the content of a file: of the match with a number, by its
// name in the match's tree.
type fileKey struct {
	match int
	name  string
}

// hasher digests what matches stand for.
type hasher struct {
	ctx   context.Context
	c     *Copy
	sum   digest.Digester
	first map[source.FileID]int // where a file with several names came first
	n     int
	buf   []byte // for all files: a new one each would be most of the work with small files
}

// newHasher forgets what an earlier digest found: it may be out of date.
func newHasher(ctx context.Context, c *Copy) *hasher {
	c.sums = map[fileKey]digest.Digest{}
	return &hasher{ctx: ctx, c: c, sum: digest.SHA256.Digester(), buf: make([]byte, 128<<10)}
}

// match digests one match. Of an archive that is unpacked the bytes say all.
func (h *hasher) match(i int, m *match) error {
	h.first = map[source.FileID]int{}
	fmt.Fprintf(h.sum.Hash(), "match %q under %q unpack %t\n", m.as, m.under, m.unpack)
	if err := h.parents(m); err != nil {
		return err
	}
	if !m.entry.IsDir() {
		return h.entry(fileKey{i, m.name}, "", &m.entry, m.tree)
	}
	h.attributes("", &m.entry) // of a new folder below --parents
	return h.c.walk(h.ctx, m, func(rel, name string, e *source.Entry) error {
		return h.entry(fileKey{i, name}, rel, e, m.tree)
	})
}

// parents digests the folders that --parents makes.
func (h *hasher) parents(m *match) error {
	return m.eachParent(func(rel string, e *source.Entry) error {
		h.attributes(rel, e)
		return nil
	})
}

// attributes digests all of an entry but its time and content.
func (h *hasher) attributes(rel string, e *source.Entry) {
	h.n++
	w := h.sum.Hash()
	fmt.Fprintf(w, "%q %o %d:%d %d %q\n", rel, e.Mode, e.UID, e.GID, e.Rdev, e.Target)
	for _, key := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(w, "%q=%q\n", key, e.Xattrs[key])
	}
	if e.ID == (source.FileID{}) {
		return
	}
	if _, ok := h.first[e.ID]; !ok {
		h.first[e.ID] = h.n
	}
	fmt.Fprintf(w, "same as %d\n", h.first[e.ID])
}

// entry digests one entry, and notes the digest of its content, which is what
// the layer is held to.
func (h *hasher) entry(key fileKey, rel string, e *source.Entry, t source.Tree) error {
	h.attributes(rel, e)
	if !e.IsRegular() {
		return nil
	}
	f, err := t.Open(key.name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := digest.SHA256.Digester()
	if _, err := io.CopyBuffer(sum.Hash(), contextReader{h.ctx, f}, h.buf); err != nil {
		return fmt.Errorf("read %s: %w", key.name, err)
	}
	d := sum.Digest()
	h.c.sums[key] = d
	fmt.Fprintln(h.sum.Hash(), d)
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
