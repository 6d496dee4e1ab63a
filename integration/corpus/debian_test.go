package corpus

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"unio/integration/debian"
)

// TestDebian builds real programs with real compilers on a root filesystem of
// Debian's, with UNIO_TEST_LONG: it takes minutes and gigabytes.
func TestDebian(t *testing.T) {
	if os.Getenv("UNIO_TEST_LONG") == "" {
		return // a matter of time, not of what this machine has
	}
	root, err := debian.Root(t.Context(), debian.Tools)
	missing(t, err)
	deb, err := debian.Package(t.Context(), "hello")
	missing(t, err)
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	t.Setenv("HELLO_DEB", deb)
	t.Setenv("GOROOT", strings.TrimSpace(string(goroot)))
	b := newBench(t)
	b.mustRun(t, b.docker, "import", root, "debian-tools:1")
	b.mustRun(t, b.unio, "import", "-q", root, "debian-tools:1")
	for _, c := range readCases(t, "testdata/debian") {
		t.Run(c.name, func(t *testing.T) { b.compare(t, c, c.write(t)) })
	}
}
