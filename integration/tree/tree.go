// Package tree describes folder trees so exactly that two of them can be
// compared entry by entry: everything stat(2), the xattrs and the content say,
// except what belongs to the filesystem and not to the tree (inode numbers,
// access times, the size of folders).
package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is all that is compared of one path.
type Entry struct {
	Mode     uint32 // type and permissions
	UID, GID uint32
	Size     int64  // bytes; 0 for folders
	Nlink    uint64 // 1 for folders
	Rdev     uint64
	MTime    unix.Timespec
	Target   string // of a symbolic link
	Xattrs   string // name=value pairs, quoted, sorted
	Content  string // hash of a regular file's content
	Linked   string // first path, in walking order, of the same inode
}

// Options say what to leave out.
type Options struct {
	Skip        func(path string) bool // paths, as "a/b", with everything below
	IgnoreXattr func(name string) bool
	NoContent   bool // do not read files
	NoRoot      bool // leave out the root folder's own attributes
	NoDirTimes  bool // leave out the modification time of folders
}

// Read walks the folder root. Keys are paths relative to it, "." for itself.
func Read(root string, o Options) (map[string]Entry, error) {
	r := reader{
		options: o, root: root, entries: map[string]Entry{}, first: map[[2]uint64]string{},
		block: make([]byte, blockSize), zero: make([]byte, blockSize),
	}
	err := filepath.WalkDir(root, r.visit)
	return r.entries, err
}

type reader struct {
	options Options
	root    string
	entries map[string]Entry
	first   map[[2]uint64]string // device and inode → first path
	block   []byte               // what is being read
	zero    []byte               // as long, and stays so
}

func (r *reader) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name, err := filepath.Rel(r.root, path)
	if err != nil {
		return err
	}
	if r.options.NoRoot && name == "." {
		return nil
	}
	if r.options.Skip != nil && r.options.Skip(name) {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	e, err := r.entry(path, name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.entries[name] = e
	return nil
}

func (r *reader) entry(path, name string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Entry{}, err
	}
	e := Entry{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size,
		Nlink: uint64(st.Nlink), Rdev: uint64(st.Rdev), MTime: st.Mtim,
	}
	err := r.typed(&e, path)
	if err != nil {
		return Entry{}, err
	}
	if e.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if _, ok := r.first[id]; !ok {
			r.first[id] = name
		}
		e.Linked = r.first[id]
	}
	e.Xattrs, err = r.xattrs(path)
	return e, err
}

// typed fills in what depends on the type.
func (r *reader) typed(e *Entry, path string) error {
	var err error
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Size, e.Nlink = 0, 1
		if r.options.NoDirTimes {
			e.MTime = unix.Timespec{}
		}
	case unix.S_IFLNK:
		e.Target, err = os.Readlink(path)
	case unix.S_IFREG:
		if !r.options.NoContent {
			e.Content, err = r.hash(path, e.Size)
		}
	}
	if kind := e.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		e.Rdev = 0
	}
	return err
}

const (
	blockSize = 1 << 16
	// Files from this size on are asked where their holes are. Reading
	// gigabytes of zeros would push everything else out of the page cache.
	large = 64 << 20
)

// hash sums up a file's content. Blocks of zeros enter by their number only,
// and it does not matter whether they were read or skipped: data that hides in
// what is called a hole makes another sum.
func (r *reader) hash(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, zeros := sha256.New(), int64(0)
	for {
		if size >= large {
			skipped, err := skipHole(f, size)
			if err != nil {
				return "", err
			}
			zeros += skipped
		}
		n, err := io.ReadFull(f, r.block)
		if bytes.Equal(r.block[:n], r.zero) {
			zeros++
		} else {
			fmt.Fprintf(sum, "%d zero blocks\n", zeros)
			sum.Write(r.block[:n])
			zeros = 0
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Sprintf("%x", sum.Sum(nil)), nil
		case err != nil:
			return "", err
		}
	}
}

// skipHole moves on over the whole blocks of a hole that begins here, if one
// does, and returns their number.
func skipHole(f *os.File, size int64) (int64, error) {
	pos, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	next, err := f.Seek(pos, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // nothing but hole up to the end
		next, err = max(pos, size), nil
	}
	if err != nil {
		return 0, err
	}
	blocks := (next - pos) / blockSize
	_, err = f.Seek(pos+blocks*blockSize, io.SeekStart)
	return blocks, err
}

func (r *reader) xattrs(path string) (string, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("list xattrs: %w", err)
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(path, names); err != nil {
		return "", fmt.Errorf("list xattrs: %w", err)
	}
	var pairs []string
	for name := range strings.SplitSeq(string(names[:size]), "\x00") {
		if name == "" || r.options.IgnoreXattr != nil && r.options.IgnoreXattr(name) {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("xattr %s: %w", name, err)
		}
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " "), nil
}

// Diff returns one line for each difference, at most limit of them and then a
// line that says how many more there are.
func Diff(want, got map[string]Entry, limit int) []string {
	var lines []string
	for path, w := range want {
		g, ok := got[path]
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s: missing", path))
		case w != g:
			lines = append(lines, fmt.Sprintf("%s: want %s\n\tgot %s", path, w, g))
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			lines = append(lines, fmt.Sprintf("%s: should not be there", path))
		}
	}
	slices.Sort(lines)
	if len(lines) > limit {
		lines = append(lines[:limit], fmt.Sprintf("… and %d more differences", len(lines)-limit))
	}
	return lines
}

// String shows an entry on one line.
func (e Entry) String() string {
	content := e.Content
	if len(content) > 12 {
		content = content[:12]
	}
	return fmt.Sprintf("mode=%o owner=%d:%d size=%d nlink=%d rdev=%#x mtime=%d.%09d target=%q linked=%q content=%s xattrs=[%s]",
		e.Mode, e.UID, e.GID, e.Size, e.Nlink, e.Rdev, e.MTime.Sec, e.MTime.Nsec, e.Target, e.Linked, content, e.Xattrs)
}
