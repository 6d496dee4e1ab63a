// Package transporttest lets tests run over each way in which requests reach a
// server. What servers of tests are to use stands in the environment
// ([Variable]), as it does for unio itself.
package transporttest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"unio/unionfs/transport"
)

// Variable is the environment variable that names the transport.
const Variable = "UNIO_TRANSPORT"

// Chosen is the transport that the environment names: /dev/fuse where it names
// none, whatever the machine would allow, so that tests do the same everywhere.
func Chosen() transport.Kind {
	if kind := os.Getenv(Variable); kind != "" {
		return transport.Kind(kind)
	}
	return transport.Dev
}

// Settle writes [Chosen] into the environment, for programs that a test starts.
func Settle() error { return os.Setenv(Variable, string(Chosen())) }

// NeedUring skips a test where FUSE over io_uring cannot be used; in a run that
// must not skip ($UNIO_TEST_REQUIRE) on a kernel that has it, the test fails. Root
// turns the kernel's parameter on, and leaves it on: others may be using it.
func NeedUring(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := transport.EnableUring(); err != nil {
			lack(t, err)
		}
	}
	if err := transport.UringUsable(); err != nil {
		lack(t, err)
	}
}

func lack(t testing.TB, err error) {
	t.Helper()
	_, absent := os.Stat("/sys/module/fuse/parameters/enable_uring")
	if absent == nil && os.Getenv("UNIO_TEST_REQUIRE") == "all" {
		t.Fatalf("the kernel has FUSE over io_uring, but it cannot be used: %v", err)
	}
	t.Skipf("needs FUSE over io_uring: %v", err)
}

// Each runs a test over /dev/fuse and over io_uring.
func Each(t *testing.T, do func(t *testing.T)) {
	t.Helper()
	t.Run(string(transport.Dev), func(t *testing.T) {
		t.Setenv(Variable, string(transport.Dev))
		do(t)
	})
	t.Run(string(transport.Uring), func(t *testing.T) {
		NeedUring(t)
		t.Setenv(Variable, string(transport.Uring))
		do(t)
	})
}

// Again runs tests of the calling test's own program once more, over io_uring:
// those that match run, without those that match but (empty: none).
func Again(t *testing.T, run, but string) {
	t.Helper()
	if Chosen() == transport.Uring {
		return // this is the second run, or the first one was over io_uring
	}
	NeedUring(t)
	args := []string{"-test.v", "-test.run=" + run, "-test.skip=" + skipping(t.Name(), but)}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(end).String())
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), Variable+"="+string(transport.Uring))
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "--- PASS: ") {
		t.Errorf("over io_uring: %v\n%s", err, text)
		return
	}
	if skipped := regexp.MustCompile(`--- SKIP: \S+`).FindAllString(text, -1); len(skipped) > 0 {
		t.Errorf("over io_uring: %q\n%s", skipped, text)
	}
	t.Logf("%d tests", strings.Count("\n"+text, "\n--- PASS: "))
}

// skipping matches the test called self, and what matches but.
func skipping(self, but string) string {
	self = "^" + regexp.QuoteMeta(self) + "$"
	if but == "" {
		return self
	}
	return self + "|" + but
}
