package container

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Size returns what a container takes on disk, its record and log included,
// and of that the part of what it changed (its upper folder), in bytes. Files
// with several names count once.
func (s *Store) Size(c *Container) (disk, changed int64, err error) {
	seen := map[uint64]bool{}
	upper := c.UpperDir() + "/"
	err = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		fi, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && !d.IsDir() && seen[st.Ino] {
			return nil
		}
		seen[st.Ino] = true
		const unit = 512 // of st_blocks, whatever the filesystem (stat(2))
		disk += st.Blocks * unit
		if strings.HasPrefix(path, upper) {
			changed += st.Blocks * unit
		}
		return nil
	})
	return disk, changed, err
}

// ignoreGone lets a walk go on over what has been removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
