package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMountServesUntilUnmount(t *testing.T) {
	s := startServer(t, config{})
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil || st.Bsize != 4096 {
		t.Errorf("statfs: %v %d", err, st.Bsize)
	}
	if state, err := State(s.dir); state != StateAlive || err != nil {
		t.Errorf("State of a mount: %v %v", state, err)
	}
	if n := s.ask("init"); n != "104" && n != "56" { // fuse_in_header and fuse_init_in of new and old kernels
		t.Errorf("INIT kept: %s bytes", n)
	}
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
	if state, err := State(s.dir); state != StateNone || err != nil {
		t.Errorf("State after the unmount: %v %v", state, err)
	}
	if err := Unmount(s.dir, UnmountOptions{}); !errors.Is(err, ErrNotMounted) {
		t.Errorf("second unmount: %v", err)
	}
}

func TestServerMayUnmountItself(t *testing.T) {
	s := startServer(t, config{})
	if _, err := fmt.Fprintln(s.in, "umount"); err != nil {
		t.Fatal(err)
	}
	// The end and the answer are printed by two goroutines, in any order.
	if got := s.end(); got != "ended; nothing left" && got != "<nil>" {
		t.Errorf("after the unmount: %s", got)
	}
	if state, err := State(s.dir); state != StateNone || err != nil {
		t.Errorf("State: %v %v", state, err)
	}
}

// mountLine returns the line of /proc/mounts: source, type, options.
func mountLine(t *testing.T, dir string) (source, kind string, options []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if w := strings.Fields(line); w[1] == dir {
			source, kind, options = w[0], w[2], strings.Split(w[3], ",")
		}
	}
	return source, kind, options
}

