package unionfs_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs"
	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
	"unio/unionfs/merge/mergetest"
	"unio/unionfs/transport/transporttest"
)

// serverEnv makes the test binary a server: a process must not touch the
// mount that it serves, so the tests run in another one.
const serverEnv = "UNIO_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve mounts what the environment says. On each line of standard input it
// prints its request counters.
func serve() error {
	unix.Umask(0)
	lower, err := testLower(os.Getenv("UNIO_TEST_LOWER"))
	if err != nil {
		return err
	}
	if gate := os.Getenv(gateEnv); gate != "" {
		lower = gatedLower{lower, gate}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o := unionfs.Options{
		Writeback: os.Getenv("UNIO_TEST_WRITEBACK") != "",
		Lower:     lower, Dir: os.Getenv("UNIO_TEST_DIR"), FsName: "test", Log: log,
		Transport: transporttest.Chosen(),
	}
	if os.Geteuid() == 0 {
		o.AllowOther, o.Suid, o.Dev = true, true, true
	}
	if up := os.Getenv("UNIO_TEST_UPPER"); up != "" {
		o.Cow, err = cow.Open(cow.Options{
			Upper: up, Work: os.Getenv("UNIO_TEST_WORK"), Lower: lower, Root: os.Geteuid() == 0, Log: log,
			Volatile: os.Getenv("UNIO_TEST_VOLATILE") != "",
			Plain:    os.Getenv("UNIO_TEST_PLAIN") != "",

			WhiteoutNames: os.Getenv("UNIO_TEST_NAMES") != "",
		})
		if err != nil {
			return err
		}
		defer o.Cow.Close()
	}
	s, err := unionfs.Mount(o)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { <-stop; s.Unmount(true) }()
	go report(s)
	if kind := transporttest.Chosen(); s.Transport() != kind {
		return errors.Join(fmt.Errorf("served by %s, not %s", s.Transport(), kind), s.Unmount(true))
	}
	fmt.Println("ready")
	return s.Wait()
}

// testLower makes a lower of a folder: a copy in memory, numbered as a view is,
// or, if the environment asks for it, the folder itself.
func testLower(path string) (merge.Lower, error) {
	if os.Getenv(foldersEnv) == "" {
		return mergetest.FromDir(path)
	}
	return dirlower.Open(dirlower.Options{Dirs: strings.Split(path, ":"), Root: os.Geteuid() == 0})
}

// foldersEnv makes the server read the lower folder in place. Every test here
// can be run so.
const foldersEnv = "UNIO_TEST_FOLDERS"

func report(s *unionfs.Server) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		json.NewEncoder(os.Stdout).Encode(s.Requests())
	}
}

// rig is one union for a test: lower, upper and work folders, a mount point,
// and the server while it is mounted.
type rig struct {
	t                       *testing.T
	lower, upper, work, dir string
	user                    *syscall.Credential // nil: root
	binary                  string
	env                     []string // of the server, added
	cmd                     *exec.Cmd
	in                      io.WriteCloser
	out                     *bufio.Reader
}

// newRig makes the folders and fills the lower by a shell script.
func newRig(t *testing.T, script string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	base := t.TempDir()
	r := &rig{t: t, binary: os.Args[0]}
	for _, p := range []struct {
		name string
		dst  *string
	}{{"lower", &r.lower}, {"upper", &r.upper}, {"work", &r.work}, {"mnt", &r.dir}} {
		*p.dst = filepath.Join(base, p.name)
		if err := os.Mkdir(*p.dst, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.sh(r.lower, script)
	return r
}

// sh runs a script in folder dir and returns what it prints.
func (r *rig) sh(dir, script string) string {
	r.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s\n%s%v", script, out, err)
	}
	return string(out)
}

// run runs a script on the mount.
func (r *rig) run(script string) string { r.t.Helper(); return r.sh(r.dir, script) }

// fails runs a script on the mount that must fail, and returns what it prints.
func (r *rig) fails(script string) string {
	r.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		r.t.Fatalf("%s\nsucceeded: %s", script, out)
	}
	return string(out)
}

// server returns a command that serves the writable union at dir.
func (r *rig) server(dir string) *exec.Cmd {
	cmd := exec.Command(r.binary)
	cmd.Env = append(os.Environ(), serverEnv+"=1", "UNIO_TEST_LOWER="+r.lower, "UNIO_TEST_DIR="+dir,
		"UNIO_TEST_UPPER="+r.upper, "UNIO_TEST_WORK="+r.work,
		"GORACE=atexit_sleep_ms=0") // the race detector would let every server sleep a second at its end
	cmd.Env = append(cmd.Env, r.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	return cmd
}

// mount mounts the union; readOnly leaves the upper out.
func (r *rig) mount(readOnly bool) {
	r.t.Helper()
	r.cmd = r.server(r.dir)
	if readOnly {
		r.cmd.Env = append(r.cmd.Env, "UNIO_TEST_UPPER=")
	}
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.unmount)
	r.out = bufio.NewReader(out)
	if line, err := r.out.ReadString('\n'); err != nil || line != "ready\n" {
		r.t.Fatalf("server said %q: %v", line, err)
	}
}

// unmount ends the server; a mount that is busy is taken away all the same.
func (r *rig) unmount() {
	if r.cmd == nil {
		return
	}
	cmd := r.cmd
	r.cmd = nil
	if err := unmount(r.dir); err != nil {
		r.t.Errorf("unmount: %v", err)
		unix.Unmount(r.dir, unix.MNT_DETACH)
		cmd.Process.Kill() // whoever is in the way, the test must end
	}
	r.in.Close()
	if err := cmd.Wait(); err != nil {
		r.t.Errorf("server: %v", err)
	}
}

// unmount takes a mount away. A program that another test is just starting
// holds all descriptors of this process until it runs, so it may be busy for a
// moment.
func unmount(dir string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := unix.Unmount(dir, 0); err != unix.EBUSY || time.Now().After(end) {
			return err
		}
	}
}

// kill ends the server as a crash would, and cleans the mount point.
func (r *rig) kill() {
	r.t.Helper()
	r.cmd.Process.Kill()
	r.cmd.Wait()
	r.cmd = nil
	if err := unix.Unmount(r.dir, unix.MNT_DETACH); err != nil {
		r.t.Fatal(err)
	}
}

// remount mounts the union anew.
func (r *rig) remount() { r.t.Helper(); r.unmount(); r.mount(false) }

// requests returns the server's counters.
func (r *rig) requests() map[string]uint64 {
	r.t.Helper()
	time.Sleep(50 * time.Millisecond) // FORGET and writeback come by themselves
	io.WriteString(r.in, "\n")
	line, err := r.out.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	var c map[string]uint64
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// tree describes everything below the mount or a folder, a line an entry.
func (r *rig) tree(dir string) string {
	r.t.Helper()
	return r.sh(dir, `find . -printf '%P %y %m %U %G %n %s %T@ %l\n' | sed 's/^\(.* d [0-9]* [0-9]* [0-9]* [0-9]*\) [0-9]* /\1 - /' | sort
find . -type f | sort | xargs -r -d '\n' md5sum`)
}

func (r *rig) equal(what, got, want string) {
	r.t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "", ""
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			r.t.Fatalf("%s: line %d:\n got %q\nwant %q", what, i+1, a, b)
		}
	}
}
