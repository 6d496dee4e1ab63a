package imagestore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/layer"
)

// collectWait is how long a removal waits for those who add something. If
// they do not finish, the space is freed by the next collection.
const collectWait = time.Second

// RemoveOptions of [Store.Remove]. The zero value is docker's "rmi".
type RemoveOptions struct {
	Force   bool // override soft conflicts
	NoPrune bool // keep parents that have no name of their own
}

// Removed is one line of what a removal did: exactly one field is set.
type Removed struct {
	Untagged string // a name, as users type it
	Deleted  string // the ID of an image, or the chainID of a layer
}

// Tag gives an image another name, taking it from whatever has it. Errors:
// [ErrNotFound], [ErrInvalid].
func (s *Store) Tag(ctx context.Context, src, dst string) error {
	n, err := ParseTag(dst)
	if err != nil {
		return err
	}
	return s.updateRefs(ctx, func(r *refs) error {
		d, err := s.resolve(r, src)
		if err != nil {
			return err
		}
		s.setName(r, n, d)
		return nil
	})
}

// AddDigest records what a name resolved to at a registry: NAME@digest, where
// digest is that of a manifest or of an index over it.
func (s *Store) AddDigest(ctx context.Context, name string, d, imageID digest.Digest) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	c, err := reference.WithDigest(reference.TrimNamed(n), d)
	if err != nil {
		return message(ErrInvalid, "%s", nameError(err))
	}
	return s.updateRefs(ctx, func(r *refs) error {
		list := s.descriptorsOf(r, imageID)
		if len(list) == 0 {
			return message(ErrNotFound, "No such image: %s", imageID)
		}
		at := max(0, slices.IndexFunc(list, func(o ocispec.Descriptor) bool { return o.Digest == d }))
		s.setName(r, c, list[at])
		return nil
	})
}

func (s *Store) setName(r *refs, n reference.Named, d ocispec.Descriptor) {
	d = named(d, n)
	d.Annotations[annotationTagged] = time.Now().UTC().Format(time.RFC3339Nano)
	r.set(n, d)
}

// Remove removes what nameOrID stands for, as "docker rmi" does: by name, the
// name, and the image with its last name; by ID, the image with all its
// names, if they are of one repository or Force is set. Blobs that nothing
// needs any more are removed from disk. Errors: [ErrNotFound], [ErrConflict]
// with docker's wording. What was removed before an error is returned too.
func (s *Store) Remove(ctx context.Context, nameOrID string, o RemoveOptions) ([]Removed, error) {
	uses, err := s.uses()
	if err != nil {
		return nil, err
	}
	rm := &removal{s: s, o: o, asked: nameOrID, uses: uses}
	var problem error
	err = s.updateRefs(ctx, func(r *refs) error {
		rm.r = r
		problem = rm.run()
		return nil // what was done before a conflict stays done
	})
	if err = errors.Join(err, problem); err != nil {
		return rm.done, err
	}
	return rm.done, s.tryCollect(ctx)
}

// tryCollect collects unless others keep the store busy.
func (s *Store) tryCollect(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, collectWait, ErrBusy)
	defer cancel()
	_, err := s.Collect(ctx)
	if err != nil && (errors.Is(err, ErrBusy) || isDamage(err)) {
		s.log.Warn("space is not freed yet", "err", err)
		return nil
	}
	return err
}

// removal is one run of Remove over the references. It works on the list in
// memory, which is written when it is through.
type removal struct {
	s     *Store
	o     RemoveOptions
	asked string // the name or ID as the user gave it
	r     *refs
	uses  []Use
	done  []Removed
}

func (rm *removal) run() error {
	d, err := rm.s.resolve(rm.r, rm.asked)
	if err != nil {
		return err
	}
	info, err := rm.s.manifest(d.Digest)
	if err != nil {
		return rm.removeBroken(d, err)
	}
	if n := rm.nameAmong(d); n != nil {
		return rm.byName(n, info.id())
	}
	return rm.byID(info.id())
}

