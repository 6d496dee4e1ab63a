package source

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a name may lead through (path_resolution(7)).
const maxLinks = 40

// Lstater is the part of a [Tree] that links are followed on.
type Lstater interface {
	Lstat(name string) (Entry, error)
}

// Resolve follows the symbolic links in a name, the last component included,
// and returns the name of what it leads to. The tree's root is the root for
// absolute targets and for "..". The error wraps fs.ErrNotExist where nothing
// is there, and is ELOOP after forty links.
func Resolve(t Lstater, name string) (string, error) { return resolve(t, name, false) }

// ResolveMissing is Resolve for what may not be there yet, such as the place
// to copy to: a component that is missing is one that no link stands for. One
// below a file gives ENOTDIR.
func ResolveMissing(t Lstater, name string) (string, error) { return resolve(t, name, true) }

// resolve takes components off the front of rest and puts them on at, which
// never holds a link. A link puts its target back in front of rest.
func resolve(t Lstater, name string, missing bool) (string, error) {
	at, rest, links, folder := "", Clean(name), 0, true
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next := Clean(join(at, part))
		if part == "" || part == "." || part == ".." {
			at, folder = next, true // only targets of links have these
			continue
		}
		if missing && !folder {
			return "", &fs.PathError{Op: "lstat", Path: "/" + next, Err: unix.ENOTDIR}
		}
		e, err := t.Lstat(next)
		if missing && isNotExist(err) {
			at = next
			continue
		}
		if err != nil {
			return "", err
		}
		if !e.IsLink() {
			at, folder = next, e.IsDir()
			continue
		}
		if links++; links > maxLinks {
			return "", pathError("stat", name, unix.ELOOP)
		}
		if strings.HasPrefix(e.Target, "/") {
			at = ""
		}
		rest = e.Target + "/" + rest
	}
	return at, nil
}

// HasWildcard reports whether a source of COPY or ADD is a pattern.
func HasWildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// Glob returns the names that match a pattern (filepath.Match: a wildcard
// matches within one component), sorted. Links above the first wildcard are
// followed; below it, as docker does, only real folders are looked into.
func Glob(t Tree, pattern string) ([]string, error) {
	pattern = Clean(pattern)
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("%w: pattern %q: %w", ErrInvalid, pattern, err)
	}
	if !HasWildcard(pattern) {
		return nil, fmt.Errorf("%w: %q is no pattern", ErrInvalid, pattern)
	}
	parts := strings.Split(pattern, "/")
	fixed := 0
	for fixed < len(parts) && !HasWildcard(parts[fixed]) {
		fixed++
	}
	dir, err := Resolve(t, strings.Join(parts[:fixed], "/"))
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := t.Lstat(dir)
	if err != nil || !e.IsDir() {
		return nil, err
	}
	return glob(t, dir, parts[fixed:])
}

// glob matches one component for each level. Folders that do not match are
// not read, which docker, who walks the whole tree, does.
func glob(t Tree, dir string, parts []string) ([]string, error) {
	list, err := t.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for i := range list {
		e := &list[i]
		if ok, err := path.Match(parts[0], e.Name); err != nil || !ok {
			continue
		}
		name := join(dir, e.Name)
		if len(parts) == 1 {
			found = append(found, name)
			continue
		}
		if !e.IsDir() {
			continue
		}
		below, err := glob(t, name, parts[1:])
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	return found, nil
}

// isNotExist reports whether a name is not there, also because something above
// it is no folder.
func isNotExist(err error) bool {
	return errorsIs(err, fs.ErrNotExist, unix.ENOTDIR)
}

// Sub returns the tree below a folder of another tree.
func Sub(t Tree, dir string) Tree {
	if dir = Clean(dir); dir == "" {
		return t
	}
	return &sub{t, dir}
}
