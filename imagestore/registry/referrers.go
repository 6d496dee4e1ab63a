package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrersTag is where a registry without the referrers API keeps the list of
// the manifests that have a certain subject (distribution spec 1.1, "Referrers
// Tag Schema").
func referrersTag(subject digest.Digest) string {
	return string(subject.Algorithm()) + "-" + subject.Encoded()
}

// isReferrersTag reports whether a tag is of that form, or one of the older names
// that signing tools put beside it ("sha256-….sig"): no image, by agreement.
func isReferrersTag(tag string) bool {
	algorithm, rest, ok := strings.Cut(tag, "-")
	if !ok || !digest.Algorithm(algorithm).Available() {
		return false
	}
	hex, _, _ := strings.Cut(rest, ".")
	return checkDigest(digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)) == nil
}

// artifactType says what a manifest is, as lists of referrers have it.
func (d *document) artifactType() string {
	if d.body.ArtifactType == "" && d.body.Config != nil {
		return d.body.Config.MediaType
	}
	return d.body.ArtifactType
}

// publish writes a manifest under a tag or its digest and, if it is about
// another one, sees to it that it is listed there.
func (r *repository) publish(ctx context.Context, tagOrDigest string, doc *document) error {
	linked, err := r.putManifest(ctx, tagOrDigest, doc)
	if err == nil && doc.body.Subject != nil && !linked {
		err = r.listReferrer(ctx, doc)
	}
	return err
}

// listReferrer enters a manifest, which the registry has now, in the list of
// its subject's referrers. Of two clients that do so at once one may lose; the
// spec knows no remedy.
func (r *repository) listReferrer(ctx context.Context, doc *document) error {
	subject := doc.body.Subject.Digest
	if err := checkDigest(subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	list := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	tag := referrersTag(subject)
	old, err := r.manifest(ctx, tag)
	switch {
	case isMissing(err):
	case err != nil:
		return fmt.Errorf("referrers of %s: %w", subject, err)
	case kindOf(old.desc.MediaType) != kindIndex:
		return fmt.Errorf("referrers of %s: %w: tag %s is no index", subject, ErrVerify, tag)
	default:
		if err := json.Unmarshal(old.raw, &list); err != nil {
			return fmt.Errorf("referrers of %s: %w: %w", subject, ErrVerify, err)
		}
	}
	if slices.ContainsFunc(list.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == doc.desc.Digest }) {
		return nil
	}
	entry := doc.desc
	entry.ArtifactType, entry.Annotations = doc.artifactType(), doc.body.Annotations
	list.Manifests = append(list.Manifests, entry)
	raw, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	next, err := parseDocument(raw, list.MediaType, "")
	if err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	if _, err := r.putManifest(ctx, tag, next); err != nil {
		return fmt.Errorf("referrers of %s: %w", subject, err)
	}
	return nil
}
