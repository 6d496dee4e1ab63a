package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// findHelper finds the setuid helper of libfuse.
func findHelper() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount", "/usr/bin/fusermount3", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoFusermount
}

// mountByHelper lets fusermount3 open the device and mount it. The helper
// sends the descriptor back over the socket named by _FUSE_COMMFD (libfuse,
// util/fusermount.c, send_fd).
func mountByHelper(o *MountOptions) (int, error) {
	if _, err := os.Stat(devicePath); err != nil {
		return -1, fmt.Errorf("%w: %w", ErrNoFuse, err)
	}
	if o.Suid || o.Dev {
		o.Log.Warn("options suid and dev are for root, ignored", "dir", o.Dir)
		o.Suid, o.Dev = false, false
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "fusermount socket")
	defer ours.Close()
	theirs := os.NewFile(uintptr(pair[1]), "fusermount socket")
	err = runHelper(theirs, "-o", helperOptions(o), "--", o.Dir)
	// Closed before the descriptor is awaited, so that a helper that sent none
	// is seen as the end of the stream.
	if err := errors.Join(err, theirs.Close()); err != nil {
		return -1, err
	}
	return receiveFD(pair[0])
}

// helperOptions joins the options for fusermount3, which wants commas and
// backslashes in values escaped.
func helperOptions(o *MountOptions) string {
	list := append(o.options(), "fsname="+o.FsName, "subtype="+o.Subtype)
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	for i := range list {
		list[i] = escape.Replace(list[i])
	}
	return strings.Join(list, ",")
}

// runHelper runs fusermount3; socket may be nil.
func runHelper(socket *os.File, args ...string) error {
	path, err := findHelper()
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if socket != nil {
		cmd.ExtraFiles = []*os.File{socket} // becomes descriptor 3
		cmd.Env = append(cmd.Env, "_FUSE_COMMFD=3")
	}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return helperError(strings.TrimSpace(stderr.String()), exit)
	}
	return err
}

// helperFailure is what fusermount3 wrote, with the sentinel it amounts to.
type helperFailure struct {
	text string
	kind error
}

func (f *helperFailure) Error() string { return "fusermount3: " + f.text }
func (f *helperFailure) Unwrap() error { return f.kind }

// helperError finds the sentinel for what fusermount3 wrote: its exit code is
// always 1.
func helperError(text string, exit error) error {
	if text == "" {
		return fmt.Errorf("fusermount3: %w", exit)
	}
	// It prints its own path as the program's name.
	if _, after, ok := strings.Cut(text, ": "); ok {
		text = after
	}
	for _, known := range []struct {
		part string
		err  error
	}{
		{"Device or resource busy", ErrBusy},
		{"not found in /etc/mtab", ErrNotMounted},
		{"Invalid argument", ErrNotMounted},
		{"Kernel module not loaded", ErrNoFuse},
		{"user_allow_other", fs.ErrPermission},
		{"no write access", fs.ErrPermission},
		{"ermission denied", fs.ErrPermission},
		{"not permitted", fs.ErrPermission},
		{"not owned by", fs.ErrPermission},
		{"bad mount point", ErrMountPoint},
	} {
		if strings.Contains(text, known.part) {
			return &helperFailure{text, known.err}
		}
	}
	return &helperFailure{text, exit}
}

// receiveFD takes the one descriptor that the helper sent.
func receiveFD(socket int) (int, error) {
	data, control := make([]byte, 8), make([]byte, unix.CmsgSpace(4))
	n, cn, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, cn, _, _, err = unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("receive the descriptor from fusermount3: %w", err)
	}
	if n == 0 || cn == 0 {
		return -1, errors.New("fusermount3 sent no descriptor")
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("parse the message of fusermount3: %d parts: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("parse the message of fusermount3: %d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}
