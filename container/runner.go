package container

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// codedError is an error with the exit code it leads to.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// RunProgram is the runner's side of [Chroot]: it reads its job from control,
// builds the root folder, and lets the program take its place. It returns only
// after an error, which has been sent to the caller of Chroot.
func RunProgram(control *os.File) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	var j job
	if err := json.NewDecoder(control).Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	say := json.NewEncoder(control)
	err := j.run(func(made []madePoint) error { return say.Encode(outcome{Made: made}) })
	code := CodeFailed
	var coded *codedError
	if errors.As(err, &coded) {
		code = coded.code
	}
	return errors.Join(err, say.Encode(outcome{Error: err.Error(), Code: code}))
}

// run does the job, step by step; it returns only errors. ready is told what
// was made in the root, as soon as that is known.
func (j *job) run(ready func([]madePoint) error) error {
	unix.Umask(0)
	made, err := buildRoot(j.Root, j.Rootless)
	if sayErr := ready(made); err == nil {
		err = sayErr
	}
	if err != nil {
		return err
	}
	if err := enterRoot(j.Root); err != nil {
		return err
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root folder: %w", err)
	}
	who, err := findAccount(root, j.User)
	if err != nil {
		return err
	}
	if err := who.assume(j.Rootless); err != nil {
		return err
	}
	if err := unix.Chdir(cmp.Or(j.Dir, "/")); err != nil {
		return fmt.Errorf("working folder %s: %w", j.Dir, err)
	}
	unix.Umask(0o022)
	return execute(j.Args, environment(j.Env, who.home))
}

// DefaultPath is the PATH of a program whose image sets none (docker's).
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment adds what every program expects.
func environment(env []string, home string) []string {
	env = slices.Clone(env)
	for _, add := range []string{"PATH=" + DefaultPath, "HOME=" + home, "TERM=xterm"} {
		name, _, _ := strings.Cut(add, "=")
		if _, ok := lookupEnv(env, name); !ok {
			env = append(env, add)
		}
	}
	return env
}

func lookupEnv(env []string, name string) (string, bool) {
	for _, e := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// execute lets a program take the place of this process. A name without a
// slash is searched for in the PATH of env.
func execute(args, env []string) error {
	name := args[0]
	if strings.ContainsRune(name, '/') {
		return execError(name, unix.Exec(name, args, env))
	}
	var denied error
	search, _ := lookupEnv(env, "PATH")
	for _, dir := range strings.Split(search, ":") {
		file := path.Join(cmp.Or(dir, "."), name)
		var st unix.Stat_t
		if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		err := execError(file, unix.Exec(file, args, env))
		if !errors.Is(err, unix.EACCES) {
			return err
		}
		denied = err // another folder may hold one that may be run
	}
	if denied != nil {
		return denied
	}
	return &codedError{CodeNotFound, fmt.Errorf("exec %q: executable file not found in $PATH", name)}
}

// execError says why a file could not be run, with the code that a shell gives.
func execError(file string, err error) error {
	code := CodeNotExecutable
	var st unix.Stat_t
	if err == unix.ENOENT || err == unix.ENOTDIR {
		code = CodeNotFound
		if unix.Stat(file, &st) == nil {
			return &codedError{code, fmt.Errorf("exec %s: the interpreter or loader that it names is missing: %w", file, err)}
		}
	}
	return &codedError{code, fmt.Errorf("exec %s: %w", file, err)}
}
