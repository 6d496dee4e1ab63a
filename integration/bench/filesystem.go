package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// Names of the filesystems beside ours.
const (
	native       = "native"
	overlayfs    = "overlayfs"
	fuseOverlay  = "fuse-overlayfs"
	unionfsFuse  = "unionfs-fuse"
	writebackOpt = "writeback" // the mount option of ours
)

// filesystem mounts pictures.
type filesystem struct {
	name  string
	mount mounter
}

// mounter mounts a picture. What it runs is counted by the trial; where it does more than
// to mount, it sets the trial's time.
type mounter func(ctx context.Context, t *trial, p *picture, at place) (*view, error)

// place is where a filesystem is mounted, and what it may use.
type place struct {
	dir  string // an empty folder that is this mount's alone
	disk string // the fresh ext4 that changes go to; empty: they go below dir
}

// own is where the changes of a mount go.
func (at place) own(name string) string { return filepath.Join(orElse(at.disk, at.dir), name) }

// view is a picture mounted.
type view struct {
	dir, upper string
	servers    func(ctx context.Context) []int
	requests   func(ctx context.Context) (map[string]int64, error) // nil: cannot tell
	close      func(ctx context.Context) error
}

// filesystems are all contestants, ours first.
func (s *stage) filesystems() []filesystem {
	list := []filesystem{s.ours(oursDev, "dev")}
	for _, f := range []filesystem{
		s.ours(oursRing, "uring"), {overlayfs, mountOverlay}, {fuseOverlay, mountFuse(fuseOverlay, layerOptions)}, {unionfsFuse, mountUnionfs}, {native, s.mountNative},
	} {
		if s.wants(f.name) {
			list = append(list, f)
		}
	}
	return list
}

// ours mounts a new container of the image. Further mount options follow the
// transport.
func (s *stage) ours(name, transport string, options ...string) filesystem {
	return filesystem{name, func(ctx context.Context, t *trial, p *picture, at place) (*view, error) {
		if at.disk != "" {
			if err := s.containersOn(p, at.disk); err != nil {
				return nil, err
			}
		}
		container, dir := fmt.Sprintf("bench%d", s.next()), filepath.Join(at.dir, "merged")
		v := &view{dir: dir, close: func(ctx context.Context) error { return s.unmountOurs(ctx, p, dir, container, at.disk) }}
		args := []string{"mount", "--name", container, "-o", strings.Join(append(options, "suid", "dev"), ","), p.ref, dir}
		start := time.Now()
		if err := t.wait(s.unioIn(ctx, p.store, transport, args...)); err != nil {
			return nil, errors.Join(err, s.releaseContainers(p, at.disk))
		}
		err := answers(dir, p)
		t.wall = time.Since(start)
		if err != nil {
			return nil, errors.Join(err, v.close(ctx))
		}
		st, err := s.statsOf(ctx, p.store, dir)
		if err == nil && transport == "uring" && st.Process.Transport != transport {
			err = fmt.Errorf("no ring here: the mount has %q", st.Process.Transport)
		}
		if err == nil {
			v.upper, err = upperOf(p.store, container)
		}
		if err != nil {
			return nil, errors.Join(err, v.close(ctx))
		}
		v.servers = func(context.Context) []int { return []int{st.Process.Pid} }
		v.requests = func(ctx context.Context) (map[string]int64, error) {
			st, err := s.statsOf(ctx, p.store, dir)
			return st.Requests, err
		}
		return v, nil
	}}
}

func (s *stage) unmountOurs(ctx context.Context, p *picture, dir, container, disk string) error {
	err := s.patientUmount(ctx, p.store, dir)
	if err == nil {
		_, err = s.unio(ctx, p.store, "rm", container)
	}
	return errors.Join(err, s.releaseContainers(p, disk))
}

// patientUmount waits for programs that are in every mount for a moment, and
// does not wait for ever.
func (s *stage) patientUmount(ctx context.Context, store, dir string) error {
	for range 10 {
		_, err := s.unio(ctx, store, "umount", dir)
		if err == nil {
			return nil
		}
		s.note("umount: %s", reason(err))
		if text, err := os.ReadFile("/proc/self/mounts"); err == nil && !strings.Contains(string(text), " "+dir+" ") {
			return nil // it went all the same
		}
		time.Sleep(200 * time.Millisecond)
	}
	_, err := s.unio(ctx, store, "umount", "--lazy", dir)
	return err
}

