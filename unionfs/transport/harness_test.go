package transport

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A process must not touch its own mount, so every test lets a child serve:
// this test binary again, with roleEnv set.
const roleEnv = "TRANSPORT_TEST_ROLE"

// initEnv holds, in hex, the INIT request of the connection that a child
// inherits.
const initEnv = "TRANSPORT_TEST_INIT"

// kindEnv names the transport of all servers whose config leaves it open;
// without it that is Dev.
const kindEnv = "TRANSPORT_TEST_KIND"

func defaultKind() Kind {
	if k := os.Getenv(kindEnv); k != "" {
		return Kind(k)
	}
	return Dev
}

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "serve":
		err = serveChild()
	case "stat":
		_, err = os.Stat(os.Args[1])
	case "cycle":
		err = cycleChild()
	case "namespace":
		err = enterNamespace()
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is a serving process and what tests ask of it, line by line.
type child struct {
	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	done bool
}

// config is passed to the child as words of its command line.
type config struct {
	readers, bound int
	options        []string // words: ro, suid, dev, allow_other, over, name=X; others go to Extra
	procs          int      // GOMAXPROCS
	kind           Kind     // "": defaultKind
}

func (c config) words() []string {
	if c.kind == "" {
		c.kind = defaultKind()
	}
	return append([]string{
		"transport=" + string(c.kind),
		fmt.Sprintf("readers=%d", c.readers), fmt.Sprintf("bound=%d", c.bound), fmt.Sprintf("procs=%d", c.procs),
	}, c.options...)
}

// startServer mounts a testFS on a new folder in a child process and waits
// until it answers.
func startServer(t testing.TB, c config) *child {
	t.Helper()
	s, err := tryServer(t, filepath.Join(t.TempDir(), "mnt"), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tryServer is startServer on a folder of choice; it fails as Mount does.
func tryServer(t testing.TB, dir string, c config) (*child, error) {
	t.Helper()
	needFuse(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return startChild(t, dir, exec.Command(os.Args[0], append([]string{dir}, c.words()...)...))
}

func startChild(t testing.TB, dir string, cmd *exec.Cmd) (*child, error) {
	t.Helper()
	// The race detector would let every child sleep a second at its end.
	cmd.Env = append(append(os.Environ(), cmd.Env...), roleEnv+"=serve", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &child{t: t, dir: dir, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(s.cleanup)
	if line := s.line(); line != "ready" {
		return s, errors.New(line)
	}
	return s, nil
}

func (s *child) line() string {
	if !s.out.Scan() {
		return "child ended"
	}
	return s.out.Text()
}

// ask sends a command and returns the answer.
func (s *child) ask(command string) string {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		s.t.Fatalf("ask %q: %v", command, err)
	}
	return s.line()
}

// counters returns the child's counters.
func (s *child) counters() map[string]int {
	m := map[string]int{}
	for _, word := range strings.Fields(s.ask("counters")) {
		name, n, _ := strings.Cut(word, "=")
		m[name], _ = strconv.Atoi(n)
	}
	return m
}

// kill ends the child as a crash would.
func (s *child) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.done = true
}

// unmount unmounts and returns how Serve ended.
func (s *child) unmount() string {
	s.t.Helper()
	if err := Unmount(s.dir, UnmountOptions{Wait: 5 * time.Second}); err != nil {
		s.t.Fatal(err)
	}
	return s.end()
}

// end waits for the child and returns its last words.
func (s *child) end() string {
	last := s.line()
	for s.out.Scan() {
		last = s.out.Text()
	}
	s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		last += " " + err.Error()
	}
	s.done = true
	return last
}

func (s *child) cleanup() {
	if !s.done {
		s.kill()
	}
	if info, err := topMount(s.dir); err == nil && info != nil {
		if err := Unmount(s.dir, UnmountOptions{Lazy: true}); err != nil {
			s.t.Errorf("clean up: %v", err)
		}
	}
}

// needFuse skips where the kernel offers no FUSE.
func needFuse(t testing.TB) {
	t.Helper()
	fd, err := openDevice(devicePath)
	if err != nil {
		t.Skipf("needs a usable /dev/fuse: %v", err)
	}
	syscall.Close(fd)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// needUring skips where the kernel offers no FUSE over io_uring; root turns it
// on first, as Mount does.
func needUring(t testing.TB) {
	t.Helper()
	needFuse(t)
	if err := Uring.prepare(); err != nil {
		t.Skipf("needs FUSE over io_uring: %v", err)
	}
}

// parseOptions turns the child's words into options.
func parseOptions(words []string) (MountOptions, ServeOptions, error) {
	o := MountOptions{Dir: words[0]}
	var s ServeOptions
	var err error
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "readers":
			s.Readers, err = strconv.Atoi(value)
		case "bound":
			s.MaxReaders, err = strconv.Atoi(value)
		case "procs":
			n, _ := strconv.Atoi(value)
			runtime.GOMAXPROCS(n)
		case "transport":
			o.Transport = Kind(value)
		case "deny":
			n, _ := strconv.Atoi(value)
			err = denyUring(syscall.Errno(n))
		case "name":
			o.FsName = value
		case "ro":
			o.ReadOnly = true
		case "suid":
			o.Suid = true
		case "dev":
			o.Dev = true
		case "allow_other":
			o.AllowOther = true
		case "over":
			o.Over = true
		default:
			o.Extra = append(o.Extra, word)
		}
		if err != nil {
			return o, s, err
		}
	}
	return o, s, nil
}

// serveChild is the child: it mounts, prints "ready", then obeys its standard
// input until the mount is gone, and prints how Serve ended.
func serveChild() error {
	o, so, err := parseOptions(os.Args[1:])
	if err != nil {
		return err
	}
	var logged lines
	o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(os.Stderr, &logged), nil))
	goroutines, fds := runtime.NumGoroutine(), openFDs()
	d, err := openChild(o)
	if err != nil {
		fmt.Println(err)
		return nil
	}
	f := newTestFS()
	f.device, f.logged = d, &logged
	ps := fuse.NewProtocolServer(f, &fuse.MountOptions{
		MaxWrite: 1 << 20, MaxBackground: 64, ExplicitDataCacheControl: true,
		PanicHandler: func(any) fuse.Status { return fuse.EIO },
	})
	served := make(chan error, 1)
	go func() { served <- d.Serve(f.wrap(ps), so) }()
	select {
	case <-d.Ready():
		fmt.Println("ready")
	case err := <-served:
		return err
	}
	go obey(f)
	if err := <-served; err != nil {
		fmt.Println("failed:", err)
	} else if err := d.Close(); err != nil {
		fmt.Println("failed:", err)
	} else {
		// obey adds one goroutine.
		fmt.Println("ended;", leaks(goroutines+1, fds))
	}
	return nil
}