func TestOptionsInTheMountTable(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name      string
		words     []string
		has, lack string
	}{
		{"default", nil, "rw nosuid nodev default_permissions user_id=0 group_id=0", "allow_other noexec ro"},
		{"read-only for all", []string{"ro", "allow_other"}, "ro nosuid nodev allow_other", "rw"},
		{"like a disk", []string{"suid", "dev", "noatime"}, "rw noatime", "nosuid nodev"},
		{"extra", []string{"noexec", "blksize=1024"}, "", ""},
		{"later options win", []string{"noexec", "exec", "suid", "nosuid"}, "nosuid nodev", "noexec"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mnt")
			s, err := tryServer(t, dir, config{options: append(c.words, "name=unio,x")})
			if c.name == "extra" { // the kernel takes blksize for block devices only
				if err == nil || !strings.Contains(err.Error(), "blksize=1024") {
					t.Errorf("refused option: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			source, kind, options := mountLine(t, s.dir)
			if source != "unio,x" || kind != "fuse.unio" {
				t.Errorf("source %q, type %q", source, kind)
			}
			for _, o := range strings.Fields(c.has) {
				if !slices.Contains(options, o) {
					t.Errorf("%v lack %s", options, o)
				}
			}
			for _, o := range strings.Fields(c.lack) {
				if slices.Contains(options, o) {
					t.Errorf("%v have %s", options, o)
				}
			}
		})
	}
}

func TestUnusableMountPoints(t *testing.T) {
	needFuse(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	used := startServer(t, config{})
	dead := startServer(t, config{})
	dead.kill()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(used.dir, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir string
		why       error
	}{
		{"missing", filepath.Join(dir, "missing"), fs.ErrNotExist},
		{"parent missing", filepath.Join(dir, "missing", "x"), fs.ErrNotExist},
		{"file", file, unix.ENOTDIR},
		{"below a file", filepath.Join(file, "x"), unix.ENOTDIR},
		{"mounted", used.dir, ErrBusy},
		{"link to a mount", link, ErrBusy},
		{"dead", dead.dir, ErrBusy},
		{"proc", "/proc", ErrBusy},
	} {
		d, err := Mount(MountOptions{Dir: c.dir})
		if !errors.Is(err, ErrMountPoint) || !errors.Is(err, c.why) {
			t.Errorf("%s: %v", c.name, err)
		}
		if d != nil {
			t.Errorf("%s: mounted", c.name)
		}
	}
	if _, err := Mount(MountOptions{Dir: dead.dir, Over: true}); !errors.Is(err, ErrMountPoint) {
		t.Errorf("over a dead mount: %v", err)
	}
}

func TestMountOverAMount(t *testing.T) {
	needRoot(t) // fusermount3 may not enter the mount below
	below := startServer(t, config{})
	above, err := tryServer(t, below.dir, config{options: []string{"over"}})
	if err != nil {
		t.Fatal(err)
	}
	before := below.ask("total")
	statfs(t, below.dir)
	if below.ask("total") != before {
		t.Error("the mount below was asked")
	}
	above.unmount()
	statfs(t, below.dir)
	if n := below.counters()["STATFS"]; n < 1 {
		t.Error("the mount below was not asked")
	}
	below.unmount()
}

func TestBusyAndLazyUnmount(t *testing.T) {
	s := startServer(t, config{})
	file, err := os.Open(filepath.Join(s.dir, "5"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := Unmount(s.dir, UnmountOptions{}); !errors.Is(err, ErrBusy) {
		t.Fatalf("unmount in use: %v", err)
	}
	begin := time.Now()
	if err := Unmount(s.dir, UnmountOptions{Wait: 200 * time.Millisecond}); !errors.Is(err, ErrBusy) {
		t.Fatalf("unmount in use: %v", err)
	}
	if d := time.Since(begin); d < 50*time.Millisecond || d > 5*time.Second {
		t.Errorf("waited %v", d)
	}
	if err := Unmount(s.dir, UnmountOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	if state, err := State(s.dir); state != StateNone || err != nil {
		t.Errorf("State: %v %v", state, err)
	}
	buf := make([]byte, 8)
	if n, err := file.ReadAt(buf, 0); n != 5 {
		t.Errorf("read after the lazy unmount: %d %v", n, err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if got := s.end(); got != "ended; nothing left" {
		t.Errorf("after the last user: %s", got)
	}
}

// TestOddPaths mounts on folders with what the mount table must escape, and
// through links.
func TestOddPaths(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b", "c,d", `e\\f`, "g\nh", "#i", "-j", "k\tl", "ü"} {
		s, err := tryServer(t, filepath.Join(dir, name), config{})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		link := filepath.Join(dir, "link")
		if err := errors.Join(os.Symlink(name, link), os.Symlink("link", link+"2")); err != nil {
			t.Fatal(err)
		}
		if state, err := State(link + "2/"); state != StateAlive || err != nil {
			t.Errorf("%q: State %v %v", name, state, err)
		}
		if err := Unmount(link+"2", UnmountOptions{Wait: time.Second}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if got := s.end(); got != "ended; nothing left" {
			t.Errorf("%q: %s", name, got)
		}
		if err := errors.Join(os.Remove(link), os.Remove(link+"2")); err != nil {
			t.Fatal(err)
		}
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if _, err := Mount(MountOptions{Dir: loop}); !errors.Is(err, ErrMountPoint) || !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop of links: %v", err)
	}
}

func TestUnmountOfOtherFilesystems(t *testing.T) {
	for _, dir := range []string{"/proc", "/", t.TempDir()} {
		if err := Unmount(dir, UnmountOptions{}); !errors.Is(err, ErrNotMounted) {
			t.Errorf("%s: %v", dir, err)
		}
		if state, err := State(dir); state != StateNone || err != nil {
			t.Errorf("State of %s: %v %v", dir, state, err)
		}
		if err := Abort(dir); !errors.Is(err, ErrNotMounted) {
			t.Errorf("Abort of %s: %v", dir, err)
		}
	}
	if _, err := State("/no/such/folder"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("State of nothing: %v", err)
	}
}

func TestDeadMount(t *testing.T) {
	s := startServer(t, config{})
	s.kill()
	// Rings end a moment after their process.
	waitFor(t, "the end of the connection", func() bool {
		state, err := State(s.dir)
		return state == StateDead && err == nil
	})
	if _, err := os.Stat(s.dir); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("stat: %v", err)
	}
	if err := Unmount(s.dir, UnmountOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := tryServer(t, s.dir, config{}); err != nil {
		t.Errorf("mount again: %v", err)
	}
}

func TestHungMountAndAbort(t *testing.T) {
	needRoot(t)
	s := startServer(t, config{})
	if err := s.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The signal reaches the threads of the child one after the other.
	waitFor(t, "the child to stop", func() bool {
		return probe(s.dir, 300*time.Millisecond) == StateHung
	})
	if err := Abort(s.dir); err != nil {
		t.Fatal(err)
	}
	if state, err := State(s.dir); state != StateDead && state != StateNone || err != nil {
		t.Errorf("State after the abort: %v %v", state, err)
	}
	if err := s.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := s.end(); got != "ended; nothing left" {
		t.Errorf("the server: %s", got)
	}
}

// TestCycles mounts and unmounts a hundred times in one process, which ends
// with what it began with.
func TestCycles(t *testing.T) {
	needFuse(t)
	cmd := exec.Command(os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), roleEnv+"=cycle", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "100 cycles; nothing left" {
		t.Errorf("%v: %s", err, got)
	}
}

func TestKernelOptions(t *testing.T) {
	o := MountOptions{Extra: []string{"ro", "sync", "rw", "relatime", "dirsync", "nodiratime", "atime", "context=x"}}
	o.normalise()
	flags, data := o.kernelOptions(7)
	if want := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_SYNCHRONOUS | unix.MS_RELATIME | unix.MS_DIRSYNC | unix.MS_NODIRATIME); flags != want {
		t.Errorf("flags %x, want %x", flags, want)
	}
	want := fmt.Sprintf("fd=7,rootmode=40000,user_id=%d,group_id=%d,max_read=1048576,default_permissions,context=x", os.Geteuid(), os.Getegid())
	if data != want {
		t.Errorf("data %q, want %q", data, want)
	}
}

func TestNoDevice(t *testing.T) {
	if _, err := openDevice(filepath.Join(t.TempDir(), "fuse")); !errors.Is(err, ErrNoFuse) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := openDevice(t.TempDir()); err == nil || errors.Is(err, ErrNoFuse) {
		t.Errorf("a folder: %v", err)
	}
}

func TestMountErrors(t *testing.T) {
	for err, want := range map[unix.Errno]error{
		unix.EPERM: fs.ErrPermission, unix.ENODEV: ErrNoFuse, unix.EINVAL: unix.EINVAL,
		unix.ENOENT: ErrMountPoint, unix.ENOTDIR: ErrMountPoint, unix.EBUSY: ErrMountPoint, unix.EIO: unix.EIO,
	} {
		if got := mountError(err, "x=y"); !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestJudge(t *testing.T) {
	answered := unix.Statfs_t{Type: unix.FUSE_SUPER_MAGIC, Bsize: 4096, Namelen: 255}
	for _, c := range []struct {
		st   unix.Statfs_t
		err  error
		want MountState
	}{
		{answered, nil, StateAlive},
		{unix.Statfs_t{}, unix.EIO, StateAlive},
		{unix.Statfs_t{}, unix.ENOTCONN, StateDead},
		{unix.Statfs_t{}, unix.ECONNABORTED, StateDead},
		{unix.Statfs_t{}, unix.EACCES, StateUnknown},
		{unix.Statfs_t{Type: unix.FUSE_SUPER_MAGIC}, nil, StateUnknown},
		{unix.Statfs_t{}, unix.ENOENT, StateNone},
		{unix.Statfs_t{Type: unix.TMPFS_MAGIC, Bsize: 4096}, nil, StateNone},
	} {
		if got := judge(c.st, c.err); got != c.want {
			t.Errorf("%v, %v: %v, want %v", c.st.Type, c.err, got, c.want)
		}
	}
}
