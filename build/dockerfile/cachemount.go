package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"
)

// cachePoll is how often a locked cache is tried again.
const cachePoll = 50 * time.Millisecond

// openCache shows a folder that outlives the build. It is kept by the store,
// which removes it when its build cache is pruned. How it is shared is in its
// lock: builds that share it hold it together, one that wants it alone waits
// ("locked") or takes another one of that name ("private").
func (r *stageRun) openCache(ctx context.Context, o *opened, m *instructions.Mount) error {
	dir, lock, err := r.cacheFolder(ctx, m)
	if err != nil {
		return fmt.Errorf("cache %s: %w", m.CacheID, err)
	}
	o.release = append(o.release, lock.Close)
	if err := setOwnerOnce(dir, m); err != nil {
		return fmt.Errorf("cache %s: %w", m.CacheID, err)
	}
	o.list = append(o.list, Mount{Source: dir, Target: m.Target, ReadOnly: m.ReadOnly})
	return nil
}

// cacheFolder finds the folder of a cache and locks it.
func (r *stageRun) cacheFolder(ctx context.Context, m *instructions.Mount) (dir string, lock *os.File, err error) {
	how := unix.LOCK_EX
	if m.CacheSharing == "" || m.CacheSharing == instructions.MountSharingShared {
		how = unix.LOCK_SH
	}
	for n := 0; ; {
		id := m.CacheID
		if n > 0 {
			id += "\x00" + strconv.Itoa(n)
		}
		dir, lock, err := r.st.CacheFolder(id, how)
		switch {
		case err == nil || !errors.Is(err, unix.EWOULDBLOCK):
			return dir, lock, err
		case m.CacheSharing == instructions.MountSharingPrivate:
			n++
			continue
		}
		select {
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		case <-time.After(cachePoll):
		}
	}
}

// setOwnerOnce gives a new cache the owner and mode asked for. One that has been
// used is left as it is.
func setOwnerOnce(dir string, m *instructions.Mount) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return setOwner(dir, m, 0o755)
}
