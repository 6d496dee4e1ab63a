package dockerfile

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// change is what a step does to the state, beside its config.
type change struct {
	before    digest.Digest // key of the state before it
	createdBy string        // for the history, and part of the key
	extra     []string      // further parts of the key
	// quick, if not nil, is a key that is found without reading what the step
	// reads; behind it lies the same record.
	quick []string
	// container says that the step is told of as one that runs in a container,
	// as docker's builder does also for those that change the config alone.
	container bool
	// check, if not nil, finds what keeps the step from being done.
	check  func(context.Context) error
	make   func(context.Context) (digest.Digest, error) // its layer, or ""; nil: it has none
	id     string
	hidden bool // it depends on more than createdBy tells
}

// keyVersion changes when the same instruction is to give another layer than
// with older versions of this package.
const keyVersion = "1"

// key is the digest of parts; no two lists give the same text.
func (b *build) key(parts ...string) digest.Digest {
	parts = append([]string{keyVersion}, parts...)
	if b.o.Epoch != nil {
		parts = append(parts, "epoch "+b.o.Epoch.UTC().Format(time.RFC3339))
	}
	data, _ := json.Marshal(parts) // strings can always be written
	return digest.FromBytes(data)
}

// commit ends a step: by what is in the cache, or by doing it.
func (r *stageRun) commit(ctx context.Context, c change) error {
	key := r.key(append([]string{c.before.String(), c.createdBy}, c.extra...)...)
	rec, found := r.find(key, &c)
	if found {
		r.tell(Event{Kind: Cached})
	} else {
		var err error
		if rec, err = r.carryOut(ctx, &c); err != nil {
			return err
		}
	}
	r.s.add(c.createdBy, rec.Created, rec.Layer)
	rec.Chain = imagestore.StateID(r.s.layers)
	return r.keep(rec, key, &c)
}

// keep puts a record under the keys of a step where it is not yet.
func (r *stageRun) keep(rec imagestore.CacheRecord, key digest.Digest, c *change) error {
	keys := []digest.Digest{key}
	if c.quick != nil {
		keys = append(keys, r.quickKey(c.before, c.quick))
	}
	for _, k := range keys {
		if rec.Key == k {
			continue // it was found there
		}
		rec.Key = k
		if err := r.st.PutCache(rec); err != nil {
			return err
		}
	}
	return nil
}

func (r *stageRun) quickKey(before digest.Digest, quick []string) digest.Digest {
	return r.key(append([]string{before.String()}, quick...)...)
}

// findQuick ends a step if it is found by its quick key.
func (r *stageRun) findQuick(ctx context.Context, before digest.Digest, quick []string) (bool, error) {
	if r.o.NoCache {
		return false, nil
	}
	rec, ok := r.st.Cache(r.quickKey(before, quick))
	if !ok {
		return false, ctx.Err()
	}
	r.tell(Event{Kind: Cached})
	r.s.add(rec.Data, rec.Created, rec.Layer)
	return true, nil
}

// find looks for a step in the cache, and in the images that --cache-from
// names.
func (r *stageRun) find(key digest.Digest, c *change) (imagestore.CacheRecord, bool) {
	if r.o.NoCache {
		return imagestore.CacheRecord{}, false
	}
	if rec, ok := r.st.Cache(key); ok {
		return rec, true
	}
	return r.findInImage(c)
}

// carryOut does what a step does, and tells of it.
func (r *stageRun) carryOut(ctx context.Context, c *change) (rec imagestore.CacheRecord, err error) {
	rec = imagestore.CacheRecord{Title: r.code, Data: c.createdBy}
	if c.check != nil {
		if err := c.check(ctx); err != nil {
			return rec, err
		}
	}
	if c.container {
		c.id = newID()
		r.tell(Event{Kind: Running, ID: c.id})
		defer func() {
			if err == nil {
				r.tell(Event{Kind: Removed, ID: c.id})
			}
		}()
	}
	if c.make != nil {
		rec.Layer, err = c.make(ctx)
	}
	rec.Created = r.now()
	return rec, err
}

// newID makes up the ID of a container, as long as it is shown.
func newID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}

// emptyTar is the length of a tar without entries, in bytes.
const emptyTar = 1024

// addLayer stores what write writes as a layer; "" if it is an empty tar.
func (b *build) addLayer(ctx context.Context, write func(io.Writer) error) (digest.Digest, error) {
	in, out := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(out)
		written <- err
		out.CloseWithError(err)
	}()
	l, err := b.st.AddLayer(ctx, in, imagestore.LayerOptions{})
	in.CloseWithError(errors.New("the store gave up")) // ends the writer in that case
	if werr := <-written; werr != nil && err != nil {
		err = werr // what the pipe has wrapped
	}
	if err != nil {
		return "", fmt.Errorf("%w", err)
	}
	if l.Size <= emptyTar {
		return "", nil
	}
	return l.DiffID, nil
}
