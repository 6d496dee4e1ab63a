package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoFreezer says that there are no cgroups here that stop processes.
var ErrNoFreezer = errors.New("there is no cgroup freezer that this user may use")

// freezer is the cgroup of a container that stops its processes (kernel,
// cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst, cgroup.freeze).
type freezer struct {
	dir           string
	file          string // that is written
	frozen, moves string // what is written
	shown         string // the file that tells when all are stopped
}

// findFreezer names the cgroup, which may not be there.
func findFreezer(id string) (*freezer, error) {
	if id == "" || strings.ContainsRune(id, '/') {
		return nil, ErrNoFreezer
	}
	list := hierarchies()
	if h := findController(list, "freezer"); h != nil {
		dir := filepath.Join(h.dir, groupName, id)
		return &freezer{dir: dir, file: "freezer.state", frozen: "FROZEN", moves: "THAWED", shown: "freezer.state"}, nil
	}
	for i := range list {
		if list[i].unified() {
			dir := filepath.Join(list[i].dir, groupName, id)
			return &freezer{dir: dir, file: "cgroup.freeze", frozen: "1", moves: "0", shown: "cgroup.events"}, nil
		}
	}
	return nil, ErrNoFreezer
}

func (f *freezer) write(value string) error {
	return os.WriteFile(filepath.Join(f.dir, f.file), []byte(value), 0)
}

// freezeWait bounds how long the kernel may take to stop processes: those in the
// middle of a request to a disk or a server stop when it is answered.
const freezeWait = 5 * time.Second

// Freeze stops the processes of a container, which pids lists, where they stand.
// After an error they run. It gives ErrNoFreezer.
func Freeze(id string, pids func() ([]int, error)) error {
	f, err := findFreezer(id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrNoFreezer, err)
	}
	// Stopped first: who is moved in cannot make a process outside any more.
	if err = f.write(f.frozen); err == nil {
		err = f.gather(pids)
	}
	if err == nil {
		err = f.await()
	}
	if err != nil {
		err = fmt.Errorf("freeze: %w", err)
		return errors.Join(err, f.write(f.moves))
	}
	return nil
}

// gather moves processes in until there are no others. One that is about to end is
// left where it is by the kernel, and gone a moment later.
func (f *freezer) gather(pids func() ([]int, error)) error {
	for end := time.Now().Add(freezeWait); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all, err := pids()
		if err != nil {
			return err
		}
		inside := membersOf(f.dir)
		moved := false
		for _, pid := range all {
			if slices.Contains(inside, pid) || ended(pid) {
				continue
			}
			moved = true
			err := os.WriteFile(filepath.Join(f.dir, procsFile), []byte(strconv.Itoa(pid)), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if !moved {
			return nil
		}
	}
	return errors.New("there are always more processes")
}

// ended reports whether a process waits for nothing but its parent, which may be
// stopped: the kernel moves no such process, and says nothing of it. One whose
// first thread alone has ended still runs.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	// Behind the command, in parentheses, which may hold anything (proc(5)).
	_, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(threads) <= 1 && (strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X"))
}

// await waits until all processes are stopped.
func (f *freezer) await() error {
	for end := time.Now().Add(freezeWait); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(f.dir, f.shown))
		if err != nil {
			return err
		}
		if state := string(text); strings.HasPrefix(state, "FROZEN") || strings.Contains(state, "frozen 1") {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("some processes do not stop")
		}
	}
}

// Thaw lets the processes of a container go on. One that is not stopped is no
// error.
func Thaw(id string) error {
	f, err := findFreezer(id)
	if err != nil {
		return nil //nolint:nilerr // nothing is stopped where nothing can be
	}
	if _, err := os.Stat(f.dir); err != nil {
		return nil //nolint:nilerr // nor without a group
	}
	if err := f.write(f.moves); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// procsFile lists the processes of a cgroup, and takes those that are to be in it.
const procsFile = "cgroup.procs"

// membersOf lists the processes of one cgroup.
func membersOf(dir string) []int {
	data, _ := os.ReadFile(filepath.Join(dir, procsFile))
	var pids []int
	for _, word := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Members lists the processes in the cgroups of a container, as the host numbers
// them; none for a container without cgroups.
func Members(id string) []int {
	var pids []int
	for _, h := range hierarchies() {
		pids = append(pids, membersOf(filepath.Join(h.dir, groupName, id))...)
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}
