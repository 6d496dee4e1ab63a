package reference

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	theirs "github.com/distribution/reference"
)

// same compares what both packages make of a string.
func same(t *testing.T, s string) (named bool) {
	t.Helper()
	ours, err := ParseNormalizedNamed(s)
	want, wantErr := theirs.ParseNormalizedNamed(s)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("%q: error %v, want %v", s, err, wantErr)
	}
	any, anyErr := ParseAnyReference(s)
	wantAny, wantAnyErr := theirs.ParseAnyReference(s)
	if fmt.Sprint(anyErr) != fmt.Sprint(wantAnyErr) {
		t.Fatalf("%q as any: error %v, want %v", s, anyErr, wantAnyErr)
	}
	if anyErr == nil && (any.String() != wantAny.String() || FamiliarString(any) != theirs.FamiliarString(wantAny)) {
		t.Fatalf("%q as any: %s, want %s", s, any, wantAny)
	}
	if err != nil {
		return false
	}
	got, should := describe(ours), describeTheirs(want)
	if got != should {
		t.Fatalf("%q:\n got %s\nwant %s", s, got, should)
	}
	return true
}

func describe(n Named) string {
	_, tagged := n.(NamedTagged)
	_, canonical := n.(Canonical)
	match, err := FamiliarMatch("*/a*", n)
	return fmt.Sprint(n, n.Name(), Domain(n), Path(n), FamiliarName(n), FamiliarString(n), IsNameOnly(n), TagNameOnly(n), TrimNamed(n), tagged, canonical, match, err)
}

func describeTheirs(n theirs.Named) string {
	_, tagged := n.(theirs.NamedTagged)
	_, canonical := n.(theirs.Canonical)
	match, err := theirs.FamiliarMatch("*/a*", n)
	return fmt.Sprint(n, n.Name(), theirs.Domain(n), theirs.Path(n), theirs.FamiliarName(n), theirs.FamiliarString(n), theirs.IsNameOnly(n), theirs.TagNameOnly(n), theirs.TrimNamed(n), tagged, canonical, match, err)
}

var hex64 = strings.Repeat("0123456789abcdef", 4)

// seeds are names of every kind, good and bad.
func seeds() []string {
	return []string{
		"", "debian", "debian:12", "library/debian", "docker.io/debian", "index.docker.io/a/b", "docker.io/library/a/b", "localhost/x", "localhost:5000/x:1",
		"localhost:5000", "a.b/c", "a_b.c/d", "A/b", "a/B", "A", "a:B", "[::1]:5000/x", "[::1]/x", "[fe80::1%eth0]/x", "[]/x", "[::1]x/y", "a]:5/x", "-a.b/c", "a-.b/c",
		"a..b/c", "a/b..c", "a/b__c", "a/b___c", "a/b--c", "a/b._c", "a/-b", "a/b-", "a//b", "/a", "a/", "a:", "a@", "a:x@", ":x", "a:.x", "a:-x", "a:" + strings.Repeat("t", 128),
		"a:" + strings.Repeat("t", 129), "a@sha256:" + hex64, "a:1@sha256:" + hex64, "a@sha256:" + hex64[:63], "a@sha256:" + strings.ToUpper(hex64), "a@md5:" + hex64[:32],
		"a@sha512:" + hex64 + hex64, "a@sha256+x:" + hex64, "a@sha256++x:" + hex64, "a@1x:" + hex64, "a@:" + hex64, hex64, "sha256:" + hex64, strings.ToUpper(hex64),
		"x/" + hex64, strings.Repeat("a", 256), strings.Repeat("a/", 127) + "ab", "host:80a/x", "host:/x", "host.:80/x", "ä/b", "a/ä", "a.b:5/c:6@sha256:" + hex64, "a@b@c", "a.b", "Ä.b/c", "K/x",
	}
}

func TestSameAsDistribution(t *testing.T) {
	for _, s := range seeds() {
		same(t, s)
	}
	parts := append(strings.Split("a b0 A . .. - -- _ __ ___ : @ / localhost docker.io library 5000 sha256: [ ] :: ä", " "), hex64)
	named := 0
	for seed := range uint64(40_000) {
		r := rand.New(rand.NewPCG(seed, 2))
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		if same(t, b.String()) {
			named++
		}
	}
	if named < 1000 {
		t.Errorf("only %d were names", named)
	}
}

func FuzzSameAsDistribution(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { same(t, s) })
}

func TestWith(t *testing.T) {
	n, err := ParseNormalizedNamed("a/b")
	if err != nil {
		t.Fatal(err)
	}
	tagged, err := WithTag(n, "1")
	if err != nil || tagged.String() != "docker.io/a/b:1" || tagged.Tag() != "1" {
		t.Errorf("%v, %v", tagged, err)
	}
	both, err := WithDigest(tagged, "sha256:"+"0123456789abcdef0123456789abcdef")
	if err != nil || both.String() != "docker.io/a/b:1@sha256:0123456789abcdef0123456789abcdef" {
		t.Errorf("%v, %v", both, err)
	}
	again, err := WithTag(both, "2")
	if err != nil || again.String() != "docker.io/a/b:2@sha256:0123456789abcdef0123456789abcdef" {
		t.Errorf("%v, %v", again, err)
	}
	if _, err := WithTag(n, "-"); err == nil {
		t.Error("a bad tag was taken")
	}
	if _, err := WithDigest(n, "x"); err == nil {
		t.Error("a bad digest was taken")
	}
}
