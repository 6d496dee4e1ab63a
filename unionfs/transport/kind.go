package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind says how requests travel between the kernel and the server.
type Kind string

// The kinds of transport. The empty Kind means Auto.
const (
	Auto  Kind = "auto"  // Uring where the kernel offers it, else Dev
	Dev   Kind = "dev"   // read(2) and write(2) on /dev/fuse, everywhere
	Uring Kind = "uring" // FUSE over io_uring, Linux 6.14 and later
)

// ErrNoUring says that FUSE over io_uring cannot be used here; the reason is
// in the error that wraps it.
var ErrNoUring = errors.New("FUSE over io_uring cannot be used")

const (
	// uringParameter is Y where connections may be served over io_uring
	// (fs/fuse/dev_uring.c, enable_uring).
	uringParameter = "/sys/module/fuse/parameters/enable_uring"
	possiblePath   = "/sys/devices/system/cpu/possible"
	onlinePath     = "/sys/devices/system/cpu/online"
)

// UringUsable tells why FUSE over io_uring cannot be used by this process, in
// one line for users, or nil. The error is ErrNoUring.
func UringUsable() error {
	if err := parameterOn(); err != nil {
		return noUring(err)
	}
	if _, err := countPossible(); err != nil {
		return noUring(err)
	}
	r, err := openRing(1)
	if err != nil {
		return noUring(err)
	}
	return r.close()
}

// EnableUring lets all connections that are mounted from now on, of all
// programs, be served over io_uring until the machine restarts. It needs root.
//
// Errors: fs.ErrPermission; ErrNoUring where the kernel has no such parameter.
func EnableUring() error {
	err := os.WriteFile(uringParameter, []byte("Y"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return noUring(errOldKernel)
	}
	if err != nil {
		return fmt.Errorf("enable FUSE over io_uring: %w", err)
	}
	return nil
}

var errOldKernel = errors.New("the kernel has no FUSE over io_uring (that needs Linux 6.14), or its module fuse is not loaded")

func noUring(why error) error { return fmt.Errorf("%w: %w", ErrNoUring, why) }

// parameterOn tells why the kernel will not offer io_uring to a mount, nil if it
// will.
func parameterOn() error {
	value, err := os.ReadFile(uringParameter)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errOldKernel
	case err != nil:
		return err
	case bytes.HasPrefix(value, []byte("Y")):
		return nil
	}
	return fmt.Errorf("it is off in this kernel (as root: echo Y > %s)", uringParameter)
}

// prepare does what must be done before the mount is made: the kernel offers
// io_uring in INIT, which it composes at mount(2) (fs/fuse/inode.c,
// fuse_send_init). A wish for the ring that cannot be granted is an error,
// any other one is not.
func (k Kind) prepare() error {
	switch k {
	case Auto, Dev, "":
		return nil
	case Uring:
	default:
		return fmt.Errorf("unknown transport %q: it is auto, dev or uring", string(k))
	}
	if parameterOn() != nil && os.Geteuid() == 0 {
		if err := EnableUring(); err != nil {
			return err
		}
	}
	return UringUsable()
}

// countPossible returns how many processors the kernel may ever have, which is
// the number of queues it wants (fs/fuse/dev_uring.c, fuse_uring_create).
func countPossible() (int, error) {
	list, err := readCPUs(possiblePath)
	if err != nil {
		return 0, err
	}
	return len(list), nil
}

// readCPUs reads a list such as 0-3,8 from a file of sysfs.
func readCPUs(path string) ([]int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := parseCPUs(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseCPUs reads the form of lists in sysfs (cpulist, bitmap_parselist in the
// kernel's lib/bitmap-str.c), strides aside, which the kernel never prints.
func parseCPUs(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if from < 0 || to < from || to >= maxCPUs {
			return nil, fmt.Errorf("no list of processors: %q", text)
		}
		for cpu := from; cpu <= to; cpu++ {
			list = append(list, cpu)
		}
	}
	return list, nil
}

// maxCPUs is more than any kernel is built for, and what a unix.CPUSet holds.
const maxCPUs = 1024

// pin makes the calling thread run on one processor only.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}