// containersOn puts the containers of a store on the fresh disk.
func (s *stage) containersOn(p *picture, disk string) error {
	from, to := filepath.Join(disk, "containers"), filepath.Join(p.store, "containers")
	if err := errors.Join(os.MkdirAll(from, 0o700), os.MkdirAll(to, 0o700)); err != nil {
		return err
	}
	return os.NewSyscallError("mount --bind "+to, unix.Mount(from, to, "", unix.MS_BIND, ""))
}

func (s *stage) releaseContainers(p *picture, disk string) error {
	if disk == "" {
		return nil
	}
	return os.NewSyscallError("umount", unix.Unmount(filepath.Join(p.store, "containers"), unix.MNT_DETACH))
}

// upperOf finds the folder that takes the changes of a container.
func upperOf(store, container string) (string, error) {
	found, err := filepath.Glob(filepath.Join(store, "containers/*/config.json"))
	if err != nil {
		return "", err
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if strings.Contains(string(text), `"`+container+`"`) {
			return filepath.Join(filepath.Dir(path), "upper"), nil
		}
	}
	return "", fmt.Errorf("no container %s in %s: %w", container, store, os.ErrNotExist)
}

// layerOptions are the mount options of the kernel's overlayfs. The lowers
// stand without their folder: with hundreds their paths would not fit.
func layerOptions(p *picture, at place) (options string, err error) {
	upper, work := at.own("upper"), at.own("work")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return "", err
	}
	return fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(p.layers, ":"), upper, work), nil
}

func mountOverlay(_ context.Context, _ *trial, p *picture, at place) (*view, error) {
	options, err := layerOptions(p, at)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(at.dir, "merged")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	back, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if err := os.Chdir(p.lower); err != nil {
		return nil, err
	}
	err = errors.Join(os.NewSyscallError("mount overlay", unix.Mount("overlay", dir, "overlay", 0, options)), os.Chdir(back))
	if err != nil {
		return nil, err
	}
	return &view{dir: dir, upper: at.own("upper"), close: func(context.Context) error { return unmount(dir) }}, nil
}

// unmount waits a moment for those who still use a mount.
func unmount(dir string) error { return (&peers.Union{Dir: dir}).Close() }

// mountFuse mounts with a program of its own that takes -o OPTIONS DIR.
func mountFuse(program string, optionsOf func(p *picture, at place) (string, error)) mounter {
	return func(ctx context.Context, t *trial, p *picture, at place) (*view, error) {
		options, err := optionsOf(p, at)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(at.dir, "merged")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := t.runIn(ctx, p.lower, program, "-o", options, dir); err != nil {
			return nil, err
		}
		return fuseView(dir, at.own("upper")), nil
	}
}

func fuseView(dir, upper string) *view {
	return &view{
		dir: dir, upper: upper,
		servers: func(context.Context) []int { return processesWith(dir) },
		close:   func(context.Context) error { return unmount(dir) },
	}
}

// mountUnionfs mounts unionfs-fuse over the whole tree as one folder: it does
// not know the whiteouts of layers.
func mountUnionfs(ctx context.Context, t *trial, p *picture, at place) (*view, error) {
	if _, err := exec.LookPath("unionfs"); err != nil {
		return nil, fmt.Errorf("unionfs: %w", peers.ErrMissing)
	}
	if p.flat == "" {
		return nil, errors.New("the image is not there as one folder")
	}
	upper, dir := at.own("upper"), filepath.Join(at.dir, "merged")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	branches := fmt.Sprintf("%s=RW:%s=RO", upper, p.flat)
	if err := t.run(ctx, "unionfs", "-o", "cow,allow_other,use_ino,suid,dev", branches, dir); err != nil {
		return nil, err
	}
	return fuseView(dir, upper), nil
}

// mountNative shows the whole tree as it lies on the disk, read-only; with a
// fresh disk, that disk, with copies of what the work changes.
func (s *stage) mountNative(_ context.Context, _ *trial, p *picture, at place) (*view, error) {
	if at.disk != "" {
		dir := filepath.Join(at.disk, "tree")
		v := &view{dir: dir, upper: dir, close: func(context.Context) error { return nil }}
		return v, os.MkdirAll(dir, 0o755)
	}
	if p.flat == "" {
		return nil, errors.New("the image is not there as one folder")
	}
	dir := filepath.Join(at.dir, "merged")
	flat, err := filepath.EvalSymlinks(p.flat)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.NewSyscallError("mount --bind", unix.Mount(flat, dir, "", unix.MS_BIND, ""))
	}
	if err == nil {
		err = os.NewSyscallError("remount read-only", unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	return &view{dir: dir, close: func(context.Context) error { return unmount(dir) }}, err
}
