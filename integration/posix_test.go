package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"unio/unionfs/transport/transporttest"
)

// exempt names the tests of the suite that a disk filesystem does not pass
// either.
var exempt = map[string]string{
	"FcntlFlockLocksFile": "locks of one process never conflict with each other (fcntl(2)); fails on ext4 too",
}

// TestPOSIX runs go-fuse's suite of POSIX behaviours on the writable mount.
// The upper lies on an ext4 that takes large xattrs, which one of them needs.
func TestPOSIX(t *testing.T) { transporttest.Each(t, posixSuite) }

func posixSuite(t *testing.T) {
	b := newBox(t)
	b.onDisk("512M", "ea_inode")
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:posix")
	mnt := b.mount("--name", "posix", "busybox:posix")
	for name, test := range posixtest.All {
		if exempt[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(mnt, "posix-"+name)
			must(t, os.Mkdir(dir, 0o755))
			test(t, dir)
		})
	}
}
