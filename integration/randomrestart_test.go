package integration

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRandomRestarts kills the server of a container between random
// operations, with files held open: names, contents, inode numbers, link counts
// and open files are what they were.
func TestRandomRestarts(t *testing.T) {
	for seed := range uint64(rounds(2)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := newBox(t)
			needTool(t, "setfattr")
			w := newTwin(t, 400+seed, twinImage(t, b, randomLower, "killed:0"), "")
			w.mount = b.mount("--name", "killed", "killed:0")
			w.check("fresh")
			// Its keeper is started when the mount answers already.
			(&survivor{box: b, mnt: w.mount}).waitKept(0)
			for range 4 { // five deaths in a row without a request end a mount
				w.do(30, w.everyOp())
				must(t, unix.Kill(b.server(w.mount), unix.SIGKILL))
				w.do(30, w.everyOp())
				w.check("after the server was killed")
			}
			w.closeAll()
		})
	}
}
