package cow

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/whiteout"
)

// fuse-overlayfs may say that something is gone by a file .wh.NAME, and that a
// folder is opaque by .wh..wh..opq (the names of aufs and of image layers). In
// an upper that may hold such files (Options.WhiteoutNames) each is replaced,
// when it is met, by the form that everybody reads: a device or the opaque
// attribute. What is put in place of a file comes first, so that a crash in
// between hides nothing less.

// loadNames replaces the whiteout names of folder n, which is open at fd, and
// returns the other names.
func (f *FS) loadNames(n *node, fd int, names []string) ([]string, error) {
	if !f.whiteoutNames || !slices.ContainsFunc(names, whiteout.IsReserved) {
		return names, nil
	}
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return nil, err
	}
	names, err := f.replaceNames(n, fd, names)
	if err != nil {
		return nil, err
	}
	return names, fsat.Utimes(fd, "", st.Atim, st.Mtim) // nothing has changed that anybody sees
}

func (f *FS) replaceNames(n *node, fd int, names []string) ([]string, error) {
	kept := names[:0]
	for _, name := range names {
		kind, hides, err := whiteout.Parse(name)
		if err != nil {
			f.log.Warn("a whiteout name in the upper folder hides nothing", "name", name)
			continue
		}
		switch kind {
		case whiteout.None:
			kept = append(kept, name)
			continue
		case whiteout.File:
			hides, err = f.loadWhiteoutName(fd, hides)
			if hides != "" {
				kept = append(kept, hides)
			}
		case whiteout.Opaque:
			err = f.loadOpaqueName(n, fd)
		}
		if err == nil {
			err = fsat.RemoveAll(fd, name)
		}
		if err != nil {
			return nil, fmt.Errorf("replace %s: %w", name, err)
		}
	}
	return kept, nil
}

// loadWhiteoutName hides a name of the layers below and returns it if that
// took a new entry.
func (f *FS) loadWhiteoutName(fd int, name string) (made string, err error) {
	var st unix.Stat_t
	switch err := fsat.Stat(fd, name, &st); {
	case err == unix.ENOENT:
		return name, f.hide(fd, name)
	case err != nil:
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR { // a folder made in place of what was deleted
		return "", f.setOpaque(spot{fd: fd, name: name})
	}
	return "", nil
}

// loadOpaqueName hides all that is below folder n.
func (f *FS) loadOpaqueName(n *node, fd int) error {
	n.dir.lower, n.dir.subdirs = 0, 0
	return f.setOpaque(spot{fd: fd})
}

// checkName refuses a name that cannot be made: one that is too long, or that
// means a deletion here.
func (f *FS) checkName(name string) error {
	switch {
	case len(name) > unix.NAME_MAX:
		return unix.ENAMETOOLONG
	case f.whiteoutNames && whiteout.IsReserved(name):
		return unix.EPERM
	}
	return nil
}
