package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"unio/unionfs/transport"
	"unio/unionfs/transport/transporttest"
)

// TestMain lets the scripts call this test binary as "unio".
func TestMain(m *testing.M) {
	if strings.HasPrefix(os.Args[0], "/proc/self/fd/") {
		main() // started by nsenter (container/runner), which gives it no name
	}
	if filepath.Base(os.Args[0]) != "unio" {
		if err := transporttest.Settle(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	testscript.Main(m, map[string]func(){
		"unio": main,
	})
}

// TestScripts runs testdata/*.txtar, each with a store of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"busybox":     cmdBusybox,
			"jobcontrol":  cmdJobControl,
			"killservers": cmdKillServers,
			"nomounts":    cmdNoMounts,
			"status":      cmdStatus,
		},
		Condition: condition,
	})
}

// condition knows [mount]: what it takes to mount as root; and [uring]: to serve
// such a mount over io_uring.
func condition(cond string) (bool, error) {
	if cond == "uring" {
		return transport.EnableUring() == nil && transport.UringUsable() == nil, nil
	}
	if cond != "mount" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	_, err := os.Stat("/dev/fuse")
	return err == nil && os.Geteuid() == 0, nil
}

// applets are the commands of a test image.
var applets = strings.Fields("cat chmod chown echo env false grep head id kill ln ls mkdir mv pwd readlink rm rmdir sh sleep stat stty test touch true tty wc")

// cmdBusybox is "busybox FILE": it writes the tar of a small root filesystem.
func cmdBusybox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: busybox FILE")
	}
	program, err := exec.LookPath("busybox")
	ts.Check(err)
	data, err := os.ReadFile(program)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w := tar.NewWriter(f)
	add := func(h tar.Header, data string) {
		h.Size, h.ModTime, h.Format = int64(len(data)), time.Unix(1700000000, 0), tar.FormatPAX
		ts.Check(w.WriteHeader(&h))
		_, err := io.WriteString(w, data)
		ts.Check(err)
	}
	for _, dir := range strings.Fields("./ bin/ dev/ etc/ home/ proc/ root/ sys/ tmp/") {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, "")
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, string(data))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644},
		"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home:/bin/sh\n")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, "root:x:0:\nann:x:1000:\nwheel:x:10:ann\n")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/motd", Mode: 0o644}, "hello\n")
	for _, name := range applets {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, "")
	}
	ts.Check(w.Close())
}

// cmdNoMounts fails if anything is mounted below the script's folder.
func cmdNoMounts(ts *testscript.TestScript, neg bool, _ []string) {
	if list := mountsBelow(ts.Getenv("WORK")); len(list) > 0 != neg {
		ts.Fatalf("mounted: %q", list)
	}
}

// mountsBelow lists the mount points below a folder, the innermost first.
func mountsBelow(dir string) []string {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return []string{err.Error()}
	}
	var list []string
	for _, info := range slices.Backward(infos) {
		list = append(list, info.Mountpoint)
	}
	return list
}

// cmdStatus is "status N COMMAND ARG…": it runs the command and fails unless
// it exits with code N. Its output is there for stdout, stderr and cmp.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// setupScript gives each script its own store and run root.
func setupScript(e *testscript.Env) error {
	e.Setenv("UNIO_ROOT", e.WorkDir+"/.store")
	e.Setenv("UNIO_RUNROOT", e.WorkDir+"/.run")
	e.Setenv("HOME", e.WorkDir+"/.home")
	e.Setenv(transportVariable, string(transporttest.Chosen()))
	// No registry but those on the loopback, which no proxy is asked for, is
	// reached, on a machine with a network neither.
	e.Setenv("HTTPS_PROXY", "http://127.0.0.1:9")
	e.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	e.Defer(func() { // what a script that failed has left
		endContainers(e.WorkDir)
		for _, dir := range mountsBelow(e.WorkDir) {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return os.MkdirAll(e.WorkDir+"/.home", 0o755)
}

// endContainers removes the containers that run in a script's store.
func endContainers(work string) {
	unio := func(args ...string) []byte {
		cmd := exec.Command("unio", append([]string{"--root", work + "/.store", "--runroot", work + "/.run"}, args...)...)
		out, _ := cmd.Output()
		return out
	}
	if _, err := os.Stat(work + "/.store/containers"); err != nil {
		return
	}
	for _, id := range strings.Fields(string(unio("ps", "-q", "--filter", "status=running"))) {
		unio("rm", "-f", id)
	}
}
