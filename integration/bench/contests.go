package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"unio/integration/peers"
)

// doing is a step of a contestant.
type doing = func(context.Context) error

func (s *stage) contests() []contest {
	list := []contest{s.load(), s.save(), s.commitSmall(), s.mountReady(), s.warmTar()}
	for i := range list {
		list[i].prepare = s.makeAll
	}
	list = append(list, s.pull(), s.diff(), s.startUp())
	for _, w := range s.unionWorks() {
		list = append(list, s.cost(w))
	}
	return list
}

// run makes a step of a peer's command line; a peer that is not there fails.
func (s *stage) run(who string, args ...string) doing {
	return func(ctx context.Context) error {
		if err := s.absent[who]; err != nil {
			return err
		}
		var err error
		switch who {
		case "unio":
			_, err = s.unio(ctx, args...)
		case "docker":
			_, err = s.docker.Run(ctx, args...)
		case "podman":
			_, err = s.podman.Run(ctx, args...)
		default:
			_, err = peers.Run(ctx, who, args...)
		}
		return err
	}
}

func (s *stage) remove(path string) doing {
	return func(context.Context) error { return os.RemoveAll(path) }
}

// all does steps in order.
func all(steps ...doing) doing {
	return func(ctx context.Context) error {
		for _, step := range steps {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// load takes the archive into an empty store and makes it usable.
func (s *stage) load() contest {
	bundle := s.path("bundle-2")
	second := []string{"--root", s.path("load-store"), "--runroot", s.path("run")}
	return contest{
		name: "load a docker archive into a store",
		contestants: []contestant{
			{name: "unio", work: s.run(s.binary, append(second, "load", "-q", "-i", s.archive)...), cleanUp: s.remove(s.path("load-store"))},
			{name: "docker", prepare: s.run("docker", "rmi", "-f", image), work: s.run("docker", "load", "-q", "-i", s.archive)},
			{name: "podman", prepare: s.run("podman", "rmi", "-f", image), work: s.run("podman", "load", "-q", "-i", s.archive)},
			{name: "umoci unpack", work: s.run("umoci", "unpack", "--image", s.layout+":bench", bundle), cleanUp: s.remove(bundle)},
		},
		goals: []goal{{ours: "unio", peer: "podman", atMost: 0.5}},
	}
}

func (s *stage) save() contest {
	out := s.path("saved.tar")
	return contest{
		name: "save the image to a docker archive",
		contestants: []contestant{
			{name: "unio", work: s.run("unio", "save", "-o", out, image), cleanUp: s.remove(out)},
			{name: "docker", work: s.run("docker", "save", "-o", out, image), cleanUp: s.remove(out)},
			{name: "podman", work: s.run("podman", "save", "-q", "-o", out, image), cleanUp: s.remove(out)},
			{name: "skopeo", work: s.run("skopeo", "copy", "-q", "oci:"+s.layout+":bench", "docker-archive:"+out+":"+image), cleanUp: s.remove(out)},
		},
	}
}

// commitSmall commits a container in which one small file is new each round.
func (s *stage) commitSmall() contest {
	round := 0
	ours, bundle := s.path("commit-small"), s.path("bundle-small")
	write := func(dir string) doing {
		return func(context.Context) error {
			round++
			return os.WriteFile(filepath.Join(dir, "small"), fmt.Appendf(nil, "round %d\n", round), 0o644)
		}
	}
	ready := map[string]bool{}
	once := func(name string, steps ...doing) doing {
		return func(ctx context.Context) error {
			if ready[name] {
				return nil
			}
			ready[name] = true
			return all(steps...)(ctx)
		}
	}
	mkdir := func(context.Context) error { return os.Mkdir(ours, 0o755) }
	touch := func(engine string) doing {
		return func(ctx context.Context) error {
			round++
			file := s.path("small-file")
			if err := os.WriteFile(file, fmt.Appendf(nil, "round %d\n", round), 0o644); err != nil {
				return err
			}
			return s.run(engine, "cp", file, "small:/small")(ctx)
		}
	}
	return contest{
		name: "commit one small file",
		contestants: []contestant{
			{
				name: "unio", prepare: all(once("unio", mkdir, s.run("unio", "mount", "--name", "small", image, ours)), write(ours)),
				work: s.run("unio", "commit", "-q", "small", "localhost/small:1"),
			},
			{
				name: "docker", prepare: all(once("docker", s.run("docker", "create", "--name", "small", image, "/bin/true")), touch("docker")),
				work: s.run("docker", "commit", "small", "localhost/small:1"),
			},
			{
				name: "podman", prepare: all(once("podman", s.run("podman", "create", "--network", "none", "--name", "small", image, "/bin/true")), touch("podman")),
				work: s.run("podman", "commit", "-q", "small", "localhost/small:1"),
			},
			{
				name: "umoci repack", prepare: all(once("umoci", s.run("umoci", "unpack", "--image", s.layout+":bench", bundle)), write(filepath.Join(bundle, "rootfs"))),
				work: s.run("umoci", "repack", "--image", s.layout+":small", bundle),
			},
		},
		goals: []goal{{ours: "unio", peer: "podman", atMost: 1}, {ours: "unio", peer: "docker", atMost: 1}},
	}
}

// answers waits until a folder shows what the image holds.
func answers(dir string) doing {
	return func(ctx context.Context) error {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "etc/passwd")); err == nil {
				return nil
			}
			time.Sleep(100 * time.Microsecond)
		}
		return ctx.Err()
	}
}

