package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows lists what each package of the tree may import from the tree, as
// docs/design.md draws it. The contract in unionfs/merge is open to all.
var arrows = map[string][]string{
	"whiteout":             {},
	"cow/fsat":             {},
	"unionfs/transport":    {},
	"unionfs/merge":        {"whiteout"},
	"unionfs/dirlower":     {"whiteout", "cow/fsat"},
	"cow/failpoint":        {},
	"cow":                  {"whiteout", "cow/fsat", "cow/failpoint"},
	"unionfs":              {"cow", "whiteout", "cow/fsat", "unionfs/transport"},
	"unionfs/overlayopt":   {"unionfs"},
	"imagestore/blob":      {},
	"imagestore/layer":     {"whiteout", "cow/fsat"},
	"imagestore":           {"imagestore/blob", "imagestore/layer"},
	"imagestore/archive":   {"imagestore", "imagestore/blob", "imagestore/layer"},
	"imagestore/registry":  {"imagestore", "imagestore/blob", "imagestore/layer"},
	"unionfs/keeper":       {"unionfs", "unionfs/transport"},
	"container/inroot":     {},
	"container/seccomp":    {},
	"container/runspec":    {"imagestore", "container/inroot", "container/seccomp"},
	"container/rootless":   {"container/runspec", "unionfs"},
	"container/runner":     {"container/inroot", "container/runspec", "container/seccomp"},
	"container":            {"container/rootless", "container/inroot", "container/runspec", "container/runner", "imagestore", "unionfs", "unionfs/keeper", "unionfs/transport", "cow", "cow/fsat"},
	"container/jsonlog":    {},
	"container/volume":     {},
	"container/treetar":    {"container/inroot"},
	"container/supervise":  {"container", "container/rootless", "container/inroot", "container/jsonlog", "container/runner", "container/runspec", "container/treetar", "container/volume"},
	"container/layermount": {"container/rootless", "unionfs", "unionfs/transport", "cow"},
	"build/runconfig":      {},
	"build/dockerfile":     {"build/runconfig", "build/place", "build/source", "container/layermount", "imagestore", "imagestore/layer"},
	"build":                {"imagestore", "imagestore/layer", "container", "build/runconfig"},
	"build/source":         {"imagestore", "imagestore/layer", "cow/fsat", "whiteout"},
	"build/output":         {"build/source", "imagestore", "imagestore/archive", "imagestore/layer", "cow/fsat"},
	"build/place":          {"build/source", "imagestore", "imagestore/layer", "whiteout"},
}

// free may import whatever it likes; nothing imports it.
var free = []string{"cmd/", "integration", "integration/"}

// outside names the modules that only some packages may use.
var outside = map[string][]string{
	"github.com/hanwen/go-fuse/v2":    {"unionfs", "unionfs/transport"},
	"github.com/urfave/cli/v2":        {"cmd/"},
	"github.com/vbauerster/mpb/v8":    {"cmd/"},
	"oras.land/oras-go/v2":            {"imagestore/registry"},
	"github.com/klauspost/compress":   {"imagestore", "imagestore/archive", "imagestore/registry", "imagestore/layer", "build"},
	"github.com/google/renameio/v2":   {"imagestore", "imagestore/blob", "imagestore/layer", "container", "container/volume", "imagestore/archive", "imagestore/registry", "cmd/"},
	"github.com/moby/buildkit":        {"build", "build/"},
	"github.com/moby/profiles":        {"container/runspec"},
	"github.com/moby/sys/user":        {"container/runspec", "container/rootless", "build/place", "cmd/"},
	"github.com/rogpeppe/go-internal": {},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestImportArrows holds the tree to the arrows of docs/design.md.
func TestImportArrows(t *testing.T) {
	for _, p := range treePackages(t) {
		name := strings.TrimPrefix(p.ImportPath, "unio/")
		if isFree(name) {
			continue
		}
		if isTestSupport(name) {
			continue
		}
		allowed, ok := arrows[name]
		if !ok {
			t.Errorf("package %s is not in the table: docs/design.md must say where it stands", name)
			continue
		}
		for _, imported := range p.Imports {
			inTree, isOurs := strings.CutPrefix(imported, "unio/")
			if isOurs && inTree != "unionfs/merge" && !slices.Contains(allowed, inTree) {
				t.Errorf("%s imports %s: no arrow in docs/design.md allows that", name, inTree)
			}
		}
	}
}

// isTestSupport tells the packages that only tests import: their name ends in
// "test", and what is not a test may not import them.
func isTestSupport(name string) bool { return strings.HasSuffix(name, "test") }

// TestOutsideImports keeps what comes from other modules in its place: FUSE
// types in the union, the command line in cmd, the registry client in its package.
func TestOutsideImports(t *testing.T) {
	for _, p := range treePackages(t) {
		name := strings.TrimPrefix(p.ImportPath, "unio/")
		for _, imported := range p.Imports {
			if users, limited := usersOf(imported); limited && !mayUse(name, users) {
				t.Errorf("%s imports %s: only %v may", name, imported, users)
			}
		}
	}
}

// TestUnionAndStoreNeverMeet checks the one rule that matters most over any
// number of steps: neither half of the program reaches the other.
func TestUnionAndStoreNeverMeet(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range treePackages(t) {
		imports[p.ImportPath] = p.Imports
	}
	for path := range imports {
		switch {
		case strings.HasPrefix(path, "unio/unionfs"), strings.HasPrefix(path, "unio/cow"):
			assertUnreachable(t, imports, path, "unio/imagestore")
		case strings.HasPrefix(path, "unio/imagestore"):
			assertUnreachable(t, imports, path, "unio/cow", "unio/unionfs/transport", "unio/unionfs")
		}
	}
}

func assertUnreachable(t *testing.T, imports map[string][]string, from string, banned ...string) {
	t.Helper()
	seen := map[string]bool{}
	var walk func(path string)
	walk = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		for _, next := range imports[path] {
			if slices.Contains(banned, next) {
				t.Errorf("%s reaches %s through %s", from, next, path)
			}
			walk(next)
		}
	}
	walk(from)
}

func isFree(name string) bool { return mayUse(name, free) }

// mayUse reports whether name is in the list, where "x/" stands for everything below x.
func mayUse(name string, list []string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		return name == entry || strings.HasSuffix(entry, "/") && strings.HasPrefix(name, entry)
	})
}

func usersOf(imported string) (users []string, limited bool) {
	for module, users := range outside {
		if imported == module || strings.HasPrefix(imported, module+"/") {
			return users, true
		}
	}
	return nil, false
}

// treePackages asks the go command for the packages of this module.
func treePackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		list = append(list, p)
	}
}
