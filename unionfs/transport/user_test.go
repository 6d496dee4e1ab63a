package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the uid and gid as which root runs the tests for ordinary users.
const nobody = 65534

// noPrivilege is how the child says that it cannot set up its namespace.
const noPrivilege = "cannot prepare the namespace"

// inNamespace runs tests of this binary again, in a mount namespace of their
// own that prepare sets up, as the user uid.
func inNamespace(t *testing.T, uid int, run string) {
	t.Helper()
	needRoot(t)
	needFuse(t)
	cmd := exec.Command(os.Args[0], strconv.Itoa(uid), run)
	cmd.Env = append(os.Environ(), roleEnv+"=namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), noPrivilege) || errors.Is(err, fs.ErrPermission) {
		t.Skipf("needs a mount namespace and mknod: %v\n%s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%s as %d: %v\n%s", run, uid, err, out)
	}
	t.Logf("%s", out)
}

// enterNamespace is the child of inNamespace. It makes a /dev/fuse that
// everybody may open, as on a desktop, mounts the control filesystem of FUSE,
// becomes the user and runs the tests.
func enterNamespace() error {
	const dir = "/mnt" // temporary folders of tests lie below one that is root's alone
	uid, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	if err := prepare(dir, uid); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", noPrivilege, err)
	} else if err != nil {
		return err
	}
	if uid != 0 {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid))
	}
	err = errors.Join(err, os.Setenv("TMPDIR", dir), os.Setenv("GOCOVERDIR", dir), os.Unsetenv(roleEnv), os.Chdir(dir))
	if err != nil {
		return err
	}
	self := filepath.Join(dir, "test")
	return syscall.Exec(self, []string{self, "-test.run=" + os.Args[2], "-test.v", "-test.count=1"}, os.Environ())
}

func prepare(dir string, uid int) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	device := filepath.Join(dir, "fuse")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	// Without the file system of that type Abort has another way.
	if err := unix.Mount("none", connectionsPath, "fusectl", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		fmt.Println("no fusectl:", err)
	}
	return errors.Join(
		unix.Mknod(device, unix.S_IFCHR, int(unix.Mkdev(10, 229))),
		os.Chmod(device, 0o666),
		unix.Mount(device, devicePath, "", unix.MS_BIND, ""),
		os.WriteFile(filepath.Join(dir, "test"), self, 0o755),
		os.Chown(dir, uid, uid),
	)
}

// TestOrdinaryUser runs the tests that suit any user, as one without
// privilege: everything goes through fusermount3 then.
func TestOrdinaryUser(t *testing.T) {
	if _, err := findHelper(); err != nil {
		t.Skip("needs fusermount3")
	}
	inNamespace(t, nobody, "^Test(AsUser|MountServes|ServerMay|Unusable|Odd|Busy|Dead|Cycles|Load|Counters)")
}

// TestControlFilesystem aborts through /sys/fs/fuse/connections.
func TestControlFilesystem(t *testing.T) {
	inNamespace(t, 0, "^TestHungMountAndAbort$")
}

func needUser(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user; TestOrdinaryUser runs it as one")
	}
}

func TestAsUserOptions(t *testing.T) {
	needUser(t)
	s := startServer(t, config{options: []string{"ro", "suid", "dev", "name=a,b\\c"}})
	source, kind, options := mountLine(t, s.dir)
	if source != `a,b\134c` || kind != "fuse.unio" {
		t.Errorf("source %q, type %q", source, kind)
	}
	for _, o := range []string{"ro", "nosuid", "nodev", "default_permissions", fmt.Sprintf("user_id=%d", os.Getuid())} {
		if !slices.Contains(options, o) {
			t.Errorf("%v lack %s", options, o)
		}
	}
}

func TestAsUserRefusals(t *testing.T) {
	needUser(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	conf, _ := os.ReadFile("/etc/fuse.conf")
	if !slices.Contains(strings.Split(string(conf), "\n"), "user_allow_other") {
		_, err := tryServer(t, dir, config{options: []string{"allow_other"}})
		if err == nil || !strings.Contains(err.Error(), "user_allow_other") {
			t.Errorf("allow_other: %v", err)
		}
	}
	if _, err := Mount(MountOptions{Dir: "/usr"}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a folder of root: %v", err)
	}
}

func TestHelperErrors(t *testing.T) {
	exit := errors.New("exit status 1")
	for text, want := range map[string]error{
		"/bin/fusermount3: failed to unmount /m: Device or resource busy":                         ErrBusy,
		"fusermount3: entry for /m not found in /etc/mtab":                                        ErrNotMounted,
		"fusermount3: failed to unmount /m: Invalid argument":                                     ErrNotMounted,
		"fusermount3: fuse device not found, try 'modprobe fuse' first. Kernel module not loaded": ErrNoFuse,
		"fusermount3: option allow_other only allowed if 'user_allow_other' is set in /x":         fs.ErrPermission,
		"fusermount3: user has no write access to mountpoint /usr":                                fs.ErrPermission,
		"fusermount3: mount failed: Operation not permitted":                                      fs.ErrPermission,
		"fusermount3: failed to open /dev/fuse: Permission denied":                                fs.ErrPermission,
		"fusermount3: bad mount point /x: No such file or directory":                              ErrMountPoint,
		"": exit,
	} {
		if got := helperError(text, exit); !errors.Is(got, want) {
			t.Errorf("%q: %v", text, got)
		}
	}
	if got := helperError("fusermount3: something new", exit); got.Error() != "fusermount3: something new" {
		t.Errorf("unknown text: %v", got)
	}
}

func TestHelperSendsNothing(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	if err := unix.Sendto(pair[1], []byte{0}, 0, nil); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	for range 2 { // a byte without a descriptor, then the end of the stream
		if _, err := receiveFD(pair[0]); err == nil {
			t.Error("a descriptor out of nothing")
		}
	}
}
