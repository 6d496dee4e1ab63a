package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"unio/integration/peers"
)

// kind is a filesystem to ask.
type kind struct {
	name     string
	variants []string
	options  string            // of unio mount, or unio overlay
	acl      bool              // access control lists count
	peer     bool              // somebody else's union
	uring    bool              // requests come over io_uring
	lacks    map[string]string // scenarios that it is known not to pass, and why
	// mount mounts it below dir and returns the folder and what ends it.
	mount func(ctx context.Context, s *stage, k kind, dir string) (string, func() error, error)
}

// kinds lists them all; the first is the measure.
func kinds() []kind {
	all := []string{fresh, lower, meta, data}
	return []kind{
		{name: "ext4", variants: []string{fresh}, acl: true, mount: plainFolder},
		{name: "overlayfs", variants: all, acl: true, peer: true, mount: mountOverlay},
		{name: "fuse-overlayfs", variants: all, acl: true, peer: true, mount: mountFuseOverlay},
		{name: "unio", variants: all, options: "suid,dev", mount: mountUnio},
		{name: "unio-acl", variants: all, options: "suid,dev,acl", acl: true, mount: mountUnio},
		{name: "unio-writeback", variants: all, options: "suid,dev,writeback", lacks: collected(), mount: mountUnio},
		{name: "unio-uring", variants: all, options: "suid,dev,transport=uring", uring: true, mount: mountUnio},
		{name: "unio-overlay", variants: all, options: "noplain", lacks: ofFolders(), mount: mountFolders},
		{name: "unio-plain", variants: all, options: "plain", lacks: ofPlain(), mount: mountFolders},
	}
}

// collected lists what goes wrong where the kernel collects writes.
func collected() map[string]string {
	const (
		seek   = "the kernel asks for holes before it has sent the writes, so all is said to be data"
		blocks = "the kernel keeps the block count until the file is closed"
	)
	return map[string]string{
		"size/blocks follow the data": blocks, "size/punch": seek, "size/seek data": seek, "size/seek in a hole": seek,
	}
}

// ofFolders lists what cannot be where plain folders may be anybody's layers.
func ofFolders() map[string]string {
	return map[string]string{"paths/names that look special": "names that begin with .wh. are whiteouts of other tools"}
}

// ofPlain lists what differs where a file is copied up whole by a chmod.
func ofPlain() map[string]string {
	lacks := ofFolders()
	lacks["times/mmap write touches"] = "the page is read from the copy, which sets its access time, when it is first written to"
	return lacks
}

func (k *kind) wanted(on []string) bool { return len(on) == 0 || slices.Contains(on, k.name) }

// fit leaves out what the filesystem is not meant to do.
func (k *kind) fit(list []named) []named {
	if k.acl {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(n named) bool { return n.group() == "acl" })
}

// stage is a disk with the lower folder, and an image of the same content.
type stage struct {
	dir, disk string
	binary    string
	list      []named
	imported  bool
}

const imageName = "localhost/posix:1"

// setUp makes the disk, an ext4 that takes large attributes, and the lower.
func setUp(ctx context.Context, dir string, list []named) (_ *stage, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root")
	}
	s := &stage{list: list}
	name := os.Getenv("UNIO")
	if name == "" {
		name = "unio"
	}
	if s.binary, err = exec.LookPath(name); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp(dir, "unio-posix-"); err != nil {
		return nil, err
	}
	s.disk = filepath.Join(s.dir, "disk")
	if err := errors.Join(os.Chmod(s.dir, 0o755), s.makeDisk(ctx)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.makeLower(); err != nil {
		return nil, errors.Join(fmt.Errorf("make the lower: %w", err), s.close())
	}
	return s, nil
}

