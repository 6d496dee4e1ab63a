package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"unio/integration/debian"
	"unio/integration/peers"
)

// needRegistry starts a registry on the loopback, once.
func (k *kit) needRegistry(ctx context.Context) (err error) {
	if k.registry != nil {
		return nil
	}
	if err := os.MkdirAll(k.registryDir(), 0o755); err != nil {
		return err
	}
	k.registry, err = peers.StartRegistry(ctx, k.registryDir())
	return err
}

func (k *kit) registryDir() string { return k.path("registry") }

// pull takes the image, its layers compressed as told, out of a registry on this
// machine into a store that has nothing of it.
func (k *kit) pull(compression string) workload {
	store, layout, ref := k.path("pull-store"), k.path("pull-layout"), ""
	unio := contestant{name: "unio", work: func(ctx context.Context, t *trial) error {
		return k.unioStep(func() string { return store }, "pull", "-q", ref)(ctx, t)
	}}
	engine := func(name string, flags ...string) contestant {
		c := k.engine(name)
		c.work = func(ctx context.Context, t *trial) error {
			return k.engineStep(name, append(append([]string{"pull", "-q"}, flags...), ref)...)(ctx, t)
		}
		gone := func(ctx context.Context, t *trial) error { return k.forget(ctx, t, name, ref, k.image) }
		return c.after(gone).closing(func(ctx context.Context) error { return gone(ctx, &trial{}) })
	}
	// What skopeo makes no tool can mount: layers stay compressed.
	copied := contestant{name: "skopeo copy", work: func(ctx context.Context, t *trial) error {
		return t.run(ctx, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+ref, "oci:"+layout+":1")
	}}
	copied.prepare = func(context.Context, *trial) error { return k.absent["skopeo"] }
	return workload{
		name: "pull" + compression, title: "pull from a registry on this machine, " + compression + " layers",
		prepare: func(ctx context.Context) (err error) {
			ref, err = k.serve(ctx, compression)
			return err
		},
		contestants: []contestant{
			unio.removed(store).takes(store),
			engine("docker").takes(k.dockerData()),
			engine("podman", "--tls-verify=false").takes(k.podmanData()), copied.removed(layout).takes(layout),
		},
		goals: []goal{{of: "unio", against: "podman", bound: 0.6}},
	}
}

// forget takes images away from an engine, if they are there, and all that no
// name stands for.
func (k *kit) forget(ctx context.Context, t *trial, engine string, names ...string) error {
	for _, name := range names {
		_ = k.engineStep(engine, "rmi", "-f", name)(ctx, t) // what is not there is gone
	}
	return k.engineStep(engine, "image", "prune", "-f")(ctx, t)
}

// serve puts the image into the registry and returns its name there.
func (k *kit) serve(ctx context.Context, compression string) (string, error) {
	if err := k.needRegistry(ctx); err != nil {
		return "", err
	}
	ref := fmt.Sprintf("%s/bench/%s:1", k.registry.Address, compression)
	_, err := peers.Run(ctx, "skopeo", "copy", "-q", "--format", "oci", "--dest-compress-format", compression, "--dest-tls-verify=false",
		"docker-archive:"+k.path("image.tar"), "docker://"+ref)
	return ref, err
}

// rootImage is a small Debian root as an image of one layer.
const rootImage = "localhost/root:1"

// root returns the tar of a small Debian root.
func (k *kit) root(ctx context.Context) (string, error) {
	if k.tiny {
		return k.smallRoot(ctx)
	}
	return debian.Root(ctx, debian.Base)
}

// smallRoot has busybox and nothing else.
func (k *kit) smallRoot(ctx context.Context) (string, error) {
	path := k.path("root.tar")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	_, err := peers.Run(ctx, "sh", "-ec", `
		mkdir -p "$0/bin" "$0/etc" "$0/tmp" && cp "$(command -v busybox)" "$0/bin/busybox"
		for name in sh echo true cat mkdir rm; do ln "$0/bin/busybox" "$0/bin/$name"; done
		echo root:x:0:0:root:/:/bin/sh >"$0/etc/passwd"
		tar -C "$0" --numeric-owner -cf "$1" .`, k.path("root"), path)
	return path, err
}

// giveRoot imports the root into all stores, once.
func (k *kit) giveRoot(ctx context.Context) error {
	if k.rooted {
		return nil
	}
	path, err := k.root(ctx)
	if err != nil {
		return err
	}
	if _, err := k.unio(ctx, k.store(), "import", "-q", path, rootImage); err != nil {
		return err
	}
	if k.absent["docker"] == nil {
		_, _ = k.docker.Run(ctx, "import", path, rootImage) // who has not the image fails later
	}
	if k.absent["podman"] == nil {
		_, _ = k.podman.Run(ctx, "import", "-q", path, rootImage)
	}
	k.rooted = true
	return nil
}

