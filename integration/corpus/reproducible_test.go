package corpus

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReproducible builds what is like real programs twice with
// SOURCE_DATE_EPOCH: in two stores, from contexts whose files have other times
// and stand in another order. The images are the same to the bit.
func TestReproducible(t *testing.T) {
	b := &bench{dir: t.TempDir(), unio: buildUnio(t)}
	if os.Geteuid() != 0 {
		missing(t, os.ErrPermission)
	}
	bases := writeBases(t, b.dir)
	for _, store := range []string{"one", "two"} {
		for _, path := range bases {
			must(t, b.in(t, store, b.dir, "load", "-q", "-i", path).err)
		}
	}
	for _, c := range readCases(t, "testdata") {
		if !strings.HasPrefix(c.name, "real-") && c.name != "add-archives" && c.name != "copy-links" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first := c.write(t)
			second := filepath.Join(t.TempDir(), "other")
			must(t, exec.Command("cp", "-a", first, second).Run())
			must(t, exec.Command("sh", "-c", "find "+second+" -exec touch -h -d 2020-05-06 {} +").Run())
			one, two := b.in(t, "one", first, "build", "-q", "."), b.in(t, "two", second, "build", "-q", "--no-cache", ".")
			if one.err != nil || one.stdout != two.stdout {
				t.Errorf("%v %s%s and %v %s%s", one.err, one.stdout, one.stderr, two.err, two.stdout, two.stderr)
			}
		})
	}
}

// in runs unio with a store of its own, with the time of everything fixed.
func (b *bench) in(t *testing.T, store, dir string, args ...string) answer {
	env := []string{"SOURCE_DATE_EPOCH=1000000000", "UNIO_ROOT=" + filepath.Join(b.dir, store)}
	return b.runIn(t.Context(), dir, env, append([]string{b.unio}, args...)...)
}