func (s *stage) makeDisk(ctx context.Context) error {
	if err := os.Mkdir(s.disk, 0o755); err != nil {
		return err
	}
	image := s.disk + ".img"
	for _, command := range [][]string{
		{"truncate", "-s", "8G", image},
		{"mkfs.ext4", "-q", "-b", "4096", "-I", "256", "-N", "600000", "-O", "ea_inode", image},
		{"mount", "-o", "loop", image, s.disk},
	} {
		if _, err := peers.Run(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) path(name string) string { return filepath.Join(s.disk, name) }

// makeLower makes each scenario's files once for each variant that starts from
// the lower.
func (s *stage) makeLower() error {
	for _, variant := range []string{lower, meta, data} {
		below := filepath.Join(s.path("lower"), variant)
		if err := os.MkdirAll(below, 0o755); err != nil {
			return err
		}
		for _, n := range s.list {
			if err := plant(filepath.Join(below, n.folder()), n.files); err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
		}
	}
	return nil
}

// try mounts a filesystem, runs the scenarios and unmounts it.
func (s *stage) try(ctx context.Context, k kind) (report, error) {
	dir := s.path(k.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return report{}, err
	}
	root, unmount, err := k.mount(ctx, s, k, dir)
	if err != nil {
		return report{}, err
	}
	if err := os.Mkdir(filepath.Join(root, fresh), 0o755); err != nil {
		return report{}, errors.Join(err, unmount())
	}
	r := runAll(k, root, k.fit(s.list))
	return r, unmount()
}

func (s *stage) close() error {
	err := peers.UnmountBelow(s.disk)
	if err != nil {
		return err
	}
	return os.RemoveAll(s.dir)
}

func plainFolder(_ context.Context, _ *stage, _ kind, dir string) (string, func() error, error) {
	return dir, func() error { return nil }, nil
}

func mountOverlay(_ context.Context, s *stage, _ kind, dir string) (string, func() error, error) {
	u, err := peers.MountOverlay(dir, []string{s.path("lower")}, true)
	if err != nil {
		return "", nil, err
	}
	return u.Dir, u.Close, nil
}

func mountFuseOverlay(ctx context.Context, s *stage, _ kind, dir string) (string, func() error, error) {
	u, err := peers.MountFuseOverlay(ctx, dir, []string{s.path("lower")})
	if err != nil {
		return "", nil, err
	}
	return u.Dir, u.Close, nil
}

// mountUnio mounts a new container of an image of the lower.
func mountUnio(ctx context.Context, s *stage, k kind, dir string) (string, func() error, error) {
	if err := s.importLower(ctx); err != nil {
		return "", nil, err
	}
	_, err := s.unio(ctx, "mount", "--name", k.name, "-o", k.options, imageName, dir)
	return dir, func() error { _, err := s.unio(ctx, "umount", dir); return err }, err
}

// mountFolders mounts the lower itself, by unio overlay.
func mountFolders(ctx context.Context, s *stage, k kind, dir string) (string, func() error, error) {
	upper, work := s.path(k.name+".upper"), s.path(k.name+".work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return "", nil, err
	}
	options := "lowerdir=" + s.path("lower") + ",upperdir=" + upper + ",workdir=" + work + "," + k.options
	_, err := s.unio(ctx, "overlay", "-o", options, dir)
	return dir, func() error { _, err := s.unio(ctx, "umount", dir); return err }, err
}

func (s *stage) unio(ctx context.Context, args ...string) (string, error) {
	return peers.Run(ctx, s.binary, append([]string{"--root", s.path("store"), "--runroot", s.path("run")}, args...)...)
}

func (s *stage) importLower(ctx context.Context) error {
	if s.imported {
		return nil
	}
	archive := s.path("lower.tar")
	_, err := peers.Run(ctx, "tar", "--create", "--file", archive, "--directory", s.path("lower"), "--numeric-owner",
		"--sparse", "--xattrs", "--xattrs-include=*", "--format=posix", ".")
	if err != nil {
		return err
	}
	_, err = s.unio(ctx, "import", "-q", archive, imageName)
	s.imported = err == nil
	return err
}
