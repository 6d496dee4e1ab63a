package corpus

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const unio engine = "unio"

// TestCorpus builds each case and compares: with all builders if
// UNIO_TEST_LONG is set, which takes minutes, with one of them otherwise.
func TestCorpus(t *testing.T) {
	b := newBench(t)
	for _, c := range readCases(t, "testdata") {
		if os.Getenv("UNIO_TEST_LONG") == "" {
			c.engines = []engine{c.quickEngine()}
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b.compare(t, c, c.write(t))
		})
	}
}

// quickEngine is the builder that a case is compared with when time is short:
// BuildKit, which is fast, unless the case is about words or known to differ,
// and the classic builder for what is like real programs.
func (c *dockerfileCase) quickEngine() engine {
	if len(c.engines) == 1 {
		return c.engines[0]
	}
	if c.fails || strings.HasPrefix(c.name, "real-") && c.differs[classic] == nil || c.differs[buildkit] != nil {
		return classic
	}
	return buildkit
}

func (b *bench) compare(t *testing.T, c *dockerfileCase, dir string) {
	ours := b.build(t.Context(), unio, c, dir)
	if !c.fails && ours.err != nil {
		t.Fatalf("unio: %v\n%s%s", ours.err, ours.stdout, ours.stderr)
	}
	var image *built
	if !c.fails {
		var err error
		image, err = b.image(t.Context(), unio, c)
		must(t, err)
	}
	for _, e := range c.engines {
		theirs := b.build(t.Context(), e, c, dir)
		if c.fails {
			compareFailures(t, e, ours, theirs)
			continue
		}
		if theirs.err != nil {
			t.Errorf("%s: %v\n%s%s", e, theirs.err, theirs.stdout, theirs.stderr)
			continue
		}
		other, err := b.image(t.Context(), e, c)
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		for _, d := range c.differences(e, image, other) {
			t.Errorf("%s: %s", e, d)
		}
	}
}

// compareFailures compares how a build fails: always that it does, and with the
// classic builder, whose words unio uses, what it says.
func compareFailures(t *testing.T, e engine, ours, theirs answer) {
	t.Helper()
	if ours.err == nil || theirs.err == nil {
		t.Errorf("unio: %v, %s: %v", ours.err, e, theirs.err)
	}
	if e != classic {
		return
	}
	a, b := lastLine(ours.stderr), lastLine(theirs.stderr)
	b = regexp.MustCompile(`/\S+/merged/`).ReplaceAllString(strings.TrimPrefix(b, "Error response from daemon: "), "/")
	if a = strings.TrimPrefix(a, "Error: "); a != b {
		t.Errorf("unio says   %s\ndocker says %s", a, b)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// TestCorpusSize holds the corpus to what was promised: thirty Dockerfiles, of
// them eight like those of real programs.
func TestCorpusSize(t *testing.T) {
	cases := readCases(t, "testdata")
	real := slices.DeleteFunc(slices.Clone(cases), func(c *dockerfileCase) bool { return !strings.HasPrefix(c.name, "real-") })
	if len(cases) < 30 || len(real) < 8 {
		t.Errorf("%d cases, %d real ones", len(cases), len(real))
	}
}

// TestDifferencesAreDocumented holds the table in docs/parity.md to what the
// cases say.
func TestDifferencesAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/parity.md")
	must(t, err)
	for _, c := range append(readCases(t, "testdata"), readCases(t, "testdata/debian")...) {
		for e, parts := range c.differs {
			for _, why := range parts {
				if row := fmt.Sprintf("| %s | %s | %s |\n", c.name, e, why); strings.Count(string(data), row) != 1 {
					t.Errorf("docs/parity.md lacks: %s", row)
				}
			}
		}
	}
}