// push compresses an image and puts it into a registry that has nothing. What a
// tool remembers of an earlier push is of no use to it: unio has a new store
// each time, and the registry is empty.
func (k *kit) push() workload {
	store, name := k.path("push-store"), "push/root:1"
	ref := func() string { return k.registry.Address + "/" + name }
	var path string
	empty := func(context.Context, *trial) error { return k.emptyRegistry() }
	at := func() string { return store }
	unio := contestant{name: "unio", cleanUp: func(context.Context, *trial) error { return os.RemoveAll(store) }}
	unio.work = func(ctx context.Context, t *trial) error { return k.unioStep(at, "push", "-q", ref())(ctx, t) }
	unio.prepare = steps(empty, func(ctx context.Context, t *trial) error { return k.unioStep(at, "import", "-q", path, ref())(ctx, t) })
	engine := func(engine string, flags ...string) contestant {
		c := k.engine(engine)
		c.work = func(ctx context.Context, t *trial) error {
			return k.engineStep(engine, append(append([]string{"push"}, flags...), ref())...)(ctx, t)
		}
		return c.after(empty).after(func(ctx context.Context, t *trial) error {
			return k.engineStep(engine, "tag", rootImage, ref())(ctx, t)
		}).closing(func(ctx context.Context) error { return k.forget(ctx, &trial{}, engine, ref()) })
	}
	list := []contestant{unio, engine("docker"), engine("podman", "-q", "--tls-verify=false")}
	for i := range list {
		list[i] = list[i].takes(filepath.Join(k.registryDir(), "data"))
	}
	return workload{
		name: "push", title: "push a Debian root of one layer, with gzip", contestants: list,
		prepare: all(k.needRegistry, k.giveRoot, func(ctx context.Context) (err error) {
			path, err = k.root(ctx)
			return err
		}),
		goals: []goal{{of: "unio", against: "podman", bound: 1}, {of: "unio", against: "docker", bound: 1}},
	}
}

// emptyRegistry takes away all that was pushed: the registry keeps nothing but
// files.
func (k *kit) emptyRegistry() error { return os.RemoveAll(filepath.Join(k.registryDir(), "data")) }

// importRoot makes an image of a tar, in a store that does not have it.
func (k *kit) importRoot() workload {
	store, path := k.path("import-store"), ""
	into := func(name string) contestant {
		c := k.engine(name)
		c.work = func(ctx context.Context, t *trial) error {
			return k.engineStep(name, "import", "-q", path, rootImage)(ctx, t)
		}
		if name == "docker" { // it has no such flag
			c.work = func(ctx context.Context, t *trial) error {
				return k.engineStep(name, "import", path, rootImage)(ctx, t)
			}
		}
		return c.after(func(ctx context.Context, t *trial) error { return k.forget(ctx, t, name, rootImage) })
	}
	ours := contestant{name: "unio", work: func(ctx context.Context, t *trial) error {
		return k.unioStep(func() string { return store }, "import", "-q", path, rootImage)(ctx, t)
	}}
	return workload{
		name: "import", title: "import a tar of a Debian root",
		prepare: func(ctx context.Context) (err error) {
			path, err = k.root(ctx)
			return err
		},
		contestants: []contestant{
			ours.removed(store).takes(store), into("docker").takes(k.dockerData()), into("podman").takes(k.podmanData()),
		},
		goals: []goal{{of: "unio", against: "podman", bound: 0.5}, {of: "unio", against: "docker", bound: 0.5}},
	}
}

// remove deletes an image that was imported for it.
func (k *kit) remove() workload {
	tag, path := "localhost/gone:1", ""
	engine := func(name string) contestant {
		return k.engine(name, "rmi", "-f", tag).after(func(ctx context.Context, t *trial) error {
			return k.engineStep(name, "import", path, tag)(ctx, t)
		})
	}
	ours := k.ours("rmi", "-f", tag).after(func(ctx context.Context, t *trial) error {
		return k.unioStep(k.store, "import", "-q", path, tag)(ctx, t)
	})
	return workload{
		name: "rmi", title: "remove an image",
		prepare: func(ctx context.Context) (err error) {
			path, err = k.otherRoot(ctx)
			return err
		},
		contestants: []contestant{ours.takes(k.path("store-debian")), engine("docker").takes(k.dockerData()), engine("podman").takes(k.podmanData())},
		goals:       []goal{{of: "unio", against: "podman", bound: 1}, {of: "unio", against: "docker", bound: 1}},
	}
}

// otherRoot is a tar of the root that no other image shares its layer with.
func (k *kit) otherRoot(ctx context.Context) (string, error) {
	from, err := k.root(ctx)
	if err != nil {
		return "", err
	}
	to := k.path("other-root.tar")
	_, err = peers.Run(ctx, "sh", "-ec", `cp "$0" "$1"; echo other >"$1.txt"; tar -rf "$1" -C / "${1#/}.txt"`, from, to)
	return to, err
}

// diff compares two images in which every file has another owner. Podman takes ten times as
// long, and half a minute to get the images.
func (k *kit) diff() workload {
	first, second := "localhost/many:a", "localhost/many:b"
	return workload{
		name: "diff", title: "compare two images of 80,000 files", contestants: []contestant{k.ours("diff", first, second)},
		prepare: func(ctx context.Context) error {
			for uid, name := range []string{first, second} {
				if err := k.importMany(ctx, name, uid); err != nil {
					return err
				}
			}
			return nil
		},
		goals: []goal{{of: "unio", bound: millis(500)}},
	}
}

// importMany imports an image of small files.
func (k *kit) importMany(ctx context.Context, name string, uid int) error {
	path := k.path("many-files.tar")
	err := writeTar(path, func(yield func(tarFile) bool) {
		for i := 0; i < k.scale(80_000) && yield(tarFile{name: layeredName(i), size: 20, uid: uid}); i++ {
		}
	})
	if err != nil {
		return err
	}
	defer os.Remove(path)
	_, err = k.unio(ctx, k.store(), "import", "-q", path, name)
	return err
}
