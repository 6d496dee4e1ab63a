package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"unio/integration/peers"
)

// commitSpec is a container with one new file, which becomes an image.
type commitSpec struct {
	name, title string
	image       string        // in all stores
	store       func() string // unio's, with the image
	size        int           // bytes of the file, which is noise; 0: a line
	umoci       bool          // it has the image
	goals       []goal
}

func (k *kit) commitSmall() workload {
	return k.commit(commitSpec{
		name: "commit", title: "commit one small file", image: k.image, store: k.store, umoci: true,
		goals: []goal{{of: "unio", bound: millis(30)}, {of: "unio", against: "podman", bound: 0.43}, {of: "unio", against: "docker", bound: 0.38}},
	})
}

func (k *kit) commitLarge() workload {
	return k.commit(commitSpec{
		name: "commitlarge", title: "commit a file of 200 MiB", image: k.image, store: k.store, size: k.scale(200 << 20), umoci: true,
		goals: []goal{{of: "unio", against: "podman", bound: 0.26}, {of: "unio", against: "docker", bound: 0.67}},
	})
}

// commitMany has an image with so many files that looking at all of them would
// show.
func (k *kit) commitMany() workload {
	files := k.scale(90_000)
	var store string
	w := k.commit(commitSpec{
		name: "commitmany", title: "commit one small file over an image of 90,000", image: imageRef, store: func() string { return store },
		goals: []goal{{of: "unio", bound: millis(30)}},
	})
	w.prepare = func(ctx context.Context) error {
		p, err := k.crowd(ctx, files)
		if err != nil {
			return err
		}
		store = p.store
		archive := k.path("many.tar")
		if _, err := k.unio(ctx, store, "save", "-o", archive, imageRef); err != nil {
			return err
		}
		k.loadEngines(ctx, archive)
		return os.Remove(archive)
	}
	return w
}

// loadEngines gives an archive to docker and podman. One that does not take it
// fails later, when it has not the image.
func (k *kit) loadEngines(ctx context.Context, archive string) {
	if k.absent["docker"] == nil {
		_, _ = k.docker.Run(ctx, "load", "-q", "-i", archive)
	}
	if k.absent["podman"] == nil {
		_, _ = k.podman.Run(ctx, "load", "-q", "-i", archive)
	}
}

// commit lets all tools commit a container in which one file is new each round.
func (k *kit) commit(c commitSpec) workload {
	dir, bundle, tag := k.path(c.name), k.path("bundle-commit"), "localhost/"+c.name+":1"
	ours := contestant{name: "unio", work: k.unioStep(c.store, "commit", "-q", c.name, tag)}
	// The store may be that of an image that is made only when the work is prepared.
	ours.disk = func() (int64, error) { return folderUse(c.store()) }
	w := workload{
		name: c.name, title: c.title, goals: c.goals, prepare: k.give,
		contestants: []contestant{
			ours.after(once(k.unioStep(c.store, "mount", "--name", c.name, c.image, dir))).after(k.change(c, dir)),
			k.commitOf("docker", c, tag).takes(k.dockerData()), k.commitOf("podman", c, tag).takes(k.podmanData()),
		},
	}
	if c.umoci {
		w.contestants = append(w.contestants, k.tool("umoci repack", "umoci", "repack", "--image", k.path("layout")+":"+c.name, bundle).takes(k.path("layout")).
			after(k.unpack).after(k.change(c, filepath.Join(bundle, "rootfs"))))
	}
	return w
}

// unpack unpacks the image for umoci, once for all commits.
func (k *kit) unpack(ctx context.Context, t *trial) error {
	bundle := k.path("bundle-commit")
	if _, err := os.Stat(filepath.Join(bundle, "umoci.json")); err == nil {
		return nil
	}
	return t.run(ctx, "umoci", "unpack", "--image", k.path("layout")+":bench", bundle)
}

// commitOf lets an engine commit.
func (k *kit) commitOf(engine string, c commitSpec, tag string) contestant {
	create := k.engineStep(engine, "create", "--network", "none", "--name", c.name, c.image, "/bin/true")
	return k.engine(engine, "commit", c.name, tag).after(once(create)).after(k.changeIn(engine, c)).closing(func(ctx context.Context) error {
		_ = k.engineStep(engine, "rm", "-f", c.name)(ctx, &trial{}) // what is not there is gone
		return k.forget(ctx, &trial{}, engine, tag)
	})
}

// newFile makes what is new in a round.
func (k *kit) newFile(ctx context.Context, c commitSpec) (path string, err error) {
	path = k.path(c.name + "-file")
	if c.size > 0 { // noise, of which the beginning is new: making all of it takes a second
		script := `[ -e "$0" ] || head -c "$1" /dev/urandom >"$0"; head -c 4096 /dev/urandom | dd of="$0" conv=notrunc status=none`
		_, err = peers.Run(ctx, "sh", "-ec", script, path, fmt.Sprint(c.size))
		return path, err
	}
	return path, os.WriteFile(path, fmt.Appendf(nil, "round %d\n", k.next()), 0o644)
}

// change puts the new file into a folder.
func (k *kit) change(c commitSpec, dir string) step {
	return func(ctx context.Context, _ *trial) error {
		path, err := k.newFile(ctx, c)
		if err == nil {
			_, err = peers.Run(ctx, "cp", path, filepath.Join(dir, "new"))
		}
		return err
	}
}

// changeIn puts the new file into an engine's container.
func (k *kit) changeIn(engine string, c commitSpec) step {
	return func(ctx context.Context, t *trial) error {
		path, err := k.newFile(ctx, c)
		if err != nil {
			return err
		}
		return k.engineStep(engine, "cp", path, c.name+":/new")(ctx, t)
	}
}
