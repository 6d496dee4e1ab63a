package container

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxLog is the size, in bytes, at which a log is started anew by the next
// mount. One older log is kept.
const maxLog = 1 << 20

// openLog opens the file that a server writes to.
func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// writeLog makes a file the output of this process: what it logs, and what the
// language's runtime says of a crash.
func writeLog(path string) error {
	log, err := openLog(path)
	if err != nil {
		return fmt.Errorf("open the log of the mount: %w", err)
	}
	defer log.Close()
	for _, std := range []int{1, 2} {
		if err := unix.Dup3(int(log.Fd()), std, 0); err != nil {
			return fmt.Errorf("open the log of the mount: %w", os.NewSyscallError("dup3", err))
		}
	}
	return nil
}
