package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// toolWorks compare unio with the tools that keep and change images.
func (s *stage) toolWorks() []workload {
	k := &kit{stage: s, image: "localhost/bench:tools"}
	if s.quick {
		k.image = rootImage
	}
	list := []workload{
		k.load(), k.save(), k.importRoot(), k.commitSmall(), k.commitLarge(), k.commitMany(), k.remove(), k.diff(),
		k.startImage(), k.startContainer(), k.build(), k.push(),
		k.pull("gzip"), k.pull("zstd"), // last: they take the image away from the engines
	}
	for i := range list {
		list[i].prepare = all(k.prepare, list[i].prepare)
		list[i].long = !slices.Contains([]string{"commit", "run", "build"}, list[i].name)
		if list[i].long {
			list[i].memory, list[i].heavy = fileMemory, true
		}
		for j := range list[i].contestants {
			who := &list[i].contestants[j]
			who.disk = s.written(who.disk)
		}
	}
	return list
}

// all does preparations in order; nil is none.
func all(list ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, do := range list {
			if do == nil {
				continue
			}
			if err := do(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// kit is an image of four layers in the stores of all tools: a smaller one than the
// filesystems have, as docker and podman take half a minute for that.
type kit struct {
	*stage
	image   string
	archive string // the image as a docker archive; empty: not made yet
	rooted  bool   // all have rootImage
}

// prepare gives the image to unio, once, and as archive and OCI layout to whom wants
// these, and starts the engines. The workloads of the quick form do with a root of one layer.
func (k *kit) prepare(ctx context.Context) error {
	if k.archive != "" {
		return nil
	}
	p, err := k.debian(ctx)
	if err != nil {
		return err
	}
	_, _ = k.needDocker(ctx), k.needPodman() // it is noted
	if k.quick {
		k.absent["umoci"] = errNotWanted
		return k.giveRoot(ctx)
	}
	dir, err := k.cached(ctx, k.recipe(p))
	if err != nil {
		return err
	}
	archive := filepath.Join(dir, "image.tar")
	if _, err := k.unio(ctx, p.store, "load", "-q", "-i", archive); err != nil {
		return err
	}
	if err := os.Symlink(archive, k.path("image.tar")); err != nil {
		return err
	}
	k.makeLayout(ctx, archive)
	k.archive = archive
	return nil
}

// makeLayout makes the OCI layout for skopeo and umoci.
func (k *kit) makeLayout(ctx context.Context, archive string) {
	if !k.wants("umoci") && !k.wants("skopeo") {
		k.absent["umoci"], k.absent["skopeo"] = errNotWanted, errNotWanted
		return
	}
	_, k.absent["skopeo"] = peers.Run(ctx, "skopeo", "copy", "-q", "docker-archive:"+archive, "oci:"+k.path("layout")+":bench")
	k.absent["umoci"] = k.absent["skopeo"]
}

// give has the engines load the image that have it not. One that does not take it is left out.
func (k *kit) give(ctx context.Context) error {
	if k.quick {
		return nil
	}
	for _, name := range []string{"docker", "podman"} {
		if k.absent[name] != nil || k.engineStep(name, "image", "inspect", k.image)(ctx, &trial{}) == nil {
			continue
		}
		k.absent[name] = k.engineStep(name, "load", "-q", "-i", k.archive)(ctx, &trial{})
	}
	return nil
}

// recipe makes the archive, out of the realistic image.
func (k *kit) recipe(p *picture) recipe {
	text := fmt.Sprint(filepath.Base(filepath.Dir(p.lower)), firstLayer, toolLayers())
	return recipe{name: "tools", text: text, make: func(ctx context.Context, dir string) error {
		store := filepath.Join(dir, "store")
		if err := k.makeImage(ctx, p, store); err != nil {
			return err
		}
		_, err := k.unio(ctx, store, "save", "-o", filepath.Join(dir, "image.tar"), k.image)
		return errors.Join(err, os.RemoveAll(store))
	}}
}

// firstLayer packs what the image begins with, and toolLayers are what containers add
// to it, all of it parts of the realistic image as one folder: more than 25,000 files of 150 MB.
const firstLayer = `tar --numeric-owner -cf "$0" usr/share usr/include/boost/[a-h]*`

func toolLayers() []string {
	return []string{
		headers + `; cp -a "$@" "$0/usr/include/boost/"`,
		`mkdir "$0/srv"; cp -a srv/many srv/thousand "$0/srv/"`,
		`rm -rf "$0/srv/many/1" "$0/usr/share/perl"; echo changed >>"$0/srv/many/2/2"`,
	}
}

// makeImage makes the image in a store; in the smoke test it is the root alone.
func (k *kit) makeImage(ctx context.Context, p *picture, store string) error {
	var err error
	root := k.path("first.tar")
	if k.tiny {
		root, err = k.root(ctx)
	} else {
		err = (&trial{}).runIn(ctx, p.flat, "sh", "-ec", firstLayer, root)
	}
	if err != nil {
		return err
	}
	if _, err := k.unio(ctx, store, "import", "-q", root, k.image); err != nil || k.tiny {
		return err
	}
	for _, script := range toolLayers() {
		if err := k.addLayer(ctx, p, store, script); err != nil {
			return err
		}
	}
	return os.Remove(root)
}

// addLayer commits what a script does, which finds the realistic image in its folder and the
// container in $0.
func (k *kit) addLayer(ctx context.Context, p *picture, store, script string) error {
	at := k.path("making")
	if _, err := k.unio(ctx, store, "mount", "--name", "making", k.image, at); err != nil {
		return err
	}
	err := (&trial{}).runIn(ctx, p.flat, "sh", "-ec", script, at)
	if err == nil {
		_, err = k.unio(ctx, store, "commit", "-q", "making", k.image)
	}
	_, downErr := k.unio(ctx, store, "umount", at)
	if err = errors.Join(err, downErr); err == nil {
		_, err = k.unio(ctx, store, "rm", "making")
	}
	return err
}

// store is unio's store of this run.
func (k *kit) store() string { return k.pictures["debian"].store }

// ours makes a contestant of unio's command line; the store is that of the
// realistic image.
func (k *kit) ours(args ...string) contestant {
	return contestant{name: "unio", work: k.unioStep(k.store, args...)}
}

// engine makes a contestant of docker's or podman's command line.
func (k *kit) engine(name string, args ...string) contestant {
	c := contestant{name: name, work: k.engineStep(name, args...)}
	c.prepare = func(context.Context, *trial) error { return k.absent[name] }
	if name == "docker" {
		c.servers = func(context.Context) []int {
			if k.docker == nil {
				return nil
			}
			return withChildren(k.docker.Pid())
		}
	}
	return c
}

func (k *kit) engineStep(name string, args ...string) step {
	return func(ctx context.Context, t *trial) error {
		if err := k.absent[name]; err != nil {
			return err
		}
		if name == "podman" {
			return t.run(ctx, "podman", append(k.podman.Args(), args...)...)
		}
		return t.run(ctx, "docker", append(k.docker.Args(), args...)...)
	}
}

// tool makes a contestant of another program's command line.
func (k *kit) tool(name, program string, args ...string) contestant {
	c := contestant{name: name, work: does(program, args...)}
	c.prepare = func(context.Context, *trial) error { return k.absent[program] }
	return c
}

// written has data be on the disk before it is counted: blocks are given out when it is
// written back. In the smoke test, whose figures nobody reads, nobody waits for that.
func (s *stage) written(use func() (int64, error)) func() (int64, error) {
	if use == nil {
		return nil
	}
	return func() (int64, error) {
		if !s.tiny {
			unix.Sync()
		}
		return use()
	}
}

// takes adds what the contestant has on the disk, below a folder.
func (c contestant) takes(folder string) contestant {
	c.disk = func() (int64, error) { return folderUse(folder) }
	return c
}

// folderUse is diskUse of a folder that others may be writing to, or that is not
// there.
func folderUse(dir string) (used int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		used += st.Blocks*512 + inodeSize
		return err
	})
	return used, err
}

// dockerData and podmanData are where the engines keep images.
func (k *kit) dockerData() string { return k.path("docker/data") }
func (k *kit) podmanData() string { return k.path("podman/root") }

// removed adds a step that removes what a round has made.
func (c contestant) removed(path string) contestant {
	c.cleanUp = func(context.Context, *trial) error { return os.RemoveAll(path) }
	return c
}

// closing adds what is to be done after the last round, if the tool is there at all.
func (c contestant) closing(do func(context.Context) error) contestant {
	prepare := c.prepare
	c.close = func(ctx context.Context) error {
		if prepare != nil && prepare(ctx, &trial{}) != nil {
			return nil
		}
		return do(ctx)
	}
	return c
}

// after adds a step before the work.
func (c contestant) after(s step) contestant {
	first := c.prepare
	c.prepare = func(ctx context.Context, t *trial) error {
		if first != nil {
			if err := first(ctx, t); err != nil {
				return err
			}
		}
		return s(ctx, t)
	}
	return c
}

// load takes the archive into a store that does not have the image, and
// makes it usable.
func (k *kit) load() workload {
	store, bundle, archive := k.path("load-store"), k.path("bundle"), k.path("image.tar")
	ours := contestant{name: "unio", work: k.unioStep(func() string { return store }, "load", "-q", "-i", archive)}
	engine := func(name string) contestant {
		return k.engine(name, "load", "-q", "-i", archive).after(func(ctx context.Context, t *trial) error { return k.forget(ctx, t, name, k.image) })
	}
	return workload{
		name: "load", title: "load a docker archive",
		contestants: []contestant{
			ours.removed(store).takes(store),
			engine("docker").takes(k.dockerData()), engine("podman").takes(k.podmanData()),
			k.tool("umoci unpack", "umoci", "unpack", "--image", k.path("layout")+":bench", bundle).removed(bundle).takes(bundle),
		},
		goals: []goal{{of: "unio", against: "podman", bound: 0.22}, {of: "unio", against: "docker", bound: 0.14}},
	}
}

func (k *kit) save() workload {
	out := k.path("saved.tar")
	return workload{
		name: "save", title: "save the image to a docker archive", prepare: k.give,
		contestants: []contestant{
			k.ours("save", "-o", out, k.image).removed(out),
			k.engine("docker", "save", "-o", out, k.image).removed(out),
			k.engine("podman", "save", "-q", "-o", out, k.image).removed(out),
			k.tool("skopeo copy", "skopeo", "copy", "-q", "oci:"+k.path("layout")+":bench", "docker-archive:"+out+":"+k.image).removed(out),
		},
		goals: []goal{{of: "unio", against: "podman", bound: 0.26}, {of: "unio", against: "docker", bound: 0.19}},
	}
}

// once does a step the first time only.
func once(s step) step {
	done := false
	return func(ctx context.Context, t *trial) error {
		if done {
			return nil
		}
		done = true
		return s(ctx, t)
	}
}
