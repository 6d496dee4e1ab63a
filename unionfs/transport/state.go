package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// MountState tells whether a mount answers.
type MountState int

// The states of a folder as seen by State.
const (
	StateNone    MountState = iota // no FUSE filesystem is mounted there
	StateAlive                     // its server answers
	StateDead                      // its server is gone: "Transport endpoint is not connected"
	StateHung                      // its server did not answer in time
	StateUnknown                   // another user's mount, which answers only that user
)

// String returns the state as a word.
func (s MountState) String() string {
	switch s {
	case StateNone:
		return "none"
	case StateAlive:
		return "alive"
	case StateDead:
		return "dead"
	case StateHung:
		return "hung"
	}
	return "unknown"
}

const (
	// probeTime is how long State waits for an answer. A server that is alive
	// answers STATFS in microseconds, on a loaded machine in milliseconds.
	probeTime       = 3 * time.Second
	connectionsPath = "/sys/fs/fuse/connections"
)

// State tells what is mounted on dir and whether it answers. It returns
// within a few seconds even if the server hangs; a thread may then stay
// behind until that server goes on or is aborted. It must not be called by
// the process that serves dir.
func State(dir string) (MountState, error) {
	path, info, err := locate(dir)
	if err != nil || info == nil || !isFuse(info) {
		return StateNone, err
	}
	return probe(path, probeTime), nil
}

// probe asks the server by statfs(2), which is never answered from a cache.
func probe(path string, limit time.Duration) MountState {
	type result struct {
		st  unix.Statfs_t
		err error
	}
	answer := make(chan result, 1)
	go func() {
		var r result
		r.err = ignoringEINTR(func() error { return unix.Statfs(path, &r.st) })
		answer <- r
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-answer:
		return judge(r.st, r.err)
	case <-timer.C:
		return StateHung
	}
}

// judge tells the state of a mount by what statfs(2) said. An error of the server
// is an answer; only the kernel's own say that there is no server.
func judge(st unix.Statfs_t, err error) MountState {
	switch {
	// ECONNABORTED is the answer on a connection that was aborted, if its server had asked for that.
	case errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ECONNABORTED):
		return StateDead
	case errors.Is(err, unix.EACCES):
		return StateUnknown
	case errors.Is(err, unix.ENOENT): // unmounted meanwhile, and the folder is gone
		return StateNone
	case st.Type != unix.FUSE_SUPER_MAGIC && err == nil: // unmounted meanwhile
		return StateNone
	case err == nil && st.Bsize == 0 && st.Namelen == 0:
		// fs/fuse/inode.c, fuse_statfs: to a user who may not enter the kernel
		// says nothing but the type, without asking the server.
		return StateUnknown
	}
	// Any other error is an answer of a server, too.
	return StateAlive
}

// Abort cuts the connection of a FUSE mount: every request that waits gets
// ECONNABORTED, later ones ENOTCONN, and the server's reads end. It is the
// way out of a hung server and needs root. Where /sys/fs/fuse/connections is
// not mounted, it is done by a forced unmount, so that the mount is gone, too,
// unless it is in use.
func Abort(dir string) error {
	path, info, err := locate(dir)
	if err != nil {
		return err
	}
	if info == nil || !isFuse(info) {
		return fmt.Errorf("abort %s: %w", path, ErrNotMounted)
	}
	// The number of a connection is the device number (fs/fuse/control.c,
	// fuse_ctl_add_conn); its major is 0.
	err = AbortConnection(info.Minor)
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.Unmount(path, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) { // in use, but the connection is cut
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("abort %s: %w", path, err)
	}
	return nil
}

// Connection returns the number of the connection of the FUSE mount on dir, 0
// if there is none, without asking its server.
func Connection(dir string) (int, error) {
	_, info, err := locate(dir)
	if err != nil || info == nil || !isFuse(info) {
		return 0, err
	}
	return info.Minor, nil
}

// AbortConnection is [Abort] by the number of the connection, wherever it is
// mounted. It is for root, and for the user whose mount it is, and needs
// /sys/fs/fuse/connections to be mounted.
func AbortConnection(number int) error {
	control := filepath.Join(connectionsPath, strconv.Itoa(number), "abort")
	if err := os.WriteFile(control, []byte("1"), 0); err != nil {
		return fmt.Errorf("abort connection %d: %w", number, err)
	}
	return nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
