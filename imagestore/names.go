package imagestore

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of a descriptor in index.json.
const (
	// annotationName is the full name, as containerd and docker write it.
	annotationName = "io.containerd.image.name"
	// annotationParent is the ID of the image that this one was made from.
	annotationParent = "io.unio.parent"
	// annotationLocal marks a manifest that was made here.
	annotationLocal = "io.unio.local"
	// annotationPinned marks an image that was removed while a container
	// still needs it: not listed, and collected after the container.
	annotationPinned = "io.unio.pinned"
	// annotationID is the image's ID, behind the manifest's digest and a space,
	// so that another tool's copy of it to another manifest says nothing.
	annotationID = "io.unio.id"
	// annotationTagged is when the name was given (RFC 3339).
	annotationTagged = "io.unio.tagged"
)

// ParseName completes what a user typed to a full reference: docker.io and
// library/ are filled in, and the tag "latest" where neither tag nor digest
// is given. Errors wrap [ErrInvalid] and read as docker's.
func ParseName(s string) (reference.Named, error) {
	n, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, message(ErrInvalid, "%s", nameError(err))
	}
	return reference.TagNameOnly(n), nil
}

// nameError is a reference error in the words of docker's command line.
func nameError(err error) string {
	return strings.TrimPrefix(err.Error(), "could not parse reference: ")
}

// ParseTag is ParseName for a name that is to be given to an image: it must
// have no digest and must not look like one.
func ParseTag(s string) (reference.NamedTagged, error) {
	n, err := ParseName(s)
	if err != nil {
		return nil, err
	}
	if _, ok := n.(reference.Digested); ok {
		return nil, message(ErrInvalid, "refusing to create a tag with a digest reference")
	}
	if reference.FamiliarName(n) == string(digest.Canonical) {
		return nil, message(ErrInvalid, "refusing to create an ambiguous tag using digest algorithm as name")
	}
	t, ok := n.(reference.NamedTagged)
	if !ok {
		return nil, message(ErrInvalid, "invalid reference format")
	}
	return t, nil
}

// nameOf returns the full name of a descriptor in index.json, or nil when it
// has none. Where the full name is missing (another tool wrote it), ref.name
// is taken for what a user would type.
func nameOf(d ocispec.Descriptor) reference.Named {
	for _, key := range []string{annotationName, ocispec.AnnotationRefName} {
		if s := d.Annotations[key]; s != "" {
			if n, err := ParseName(s); err == nil {
				return n
			}
		}
	}
	return nil
}

// otherImage reports whether a descriptor is known to stand for another image
// than one whose ID begins with these hex digits. It reads nothing; who has
// false reads the manifest.
func otherImage(d ocispec.Descriptor, hex string) bool {
	manifest, id, ok := strings.Cut(d.Annotations[annotationID], " ")
	return ok && manifest == d.Digest.String() && strings.HasPrefix(id, "sha256:") && !strings.HasPrefix(id, "sha256:"+hex)
}

// named returns a copy of the descriptor under another name; nil: none.
func named(d ocispec.Descriptor, n reference.Named) ocispec.Descriptor {
	notes := map[string]string{}
	for k, v := range d.Annotations {
		notes[k] = v
	}
	delete(notes, annotationName)
	delete(notes, ocispec.AnnotationRefName)
	if n != nil {
		notes[annotationName] = n.String()
		notes[ocispec.AnnotationRefName] = reference.FamiliarString(n)
	}
	d.Annotations = notes
	return d
}

// isDigestName reports whether a name is of the form NAME@DIGEST.
func isDigestName(n reference.Named) bool {
	_, ok := n.(reference.Digested)
	return ok
}

// ShortID is how an ID is shown: 12 hex digits.
func ShortID(d digest.Digest) string {
	hex := d.Encoded()
	if len(hex) > 12 {
		hex = hex[:12]
	}
	return hex
}

// notFound is docker's error for a name that no image answers to, or that is
// none.
func notFound(name string) error {
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return message(ErrInvalid, "%s", nameError(err))
	}
	if n, ok := ref.(reference.Named); ok {
		ref = reference.TagNameOnly(n)
	}
	return message(ErrNotFound, "No such image: %s", reference.FamiliarString(ref))
}

// ambiguous is the error for an ID prefix that fits several images.
func ambiguous(prefix string) error {
	return fmt.Errorf("multiple IDs found with provided prefix: %s: %w", prefix, ErrAmbiguous)
}
