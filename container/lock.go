package container

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked says that another process holds a lock.
var errLocked = errors.New("locked by another process")

// lockFile takes the exclusive flock on the file at path, which is made if
// missing. With wait it waits for its turn, otherwise it gives errLocked. The
// lock ends with unlock or with the process.
func lockFile(path string, wait bool) (unlock func(), err error) {
	f, err := openLock(path, wait)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockWithin is openLock that waits for its turn so long and no longer.
func lockWithin(path string, wait time.Duration) (*os.File, error) {
	for end := time.Now().Add(wait); ; {
		f, err := openLock(path, false)
		if !errors.Is(err, errLocked) || time.Now().After(end) {
			return f, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// openLock is lockFile for who passes the lock on to other processes: it is
// held as long as one of them has a copy of the descriptor open.
func openLock(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case err == unix.EWOULDBLOCK:
		f.Close()
		return nil, errLocked
	case err != nil:
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}