// removeBroken removes a name whose manifest cannot be read any more; the
// image itself cannot be told apart.
func (rm *removal) removeBroken(d ocispec.Descriptor, err error) error {
	n := nameOf(d)
	if n == nil || !isDamage(err) {
		return err
	}
	rm.r.dropIf(func(o ocispec.Descriptor) bool { return o.Digest == d.Digest })
	rm.done = append(rm.done, Removed{Untagged: reference.FamiliarString(n)})
	rm.s.log.Warn("removed the name of a damaged image", "name", rm.asked, "err", err)
	return nil
}

// nameAmong returns the name in index.json that the user meant, or nil when
// it was an ID.
func (rm *removal) nameAmong(d ocispec.Descriptor) reference.Named {
	ref, err := reference.ParseAnyReference(rm.asked)
	if err != nil {
		return nil
	}
	n, ok := ref.(reference.Named)
	if !ok {
		return nil
	}
	n = reference.TagNameOnly(n)
	if have := nameOf(d); have != nil && have.Name() == n.Name() {
		if c, ok := n.(reference.Canonical); ok {
			return rm.canonical(c, have)
		}
		if have.String() == n.String() {
			return have
		}
	}
	return nil
}

// canonical: a name with a digest is removed as such if it was recorded, and
// else means the tag whose manifest it is.
func (rm *removal) canonical(c reference.Canonical, have reference.Named) reference.Named {
	if n, err := reference.WithDigest(reference.TrimNamed(c), c.Digest()); err == nil && rm.r.position(n) >= 0 {
		return n
	}
	return have
}

// names returns the names of an image.
func (rm *removal) names(id digest.Digest) []reference.Named {
	var list []reference.Named
	for _, d := range rm.s.descriptorsOf(rm.r, id) {
		if n := nameOf(d); n != nil {
			list = append(list, n)
		}
	}
	return list
}

// oneRepository reports whether names are at most one tag, with digests of
// the same repository only.
func oneRepository(names []reference.Named) bool {
	if len(names) <= 1 {
		return true
	}
	tags := 0
	for _, n := range names {
		if n.Name() != names[0].Name() {
			return false
		}
		if !isDigestName(n) {
			tags++
		}
	}
	return tags <= 1
}

// byName takes a name away, and the image with its last one.
func (rm *removal) byName(n reference.Named, id digest.Digest) error {
	if !rm.o.Force && oneRepository(rm.names(id)) {
		if u := rm.user(id, nil); u != nil {
			return message(ErrConflict, "conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
				rm.asked, shortContainer(u), ShortID(id))
		}
	}
	rm.untag(n)
	if !isDigestName(n) {
		rm.untagDigests(n, id)
	}
	if len(rm.names(id)) > 0 {
		return nil
	}
	return rm.delete(id, true)
}

// untagDigests takes the digests of a repository away once it has no tag of
// the image any more.
func (rm *removal) untagDigests(gone reference.Named, id digest.Digest) {
	names := rm.names(id)
	same := func(n reference.Named) bool { return n.Name() == gone.Name() }
	if slices.ContainsFunc(names, func(n reference.Named) bool { return same(n) && !isDigestName(n) }) {
		return
	}
	for _, n := range names {
		if same(n) {
			rm.untag(n)
		}
	}
}

func (rm *removal) untag(n reference.Named) {
	if _, ok := rm.r.take(n); ok {
		rm.done = append(rm.done, Removed{Untagged: reference.FamiliarString(n)})
	}
}

// byID removes an image with all its names.
func (rm *removal) byID(id digest.Digest) error {
	names := rm.names(id)
	if oneRepository(names) {
		// The names go without being a conflict; all else must be clear first.
		if err := rm.conflict(id, false); err != nil {
			return err
		}
		for _, n := range names {
			rm.untag(n)
		}
	}
	return rm.delete(id, false)
}

