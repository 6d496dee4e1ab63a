// Package reference reads and writes the names of images as docker does:
// "debian" stands for "docker.io/library/debian", and with a tag or digest it
// says which image. It accepts and refuses the very strings that the module
// github.com/distribution/reference does, whose grammar this is (its
// package comment); a fuzz test compares both. That module compiles a score of
// regular expressions whenever a program starts, which is a sixth of the time
// that unio needs to start; here, names are read by hand.
package reference

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Named is a complete name: a host, a path, and perhaps a tag or digest.
type Named interface {
	fmt.Stringer
	// Name is the name without tag and digest.
	Name() string
	// base is the name alone.
	base() name
}

// Tagged has a tag.
type Tagged interface {
	fmt.Stringer
	Tag() string
}

// NamedTagged is a name with a tag.
type NamedTagged interface {
	Named
	Tag() string
}

// Digested has a digest.
type Digested interface {
	fmt.Stringer
	Digest() digest.Digest
}

// Canonical is a name with a digest.
type Canonical interface {
	Named
	Digest() digest.Digest
}

// What is left out of a name when it is shown.
const (
	defaultDomain = "docker.io"
	legacyDomain  = "index.docker.io"
	official      = "library/"
	defaultTag    = "latest"
)

// maxPath is how long a name may be without its host, in bytes.
const maxPath = 255

var (
	errInvalid   = errors.New("invalid reference format")
	errTag       = errors.New("invalid tag format")
	errDigest    = errors.New("invalid digest format")
	errUppercase = errors.New("repository name must be lowercase")
	errTooLong   = fmt.Errorf("repository name must not be more than %d characters", maxPath)
)

type name struct{ domain, path string }

func (n name) base() name     { return n }
func (n name) String() string { return n.Name() }

func (n name) Name() string {
	if n.domain == "" {
		return n.path
	}
	return n.domain + "/" + n.path
}

type withTag struct {
	name
	tag string
}

func (t withTag) Tag() string    { return t.tag }
func (t withTag) String() string { return t.Name() + ":" + t.tag }

type withDigest struct {
	name
	digest digest.Digest
}

func (d withDigest) Digest() digest.Digest { return d.digest }
func (d withDigest) String() string        { return d.Name() + "@" + d.digest.String() }

type withBoth struct {
	withTag
	digest digest.Digest
}

func (b withBoth) Digest() digest.Digest { return b.digest }
func (b withBoth) String() string        { return b.withTag.String() + "@" + b.digest.String() }

// onlyDigest is a digest that no name goes with.
type onlyDigest digest.Digest

func (d onlyDigest) String() string        { return digest.Digest(d).String() }
func (d onlyDigest) Digest() digest.Digest { return digest.Digest(d) }

// combine makes the type that has what is there.
func combine(n name, tag string, d digest.Digest) Named {
	switch {
	case tag != "" && d != "":
		return withBoth{withTag{n, tag}, d}
	case tag != "":
		return withTag{n, tag}
	case d != "":
		return withDigest{n, d}
	}
	return n
}

func tagOf(n Named) string {
	if t, ok := n.(NamedTagged); ok {
		return t.Tag()
	}
	return ""
}

func digestOf(n Named) digest.Digest {
	if c, ok := n.(Canonical); ok {
		return c.Digest()
	}
	return ""
}

// WithTag returns a name with another tag; a digest stays.
func WithTag(n Named, tag string) (NamedTagged, error) {
	if !isTag(tag) {
		return nil, errTag
	}
	tagged, _ := combine(n.base(), tag, digestOf(n)).(NamedTagged) // it has a tag
	return tagged, nil
}

// WithDigest returns a name with another digest; a tag stays.
func WithDigest(n Named, d digest.Digest) (Canonical, error) {
	if !isDigest(d.String()) {
		return nil, errDigest
	}
	c, _ := combine(n.base(), tagOf(n), d).(Canonical) // it has a digest
	return c, nil
}

// TrimNamed takes tag and digest away.
func TrimNamed(n Named) Named { return n.base() }

// Domain is the host of the registry.
func Domain(n Named) string { return n.base().domain }

// Path is the name without the host.
func Path(n Named) string { return n.base().path }

// IsNameOnly reports whether there is neither tag nor digest.
func IsNameOnly(n Named) bool { return tagOf(n) == "" && digestOf(n) == "" }

// TagNameOnly gives the tag "latest" to a name that has neither tag nor digest.
func TagNameOnly(n Named) Named {
	if !IsNameOnly(n) {
		return n
	}
	return withTag{n.base(), defaultTag}
}

// familiar leaves out what a user need not type.
func (n name) familiar() name {
	if n.domain != defaultDomain {
		return n
	}
	n.domain = ""
	if rest, ok := strings.CutPrefix(n.path, official); ok && !strings.Contains(rest, "/") {
		n.path = rest
	}
	return n
}

// FamiliarName is the name, without tag and digest, as a user would type it.
func FamiliarName(n Named) string { return n.base().familiar().Name() }

// FamiliarString is a reference as a user would type it.
func FamiliarString(ref fmt.Stringer) string {
	n, ok := ref.(Named)
	if !ok {
		return ref.String()
	}
	return combine(n.base().familiar(), tagOf(n), digestOf(n)).String()
}

// FamiliarMatch reports whether a pattern of [path.Match] fits a reference, or
// its name alone, as a user would type them.
func FamiliarMatch(pattern string, ref fmt.Stringer) (bool, error) {
	matched, err := path.Match(pattern, FamiliarString(ref))
	if n, ok := ref.(Named); ok && !matched {
		matched, _ = path.Match(pattern, FamiliarName(n)) // the same pattern
	}
	return matched, err
}
