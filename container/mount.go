package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// MountOptions say what to mount where: Container, or else Image.
type MountOptions struct {
	Container *Container
	Image     digest.Digest // mounted read-only, without a container
	ImageName string        // as the user called it

	Dir       string // empty: a folder under the run root
	ReadOnly  bool
	Suid, Dev bool // honour setuid bits and devices on a mount that the host sees
	// Others lets other users than the one who mounts enter. Root's mounts
	// always do.
	Others bool
	// Writeback lets the kernel collect small writes (see docs/design.md).
	Writeback bool
	// ACL makes access control lists count. It costs requests of users other
	// than root, and needs root.
	ACL bool
	// Volatile never waits for the disk; after a crash the container is
	// refused (cow.ErrVolatile).
	Volatile bool

	// Server is the command line, the path of the program first, of a
	// process that calls [Store.Serve] with descriptor 3.
	Server []string
	// Launched is such a process that [Launch] has started already; nil: Mount
	// starts one.
	Launched *Launched
	// Keeper is that of one that calls [Store.Keep]; empty: the mount ends with
	// its server.
	Keeper   []string
	NoKeeper bool // as if there were none
	// Remount makes the mount anew when its server has died, as is done on
	// kernels that cannot do better.
	Remount bool
	Debug   bool // the server's log has every detail
}

// task is what the server is told, in JSON, over its control socket.
type task struct {
	Mount     *Mount
	Suid, Dev bool
	Others    bool
	Writeback bool
	Volatile  bool
	ACL       bool
	Debug     bool
	Server    []string // command lines, with the path that the program had
	Keeper    []string
	Remount   bool
}

// answer is what the server says when the mount answers, or cannot be made.
type answer struct {
	Error string
	Kind  string // of the error: a name in errorKinds
}

// errorKinds carries sentinels from the server's process to the caller's.
func errorKinds() map[string]error {
	return map[string]error{"mounted": ErrMounted, "not found": ErrNotFound}
}

// Mount starts a server in the background and returns when its mount answers.
// It gives ErrMounted, with a text that says where, for a container that is
// mounted already.
func (s *Store) Mount(ctx context.Context, o MountOptions) (*Mount, error) {
	l := o.Launched
	if l == nil {
		l = Launch(o.Server)
	}
	defer l.Abandon()
	m, err := s.plan(&o)
	if err != nil {
		return nil, err
	}
	if err := s.makePoint(m, o.Dir != ""); err != nil {
		return nil, err
	}
	t := task{
		Mount: m, Suid: o.Suid, Dev: o.Dev, Others: o.Others || os.Geteuid() == 0,
		Writeback: o.Writeback, Volatile: o.Volatile, ACL: o.ACL, Debug: o.Debug,
		Server: byPath(o.Server), Keeper: byPath(o.Keeper), Remount: o.Remount,
	}
	if o.NoKeeper {
		t.Keeper = nil
	}
	if err := start(ctx, l, t); err != nil {
		removeMade(m.Made)
		return nil, err
	}
	return m, nil
}

// byPath names the program of a command line by its path instead of
// /proc/self/exe: a program that takes its place there later is meant, too.
func byPath(line []string) []string {
	self, err := os.Executable()
	if err != nil || len(line) == 0 || line[0] != "/proc/self/exe" {
		return line
	}
	return append([]string{self}, line[1:]...)
}

// plan decides on everything about a mount but its folder's existence.
func (s *Store) plan(o *MountOptions) (*Mount, error) {
	m := &Mount{
		ReadOnly: o.ReadOnly, Created: time.Now().UTC(),
		Image: o.Image, ImageName: o.ImageName,
	}
	shown := ""
	if c := o.Container; c != nil {
		if err := s.checkUnmounted(c); err != nil {
			return nil, err
		}
		m.ID, m.Container, m.Name = c.ID, c.ID, c.Name
		m.Image, m.ImageName = c.Image, c.ImageName
		m.Log, shown = c.LogPath(), c.Name
	} else {
		m.ID, m.ReadOnly = newID(), true
		m.Log = filepath.Join(s.mountsDir(), m.ID+".log")
		shown = m.Image.Encoded()[:12] + "-" + m.ID[:6]
	}
	m.Dir = o.Dir
	if m.Dir == "" {
		m.Dir = filepath.Join(s.runRoot, "mnt", shown)
	}
	return m, nil
}