// delete removes an image, and then its parents that have no name and no
// other child. quiet: a conflict is only an error if it leaves an image
// without a name for no reason.
func (rm *removal) delete(id digest.Digest, quiet bool) error {
	if err := rm.conflict(id, true); err != nil {
		dangling := len(rm.names(id)) == 0 && !rm.hasChildren(id)
		if quiet && (!dangling || rm.user(id, nil) != nil) {
			return nil
		}
		return err
	}
	for _, n := range rm.names(id) {
		rm.untag(n)
	}
	parent := rm.parent(id)
	rm.drop(id)
	if rm.o.NoPrune || parent == "" || len(rm.s.descriptorsOf(rm.r, parent)) == 0 || len(rm.names(parent)) > 0 {
		return nil
	}
	up := *rm
	up.o.Force = false
	err := up.delete(parent, true)
	rm.done = up.done
	return err
}

// drop takes an image off the list. If a container still needs it, its
// descriptors stay, hidden.
func (rm *removal) drop(id digest.Digest) {
	layers := rm.layersGone(id)
	descs := rm.s.descriptorsOf(rm.r, id)
	for _, d := range descs {
		rm.r.dropIf(func(o ocispec.Descriptor) bool { return o.Digest == d.Digest })
	}
	rm.done = append(rm.done, Removed{Deleted: id.String()})
	if rm.user(id, nil) != nil && len(descs) > 0 {
		pin := named(descs[0], nil)
		pin.Annotations[annotationPinned] = "true"
		rm.r.keep(pin)
		return
	}
	for _, chain := range layers {
		rm.done = append(rm.done, Removed{Deleted: chain.String()})
	}
}

// layersGone returns the chainIDs that no other image has, top first.
func (rm *removal) layersGone(id digest.Digest) []digest.Digest {
	var mine []digest.Digest
	others := map[digest.Digest]bool{}
	for _, d := range rm.r.images() {
		img, err := rm.s.load(rm.r, d)
		if err != nil {
			continue
		}
		for i := range img.DiffIDs() {
			chain := layer.ChainID(img.DiffIDs()[:i+1])
			switch {
			case img.ID != id:
				others[chain] = true
			case !slices.Contains(mine, chain):
				mine = append(mine, chain)
			}
		}
	}
	mine = slices.DeleteFunc(mine, func(c digest.Digest) bool { return others[c] })
	slices.Reverse(mine)
	return mine
}

func (rm *removal) parent(id digest.Digest) digest.Digest {
	for _, d := range rm.s.descriptorsOf(rm.r, id) {
		if p := d.Annotations[annotationParent]; p != "" {
			return digest.Digest(p)
		}
	}
	return ""
}

func (rm *removal) hasChildren(id digest.Digest) bool {
	return slices.ContainsFunc(rm.r.images(), func(d ocispec.Descriptor) bool {
		return d.Annotations[annotationParent] == id.String() && d.Annotations[annotationPinned] == ""
	})
}

// user returns a container that uses the image; running selects by state,
// nil takes any.
func (rm *removal) user(id digest.Digest, running *bool) *Use {
	for i, u := range rm.uses {
		if u.ImageID == id && (running == nil || u.Running == *running) {
			return &rm.uses[i]
		}
	}
	return nil
}

// conflict returns what stands against deleting an image. Names count only if
// asked for: whoever removes them himself does not ask.
func (rm *removal) conflict(id digest.Digest, names bool) error {
	yes, no := true, false
	hard := func(why string) error {
		return message(ErrConflict, "conflict: unable to delete %s (cannot be forced) - %s", ShortID(id), why)
	}
	soft := func(why string) error {
		return message(ErrConflict, "conflict: unable to delete %s (must be forced) - %s", ShortID(id), why)
	}
	if rm.hasChildren(id) {
		return hard("image has dependent child images")
	}
	if u := rm.user(id, &yes); u != nil {
		return hard("image is being used by running container " + shortContainer(u))
	}
	if rm.o.Force {
		return nil
	}
	if names && len(rm.names(id)) > 0 {
		return soft("image is referenced in multiple repositories")
	}
	if u := rm.user(id, &no); u != nil {
		return soft("image is being used by stopped container " + shortContainer(u))
	}
	return nil
}

func shortContainer(u *Use) string {
	id := strings.TrimPrefix(u.Container, "sha256:")
	return id[:min(12, len(id))]
}
