// Package debian provides real root filesystems for tests and benchmarks: a
// Debian or Ubuntu root of the release this machine runs, made by debootstrap
// from the mirror apt is configured with, and kept as a tar in a cache folder
// outside the tree.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoMirror says that no root filesystem is cached and none can be made:
// apt knows no mirror, or the mirror does not answer.
var ErrNoMirror = errors.New("no Debian mirror can be reached")

// Variant is a kind of root filesystem.
type Variant struct {
	Name    string   // part of the name of the cached file
	Include []string // packages beside those of minbase
}

// The variants that tests use.
var (
	Base  = Variant{Name: "minbase"}
	Tools = Variant{Name: "tools", Include: []string{"gcc", "libc6-dev", "git", "sqlite3", "python3-minimal"}}
)

// CacheDir is where roots and packages are kept between runs:
// $UNIO_TEST_CACHE, or unio-test in the user's cache folder.
func CacheDir() (string, error) {
	dir := os.Getenv("UNIO_TEST_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no cache folder: %w", err)
		}
		dir = filepath.Join(cache, "unio-test")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Root returns the path of a tar of the variant's root filesystem (numeric
// owners, xattrs, mtimes to the nanosecond), making it first if there is none
// yet. That takes about a minute and needs root.
func Root(ctx context.Context, v Variant) (string, error) {
	return cached("debian-"+v.Name+".tar", func(dir, path string) error {
		return bootstrap(ctx, v, dir, path)
	})
}

// Package returns the path of a .deb of this machine's release.
func Package(ctx context.Context, name string) (string, error) {
	return cached(name+".deb", func(dir, path string) error {
		return download(ctx, name, dir, path)
	})
}

// cached returns the path of a file in the cache; fill makes it, given a
// scratch folder, when it is not there. Several processes may ask at once.
func cached(name string, fill func(dir, path string) error) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, name)
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", path, err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	dir, err := os.MkdirTemp(cache, name+".*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "made")
	if err := fill(dir, made); err != nil {
		return "", err
	}
	return path, os.Rename(made, path)
}

func bootstrap(ctx context.Context, v Variant, dir, path string) error {
	release, mirror, err := Mirror(ctx)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	args := []string{"--variant=minbase"}
	if len(v.Include) > 0 {
		args = append(args, "--include="+strings.Join(v.Include, ","))
	}
	cmd := exec.CommandContext(ctx, "debootstrap", append(args, release, root, mirror)...)
	cmd.Env = append(os.Environ(), proxy(ctx)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: debootstrap: %w\n%s", ErrNoMirror, err, lastLines(out, 5))
	}
	// Packages and their lists are half of a small root, and never in images.
	for _, pattern := range []string{"var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return run(ctx, dir, "tar", "--create", "--file", path, "--directory", root, "--numeric-owner",
		"--xattrs", "--xattrs-include=*", "--format=posix", "--sparse", "--one-file-system", ".")
}

func download(ctx context.Context, name, dir, path string) error {
	if err := run(ctx, dir, "apt-get", "-qq", "download", name); err != nil {
		if err := run(ctx, dir, "apt-get", "-qq", "update"); err != nil {
			return fmt.Errorf("%w: %w", ErrNoMirror, err)
		}
		if err := run(ctx, dir, "apt-get", "-qq", "download", name); err != nil {
			return fmt.Errorf("%w: %w", ErrNoMirror, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("apt-get download %s left no package", name)
	}
	return os.Rename(found[0], path)
}

// Mirror returns the codename of this machine's release and the address apt
// fetches it from.
func Mirror(ctx context.Context) (release, mirror string, err error) {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			release = strings.Trim(name, `"`)
		}
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", "", fmt.Errorf("%w: apt-get indextargets: %w", ErrNoMirror, err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == release && words[1] == "main" {
			return release, words[2], nil
		}
	}
	return "", "", fmt.Errorf("%w: apt has no source for %q main", ErrNoMirror, release)
}

// proxy hands apt's proxy, where one is configured, to programs that know
// only the environment.
func proxy(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy").Output()
	address := strings.TrimSpace(string(out))
	if err != nil || address == "" {
		return nil
	}
	return []string{"http_proxy=" + address}
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, lastLines(out, 5))
	}
	return nil
}

func lastLines(out []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
