package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
	"unio/imagestore/blob"
)

const (
	// maxNesting is how deep an index may lie in other indexes.
	maxNesting = 4
	// maxLayers is far above what any builder makes; docker stops at 127.
	maxLayers = 4096
	// attestation marks manifests that describe others: buildkit's
	// provenance and SBOM documents, which are no images.
	attestation = "vnd.docker.reference.type"
)

// document is a verified manifest or index, and the descriptor of its bytes.
type document struct {
	desc ocispec.Descriptor
	raw  []byte
	body manifestBody
}

// manifestBody holds the fields of all kinds of manifests at once, so that a
// document that pretends to be two of them is seen.
type manifestBody struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	FSLayers      []json.RawMessage    `json:"fsLayers"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	ArtifactType  string               `json:"artifactType"`
	Annotations   map[string]string    `json:"annotations"`
}

// manifest fetches a manifest or index by tag or digest. What comes is
// verified against the digest, if one is given, and against the one that the
// registry names.
func (r *repository) manifest(ctx context.Context, tagOrDigest string) (*document, error) {
	var doc *document
	err := r.c.again(ctx, func() (err error) {
		doc, err = r.tryManifest(ctx, tagOrDigest)
		return err
	})
	return doc, err
}

func (r *repository) tryManifest(ctx context.Context, tagOrDigest string) (*document, error) {
	ctx, watch := watched(ctx, r.c.o.Stall)
	defer watch.stop()
	req, err := r.request(ctx, http.MethodGet, r.url("manifests", tagOrDigest))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", acceptManifests())
	resp, err := r.do(req, http.StatusOK)
	if err != nil {
		return nil, watch.explain(err)
	}
	defer resp.Body.Close()
	raw, err := readLimited(watch.reader(resp.Body), "manifest "+tagOrDigest)
	if err != nil {
		return nil, watch.explain(err)
	}
	want := resp.Header.Get("Docker-Content-Digest")
	if d, err := digest.Parse(tagOrDigest); err == nil {
		want = d.String()
	}
	return parseDocument(raw, resp.Header.Get("Content-Type"), want)
}

// readLimited reads metadata whole, or not at all if there is too much of it.
func readLimited(r io.Reader, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxMetadata+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(raw) > MaxMetadata {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", what, ErrTooLarge, MaxMetadata)
	}
	return raw, nil
}

// parseDocument verifies and decodes a manifest. want is the digest it must
// have, "" if none is known.
func parseDocument(raw []byte, contentType, want string) (*document, error) {
	got := digest.FromBytes(raw)
	if want != "" {
		d := digest.Digest(want)
		if err := checkDigest(d); err != nil {
			return nil, err
		}
		if got = d.Algorithm().FromBytes(raw); got != d {
			return nil, fmt.Errorf("manifest %w: expected digest %s, got %s", ErrVerify, d, got)
		}
	}
	doc := &document{raw: raw, desc: ocispec.Descriptor{Digest: got, Size: int64(len(raw))}}
	if err := json.Unmarshal(raw, &doc.body); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", got, ErrVerify, err)
	}
	mediaType, err := doc.mediaType(bareType(contentType))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", got, err)
	}
	doc.desc.MediaType = mediaType
	return doc, nil
}

// checkDigest refuses digests of a bad form before any path or URL is made
// from them.
func checkDigest(d digest.Digest) error {
	if err := blob.Check(d); err != nil {
		return fmt.Errorf("digest %q: %w: %w", printable(d.String()), ErrVerify, err)
	}
	return nil
}

// mediaType decides what the document is. What the header says, what the
// document says and what it contains must agree, or else two readers of the
// same digest could see two different images (CVE-2021-41190).
func (d *document) mediaType(header string) (string, error) {
	b := &d.body
	t := header
	if kindOf(t) == kindUnknown {
		t = b.MediaType
	}
	if kindOf(t) == kindSchema1 || b.SchemaVersion == 1 || len(b.FSLayers) > 0 {
		return "", fmt.Errorf("%w: Docker Image manifest version 2, schema 1 support has been removed; "+
			"ask the author to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2", ErrUnsupported)
	}
	if b.MediaType != "" && b.MediaType != t {
		return "", fmt.Errorf("%w: sent as %s, but calls itself %s", ErrVerify, printable(t), printable(b.MediaType))
	}
	isIndex, isImage := b.Manifests != nil, b.Config != nil || b.Layers != nil
	if isIndex && isImage {
		return "", fmt.Errorf("%w: index and manifest at once", ErrVerify)
	}
	switch kindOf(t) {
	case kindIndex:
		if isImage {
			return "", fmt.Errorf("%w: sent as %s, but is a manifest", ErrVerify, t)
		}
	case kindManifest:
		if isIndex {
			return "", fmt.Errorf("%w: sent as %s, but is an index", ErrVerify, t)
		}
	default:
		return untypedManifest(t, isIndex, isImage)
	}
	return t, nil
}

// untypedManifest names the type of an OCI document that came without one: the
// field is optional, and static file servers know no better header.
func untypedManifest(t string, isIndex, isImage bool) (string, error) {
	generic := t == "" || t == "application/json" || t == "application/octet-stream" || t == "text/plain"
	switch {
	case generic && isIndex:
		return ocispec.MediaTypeImageIndex, nil
	case generic && isImage:
		return ocispec.MediaTypeImageManifest, nil
	}
	return "", fmt.Errorf("%w media type %q for a manifest", ErrUnsupported, printable(t))
}

// resolve follows indexes from doc down to the manifest for a platform.
func (r *repository) resolve(ctx context.Context, doc *document, want ocispec.Platform) (*document, error) {
	if kindOf(doc.desc.MediaType) == kindManifest {
		return doc, nil
	}
	best, score, err := r.choose(ctx, doc, want, 1)
	if err != nil {
		return nil, err
	}
	if score == 0 {
		return nil, &userError{
			text: fmt.Sprintf("no matching manifest for %s in the manifest list entries: %s",
				platformName(want), offered(doc.body.Manifests)),
			kind: ErrPlatform,
		}
	}
	return r.child(ctx, best, kindManifest)
}

// offered names the platforms of an index, for the user to choose from.
func offered(entries []ocispec.Descriptor) string {
	const most = 20 // to keep it one line
	var list []string
	for _, e := range entries {
		if e.Platform == nil || e.Platform.OS == "" || kindOf(e.MediaType) == kindUnknown || e.Annotations[attestation] != "" {
			continue
		}
		if name := printable(platformName(normalPlatform(*e.Platform))); !slices.Contains(list, name) && len(list) < most {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return "there is none for any platform"
	}
	return "there is " + strings.Join(list, ", ")
}

// choose finds the entry of an index, or of the indexes in it, that serves a
// platform best.
func (r *repository) choose(ctx context.Context, doc *document, want ocispec.Platform, depth int) (best ocispec.Descriptor, score int, err error) {
	if depth > maxNesting {
		return best, 0, fmt.Errorf("index %s: %w: more than %d indexes inside each other", doc.desc.Digest, ErrUnsupported, maxNesting)
	}
	for _, entry := range doc.body.Manifests {
		found, s := entry, 0
		switch kindOf(entry.MediaType) {
		case kindManifest:
			s = entryRank(entry, want)
		case kindIndex:
			if found, s, err = r.chooseNested(ctx, entry, want, depth+1); err != nil {
				return best, 0, err
			}
		}
		if s > score {
			best, score = found, s
		}
	}
	return best, score, nil
}

// chooseNested looks into an index inside an index, unless its entry already
// says that it is for another platform.
func (r *repository) chooseNested(ctx context.Context, entry ocispec.Descriptor, want ocispec.Platform, depth int) (ocispec.Descriptor, int, error) {
	if entry.Platform != nil && entry.Platform.Architecture != "" && rank(want, *entry.Platform) == 0 {
		return entry, 0, nil
	}
	doc, err := r.child(ctx, entry, kindIndex)
	if err != nil {
		return entry, 0, err
	}
	return r.choose(ctx, doc, want, depth)
}

// entryRank scores one manifest of an index. One without a platform is taken
// when nothing better is there; its config then tells.
func entryRank(entry ocispec.Descriptor, want ocispec.Platform) int {
	if entry.Annotations[attestation] != "" {
		return 0
	}
	if entry.Platform == nil || entry.Platform.OS == "" && entry.Platform.Architecture == "" {
		return 1
	}
	return rank(want, *entry.Platform)
}

// child fetches what an entry of an index points to.
func (r *repository) child(ctx context.Context, entry ocispec.Descriptor, want kind) (*document, error) {
	d := entry.Digest
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	doc, err := r.manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	if kindOf(doc.desc.MediaType) != want {
		return nil, fmt.Errorf("manifest %s: %w: index calls it %s, it is %s",
			d, ErrVerify, printable(entry.MediaType), doc.desc.MediaType)
	}
	if entry.Size > 0 && entry.Size != doc.desc.Size {
		return nil, fmt.Errorf("manifest %s: %w: index says %d bytes, got %d", d, ErrVerify, entry.Size, doc.desc.Size)
	}
	return doc, nil
}

// checkImage looks at every descriptor of an image manifest before anything
// is fetched.
func (d *document) checkImage() error {
	b := &d.body
	if b.Config == nil {
		return fmt.Errorf("manifest %s: %w: no config", d.desc.Digest, ErrVerify)
	}
	if !imagestore.IsConfig(b.Config.MediaType) {
		return fmt.Errorf("manifest %s: %w media type %s", d.desc.Digest, ErrUnsupported, printable(b.Config.MediaType))
	}
	if b.Config.Size < 0 || b.Config.Size > MaxMetadata {
		return fmt.Errorf("config of manifest %s: %w: %d bytes", d.desc.Digest, ErrTooLarge, b.Config.Size)
	}
	if len(b.Layers) > maxLayers {
		return fmt.Errorf("manifest %s: %w: %d layers", d.desc.Digest, ErrTooLarge, len(b.Layers))
	}
	err := checkDigest(b.Config.Digest)
	for _, l := range b.Layers {
		if l.Size < 0 {
			err = errors.Join(err, fmt.Errorf("layer %s: %w: size %d", printable(l.Digest.String()), ErrVerify, l.Size))
		}
		err = errors.Join(err, checkDigest(l.Digest))
		if !imagestore.IsLayer(l.MediaType) {
			err = errors.Join(err, fmt.Errorf("%w media type %s for a layer", ErrUnsupported, printable(l.MediaType)))
		}
	}
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d.desc.Digest, err)
	}
	return nil
}

// parseConfig decodes a config and checks that it fits its manifest.
func parseConfig(raw []byte, layers int) (*imagestore.ImageConfig, error) {
	conf, err := imagestore.ParseConfig(raw)
	if err != nil {
		return nil, err
	}
	if n := len(conf.RootFS.DiffIDs); n != layers {
		return nil, fmt.Errorf("config: %w: %d layers in the manifest, %d in the config", ErrVerify, layers, n)
	}
	return conf, nil
}
