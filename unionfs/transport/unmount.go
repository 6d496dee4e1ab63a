package transport

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// UnmountOptions says how to unmount.
type UnmountOptions struct {
	Lazy bool          // take it out of the tree at once; it ends when nobody uses it
	Wait time.Duration // while it is busy, try again for so long; default: not
}

// Unmount unmounts a FUSE mount of any process, dead ones too, and never
// touches what is mounted. Root does it by umount2(2), an ordinary user by
// fusermount3.
//
// Errors: ErrNotMounted, ErrBusy, fs.ErrPermission, ErrNoFusermount.
func Unmount(dir string, o UnmountOptions) error {
	path, info, err := locate(dir)
	if err != nil {
		return err
	}
	if info == nil || !isFuse(info) {
		return fmt.Errorf("unmount %s: %w", path, ErrNotMounted)
	}
	once := unmountByHelper
	if os.Geteuid() == 0 {
		once = unmountDirect
	}
	err = retryBusy(o.Wait, func() error { return once(path, o.Lazy) })
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// retryBusy repeats f while it says ErrBusy. A file that was just closed
// holds its mount for a moment longer.
func retryBusy(limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	pause := time.Millisecond
	for {
		err := f()
		if !errors.Is(err, ErrBusy) || time.Now().Add(pause).After(end) {
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

func unmountDirect(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrNotMounted, err)
	}
	return err
}

func unmountByHelper(path string, lazy bool) error {
	if lazy {
		return runHelper(nil, "-u", "-z", "--", path)
	}
	return runHelper(nil, "-u", "--", path)
}
