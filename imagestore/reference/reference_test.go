package reference

import (
	"math/rand/v2"
	"strings"
	"testing"

	theirs "github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

const someHex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// samples are names, and what is nearly one.
func samples() []string {
	return []string{
		"", "a", "debian", "debian:12", "debian:", ":12", "Debian", "library/debian", "docker.io/debian",
		"index.docker.io/debian", "index.docker.io/a/b", "docker.io/a/b/c", "docker.io/library/a/b", "localhost/a", "localhost:5000/a:b",
		"example.com/a", "EXAMPLE/a", "Foo/bar", "foo/Bar", "foo/bar:Tag", "a_b.c/d", "-a.b/c", "a-.b/c", "a..b/c", ".a/b", "a.b./c",
		"[::1]:5000/a", "[::1]/a:b", "[]/a", "[::g]/a", "[::1/a", "[::1]x/a", "a:b/c", "a:/c", "a:5000/", "a:5000//b", "a//b", "a/", "/a", "/",
		"a__b", "a___b", "a--b", "a---b", "a._b", "a-", "a_", "a.", "-a", "a/b-", "a/-b", "a b", "a\n", "a:\n", "ä", "a:ä", "\u212a", "a/\u212a",
		"a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), "a:.t", "a:-t", "a:_t", "a:t.-_", "a:b:c",
		strings.Repeat("a", 247), strings.Repeat("a", 248), strings.Repeat("a", 256), "x.y/" + strings.Repeat("a", 255), "x.y/" + strings.Repeat("a", 256),
		someHex, someHex[:63], strings.ToUpper(someHex), someHex + ":t", "a/" + someHex,
		"sha256:" + someHex, "sha256:" + someHex[:62], "sha512:" + someHex + someHex, "sha256:" + strings.ToUpper(someHex),
		"a@sha256:" + someHex, "a:b@sha256:" + someHex, "a@sha256:" + someHex[:32], "a@sha256:" + someHex[:31], "a@sha999:" + someHex,
		"a@", "@sha256:" + someHex, "a@a+b.c-d_e:" + someHex, "a@1a:" + someHex, "a@a1:" + someHex, "a@a++b:" + someHex, "a@a+:" + someHex,
		"a@sha256:" + strings.ToUpper(someHex), "a@sha256:" + someHex + "@x", "a@SHA256:" + someHex, "A@sha256:" + someHex, "a@sha256:" + someHex + "\n",
	}
}

func TestLikeTheirs(t *testing.T) {
	t.Parallel()
	list := samples()
	const letters = "aB0.-_:/@[]Z\x80"
	dice := rand.New(rand.NewPCG(1, 2)) // the same names every time
	for range 10_000 {
		b := make([]byte, dice.IntN(12))
		for i := range b {
			b[i] = letters[dice.IntN(len(letters))]
		}
		list = append(list, string(b))
	}
	for _, s := range list {
		compare(t, s)
	}
}

func FuzzLikeTheirs(f *testing.F) {
	for _, s := range samples() {
		f.Add(s)
	}
	f.Fuzz(compare)
}

// compare reads a name here and there, and asks both for all that there is to
// know of it.
func compare(t *testing.T, s string) {
	t.Helper()
	ours, err := ParseNormalizedNamed(s)
	other, otherErr := theirs.ParseNormalizedNamed(s)
	same(t, s, "error", text(err), text(otherErr))
	if err == nil && otherErr == nil {
		compareNamed(t, s, ours, other)
	}
	any1, err := ParseAnyReference(s)
	any2, otherErr := theirs.ParseAnyReference(s)
	same(t, s, "error as any", text(err), text(otherErr))
	if err == nil && otherErr == nil {
		same(t, s, "any", any1.String(), any2.String())
		same(t, s, "familiar any", FamiliarString(any1), theirs.FamiliarString(any2))
		_, named1 := any1.(Named)
		_, named2 := any2.(theirs.Named)
		same(t, s, "any is named", named1, named2)
	}
}

func compareNamed(t *testing.T, s string, ours Named, other theirs.Named) {
	t.Helper()
	same(t, s, "string", ours.String(), other.String())
	same(t, s, "name", ours.Name(), other.Name())
	same(t, s, "domain", Domain(ours), theirs.Domain(other))
	same(t, s, "path", Path(ours), theirs.Path(other))
	same(t, s, "familiar", FamiliarString(ours), theirs.FamiliarString(other))
	same(t, s, "familiar name", FamiliarName(ours), theirs.FamiliarName(other))
	same(t, s, "name only", IsNameOnly(ours), theirs.IsNameOnly(other))
	same(t, s, "trimmed", TrimNamed(ours).String(), theirs.TrimNamed(other).String())
	same(t, s, "with latest", TagNameOnly(ours).String(), theirs.TagNameOnly(other).String())
	_, tagged1 := ours.(NamedTagged)
	_, tagged2 := other.(theirs.NamedTagged)
	same(t, s, "tagged", tagged1, tagged2)
	_, pinned1 := ours.(Canonical)
	_, pinned2 := other.(theirs.Canonical)
	same(t, s, "pinned", pinned1, pinned2)
	for _, tag := range []string{"x", "", "a:b"} {
		a, err := WithTag(ours, tag)
		b, otherErr := theirs.WithTag(other, tag)
		same(t, s, "error with a tag", text(err), text(otherErr))
		if err == nil && otherErr == nil {
			same(t, s, "with a tag", a.String(), b.String())
		}
	}
	for _, d := range []digest.Digest{"sha256:" + someHex, "sha256:0"} {
		a, err := WithDigest(ours, d)
		b, otherErr := theirs.WithDigest(other, d)
		same(t, s, "error with a digest", text(err), text(otherErr))
		if err == nil && otherErr == nil {
			same(t, s, "with a digest", a.String(), b.String())
		}
	}
	for _, pattern := range []string{"*", "*/*", "a*", "[", "debian", "*:12"} {
		ok1, err1 := FamiliarMatch(pattern, ours)
		ok2, err2 := theirs.FamiliarMatch(pattern, other)
		same(t, s, "match "+pattern, ok1, ok2)
		same(t, s, "error of match "+pattern, text(err1), text(err2))
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func same[T comparable](t *testing.T, s, what string, ours, theirs T) {
	t.Helper()
	if ours != theirs {
		t.Errorf("%q: %s: %v, theirs %v", s, what, ours, theirs)
	}
}
