// Package peers runs other people's container tools beside unio, each with a
// store of its own below a given folder, without network and without touching
// what the machine already runs: dockerd, podman and buildah, skopeo, umoci,
// and the union filesystems of the kernel and of fuse-overlayfs.
package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrMissing says that a tool is not installed or cannot run on this machine.
var ErrMissing = errors.New("not available here")

// NoNetwork is what keeps a program from all registries but those on the
// loopback, on machines with a network as on those without: a proxy where nobody
// listens (port 9, discard). Go's clients ask none for the loopback.
func NoNetwork() []string {
	const nobody = "http://127.0.0.1:9"
	return []string{"HTTPS_PROXY=" + nobody, "HTTP_PROXY=" + nobody, "https_proxy=" + nobody, "http_proxy=" + nobody, "NO_PROXY=", "no_proxy="}
}

// Run runs a program and returns its standard output. The error holds the
// last lines of its standard error.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, ErrMissing)
	}
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(problems.String())
		if lines := strings.Split(text, "\n"); len(lines) > 8 {
			text = strings.Join(lines[len(lines)-8:], "\n")
		}
		return out.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text)
	}
	return out.String(), nil
}

// Docker is a docker daemon of its own.
type Docker struct {
	dir, socket string
	daemon      *exec.Cmd
	log         *os.File
}

// StartDocker starts dockerd with everything below dir and waits until it
// answers. Close stops it.
func StartDocker(ctx context.Context, dir string) (*Docker, error) {
	for _, tool := range []string{"dockerd", "docker", "runc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s: %w", tool, ErrMissing)
		}
	}
	d := &Docker{dir: dir, socket: filepath.Join(dir, "docker.sock")}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	d.log = log
	d.daemon = exec.Command("dockerd",
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"-p", filepath.Join(dir, "pid"), "-H", "unix://"+d.socket, "--storage-driver", "overlay2",
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
	d.daemon.Env = append(os.Environ(), NoNetwork()...)
	d.daemon.Stdout, d.daemon.Stderr = log, log
	// A test that is killed takes its daemon along.
	d.daemon.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	if err := d.daemon.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("dockerd: %w", err), log.Close())
	}
	if err := d.wait(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Docker) wait(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if _, err := d.Run(ctx, "version"); err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(d.log.Name())
	return fmt.Errorf("dockerd does not answer: %w\n%s", ErrMissing, text[max(0, len(text)-2000):])
}

// Run runs the docker client against the daemon.
func (d *Docker) Run(ctx context.Context, args ...string) (string, error) {
	return Run(ctx, "docker", append(d.Args(), args...)...)
}

// Args are what makes the docker client talk to the daemon.
func (d *Docker) Args() []string { return []string{"-H", "unix://" + d.socket} }

// Pid is the daemon's process.
func (d *Docker) Pid() int { return d.daemon.Process.Pid }

// Close stops the daemon and takes away what it left mounted.
func (d *Docker) Close() error {
	err := d.daemon.Process.Signal(unix.SIGTERM)
	done := make(chan struct{})
	go func() { _ = d.daemon.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		err = errors.Join(err, d.daemon.Process.Kill())
		<-done
	}
	return errors.Join(err, d.log.Close(), UnmountBelow(d.dir))
}

// Podman is a podman, and buildah, store of its own.
type Podman struct {
	dir string
	// MountProgram is what mounts the store's layers; empty: podman's choice.
	MountProgram string
}

// NewPodman prepares a store below dir. Close takes away its mounts.
func NewPodman(dir string) (*Podman, error) {
	if _, err := exec.LookPath("podman"); err != nil {
		return nil, fmt.Errorf("podman: %w", ErrMissing)
	}
	return &Podman{dir: dir}, nil
}

func (p *Podman) store() []string {
	args := []string{
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--storage-driver", "overlay",
	}
	if p.MountProgram != "" {
		args = append(args, "--storage-opt", "overlay.mount_program="+p.MountProgram)
	}
	return args
}

// Run runs podman on the store.
func (p *Podman) Run(ctx context.Context, args ...string) (string, error) {
	return Run(ctx, "podman", append(p.Args(), args...)...)
}

// Args are what makes podman use the store.
func (p *Podman) Args() []string {
	return append(p.store(), "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		"--tmpdir", filepath.Join(p.dir, "tmp"), "--runtime", "runc")
}

// BuildahArgs are what makes buildah use the store.
func (p *Podman) BuildahArgs() []string { return p.store() }

// Build runs buildah bud on a folder with a Dockerfile, without network.
func (p *Podman) Build(ctx context.Context, name, folder string) error {
	args := append(p.store(), "bud", "--isolation", "chroot", "--pull-never", "--layers", "-t", name, folder)
	_, err := Run(ctx, "buildah", args...)
	return err
}

// Close takes away what the store left mounted.
func (p *Podman) Close() error { return UnmountBelow(p.dir) }

// UnmountBelow unmounts everything that is mounted at or below dir, the
// deepest first.
func UnmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	slices.Reverse(points)
	var errs []error
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow lists mount points at or below dir in the order they were made.
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		point := unescape.Replace(words[1])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points, nil
}
