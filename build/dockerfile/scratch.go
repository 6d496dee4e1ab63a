package dockerfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// scratch is where the steps of one build write until their layers are made:
// a folder of the store, and one for mount points beside it in the run root.
// Its lock tells a build that lives from what a dead one has left.
type scratch struct {
	dir    string // upper and work folders
	points string // mount points
	lock   *os.File
	n      atomic.Int64
}

// newPrefix starts the names of folders that are not locked yet.
const newPrefix = ".new-"

// openScratch makes the folders of a build.
func openScratch(store, runRoot string) (*scratch, error) {
	all, points := scratchDirs(store, runRoot)
	for _, dir := range []string{all, points} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("prepare the build: %w", err)
		}
	}
	var b [8]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	name := hex.EncodeToString(b[:])
	s := &scratch{dir: filepath.Join(all, name), points: filepath.Join(points, name)}
	temp := filepath.Join(all, newPrefix+name)
	err := os.Mkdir(temp, 0o700)
	if err == nil {
		s.lock, err = lockFolder(temp)
	}
	if err == nil {
		err = os.Rename(temp, s.dir)
	}
	if err == nil {
		err = os.Mkdir(s.points, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the build: %w", err)
	}
	return s, nil
}

// lockFolder takes the lock of a build's folder, without waiting.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// scratchDirs are where the folders of all builds lie.
func scratchDirs(store, runRoot string) (all, points string) {
	return filepath.Join(store, "state", "build"), filepath.Join(runRoot, "build")
}

// Sweep removes what builds have left that were killed, as far as it can. Every
// build does so first.
func Sweep(store, runRoot string) {
	all, points := scratchDirs(store, runRoot)
	entries, _ := os.ReadDir(all)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) {
			continue
		}
		dir := filepath.Join(all, e.Name())
		lock, err := lockFolder(dir)
		if err != nil {
			continue // it lives
		}
		old := scratch{dir: dir, points: filepath.Join(points, e.Name()), lock: lock}
		_ = old.close()
	}
}

// step makes the folders of one step.
type step struct{ upper, work, point string }

// newStep makes the folders of a mount. The upper shows as the root folder
// until the union gives it the image's attributes.
func (s *scratch) newStep() (step, error) {
	n := strconv.FormatInt(s.n.Add(1), 10)
	st := step{
		upper: filepath.Join(s.dir, n, "upper"), work: filepath.Join(s.dir, n, "work"),
		point: filepath.Join(s.points, n),
	}
	for _, dir := range []string{filepath.Join(s.dir, n), st.upper, st.work, st.point} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return st, fmt.Errorf("prepare a build step: %w", err)
		}
	}
	return st, os.Chmod(st.upper, 0o755)
}

// remove removes the folders of a step whose mount is gone.
func (st step) remove() error {
	if st.upper == "" {
		return nil // there are none
	}
	err := os.Remove(st.point)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, removeTree(filepath.Dir(st.upper)))
}

// close removes everything. A mount that is still there, because it and the
// build were killed, is taken off first.
func (s *scratch) close() error {
	entries, _ := os.ReadDir(s.points)
	for _, e := range entries {
		// Most are not mounted any more.
		_ = unix.Unmount(filepath.Join(s.points, e.Name()), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		_ = os.Remove(filepath.Join(s.points, e.Name()))
	}
	err := os.Remove(s.points)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, removeTree(s.dir), s.lock.Close())
}

// removeTree removes a folder and what it holds, also folders that their owner
// may not enter, which an ordinary user's upper can hold.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil // RemoveAll reports what really stands in the way
	})
	return os.RemoveAll(dir)
}
