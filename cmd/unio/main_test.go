package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts call this test binary as "unio".
func TestMain(m *testing.M) {
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
			"status": cmdStatus,
		},
	})
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
	return os.MkdirAll(e.WorkDir+"/.home", 0o755)
}
