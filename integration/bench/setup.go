package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"unio/integration/debian"
	"unio/integration/peers"
)

// image is the name of the image that everything works on: a Debian root with
// a compiler, and two layers of changes over it.
const image = "localhost/bench:1"

// stage is the scratch folder with the image in everybody's store.
type stage struct {
	dir      string
	binary   string
	archive  string // the image as a docker archive
	layout   string // and as an OCI layout, tag "bench"
	rootfs   string // and as a folder
	docker   *peers.Docker
	podman   *peers.Podman
	registry *peers.Registry  // of the image of twelve layers, once it is made
	absent   map[string]error // peers that cannot run
	ourMount string           // read-only mount of the image
	costs    string           // the plain folder of the cost image, once it is made
}

// setUp makes the scratch folder. What a contest works on is made when it is
// run.
func setUp(dir string) (*stage, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root")
	}
	binary, err := exec.LookPath(orElse(os.Getenv("UNIO"), "unio"))
	if err != nil {
		return nil, err
	}
	if dir, err = os.MkdirTemp(dir, "unio-bench-"); err != nil {
		return nil, err
	}
	s := &stage{dir: dir, binary: binary, absent: map[string]error{}}
	s.archive, s.layout, s.rootfs = s.path("image.tar"), s.path("layout"), s.path("bundle/rootfs")
	return s, nil
}

// makeAll makes the image and gives it to every tool.
func (s *stage) makeAll(ctx context.Context) error {
	if s.ourMount != "" {
		return nil
	}
	for _, step := range []func(context.Context) error{s.makeImage, s.startPeers, s.unpackForPeers, s.loadAll} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) describe() string {
	info, err := os.Stat(s.archive)
	if err != nil {
		return image
	}
	return fmt.Sprintf("a Debian image of 3 layers, %d MB", info.Size()/1_000_000)
}

// unio runs the program under test.
func (s *stage) unio(ctx context.Context, args ...string) (string, error) {
	return peers.Run(ctx, s.binary, append([]string{"--root", s.path("store"), "--runroot", s.path("run")}, args...)...)
}

// makeImage imports a Debian root, changes it twice and saves it.
func (s *stage) makeImage(ctx context.Context) error {
	root, err := debian.Root(ctx, debian.Tools)
	if err != nil {
		return err
	}
	work := s.path("making")
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"import", "-q", root, "localhost/bench:base"},
		{"mount", "--name", "making", "localhost/bench:base", work},
		{"chroot", "making", "/bin/sh", "-ec", "mkdir /a; for i in $(seq 500); do echo $i >/a/$i; done; rm -rf /usr/share/doc"},
		{"commit", "-q", "making", "localhost/bench:2"},
		{"umount", "making"},
	} {
		if _, err := s.unio(ctx, args...); err != nil {
			return err
		}
	}
	return s.stackThird(ctx)
}

// stackThird puts a third layer over the second image, and saves the result.
func (s *stage) stackThird(ctx context.Context) error {
	third := s.path("third")
	if err := os.Mkdir(third, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mount", "--name", "third", "localhost/bench:2", third},
		{"chroot", "third", "/bin/sh", "-ec", "head -c 100000000 /dev/urandom >/a/random; rm /a/1*; chmod 700 /srv"},
		{"commit", "-q", "third", image},
		{"umount", "third"},
		{"save", "-o", s.archive, image},
	} {
		if _, err := s.unio(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// startPeers starts what needs starting; what cannot run is noted.
func (s *stage) startPeers(ctx context.Context) error {
	for _, name := range []string{"docker", "podman"} {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
	}
	var err error
	if s.docker, err = peers.StartDocker(ctx, s.path("docker")); err != nil {
		s.docker, s.absent["docker"] = nil, err
	}
	if s.podman, err = peers.NewPodman(s.path("podman")); err != nil {
		s.podman, s.absent["podman"] = nil, err
	}
	return nil
}

// unpackForPeers lays the image out as umoci and the other unions want it.
func (s *stage) unpackForPeers(ctx context.Context) error {
	if _, err := peers.Run(ctx, "skopeo", "copy", "-q", "docker-archive:"+s.archive, "oci:"+s.layout+":bench"); err != nil {
		return fmt.Errorf("the image as a layout: %w", err)
	}
	if _, err := peers.Run(ctx, "umoci", "unpack", "--image", s.layout+":bench", s.path("bundle")); err != nil {
		return fmt.Errorf("the image as a folder: %w", err)
	}
	return nil
}

func (s *stage) loadAll(ctx context.Context) error {
	if s.docker != nil {
		if _, err := s.docker.Run(ctx, "load", "-q", "-i", s.archive); err != nil {
			return err
		}
	}
	if s.podman != nil {
		if _, err := s.podman.Run(ctx, "load", "-q", "-i", s.archive); err != nil {
			return err
		}
	}
	s.ourMount = s.path("ours")
	if err := os.Mkdir(s.ourMount, 0o755); err != nil {
		return err
	}
	_, err := s.unio(ctx, "mount", "--read-only", image, s.ourMount)
	return err
}

// close stops and unmounts everything and removes the scratch folder.
func (s *stage) close() error {
	var errs []error
	if out, err := s.unio(context.Background(), "mount"); err == nil {
		for line := range strings.Lines(out) {
			for _, word := range strings.Fields(line) {
				if strings.HasPrefix(word, s.dir+"/") {
					_, err := s.unio(context.Background(), "umount", word)
					errs = append(errs, err)
				}
			}
		}
	}
	if s.docker != nil {
		errs = append(errs, s.docker.Close())
	}
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	errs = append(errs, peers.UnmountBelow(s.dir), os.RemoveAll(s.dir))
	return errors.Join(errs...)
}
