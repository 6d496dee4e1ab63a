//go:build failpoints

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// plan is what the environment asks for.
type plan struct {
	name string
	left atomic.Int64 // passes until the end
	log  string       // file that takes the names, "" for none
	file string       // file that holds a name, "" for none
}

var current = sync.OnceValue(func() *plan {
	name, text, _ := strings.Cut(os.Getenv("UNIO_FAILPOINT"), ":")
	count, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		count = 1
	}
	p := &plan{name: name, log: os.Getenv("UNIO_FAILPOINT_LOG"), file: os.Getenv("UNIO_FAILPOINT_FILE")}
	p.left.Store(count)
	return p
})

// Hit tells that the process passes the point of that name, and ends it there
// if that is the plan.
func Hit(name string) {
	p := current()
	if p.log != "" {
		note(p.log, name)
	}
	if name == p.name && p.left.Add(-1) == 0 || p.file != "" && ordered(p.file, name) {
		syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // nothing more is done before the signal arrives
	}
}

// ordered reports whether file holds name, and removes it then.
func ordered(file, name string) bool {
	text, err := os.ReadFile(file)
	return err == nil && string(text) == name && os.Remove(file) == nil
}

// note appends name to file. What cannot be written is missed by the test.
func note(file, name string) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteString(name + "\n")
}
