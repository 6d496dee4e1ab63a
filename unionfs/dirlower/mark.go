package dirlower

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/whiteout"
)

// marks are the names of the attributes that say what a layer does to those
// below it.
type marks struct {
	opaque, whiteout            []string
	redirect, metacopy, partial string
}

// marksFor returns the names that are obeyed. With privilege, the user
// namespace can hide what is below, as fuse-overlayfs writes it, but not lead
// elsewhere: any user of a layer's files can write it, and a redirect or
// metacopy to a file of root's would show it to him.
func marksFor(trusted bool) marks {
	own := whiteout.XattrsFor(trusted)
	m := marks{
		opaque: []string{own.Opaque}, whiteout: []string{own.Whiteout},
		redirect: own.Redirect, metacopy: own.Metacopy, partial: own.Partial,
	}
	if trusted {
		users := whiteout.XattrsFor(false)
		m.opaque = append(m.opaque, users.Opaque)
		m.whiteout = append(m.whiteout, users.Whiteout)
	}
	m.opaque = append(m.opaque, "user.fuseoverlayfs.opaque", "trusted.fuseoverlayfs.opaque")
	return m
}

// marked is what a file's attributes say about the layers below.
type marked struct {
	opaque   bool   // nothing of them shows in this folder
	whites   bool   // the folder has whiteouts that are attributes (opaque is "x")
	white    bool   // the empty file is a whiteout itself
	below    bool   // the file's data is there, all or some of it
	redirect string // where
}

// readMarks reads them, of name in the folder open at fd or, if name is empty,
// of what fd itself is.
func (t *Tree) readMarks(fd int, name string) (marked, error) {
	var m marked
	names, err := fsat.ListXattr(fd, name)
	if err == unix.ENOTSUP {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	for _, attr := range names {
		if err := t.readMark(fd, name, attr, &m); err != nil && err != unix.ENODATA {
			return m, err
		}
	}
	return m, nil
}

// readMark reads one attribute, if it is one that says something.
func (t *Tree) readMark(fd int, name, attr string, m *marked) error {
	switch {
	case slices.Contains(t.names.opaque, attr):
		value, err := fsat.XattrValue(fd, name, attr)
		m.opaque = m.opaque || string(value) == whiteout.OpaqueValue
		m.whites = m.whites || string(value) == "x"
		return err
	case slices.Contains(t.names.whiteout, attr):
		m.white = true
	case attr == t.names.metacopy || attr == t.names.partial:
		m.below = true
	case attr == t.names.redirect:
		value, err := fsat.XattrValue(fd, name, attr)
		m.redirect = string(value)
		return err
	}
	return nil
}

// readPartial returns up to where the holes of a file show the data below it:
// its whole size for metacopy.
func (t *Tree) readPartial(fd int, size int64) (limit int64, err error) {
	if _, err = fsat.GetXattr(fd, "", t.names.metacopy, nil); err == nil {
		return size, nil
	}
	text, err := fsat.XattrValue(fd, "", t.names.partial)
	if err == unix.ENODATA || err == unix.ENOTSUP {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	limit, err = strconv.ParseInt(string(text), 10, 64)
	if err != nil || limit < 0 {
		return 0, unix.EIO
	}
	return min(limit, size), nil
}

// exists reports whether the folder open at fd has an entry of that name.
func exists(fd int, name string) bool {
	var st unix.Stat_t
	return fsat.Stat(fd, name, &st) == nil
}
