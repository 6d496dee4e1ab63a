package corpus

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// engine names a builder that unio is compared with.
type engine string

const (
	classic  engine = "classic"
	buildkit engine = "buildkit"
	buildah  engine = "buildah"
)

// dockerfileCase is one file of testdata.
type dockerfileCase struct {
	name    string
	args    []string
	prepare []string
	engines []engine
	differs map[engine]map[string]string // part → why
	fails   bool
	files   []txtar.File
}

// readCases reads a folder of cases.
func readCases(t *testing.T, dir string) []*dockerfileCase {
	t.Helper()
	paths, err := filepath.Glob(dir + "/*.txtar")
	must(t, err)
	var list []*dockerfileCase
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		must(t, err)
		c := &dockerfileCase{
			name: strings.TrimSuffix(filepath.Base(path), ".txtar"), files: a.Files,
			engines: []engine{classic, buildkit, buildah}, differs: map[engine]map[string]string{},
		}
		for line := range strings.Lines(string(a.Comment)) {
			must(t, c.option(strings.TrimSpace(line)))
		}
		list = append(list, c)
	}
	return list
}

func (c *dockerfileCase) option(line string) error {
	key, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch key {
	case "args":
		c.args = strings.Fields(value)
	case "prepare":
		c.prepare = append(c.prepare, value)
	case "only":
		c.engines = nil
		for _, e := range strings.Fields(value) {
			c.engines = append(c.engines, engine(e))
		}
	case "differs":
		return c.difference(value)
	case "fails":
		c.fails = true
	}
	return nil
}

// difference reads "ENGINE PART[,PART] why".
func (c *dockerfileCase) difference(value string) error {
	words := strings.SplitN(value, " ", 3)
	if len(words) < 3 {
		return fmt.Errorf("%s: %q needs an engine, a part and a reason", c.name, value)
	}
	e := engine(words[0])
	if c.differs[e] == nil {
		c.differs[e] = map[string]string{}
	}
	for part := range strings.SplitSeq(words[1], ",") {
		if !slices.Contains([]string{"layers", "tree", "config"}, part) {
			return fmt.Errorf("%s: unknown part %q", c.name, part)
		}
		c.differs[e][part] = words[2]
	}
	return nil
}

// write makes the build context.
func (c *dockerfileCase) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range c.files {
		path := filepath.Join(dir, f.Name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, f.Data, 0o644))
	}
	for _, command := range c.prepare {
		cmd := exec.Command("sh", "-ec", "umask 022; "+command)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
