package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// TestPOSIX runs go-fuse's suite of POSIX behaviours on the writable mount.
func TestPOSIX(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:posix")
	mnt := b.mount("--name", "posix", "busybox:posix")
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(mnt, "posix-"+name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			test(t, dir)
		})
	}
}
