package lowertest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Changer makes random changes to a tree. Most names are few, so that they come
// back after they were deleted; many changes fail, which is part of it. Nothing
// outside the tree is ever touched: no symbolic link is followed.
type Changer struct {
	*rand.Rand
	serial int
}

// pick returns a path that exists, of a folder if so wanted.
func (r *Changer) pick(root string, folder bool) string {
	var all []string
	filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && path != root && (!folder || d.IsDir()) {
			all = append(all, path)
		}
		return nil
	})
	if len(all) == 0 || folder && r.IntN(4) == 0 {
		return root
	}
	return all[r.IntN(len(all))]
}

// fresh returns a path that mostly does not exist; few names, so that they
// come back after they were deleted.
func (r *Changer) fresh(root string) string {
	names := []string{"a", "b", "c", "d", "1", "2", "x", "y"}
	return filepath.Join(r.pick(root, true), names[r.IntN(len(names))])
}

// Step makes one change below root.
func (r *Changer) Step(root string) {
	r.serial++
	path, to := r.pick(root, false), r.fresh(root)
	switch r.IntN(13) {
	case 0, 1:
		os.Rename(path, to)
	case 2:
		os.Rename(r.pick(root, true), to)
	case 3:
		os.Remove(path)
	case 4:
		if r.IntN(3) == 0 {
			os.RemoveAll(path)
		}
	case 5:
		os.Mkdir(to, 0o755)
	case 6:
		r.write(to, os.O_CREATE|os.O_TRUNC, "file ")
	case 7:
		unix.Fchmodat(unix.AT_FDCWD, path, uint32(0o600+r.IntN(64)), unix.AT_SYMLINK_NOFOLLOW)
	case 8:
		os.Lchown(path, r.IntN(9), r.IntN(9))
	case 9:
		os.Link(path, to)
	case 10:
		os.Symlink(filepath.Join("none", path[len(root):]), to)
	case 11:
		r.write(path, os.O_APPEND, "more ")
	case 12:
		unix.Lsetxattr(path, "user.n", fmt.Append(nil, r.serial), 0)
	}
}

// write opens and writes a file, and neither follows a link out of the tree
// nor waits for a fifo's reader.
func (r *Changer) write(path string, flags int, text string) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|flags, 0o644)
	if err != nil {
		return
	}
	fmt.Fprint(f, text, r.serial)
	f.Close()
}
