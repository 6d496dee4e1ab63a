// Package reference reads the names of images as docker does: completed by
// docker.io, library/ and the tag latest where a user leaves them out, and
// shortened again for people to read.
//
//	reference = name [":" tag] ["@" digest]
//	name      = [domain "/"] path
//
// It answers as github.com/distribution/reference does, in the same words; its
// tests compare the two. That package compiles a dozen regular expressions
// when a program starts, which was a quarter of the start of unio, and one
// mount or container takes several starts. Here are loops over bytes.
//
// It knows nothing of registries: whether a domain exists, or which registry
// stands for another, is not its business.
package reference

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	hub      = "docker.io"
	oldHub   = "index.docker.io" // what the hub was called first
	official = "library/"        // the hub's own images
	latest   = "latest"
	maxPath  = 255 // bytes
)

// Errors of names, in docker's words.
var (
	errFormat    = errors.New("invalid reference format")
	errTag       = errors.New("invalid tag format")
	errDigest    = errors.New("invalid digest format")
	errUppercase = errors.New("repository name must be lowercase")
	errTooLong   = fmt.Errorf("repository name must not be more than %d characters", maxPath)
)

// Reference is a name, or a digest by itself.
type Reference interface {
	// String is the whole reference.
	String() string
}

// Named is a reference with a name. It may have a tag ([Tagged]), a digest
// ([Digested]), or both.
type Named interface {
	Reference
	// Name is domain and path.
	Name() string
	repository() name
}

// Tagged is a reference with a tag.
type Tagged interface {
	Reference
	Tag() string
}

// Digested is a reference with a digest.
type Digested interface {
	Reference
	Digest() digest.Digest
}

// NamedTagged has a name and a tag.
type NamedTagged interface {
	Named
	Tag() string
}

// Canonical has a name and a digest.
type Canonical interface {
	Named
	Digest() digest.Digest
}

// name is a Named with nothing else; the domain may be empty.
type name struct{ domain, path string }

func (n name) Name() string {
	if n.domain == "" {
		return n.path
	}
	return n.domain + "/" + n.path
}

func (n name) String() string   { return n.Name() }
func (n name) repository() name { return n }

type tagged struct {
	name
	tag string
}

func (t tagged) String() string { return t.Name() + ":" + t.tag }

// Tag is the part behind the colon.
func (t tagged) Tag() string { return t.tag }

type pinned struct {
	name
	digest digest.Digest
}

func (p pinned) String() string { return p.Name() + "@" + string(p.digest) }

// Digest is the part behind the @.
func (p pinned) Digest() digest.Digest { return p.digest }

type taggedAndPinned struct {
	tagged
	digest digest.Digest
}

func (b taggedAndPinned) String() string { return b.tagged.String() + "@" + string(b.digest) }

// Digest is the part behind the @.
func (b taggedAndPinned) Digest() digest.Digest { return b.digest }

// onlyDigest is a reference without a name.
type onlyDigest digest.Digest

func (d onlyDigest) String() string { return string(d) }

// Digest is the whole reference.
func (d onlyDigest) Digest() digest.Digest { return digest.Digest(d) }

// with puts a reference together; tag and digest may be empty.
func (n name) with(tag string, d digest.Digest) Named {
	switch {
	case tag == "" && d == "":
		return n
	case d == "":
		return tagged{n, tag}
	case tag == "":
		return pinned{n, d}
	}
	return taggedAndPinned{tagged{n, tag}, d}
}

// parts takes a reference apart; tag and digest may be empty.
func parts(ref Named) (n name, tag string, d digest.Digest) {
	if t, ok := ref.(Tagged); ok {
		tag = t.Tag()
	}
	if c, ok := ref.(Digested); ok {
		d = c.Digest()
	}
	return ref.repository(), tag, d
}