// mountReady is the time from the command until the mount answers. The unions
// work on an image somebody has unpacked before; unio does not need that.
func (s *stage) mountReady() contest {
	dir := s.path("ready")
	var union *peers.Union
	kernel := func(context.Context) (err error) {
		union, err = peers.MountOverlay(s.path("ready-kernel"), []string{s.rootfs}, true)
		return err
	}
	fuse := func(ctx context.Context) (err error) {
		union, err = peers.MountFuseOverlay(ctx, s.path("ready-fuse"), []string{s.rootfs})
		return err
	}
	unmount := func(context.Context) error { return union.Close() }
	mkdir := func(context.Context) error { return os.MkdirAll(dir, 0o755) }
	return contest{
		name: "mount until it answers",
		contestants: []contestant{
			{name: "unio, read-only", prepare: mkdir, work: all(s.run("unio", "mount", "--read-only", image, dir), answers(dir)), cleanUp: s.run("unio", "umount", dir)},
			{name: "unio, new container", prepare: mkdir, work: all(s.run("unio", "mount", image, dir), answers(dir)), cleanUp: s.run("unio", "umount", dir)},
			{name: "overlayfs", work: kernel, cleanUp: unmount},
			{name: "fuse-overlayfs", work: fuse, cleanUp: unmount},
			{name: "podman image mount", work: s.run("podman", "image", "mount", image), cleanUp: s.run("podman", "image", "umount", image)},
		},
	}
}

// warmTar reads the whole tree with tar after it has been read before.
func (s *stage) warmTar() contest {
	var kernel, fuse *peers.Union
	mounted := func(u **peers.Union, mount func(context.Context) (*peers.Union, error)) doing {
		return func(ctx context.Context) (err error) {
			if *u == nil {
				if *u, err = mount(ctx); err != nil {
					return err
				}
			}
			return readWithTar(ctx, (*u).Dir)
		}
	}
	withKernel := func(context.Context) (*peers.Union, error) {
		return peers.MountOverlay(s.path("tar-kernel"), []string{s.rootfs}, true)
	}
	withFuse := func(ctx context.Context) (*peers.Union, error) {
		return peers.MountFuseOverlay(ctx, s.path("tar-fuse"), []string{s.rootfs})
	}
	read := func(dir string) doing {
		return func(ctx context.Context) error { return readWithTar(ctx, dir) }
	}
	return contest{
		name: "tar of the whole tree, warm",
		contestants: []contestant{
			{name: "unio", prepare: read(s.ourMount), work: read(s.ourMount)},
			{name: "folder", prepare: read(s.rootfs), work: read(s.rootfs)},
			{name: "overlayfs", prepare: mounted(&kernel, withKernel), work: func(ctx context.Context) error { return readWithTar(ctx, kernel.Dir) }},
			{name: "fuse-overlayfs", prepare: mounted(&fuse, withFuse), work: func(ctx context.Context) error { return readWithTar(ctx, fuse.Dir) }},
		},
		goals: []goal{{ours: "unio", peer: "overlayfs", atMost: 1.3}},
	}
}

// readWithTar packs a tree into a pipe: tar itself reads nothing when it
// writes to /dev/null.
func readWithTar(ctx context.Context, dir string) error {
	_, err := peers.Run(ctx, "sh", "-c", `tar -cf - -C "$0" --one-file-system . | cat >/dev/null`, dir)
	return err
}
