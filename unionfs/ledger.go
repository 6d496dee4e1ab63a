package unionfs

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ledger is memory that outlives a server: the keeper of a mount holds its
// file, and the next server maps the same pages. It tells whether the server
// has answered anything, and holds notes on requests whose repetition could not
// be told from a first try by what is on disk.
//
// A note is never taken back: it is overwritten by the one that comes
// ledgerNotes later, when its request has been answered long ago.
type Ledger struct {
	file *os.File
	mem  []byte
	head *ledgerHead
	note []ledgerNote
}

type ledgerHead struct {
	next     atomic.Uint64 // notes ever made
	answered atomic.Uint64
	_        [6]uint64
}

type ledgerNote struct {
	unique atomic.Uint64 // of the request; written last
	a, b   atomic.Uint64
	_      uint64
}

const (
	ledgerNotes = 1024
	ledgerSize  = int(unsafe.Sizeof(ledgerHead{})) + ledgerNotes*int(unsafe.Sizeof(ledgerNote{}))
)

// NewLedger makes an empty one.
func NewLedger() (*Ledger, error) {
	fd, err := unix.MemfdCreate("unio-ledger", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a ledger: %w", err)
	}
	file := os.NewFile(uintptr(fd), "ledger")
	if err := file.Truncate(int64(ledgerSize)); err != nil {
		file.Close()
		return nil, fmt.Errorf("make a ledger: %w", err)
	}
	return OpenLedger(file)
}

// OpenLedger maps a ledger that was made by another process. The file belongs
// to it from then on.
func OpenLedger(file *os.File) (*Ledger, error) {
	st, err := file.Stat()
	if err == nil && st.Size() < int64(ledgerSize) {
		err = unix.EINVAL
	}
	var mem []byte
	if err == nil {
		mem, err = unix.Mmap(int(file.Fd()), 0, ledgerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("map a ledger: %w", err)
	}
	l := &Ledger{file: file, mem: mem}
	start := unsafe.Pointer(unsafe.SliceData(mem))
	l.head = (*ledgerHead)(start)
	l.note = unsafe.Slice((*ledgerNote)(unsafe.Add(start, unsafe.Sizeof(ledgerHead{}))), ledgerNotes)
	return l, nil
}

// File is what another process inherits to open the same ledger.
func (l *Ledger) File() *os.File { return l.file }

// Close unmaps the ledger.
func (l *Ledger) Close() error {
	if err := unix.Munmap(l.mem); err != nil {
		return fmt.Errorf("unmap a ledger: %w", err)
	}
	return l.file.Close()
}

// Answered tells whether a request has been answered since the last call.
func (l *Ledger) Answered() bool { return l.head.answered.Swap(0) != 0 }

func (l *Ledger) setAnswered() { l.head.answered.Store(1) }

// put notes two numbers about a request that is about to be carried out.
func (l *Ledger) put(unique, a, b uint64) {
	n := &l.note[l.head.next.Add(1)%ledgerNotes]
	n.unique.Store(0)
	n.a.Store(a)
	n.b.Store(b)
	n.unique.Store(unique)
}

// find returns what was noted about a request.
func (l *Ledger) find(unique uint64) (a, b uint64, ok bool) {
	for i := range l.note {
		if n := &l.note[i]; n.unique.Load() == unique {
			return n.a.Load(), n.b.Load(), true
		}
	}
	return 0, 0, false
}
