package imagestore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
	"unio/imagestore/layer"
)

// references checks every descriptor of index.json and all that it needs.
func (c *check) references() error {
	r, err := c.s.readRefs()
	if err != nil {
		return nil // layout has said so
	}
	done := map[digest.Digest]bool{}
	for _, d := range r.images() {
		if done[d.Digest] {
			continue
		}
		done[d.Digest] = true
		if err := c.image(d); err != nil {
			return err
		}
	}
	return nil
}

// subject is what a report calls the image of a descriptor.
func subject(d ocispec.Descriptor) string {
	if n := nameOf(d); n != nil {
		return "image " + reference.FamiliarString(n)
	}
	return "image of manifest " + d.Digest.String()
}

// image checks one image: manifest and config first, as they tell the rest.
func (c *check) image(d ocispec.Descriptor) error {
	c.rep.Images++
	if err := c.blobAgain(d, d.Digest, d.Size); err != nil {
		return c.brokenImage(d, err)
	}
	info, err := c.s.manifest(d.Digest)
	if err != nil {
		return c.brokenImage(d, err)
	}
	if err := c.blobAgain(d, info.id(), info.manifest.Config.Size); err != nil {
		return c.brokenImage(d, err)
	}
	raw, err := c.s.readMetadata("config", info.id())
	if err != nil {
		return c.brokenImage(d, err)
	}
	conf, err := ParseConfig(raw)
	if err == nil {
		err = checkPair(info.manifest, conf, raw)
	}
	if err != nil {
		return c.brokenImage(d, err)
	}
	if err := c.layers(d, info.manifest, conf); err != nil {
		return err
	}
	return c.referrers(d, d.Digest)
}

// brokenImage reports an image that cannot be used. It may have been removed
// meanwhile, which is no problem. With Repair, its references go: nothing of
// it can be shown or mounted.
func (c *check) brokenImage(d ocispec.Descriptor, err error) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	if c.gone(d) {
		return nil
	}
	if !c.o.Repair {
		c.torn = true
		c.report(subject(d), false, "%v", err)
		return nil
	}
	if !isDamage(err) {
		return err
	}
	c.report(subject(d), true, "%v; removed, load or pull it again", err)
	return c.s.updateRefs(c.ctx, func(r *refs) error {
		r.dropIf(func(o ocispec.Descriptor) bool { return o.Digest == d.Digest })
		return nil
	})
}

// gone reports whether an image was removed while it was checked: then
// nothing that is missing is a problem.
func (c *check) gone(d ocispec.Descriptor) bool {
	r, err := c.s.readRefs()
	return err == nil && !r.hasManifest(d.Digest)
}

// blob verifies a blob, and the size that a descriptor promises of it; -1: none.
// A wrong size is the descriptor's fault, which anybody may have written: the
// blob, which other images may need, is judged by its digest alone.
func (c *check) blob(d digest.Digest, size int64) error {
	if err := c.content(d); err != nil || size < 0 {
		return err
	}
	have, err := c.s.blobs.Size(d)
	if err == nil && have != size {
		err = fmt.Errorf("%w: blob %s has %d bytes, expected %d", ErrCorrupt, d, have, size)
	}
	return err
}

