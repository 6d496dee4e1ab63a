package unionfs

import (
	"sync/atomic"
	"time"
)

// asked knows who was lately told the attributes of a folder.
//
// The kernel marks the attributes of a folder as old when an entry comes or goes
// (fuse_dir_changed in fs/fuse/dir.c), but not the answers that are on their way:
// a GETATTR or LOOKUP that was answered before the change and is taken in after it
// would put the times from before back in place, for as long as attributes hold. A
// message that drops the attributes raises fi->attr_version, and older answers
// are not taken in any more. It is sent only when somebody else than who makes
// the change has asked lately: what a thread has asked, it has taken in before it
// goes on.
type asked struct {
	start   time.Time
	changes atomic.Uint64 // of any folder
	// Each holds when a folder was asked for, in ms since start (upper half),
	// and by whom: a thread, or anybody (lower half). Folders share them by
	// chance, which costs a message.
	slots [256]atomic.Uint64
}

const (
	// askedLately is how long, in ms, a thread that has been answered may not
	// come to run.
	askedLately = 100
	// askedAhead is how long, in ms, a thread may not come to run between a look
	// at the clock and one at a slot, which another has set meanwhile.
	askedAhead = 10_000
	// anybody stands for several threads, and for one whose number the kernel
	// does not know here: it is in no PID namespace of the mount's.
	anybody = 0
)

// now gives the time in ms. It is at least askedLately: what was never asked for
// is not lately asked for.
func (a *asked) now() uint32 {
	return uint32(time.Since(a.start).Milliseconds()) + askedLately
}

func (a *asked) slot(folder uint64) *atomic.Uint64 {
	return &a.slots[folder*0x9e3779b97f4a7c15>>56] // Fibonacci hashing
}

// lately reports whether what a slot holds was set lately, seen from now, which
// may be earlier.
func lately(slot uint64, now uint32) bool {
	ago := int32(now - uint32(slot>>32))
	return -askedAhead < ago && ago < askedLately
}

// note says that thread is about to be told the attributes of a folder. Those
// read when there had been another number of changes may be older than one that
// did not see this note.
func (a *asked) note(folder uint64, thread, now uint32) {
	slot := a.slot(folder)
	for {
		old := slot.Load()
		by := thread
		if lately(old, now) && uint32(old) != thread {
			by = anybody
		}
		if slot.CompareAndSwap(old, uint64(now)<<32|uint64(by)) {
			return
		}
	}
}

// change says that thread has made an entry of a folder come or go. It reports
// whether another may still be about to take in older attributes of the folder.
func (a *asked) change(folder uint64, thread, now uint32) bool {
	a.changes.Add(1)
	last := a.slot(folder).Load()
	by := uint32(last)
	return lately(last, now) && (by != thread || by == anybody)
}