// lines keeps what is logged.
type lines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

// String returns all lines as one.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ReplaceAll(string(l.text), "\n", "; ")
}

// openChild mounts, or takes over the connection in descriptor 3.
func openChild(o MountOptions) (*Device, error) {
	text := os.Getenv(initEnv)
	if text == "" {
		return Mount(o)
	}
	init, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	return Takeover(o, 3, init)
}

// cycleChild mounts, serves and unmounts over and over.
func cycleChild() error {
	dir := os.Args[1]
	goroutines, fds, mappings := 0, 0, 0
	const cycles = 100
	for i := range cycles {
		d, err := Mount(MountOptions{Dir: dir, Transport: defaultKind()})
		if err != nil {
			return err
		}
		served := make(chan error, 1)
		go func() {
			ps := fuse.NewProtocolServer(newTestFS(), &fuse.MountOptions{MaxWrite: 1 << 20})
			served <- d.Serve(ps, ServeOptions{})
		}()
		<-d.Ready()
		err = errors.Join(Unmount(dir, UnmountOptions{Wait: time.Second}), <-served, d.Close())
		if err != nil {
			return err
		}
		if i == 0 { // what the runtime keeps of the first round is no leak
			goroutines, fds, mappings = runtime.NumGoroutine(), openFDs(), countOf("maps")
		}
	}
	fmt.Printf("%d cycles; %s\n", cycles, leaks(goroutines, fds))
	// What the runtime keeps grows a little, one ring or thread a cycle would be 100.
	const slack = 40
	if n := countOf("maps"); n > mappings+slack {
		return fmt.Errorf("%d mappings after one cycle, %d after %d", mappings, n, cycles)
	}
	if n := countOf("task"); n > slack {
		return fmt.Errorf("%d threads after %d cycles", n, cycles)
	}
	return nil
}

// countOf counts the lines or entries of a file or folder of this process in
// /proc.
func countOf(name string) int {
	path := "/proc/self/" + name
	if text, err := os.ReadFile(path); err == nil {
		return strings.Count(string(text), "\n")
	}
	list, _ := os.ReadDir(path)
	return len(list)
}

// leaks tells what is left of a served mount. Goroutines may need a moment.
func leaks(goroutines, fds int) string {
	for range 100 {
		if runtime.NumGoroutine() <= goroutines && openFDs() <= fds {
			return "nothing left"
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<16)
	os.Stderr.Write(buf[:runtime.Stack(buf, true)])
	return fmt.Sprintf("goroutines %d→%d, descriptors %d→%d", goroutines, runtime.NumGoroutine(), fds, openFDs())
}

func openFDs() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	n := 0
	for _, e := range list {
		// Not what the runtime itself opens once: the poller and its wake-up.
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if !strings.HasPrefix(target, "anon_inode:") || strings.Contains(target, "io_uring") {
			n++
		}
	}
	return n
}

// obey runs the commands that tests send.
func obey(f *testFS) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(f.command(strings.Fields(in.Text())))
	}
}