// checkUnmounted gives ErrMounted for a container that is mounted; a dead
// mount of it is cleaned.
func (s *Store) checkUnmounted(c *Container) error {
	list, err := s.Mounts()
	if err != nil {
		return err
	}
	m, err := onlyMount(list, c.ID, c.Name)
	switch {
	case err != nil:
		return nil
	case m.Dead:
		return s.clean(m)
	}
	return mountedAt(c, m.Dir)
}

func mountedAt(c *Container, dir string) error {
	return say(ErrMounted, "container %s is already mounted on %s", c.Name, dir)
}

// makePoint makes sure that the folder of a mount is there and free, and notes
// which folders it made.
func (s *Store) makePoint(m *Mount, given bool) error {
	if err := os.MkdirAll(s.mountsDir(), 0o700); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	m.Dir = realPath(m.Dir)
	if err := s.clearPoint(m.Dir); err != nil {
		return err
	}
	if within(s.root, m.Dir) {
		return fmt.Errorf("%s holds the store and cannot be mounted on", m.Dir)
	}
	mode := fs.FileMode(0o755)
	if !given {
		mode = 0o700
	}
	made, err := makeDirs(m.Dir, mode)
	m.Made = made
	if err != nil {
		removeMade(made)
		return err
	}
	return nil
}

// clearPoint cleans a dead mount of ours off a folder and refuses one on which
// something else is mounted.
func (s *Store) clearPoint(dir string) error {
	list, err := s.Mounts()
	if err != nil {
		return err
	}
	if m := s.byDir(list, dir); m != nil && m.Dead {
		return s.clean(m)
	} else if m != nil {
		return fmt.Errorf("%s is in use: %s is mounted there", dir, m.Target())
	}
	mounted, err := isMountPoint(dir)
	if err == nil && mounted {
		err = fmt.Errorf("%s is in use: it is a mount point already", dir)
	}
	return err
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, realPath(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// makeDirs makes a folder and what is missing above it, and returns what it
// made, outermost first.
func makeDirs(dir string, mode fs.FileMode) (made []string, err error) {
	st, err := os.Stat(dir)
	switch {
	case err == nil && st.IsDir():
		return nil, nil
	case err == nil:
		return nil, fmt.Errorf("%s is not a folder", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if made, err = makeDirs(parent, mode); err != nil {
			return made, err
		}
	}
	err = os.Mkdir(dir, mode)
	if st, statErr := os.Stat(dir); errors.Is(err, fs.ErrExist) && statErr == nil && st.IsDir() {
		return made, nil // another mount that begins just now was first
	}
	if err != nil {
		return made, err
	}
	return append(made, dir), nil
}

// start gives a server its task and waits for its answer. A context that ends
// ends the server, too.
func start(ctx context.Context, l *Launched, t task) error {
	<-l.ready
	if l.err != nil {
		return l.err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if err := talk(l.ours, t); err != nil {
		_ = l.cmd.Wait() // it ends by itself after an error
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return l.handOver()
}

// talk sends the task and reads the answer.
func talk(control *os.File, t task) error {
	if err := json.NewEncoder(control).Encode(t); err != nil {
		return fmt.Errorf("start the mount server: %w", err)
	}
	var a answer
	if err := json.NewDecoder(control).Decode(&a); err != nil {
		return fmt.Errorf("the mount server died; its last words may be in %s", t.Mount.Log)
	}
	if a.Error == "" {
		return nil
	}
	return say(errorKinds()[a.Kind], "%s", a.Error)
}
