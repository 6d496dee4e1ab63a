package main

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// scenario is one behaviour. files describes what is there before (see
// fixture.go); run acts on it, with the scenario's folder as its working
// folder, as root with umask 0, on a thread of its own.
type scenario struct {
	files string
	run   func(t *T)
}

// group is a table of scenarios by name.
type group map[string]scenario

// groups lists all scenarios by group.
func groups() map[string]group {
	return map[string]group{
		"open": opening, "paths": paths(), "link": linking, "rename": renaming, "remove": removing,
		"make": making, "chmod": chmodding, "chown": chowning, "privilege": privileges, "times": timing, "size": sizes,
		"xattr": attributing, "access": accessing, "mmap": mapping, "descriptor": syncing,
		"folder": folders, "tmpfile": nameless, "lock": locking, "live": living, "acl": controlling,
	}
}

// named is a scenario with its full name, group/name.
type named struct {
	scenario
	name string
}

func (n *named) group() string { return n.name[:strings.IndexByte(n.name, '/')] }

// folder is the scenario's folder below one of a variant.
func (n *named) folder() string { return strings.ReplaceAll(n.name, "/", "-") }

// chosen lists the scenarios whose names match, in order.
func chosen(only *regexp.Regexp) []named {
	var list []named
	for g, table := range groups() {
		for name, s := range table {
			full := g + "/" + name
			if only == nil || only.MatchString(full) {
				list = append(list, named{s, full})
			}
		}
	}
	slices.SortFunc(list, func(a, b named) int { return cmp.Compare(a.name, b.name) })
	return list
}

// T is what a running scenario sees of the world, and what it found wrong.
type T struct {
	dir     string // its folder, an absolute path, which is also the working folder
	variant string
	kind    kind
	failed  []string
	cleanup []func()
	opened  []int // descriptors to close at the end
	sink    byte  // takes what is read from a mapping, so that it is
}

// errorf notes something wrong; the scenario goes on.
func (t *T) errorf(format string, args ...any) {
	t.failed = append(t.failed, where()+fmt.Sprintf(format, args...))
}

// fatalf notes something wrong and ends the scenario.
func (t *T) fatalf(format string, args ...any) {
	t.errorf(format, args...)
	runtime.Goexit()
}

// where is the line of the scenario that is running: the outermost frame that
// is not the runner's.
func where() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	at := ""
	for {
		f, more := frames.Next()
		file := filepath.Base(f.File)
		if file == "scenario.go" && strings.HasSuffix(f.Function, "play") || !more {
			return at
		}
		if file != "scenario.go" && file != "acts.go" {
			at = fmt.Sprintf("%s:%d: ", file, f.Line)
		}
	}
}

// play runs one scenario in dir and returns what was wrong.
func (n *named) play(k kind, variant, dir string) []string {
	t := &T{dir: dir, variant: variant, kind: k}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.clean()
		// The thread has a working folder and a umask of its own, and whatever
		// else the scenario makes of it: it is not unlocked, so it ends here.
		runtime.LockOSThread()
		if err := t.enter(n.files); err != nil {
			t.fatalf("prepare: %v", err)
		}
		n.run(t)
	}()
	select {
	case <-done:
		return t.failed
	case <-time.After(2 * time.Minute):
		return []string{"did not end"}
	}
}

// clean closes what is open, the last first.
func (t *T) clean() {
	for _, f := range slices.Backward(t.cleanup) {
		f()
	}
}

func (t *T) enter(files string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	unix.Umask(0)
	// A process that another scenario is just starting has all our descriptors
	// until it runs: a program that we write would be busy.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if t.variant == fresh {
		if err := plant(t.dir, files); err != nil {
			return err
		}
	}
	if err := unix.Chdir(t.dir); err != nil {
		return err
	}
	return disturb(files, t.variant)
}

// verdict is what came of a scenario on one filesystem, over all variants.
type verdict struct {
	name  string
	wrong []string
}

// report is what came of all scenarios on one filesystem.
type report struct {
	kind  kind
	tried []verdict
	took  time.Duration
}

// failed returns the verdicts that are not good.
func (r *report) failed() []verdict {
	return slices.DeleteFunc(slices.Clone(r.tried), func(v verdict) bool { return len(v.wrong) == 0 })
}

// runAll runs the scenarios below dir in all variants of the filesystem,
// several at a time: each has a folder of its own.
func runAll(k kind, dir string, list []named) report {
	const atOnce = 8
	start := time.Now()
	r := report{kind: k, tried: make([]verdict, len(list))}
	next := make(chan int)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				r.tried[i] = runVariants(k, dir, &list[i])
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	r.took = time.Since(start)
	return r
}

// runVariants tells what is wrong in any variant. What is wrong in several is
// said once.
func runVariants(k kind, dir string, n *named) verdict {
	said := map[string][]string{}
	for _, variant := range k.variants {
		for _, text := range n.play(k, variant, filepath.Join(dir, variant, n.folder())) {
			said[text] = append(said[text], variant)
		}
	}
	v := verdict{name: n.name}
	for _, text := range slices.Sorted(maps.Keys(said)) {
		v.wrong = append(v.wrong, fmt.Sprintf("%s [%s]", text, strings.Join(said[text], " ")))
	}
	return v
}
