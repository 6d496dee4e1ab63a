package cow

import (
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Getxattr returns the value of an extended attribute. ENODATA: there is none.
func (f *FS) Getxattr(ino merge.Ino, name string) ([]byte, error) {
	n := f.table.get(ino)
	if n == nil {
		return f.lower.Xattr(ino, name)
	}
	if !n.inUpperNow() {
		return f.lower.Xattr(n.lower, name)
	}
	s, err := f.spotOf(n)
	if err != nil {
		return nil, err
	}
	defer s.release()
	return fsat.XattrValue(s.fd, s.name, f.names.Escape(name))
}

// Listxattr calls yield for the name of each extended attribute.
func (f *FS) Listxattr(ino merge.Ino, yield func(name string)) error {
	n := f.table.get(ino)
	if n != nil && n.inUpperNow() {
		return f.listUpperXattrs(n, yield)
	}
	if n != nil {
		ino = n.lower
	}
	return f.lower.Xattrs(ino, func(name string, _ []byte) bool { yield(name); return true })
}

// listUpperXattrs lists a file's own attributes, without the union's, and those
// that were stored escaped under their own names.
func (f *FS) listUpperXattrs(n *node, yield func(name string)) error {
	s, err := f.spotOf(n)
	if err != nil {
		return err
	}
	defer s.release()
	stored, err := fsat.ListXattr(s.fd, s.name)
	if err != nil {
		return err
	}
	for _, name := range stored {
		if shown, ok := f.names.Unescape(name); ok {
			yield(shown)
		}
	}
	return nil
}

// Setxattr sets an extended attribute; flags are XATTR_CREATE and
// XATTR_REPLACE.
func (f *FS) Setxattr(ino merge.Ino, name string, value []byte, flags int) error {
	return f.changeXattr(ino, func(s spot) error {
		return fsat.SetXattr(s.fd, s.name, f.names.Escape(name), value, flags)
	})
}

// Removexattr removes an extended attribute.
func (f *FS) Removexattr(ino merge.Ino, name string) error {
	if _, err := f.Getxattr(ino, name); err != nil {
		return err // nothing is copied up for nothing
	}
	return f.changeXattr(ino, func(s spot) error {
		return fsat.RemoveXattr(s.fd, s.name, f.names.Escape(name))
	})
}

// changeXattr copies a file up, without its data where that can be, and changes
// its attributes.
func (f *FS) changeXattr(ino merge.Ino, change func(spot) error) error {
	n, err := f.copyUp(ino)
	if err != nil {
		return err
	}
	s, err := f.spotOf(n)
	if err != nil {
		return err
	}
	defer s.release()
	return change(s)
}
