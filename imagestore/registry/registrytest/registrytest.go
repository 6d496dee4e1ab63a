// Package registrytest starts Debian's docker-registry for tests, on a free
// loopback port, with its storage in a temporary folder.
package registrytest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// program is the registry of the Debian package docker-registry.
const program = "docker-registry"

const config = `version: 0.1
log:
  accesslog: {disabled: true}
  level: warn
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http:
  addr: %q
`

// Start runs an empty registry until the test ends and returns its address,
// "127.0.0.1:port". The test is skipped where the program is missing.
func Start(t testing.TB) string {
	t.Helper()
	return StartIn(t, t.TempDir(), "")
}

// User and Password are what a registry of [StartPrivate] knows; UserLine is
// the same for it, with the password hashed by bcrypt.
const (
	User     = "someone"
	Password = "correct-horse"
	UserLine = "someone:$2b$04$hBhYN/79FBYE8MGyBjdTWOgLKGiH7p2Ku8bTPEWfZ8AIj2oS019G2\n"
)

// StartPrivate is Start of a registry that serves [User] alone.
func StartPrivate(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(UserLine), 0o600); err != nil {
		t.Fatal(err)
	}
	return StartIn(t, t.TempDir(), fmt.Sprintf("auth:\n  htpasswd: {realm: x, path: %q}\n", file))
}

// StartIn is Start with the folder for the registry's storage, which another
// registry may have filled before, and with lines to add to its config file.
func StartIn(t testing.TB, storage, more string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed (Debian package docker-registry)", program)
	}
	var errs []error
	for range 5 { // another process may take the port that was free
		addr, err := start(t, path, storage, more)
		if err == nil {
			return addr
		}
		errs = append(errs, err)
	}
	t.Fatalf("start %s: %v", program, errors.Join(errs...))
	return ""
}

func start(t testing.TB, path, storage, more string) (string, error) {
	addr, err := freeAddress()
	if err != nil {
		return "", err
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(config, storage, addr)+more), 0o600); err != nil {
		return "", err
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "serve", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	// A test that is killed takes its registry along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	gone := make(chan struct{})
	go func() { defer close(gone); _ = cmd.Wait() }()
	stop := func() {
		_ = cmd.Process.Kill()
		<-gone
	}
	if err := await(addr, gone); err != nil {
		stop()
		return "", fmt.Errorf("%w: %s", err, log.String())
	}
	t.Cleanup(stop)
	return addr, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// await waits until the registry answers.
func await(addr string, gone <-chan struct{}) error {
	client := &http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		resp, err := client.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case <-gone:
			return errors.New("it ended at once")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("it does not answer")
}
