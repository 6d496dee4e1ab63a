package unionfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOrdinaryUser mounts a union without any privilege: owners, setuid bits
// and devices are kept beside the files and survive a remount.
func TestOrdinaryUser(t *testing.T) {
	if os.Getenv("UNIO_TEST_FUSE") == "" {
		withOpenDevice(t)
		return
	}
	r := newRig(t, `mkdir etc bin; echo root > etc/passwd; echo b > bin/b; chmod 640 etc/passwd; chmod 4755 bin/b; chown 3:4 bin/b
mkdir shut; chmod 500 shut; echo x > shut/x; chmod 400 shut/x; ln bin/b bin/c; ln -s b bin/l; rm -f bin/none`)
	const uid = 65534 // fusermount3 wants one with a name
	base := filepath.Dir(r.dir)
	r.sh(base, "chown -R 65534:65534 upper work mnt; chmod a+rx . ..; install -m 755 "+os.Args[0]+" server")
	r.binary = filepath.Join(base, "server")
	r.sh(r.lower, "chmod -R a+rX .; chmod 4755 bin/b") // the test server reads the lower as the user
	r.user = &syscall.Credential{Uid: uid, Gid: uid}
	r.mount(false)
	r.run(`echo more >> etc/passwd; chown 33:44 etc/passwd; chmod 2600 etc/passwd; echo n > new; chmod 444 new; echo again > new
mkdir -m 555 dir; touch dir/f; mv bin moved; echo y >> moved/c; rm shut/x; rmdir shut; mkdir shut; mkfifo fifo; ln new new2; ln -s t sym; chown -h 7:7 sym || :`)
	look := `find . -printf '%P %y %m %U %G %n %l\n' | sort; cat etc/passwd moved/b new`
	live := r.run(look)
	for _, want := range []string{"etc/passwd f 2600 33 44 1", "new f 444 0 0 2", "dir d 555 0 0 2", "moved/b f 755 3 4 2", "shut d 755 0 0"} {
		if !strings.Contains(live, want) {
			t.Errorf("no %q in\n%s", want, live)
		}
	}
	r.remount()
	r.equal("remounted", r.run(look), live)
	if st, err := os.Stat(r.upper + "/new"); err != nil || st.Sys().(*syscall.Stat_t).Uid != uid {
		t.Errorf("the file in the upper is not the user's: %v", err)
	}
}

// withOpenDevice runs the calling test once more in a mount namespace of its
// own where everybody may open /dev/fuse, as on an ordinary system.
func withOpenDevice(t *testing.T) {
	t.Helper()
	dev := filepath.Join(t.TempDir(), "fuse")
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-euc",
		`mknod -m 666 "$1" c 10 229; mount --bind "$1" /dev/fuse; exec "$2" -test.run "^$3$"`, "sh", dev, os.Args[0], t.Name())
	cmd.Env = append(os.Environ(), "UNIO_TEST_FUSE="+dev)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