// ParseNormalizedNamed reads a name as a user types it. 64 hex digits are no
// name, as they are an ID.
func ParseNormalizedNamed(s string) (Named, error) {
	if isID(s) {
		return nil, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	domain, rest := splitDomain(s)
	bare, _, _ := strings.Cut(rest, ":")
	if strings.ToLower(bare) != bare {
		return nil, fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", bare)
	}
	return parse(domain + "/" + rest)
}

// ParseAnyReference reads an ID of 64 hex digits, a digest, or a name.
func ParseAnyReference(s string) (Reference, error) {
	if isID(s) {
		return onlyDigest(digest.NewDigestFromEncoded(digest.SHA256, s)), nil
	}
	if d, err := digest.Parse(s); err == nil {
		return onlyDigest(d), nil
	}
	return ParseNormalizedNamed(s)
}

// splitDomain tells the domain of what a user typed, the hub's where there is
// none. What stands before the first slash is one if it looks like a host.
func splitDomain(s string) (domain, rest string) {
	domain, rest, ok := strings.Cut(s, "/")
	host := domain == "localhost" || strings.ContainsAny(domain, ".:") || strings.ToLower(domain) != domain
	switch {
	case !ok:
		return hub, official + s
	case domain == oldHub:
		domain = hub
	case !host:
		domain, rest = hub, s
	}
	if domain == hub && !strings.Contains(rest, "/") {
		rest = official + rest
	}
	return domain, rest
}

// WithTag gives a reference another tag.
func WithTag(ref Named, tag string) (NamedTagged, error) {
	if !isTag(tag) {
		return nil, errTag
	}
	n, _, d := parts(ref)
	if d == "" {
		return tagged{n, tag}, nil
	}
	return taggedAndPinned{tagged{n, tag}, d}, nil
}

// WithDigest gives a reference another digest.
func WithDigest(ref Named, d digest.Digest) (Canonical, error) {
	if !isDigest(string(d)) {
		return nil, errDigest
	}
	n, tag, _ := parts(ref)
	if tag == "" {
		return pinned{n, d}, nil
	}
	return taggedAndPinned{tagged{n, tag}, d}, nil
}

// TrimNamed is the reference without tag and digest.
func TrimNamed(ref Named) Named { return ref.repository() }

// TagNameOnly adds the tag latest to a reference without tag and digest.
func TagNameOnly(ref Named) Named {
	if IsNameOnly(ref) {
		return tagged{ref.repository(), latest}
	}
	return ref
}

// IsNameOnly reports whether a reference has neither tag nor digest.
func IsNameOnly(ref Named) bool {
	_, tag, d := parts(ref)
	return tag == "" && d == ""
}

// Domain is the registry's host, and its port if there is one.
func Domain(ref Named) string { return ref.repository().domain }

// Path is the name behind the domain.
func Path(ref Named) string { return ref.repository().path }

// familiar leaves out what a user may leave out.
func (n name) familiar() name {
	if n.domain != hub {
		return n
	}
	if short, ok := strings.CutPrefix(n.path, official); ok && !strings.Contains(short, "/") {
		return name{path: short}
	}
	return name{path: n.path}
}

// FamiliarName is the name without what a user may leave out.
func FamiliarName(ref Named) string { return ref.repository().familiar().Name() }

// FamiliarString is the reference without what a user may leave out.
func FamiliarString(ref Reference) string {
	named, ok := ref.(Named)
	if !ok {
		return ref.String()
	}
	n, tag, d := parts(named)
	return n.familiar().with(tag, d).String()
}

// FamiliarMatch reports whether a pattern of [path.Match] fits the familiar
// form of a reference, or its name.
func FamiliarMatch(pattern string, ref Reference) (bool, error) {
	ok, err := path.Match(pattern, FamiliarString(ref))
	if named, isNamed := ref.(Named); isNamed && !ok && err == nil {
		ok, err = path.Match(pattern, FamiliarName(named))
	}
	return ok, err
}
