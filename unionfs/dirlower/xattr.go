package dirlower

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// shown returns the name by which the user of the mount sees an attribute;
// false: it is bookkeeping.
func (t *Tree) shown(stored string) (string, bool) {
	if stored == whiteout.OverrideStat && t.overridden {
		return "", false
	}
	return t.hidden.Unescape(stored)
}

// Xattr implements [merge.Lower].
func (t *Tree) Xattr(ino merge.Ino, name string) ([]byte, error) {
	n, err := t.get(ino)
	if err != nil {
		return nil, err
	}
	stored := t.hidden.Escape(name)
	if shown, ok := t.shown(stored); !ok || shown != name {
		return nil, merge.ErrNoXattr
	}
	f, err := t.fileOf(n)
	if err != nil {
		return nil, err
	}
	defer f.release()
	value, err := fsat.XattrValue(f.fd, f.name, stored)
	if err == unix.ENOTSUP {
		return nil, merge.ErrNoXattr
	}
	return value, staleIfGone(err)
}

// Xattrs implements [merge.Lower].
func (t *Tree) Xattrs(ino merge.Ino, yield func(name string, value []byte) bool) error {
	n, err := t.get(ino)
	if err != nil {
		return err
	}
	f, err := t.fileOf(n)
	if err != nil {
		return err
	}
	defer f.release()
	stored, err := fsat.ListXattr(f.fd, f.name)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return staleIfGone(err)
	}
	type pair struct{ shown, stored string }
	var pairs []pair
	for _, name := range stored {
		if shown, ok := t.shown(name); ok {
			pairs = append(pairs, pair{shown, name})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.shown, b.shown) })
	for _, p := range pairs {
		value, err := fsat.XattrValue(f.fd, f.name, p.stored)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return err
		}
		if !yield(p.shown, value) {
			return nil
		}
	}
	return nil
}
