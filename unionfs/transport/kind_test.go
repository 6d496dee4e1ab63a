package transport

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
)

// TestUring runs what is true of every transport over io_uring; by itself each
// test runs over /dev/fuse.
func TestUring(t *testing.T) {
	needUring(t)
	t.Setenv(kindEnv, string(Uring))
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"MountServesUntilUnmount", TestMountServesUntilUnmount},
		{"ServerMayUnmountItself", TestServerMayUnmountItself},
		{"LazyUnmount", TestBusyAndLazyUnmount},
		{"MountOverAMount", TestMountOverAMount},
		{"DeadMount", TestDeadMount},
		{"HungMountAndAbort", TestHungMountAndAbort},
		{"Cycles", TestCycles},
		{"CountersAreExact", TestCountersAreExact},
		{"SlowRequestsDoNotBlock", TestSlowRequestsDoNotBlock},
		{"UnmountEndsWithRequestsAtWork", TestUnmountEndsWithRequestsAtWork},
		{"PanicIsEIO", TestPanicIsEIO},
		{"InterruptedClient", TestInterruptedClient},
		{"Invalidation", TestInvalidation},
		{"LoadOfReadsAndWrites", TestLoadOfReadsAndWrites},
		{"LoadFromManyClients", TestLoadFromManyClients},
		{"RoundTrips", TestRoundTrips},
	} {
		t.Run(c.name, c.run)
	}
}

func TestTransportInUse(t *testing.T) {
	needUring(t)
	for asked, want := range map[Kind]Kind{Dev: Dev, Uring: Uring, Auto: Uring} {
		s := startServer(t, config{kind: asked})
		if got := Kind(s.ask("transport")); got != want {
			t.Errorf("asked for %s: %s in use", asked, got)
		}
		s.unmount()
	}
}

func TestUnknownKind(t *testing.T) {
	if _, err := Mount(MountOptions{Dir: t.TempDir(), Transport: "pigeon"}); err == nil {
		t.Error("mounted")
	}
	if got := (&Device{}).Transport(); got != Auto {
		t.Errorf("undecided: %s", got)
	}
}

func TestParseCPUs(t *testing.T) {
	for text, want := range map[string][]int{
		"0": {0}, "0-3": {0, 1, 2, 3}, "0-1,4,6-7": {0, 1, 4, 6, 7},
		"": nil, "x": nil, "3-1": nil, "-1": nil, "0-99999": nil, "1,": nil,
	} {
		got, err := parseCPUs(text)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	if _, err := readCPUs(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
