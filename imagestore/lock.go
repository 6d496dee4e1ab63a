package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Locks are polled for, so that a wait ends with its context.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
	// indexWait is how long a change of index.json may take to get its turn.
	// Holders need milliseconds, so only a stopped process makes it long.
	indexWait = 30 * time.Second
)

// Hold keeps collection away until release is called: whoever adds layers and
// then an image holds the store meanwhile. Holds do not exclude each other
// and may be nested. It waits for a running collection, until ctx ends.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	return s.lock(ctx, "lock", unix.LOCK_SH)
}

// exclusive waits until nobody holds the store, and keeps others from it.
func (s *Store) exclusive(ctx context.Context) (release func(), err error) {
	return s.lock(ctx, "lock", unix.LOCK_EX)
}

// lockIndex serialises changes of index.json.
func (s *Store) lockIndex(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, indexWait, ErrBusy)
	defer cancel()
	return s.lock(ctx, "index.lock", unix.LOCK_EX)
}

// lockTemp keeps temporary files from being collected while they are written,
// shared, or keeps writers from making any, exclusively. Of those who write,
// some hold the store and some, who only change references, do not; but nobody
// needs it for longer than a file takes.
func (s *Store) lockTemp(how int) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), indexWait, ErrBusy)
	defer cancel()
	return s.lock(ctx, "temp.lock", how)
}

// lock takes a flock on a file in state/. The lock belongs to the open file,
// so goroutines exclude each other as processes do, and the kernel releases
// it when a process dies.
func (s *Store) lock(ctx context.Context, name string, how int) (release func(), err error) {
	path := filepath.Join(s.stateDir(), name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	if err := pollLock(ctx, int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock store: %w", err)
	}
	return func() { f.Close() }, nil
}

func pollLock(ctx context.Context, fd, how int) error {
	wait := lockPollMin
	for {
		err := unix.Flock(fd, how|unix.LOCK_NB)
		if err == nil || !(errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR)) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, lockPollMax)
	}
}
