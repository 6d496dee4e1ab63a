package container

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// TestWithRoom: a program that is started so has the large table, so that
// opening the tars of many layers never waits for the kernel to let it grow.
func TestWithRoom(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = withRoom(theirs)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`FDSize:\s*(\d+)`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no FDSize in %s", status)
	}
	if n, _ := strconv.Atoi(string(found[1])); n <= roomFD {
		t.Errorf("the table has room for %d descriptors", n)
	}
}
