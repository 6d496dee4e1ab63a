package transport

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountAndUnmountAsRoot(t *testing.T) {
	needRoot(t)
	s := startServer(t, config{})
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil || st.Bsize != 4096 {
		t.Errorf("statfs: %v %d", err, st.Bsize)
	}
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
	if state, err := State(s.dir); state != StateNone || err != nil {
		t.Errorf("State: %v %v", state, err)
	}
}
