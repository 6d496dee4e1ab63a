package unionfs

import (
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// tree is what can be read of a mount. A *cow.FS is one, and so is a lower
// alone.
type tree interface {
	Lookup(dir merge.Ino, name string, st *cow.Stat) error
	Getattr(ino merge.Ino, st *cow.Stat) error
	ReadDir(ino merge.Ino, after uint64, yield func(cow.Dirent) bool) error
	Readlink(ino merge.Ino) (string, error)
	Read(ino merge.Ino, p []byte, off int64) (int, error)
	Seek(ino merge.Ino, off int64, whence int) (int64, error)
	Getxattr(ino merge.Ino, name string) ([]byte, error)
	Listxattr(ino merge.Ino, yield func(name string)) error
	Statfs(out *unix.Statfs_t) error
	Remember(ino merge.Ino)
	Forget(ino merge.Ino, count uint64)
}

var (
	_ tree = (*cow.FS)(nil)
	_ tree = image{}
)

// image is a lower mounted by itself.
type image struct{ merge.Lower }

func (i image) Lookup(dir merge.Ino, name string, st *cow.Stat) error {
	ino, err := i.Lower.Lookup(dir, name)
	if err != nil {
		return err
	}
	return i.Getattr(ino, st)
}

func (i image) Getattr(ino merge.Ino, st *cow.Stat) error {
	return st.Ask(i.Lower, ino)
}

// ReadDir lists like the writable union does, with the same cookies.
func (i image) ReadDir(ino merge.Ino, after uint64, yield func(cow.Dirent) bool) error {
	const dots = 2
	if after < 1 && !yield(cow.Dirent{Name: ".", Ino: ino, Type: unix.S_IFDIR, Cookie: 1}) {
		return nil
	}
	if after < dots && !yield(cow.Dirent{Name: "..", Ino: i.parent(ino), Type: unix.S_IFDIR, Cookie: dots}) {
		return nil
	}
	return i.Lower.ReadDir(ino, max(after, dots)-dots, func(e merge.Entry) bool {
		return yield(cow.Dirent{Name: e.Name, Ino: e.Ino, Type: e.Type, Cookie: e.Cookie + dots})
	})
}

func (i image) parent(ino merge.Ino) merge.Ino {
	links, err := i.Links(ino)
	if err != nil || len(links) == 0 {
		return ino
	}
	return links[0].Dir
}

func (i image) Read(ino merge.Ino, p []byte, off int64) (int, error) { return i.ReadAt(ino, p, off) }

func (i image) Seek(ino merge.Ino, off int64, whence int) (int64, error) {
	return cow.SeekLower(i.Lower, ino, off, whence)
}

func (i image) Getxattr(ino merge.Ino, name string) ([]byte, error) { return i.Xattr(ino, name) }

func (i image) Listxattr(ino merge.Ino, yield func(name string)) error {
	return i.Xattrs(ino, func(name string, _ []byte) bool { yield(name); return true })
}

// Statfs shows a full filesystem that is as large as the image's content, or
// that on which the lower lies if it says so.
func (i image) Statfs(out *unix.Statfs_t) error {
	if on, ok := i.Lower.(interface{ Statfs(*unix.Statfs_t) error }); ok {
		return on.Statfs(out)
	}
	const block = 4096
	*out = unix.Statfs_t{
		Bsize: block, Frsize: block, Namelen: unix.NAME_MAX,
		Blocks: (i.DataSize() + block - 1) / block, Files: i.Nodes(),
	}
	return nil
}

// Remember counts a reference of the kernel's, if the lower forgets nodes that
// have none. An image's nodes never go.
func (i image) Remember(ino merge.Ino) {
	if counter, ok := i.Lower.(merge.Counter); ok {
		counter.Remember(ino)
	}
}

// Forget takes references back.
func (i image) Forget(ino merge.Ino, count uint64) {
	if counter, ok := i.Lower.(merge.Counter); ok {
		counter.Forget(ino, count)
	}
}
