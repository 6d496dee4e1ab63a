package transport

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader holds the buffers of one goroutine, used for every request anew. They
// are mappings of their own: of the buffer for answers only pages that were
// used are there, and all are gone when the reader leaves. From the heap they
// would come zeroed, that is, used, and a burst of requests with 64 readers
// would cost 128 MiB until the next collection.
type reader struct {
	in, out   []byte
	inv, outv [1][]byte // in and out as the handler wants them, kept to spare an allocation
	turn      turn
	mapped    []byte // what in and out lie in; nil: the heap
}

// newReader makes buffers for so many bytes of data in and out, in which the
// data of a WRITE and of a READ begin on a page, as O_DIRECT wants it.
func newReader(in, out int) *reader {
	const header = inHeaderSize + writeInSize
	page := unix.Getpagesize()
	behind := page + (in+page-1)/page*page // where the second buffer's first page begins
	size := behind + page + out
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil { // as when the process has as many mappings as it may
		return &reader{in: alignedBuffer(header+in, header), out: alignedBuffer(outHeaderSize+out, outHeaderSize)}
	}
	// A huge page would be there as a whole after the first byte. Kernels
	// without huge pages refuse the advice, which is as well.
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE)
	return &reader{
		in:     mem[page-header : page+in : page+in],
		out:    mem[behind+page-outHeaderSize:],
		mapped: mem,
	}
}

// free gives the buffers back; the reader is not used again.
func (r *reader) free() {
	if r.mapped != nil {
		_ = unix.Munmap(r.mapped)
	}
	*r = reader{}
}

// alignedBuffer makes a buffer whose byte at offset at lies on a page
// boundary.
func alignedBuffer(size, at int) []byte {
	page := unix.Getpagesize()
	b := make([]byte, size+page)
	skip := -int(uintptr(unsafe.Pointer(&b[at]))) & (page - 1)
	return b[skip : skip+size : skip+size]
}

// populate brings a buffer's pages into memory. The kernel copies a request
// into pages that are there whatever happens to the process; for one that is
// missing it gives up when the process is being killed, and the client gets
// EIO instead of a repetition (fs/fuse/dev.c, fuse_copy_fill).
func populate(b []byte) {
	page := unix.Getpagesize()
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (page - 1)
	whole := b[skip : skip+(len(b)-skip)&^(page-1)]
	if unix.Madvise(whole, unix.MADV_POPULATE_WRITE) == nil { // Linux 5.14
		whole = whole[:0]
	}
	for i := 0; i < len(whole); i += page {
		whole[i] = 0
	}
	b[0], b[len(b)-1] = 0, 0
}
