package unionfs

import (
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// gcPercent lets the server's heap, which is a few MiB, grow to some more
// before it is collected: each collection costs requests their latency.
const gcPercent = 400

// PrepareProcess sets up a process that does nothing but serve a mount. Modes
// then come from the kernel, with the umask of the program applied.
func PrepareProcess() {
	unix.Umask(0)
	debug.SetGCPercent(gcPercent)
	// A request that waits in a page fault of a mapped index keeps its
	// scheduler slot; with as many slots as CPUs a few of them stop the mount.
	runtime.GOMAXPROCS(2 * runtime.NumCPU())
	time.AfterFunc(settled, debug.FreeOSMemory)
}

// settled is when what starting took, for reading images and options, is given
// back: a server may be idle for the rest of its life.
const settled = 2 * time.Second
