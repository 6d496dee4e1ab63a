package runner

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// terminal makes the console the controlling terminal of the program's session.
// It is descriptor 0 here. A program that is not to take the place of this process
// gets a session and the terminal when it starts.
func (c *child) terminal() error {
	if !c.Spec.Process.Terminal {
		return nil
	}
	if !c.stays() {
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("take the terminal: %w", err)
		}
	}
	if size := c.Spec.Process.ConsoleSize; size != nil {
		ws := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(0, unix.TIOCSWINSZ, ws); err != nil {
			return fmt.Errorf("set the size of the terminal: %w", err)
		}
	}
	return nil
}

// enterCwd goes to the working folder. What the user may not enter root may
// here, as in docker.
func (c *child) enterCwd() error {
	dir := cmp.Or(c.Spec.Process.Cwd, "/")
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("working folder %s: %w", dir, err)
	}
	// A link of /proc to a folder that was open here would lead out of the root
	// (CVE-2024-21626). Of such a place the kernel knows no path (getcwd(2)).
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err == nil && (n == 0 || buf[0] != '/') {
		err = unix.ENOENT
	}
	if err != nil {
		return fmt.Errorf("working folder %s is outside of the container: %w", dir, err)
	}
	return nil
}

// execute lets the program take the place of this process. A name without a
// slash is searched for in the PATH of its environment.
func (c *child) execute() error {
	p := c.Spec.Process
	if err := c.say.Encode(outcome{Ready: true}); err != nil {
		return err
	}
	file, err := findProgram(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	if err := c.setLate(); err != nil {
		return err
	}
	err = unix.Exec(file, p.Args, p.Env)
	c.liftLate()
	return execError(file, err)
}

// findProgram finds the file that a program's name means. Its messages are those
// that docker shows (Go's os/exec in runc).
func findProgram(name string, env []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, executable(name, name)
	}
	var denied error
	search, _ := runspec.LookupEnv(env, "PATH")
	for _, dir := range strings.Split(search, ":") {
		if name == "" {
			break // every folder would be the file
		}
		file := path.Join(cmp.Or(dir, "."), name)
		if !strings.ContainsRune(file, '/') {
			file = "./" + file
		}
		err := executable(name, file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, unix.EACCES) {
			denied = err // another folder may hold one that may be run
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", &StartError{CodeNotFound, fmt.Errorf("exec: %q: executable file not found in $PATH", name)}
}

// executable says why a file cannot be run.
func executable(name, file string) error {
	var st unix.Stat_t
	err := unix.Stat(file, &st)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return &StartError{CodeNotFound, fmt.Errorf("exec: %q: stat %s: %w", name, file, err)}
	case err != nil:
		return &StartError{CodeNotExecutable, fmt.Errorf("exec: %q: stat %s: %w", name, file, err)}
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return &StartError{CodeNotExecutable, fmt.Errorf("exec: %q: %w", name, unix.EACCES)}
	}
	// The effective user counts (faccessat2(2)).
	if err := unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS); err != nil {
		return &StartError{CodeNotExecutable, fmt.Errorf("exec: %q: %w", name, err)}
	}
	return nil
}

// execError says why the kernel did not run a file, with the code that a shell
// gives.
func execError(file string, err error) error {
	code, why := CodeNotExecutable, ""
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		code = CodeNotFound
		why = " (the interpreter or loader that it names is missing)"
	case errors.Is(err, unix.E2BIG):
		code = CodeFailed
	}
	return &StartError{code, fmt.Errorf("exec %s: %w%s", file, err, why)}
}
