package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// startImage runs a program in a new container, until it has printed its line and
// everything is taken away.
func (k *kit) startImage() workload {
	run := func(flags ...string) []string {
		return append(append([]string{"run", "--rm", "--network", "none"}, flags...), rootImage, "/bin/echo", "ready")
	}
	return workload{
		name: "run", title: "run --rm IMAGE echo", prepare: k.giveRoot,
		contestants: []contestant{
			k.ours(run()...), k.engine("docker", run()...), k.engine("podman", run(podmanLimits()...)...),
		},
		goals: []goal{{of: "unio", against: "podman", bound: 0.5}, {of: "unio", against: "docker", bound: 0.5}},
	}
}

// podmanLimits are lower than what podman sets by itself, which the host may not
// allow.
func podmanLimits() []string {
	return []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}
}

// startContainer runs the program of a container that is there.
func (k *kit) startContainer() workload {
	create := func(flags ...string) []string {
		return append(append([]string{"create", "--network", "none", "--name", "starts"}, flags...), rootImage, "/bin/echo", "ready")
	}
	start := []string{"start", "-a", "starts"}
	engine := func(name string, flags ...string) contestant {
		return k.engine(name, start...).after(once(k.engineStep(name, create(flags...)...))).closing(func(ctx context.Context) error {
			return k.engineStep(name, "rm", "-f", "starts")(ctx, &trial{})
		})
	}
	return workload{
		name: "start", title: "start a container that prints a line", prepare: k.giveRoot,
		contestants: []contestant{
			k.ours(start...).after(once(k.unioStep(k.store, create()...))), engine("docker"), engine("podman", podmanLimits()...),
		},
		goals: []goal{{of: "unio", against: "podman", bound: 0.5}, {of: "unio", against: "docker", bound: 0.5}},
	}
}

// build makes an image of three instructions; nothing is found in a cache.
func (k *kit) build() workload {
	dir := k.path("build-context")
	args := []string{"build", "-q", "--no-cache", "--network", "none", "-t", "localhost/built:1", dir}
	write := func(context.Context, *trial) error {
		return os.WriteFile(filepath.Join(dir, "file"), fmt.Appendf(nil, "round %d\n", k.next()), 0o644)
	}
	engine := func(c contestant, engine string) contestant {
		return c.after(write).closing(func(ctx context.Context) error {
			return k.forget(ctx, &trial{}, engine, "localhost/built:1")
		})
	}
	buildah := k.engine("podman")
	buildah.name = "buildah"
	buildah.work = func(ctx context.Context, t *trial) error {
		// This isolation has the host's network, whatever one asks for.
		own := append(k.podman.BuildahArgs(), "bud", "--isolation", "chroot", "--pull-never", "-q", "--no-cache")
		return t.run(ctx, "buildah", append(own, "-t", "localhost/built:1", dir)...)
	}
	return workload{
		name: "build", title: "build FROM, RUN, COPY",
		prepare: all(k.giveRoot, func(context.Context) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			text := "FROM " + rootImage + "\nRUN echo built >/built\nCOPY file /file\n"
			return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
		}),
		contestants: []contestant{
			k.ours(args...).after(write), engine(k.engine("docker", args...), "docker"), engine(buildah, "podman"),
		},
		goals: []goal{{of: "unio", bound: millis(150)}, {of: "unio", against: "docker", bound: 0.5}, {of: "unio", against: "buildah", bound: 0.43}},
	}
}
