package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// pidsController limits how many processes, and threads, there are.
const pidsController = "pids"

// late is a limit that the child sets itself, the moment before the program runs:
// until then it has more threads than a program may be allowed processes, and a
// Go program that cannot have a thread dies where it stands.
type late struct {
	File, Value string
	fd          int // in the child
}

// noLimit is what all limits of the number of processes begin with.
const noLimit = "max"

// postpone lifts limits that have been set, and so are known to be right, for
// the child to set them again.
func (g *cgroups) postpone(dir string, settings []setting) error {
	for _, s := range settings {
		file := filepath.Join(dir, s.file)
		if err := os.WriteFile(file, []byte(noLimit), 0); err != nil {
			return fmt.Errorf("set %s: %w", s.file, err)
		}
		g.late = append(g.late, late{File: file, Value: s.value})
	}
	return nil
}

// postponed are the limits that are left to the child.
func (g *cgroups) postponed() []late {
	if g == nil {
		return nil
	}
	return g.late
}

// openLate opens the files of late limits, as long as there is a way to them.
func (c *child) openLate() (err error) {
	for i := range c.Late {
		l := &c.Late[i]
		if l.fd, err = unix.Open(l.File, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("limit the number of processes: %w", &os.PathError{Op: "open", Path: l.File, Err: err})
		}
	}
	return nil
}

// ownThreads bounds how many threads a process of ours has that stays in the
// container, which do not count for the program.
func ownThreads() int { return 16 + runtime.GOMAXPROCS(0) }

// setLate sets the late limits. The system call is made so that Go starts no
// thread for it.
func (c *child) setLate() error {
	for _, l := range c.Late {
		value := l.Value
		if n, err := strconv.Atoi(value); err == nil && c.stays() {
			value = strconv.Itoa(n + ownThreads())
		}
		if err := rawWrite(l.fd, value); err != nil {
			return fmt.Errorf("limit the number of processes to %s: %w", l.Value, err)
		}
	}
	return nil
}

// liftLate takes the late limits back, for a process that has yet to say why the
// program does not run.
func (c *child) liftLate() {
	for _, l := range c.Late {
		_ = rawWrite(l.fd, noLimit) // it can only say less then
	}
}
