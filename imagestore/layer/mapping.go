package layer

import (
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapFile maps a whole file for reading. Its pages are the kernel's page cache,
// shared by all servers of the image and given back under memory pressure. The mapping is of the inode, so it
// stays good when the file is replaced or removed.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < headerSize || int64(int(st.Size())) != st.Size() {
		return nil, fmt.Errorf("%w: %s: %d bytes", ErrBadIndex, path, st.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return data, nil
}

// A mapped file that the disk can no longer give (a read error, or the file
// was truncated) faults on access. Every function that touches a mapping
// begins with
//
//	defer catchFault(debug.SetPanicOnFault(true), &err)
//
// which turns the fault into errDamaged. Any other panic goes on.
func catchFault(old bool, err *error) {
	debug.SetPanicOnFault(old)
	r := recover()
	if r == nil {
		return
	}
	if _, ok := r.(interface{ Addr() uintptr }); !ok {
		panic(r)
	}
	*err = errDamaged
}