// content verifies a blob once and removes a damaged one when repairing.
func (c *check) content(d digest.Digest) error {
	if err, ok := c.seen[d]; ok {
		return err
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	size, err := c.s.blobs.Size(d)
	if err == nil {
		if c.o.Progress != nil {
			c.o.Progress.Update(Event{ID: ShortID(d), Action: "Verifying", Total: size})
		}
		c.rep.Blobs++
		c.rep.Bytes += size
		err = c.s.blobs.Verify(d)
	}
	if c.o.Repair && errors.Is(err, blob.ErrMismatch) {
		if rerr := c.s.blobs.Remove(d); rerr != nil {
			return rerr
		}
	}
	c.seen[d] = err
	return err
}

// layers checks the layers of an image and what is derived from them.
func (c *check) layers(d ocispec.Descriptor, m *ocispec.Manifest, conf *ImageConfig) error {
	whole := true
	for i, diffID := range conf.RootFS.DiffIDs {
		ok, err := c.layer(d, m.Layers[i], diffID)
		if err != nil {
			return err
		}
		whole = whole && ok
	}
	if !whole {
		return nil
	}
	return c.view(d, conf.RootFS.DiffIDs)
}

// layer checks one layer: the blob that the manifest names, the tar, the
// index. It reports whether the tar is there and right.
func (c *check) layer(d, desc ocispec.Descriptor, diffID digest.Digest) (bool, error) {
	if err := c.blobAgain(d, desc.Digest, desc.Size); err != nil {
		if c.ctx.Err() != nil || c.gone(d) {
			return false, c.ctx.Err()
		}
		c.report(subject(d), false, "layer %s: %v; load or pull the image again", diffID, err)
	}
	if desc.Digest != diffID {
		if err := c.blobAgain(d, diffID, -1); err != nil && !c.unpackAgain(d, desc, diffID, err) {
			return false, c.ctx.Err()
		}
	}
	if err := c.seen[diffID]; err != nil {
		return false, nil
	}
	return true, c.index(d, diffID)
}

// blobAgain is blob for a part of an image that may be removed and brought again
// meanwhile.
func (c *check) blobAgain(d ocispec.Descriptor, part digest.Digest, size int64) error {
	err := c.blob(part, size)
	if err == nil || c.ctx.Err() != nil || c.o.Repair || !errors.Is(err, blob.ErrNotFound) || c.gone(d) {
		return err
	}
	delete(c.seen, part)
	return c.blob(part, size)
}

// unpackAgain makes a lost tar anew from the compressed blob. It reports
// whether the tar is there now.
func (c *check) unpackAgain(d, desc ocispec.Descriptor, diffID digest.Digest, err error) bool {
	if c.gone(d) {
		return false
	}
	if !c.o.Repair || c.seen[desc.Digest] != nil {
		c.report(subject(d), false, "layer %s: %v", diffID, err)
		return false
	}
	rerr := c.s.unpack(c.ctx, LayerRef{DiffID: diffID, Blob: desc})
	c.report(subject(d), rerr == nil, "layer %s: %v", diffID, err)
	if rerr != nil {
		c.s.log.Warn("unpack layer again", "diffID", diffID, "err", rerr)
		return false
	}
	c.seen[diffID] = nil
	return true
}

func (c *check) index(d ocispec.Descriptor, diffID digest.Digest) error {
	path := c.s.layerIndexPath(diffID)
	if c.views[path] {
		return nil
	}
	c.views[path] = true
	open := func() error {
		x, err := layer.OpenIndex(path)
		if err != nil {
			return err
		}
		return x.Close()
	}
	err := c.unlessGone(d, open)
	if err == nil {
		return nil
	}
	return c.derived("index of layer "+diffID.String(), err, func() error { return c.s.makeIndex(c.ctx, diffID) })
}

func (c *check) view(d ocispec.Descriptor, diffIDs []digest.Digest) error {
	path := c.s.viewPath(chainOf(diffIDs))
	if c.views[path] {
		return nil
	}
	c.views[path] = true
	open := func() error {
		v, err := c.s.openView(path, diffIDs)
		if err != nil {
			return err
		}
		return errors.Join(v.Verify(), v.Close())
	}
	err := c.unlessGone(d, open)
	if errors.Is(err, fs.ErrNotExist) && c.s.withLast(c.ctx, diffIDs, layer.CheckExtension) == nil {
		return nil // nobody has mounted the image yet: see ensureView
	}
	if err == nil {
		return nil
	}
	return c.derived("view of "+subject(d), err, func() error { return c.s.remakeView(c.ctx, diffIDs) })
}

// unlessGone looks at a part of an image. If it is not there, the image may
// have been removed meanwhile, which is fine, or removed and brought again: then
// it is there the second time.
func (c *check) unlessGone(d ocispec.Descriptor, look func() error) error {
	err := look()
	if c.o.Repair || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if c.gone(d) {
		return nil
	}
	return look()
}

// derived reports a derived file and makes it anew when repairing. One that
// is missing is made when it is needed, so it counts as no damage.
func (c *check) derived(what string, err error, rebuild func() error) error {
	if !rebuildable(err) {
		return err
	}
	if !c.o.Repair {
		c.rep.Problems = append(c.rep.Problems, Problem{
			Subject: what, What: err.Error() + "; it is made again when needed", Garbage: errors.Is(err, fs.ErrNotExist),
		})
		return nil
	}
	if rerr := rebuild(); rerr != nil {
		c.report(what, false, "%v; %v", err, rerr)
		return c.ctx.Err()
	}
	c.report(what, true, "%v", err)
	return nil
}
