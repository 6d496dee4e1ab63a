package container

import (
	"log/slog"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/container/runner"
)

// TestMain lets the tests run this binary as the processes that the package
// starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "runner" {
		os.Exit(runner.ExitCode(runner.Main(os.NewFile(3, "control"))))
	}
	os.Exit(m.Run())
}

// newStore opens an empty store.
func newStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	return Open(dir+"/root", dir+"/run", slog.New(slog.DiscardHandler))
}

// mustCreate makes a container.
func mustCreate(t *testing.T, s *Store, name string) *Container {
	t.Helper()
	c, err := s.Create(CreateOptions{Name: name, Image: digest.FromString("image"), ImageName: "image:latest"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// needRoot skips what only root can do.
func needRoot(t *testing.T) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("needs root: mounts and device nodes")
	}
}
