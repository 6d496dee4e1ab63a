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

// fsWork is something to do in a folder that each filesystem shows. Every
// round has a new mount, unless kept.
type fsWork struct {
	name, title string
	// image is what is mounted; nil: the realistic image.
	image func(ctx context.Context) (*picture, error)
	// ready is done before each run; may be nil. It is also what reads again what is said to be
	// in memory: a host may take away memory of a virtual machine that it thinks is
	// not used (DAMON's pageout does, with pages that are only read by calls).
	ready step
	do    step
	// lists has a new mount made ready twice: the kernel keeps a listing only when it is read
	// again.
	lists bool
	// warmup: each round is preceded by one on another mount that does not count, so
	// that what lies below has been read.
	warmup bool
	// kept: one mount for all rounds. Nothing may be changed in it.
	kept bool
	// cold: caches are dropped when all is ready.
	cold bool
	// fresh: changes go to an ext4 filesystem that is made for the run, as ext4
	// gets slower after mass deletion. Work that writes needs it: otherwise native is
	// read-only.
	fresh bool
	// copies are what native has of the image on a fresh disk.
	copies []string
	// without are filesystems that cannot do it, or for which it means nothing.
	without []string
	// writeback adds ours with the mount option.
	writeback bool
	rounds    int   // at most; 0: the run's
	memory    int64 // bytes that it fills, about; 0: little
	long      bool  // left out of the quick form
	goals     []goal
}

// filesystemWork makes a workload of it.
func (s *stage) filesystemWork(w fsWork) workload {
	if w.image == nil {
		w.image = s.debian
	}
	list := s.filesystems()
	if w.writeback {
		list = slices.Insert(list, 1, s.ours("unio (dev, writeback)", "dev", writebackOpt))
		if s.wants(oursRing) {
			list = slices.Insert(list, 3, s.ours("unio (uring, writeback)", "uring", writebackOpt))
		}
	}
	if w.kept && w.memory == 0 {
		w.memory = keptMemory
	}
	load := workload{name: w.name, title: w.title, cold: w.cold, rounds: w.rounds, memory: w.memory, long: w.long, warm: w.reads(), goals: slices.Clone(w.goals), prepare: func(ctx context.Context) error {
		_, err := w.image(ctx)
		return err
	}}
	for _, who := range []string{oursDev, oursRing} { // nothing may be slower than what people use otherwise
		if !boundTo(w.goals, who, fuseOverlay) {
			load.goals = append(load.goals, goal{of: who, against: fuseOverlay, bound: 1 + noise})
		}
	}
	for _, f := range list {
		if !slices.Contains(w.without, f.name) {
			load.contestants = append(load.contestants, (&fsRun{stage: s, work: w, on: f}).contestant())
		}
	}
	return load
}

// reads tells whether a run's preparation does what the run will do.
func (w fsWork) reads() bool { return w.warmup || w.lists || w.kept && w.ready != nil }

// noise is how far two runs of the same thing are apart on an idle machine.
const noise = 0.05

// boundTo tells whether a goal compares two contestants.
func boundTo(goals []goal, of, against string) bool {
	return slices.ContainsFunc(goals, func(g goal) bool { return g.of == of && g.against == against })
}

// fsRun is a workload on one filesystem.
type fsRun struct {
	stage *stage
	work  fsWork
	on    filesystem
	at    place
	view  *view // nil: not mounted
}

func (r *fsRun) contestant() contestant {
	c := contestant{name: r.on.name, prepare: r.prepare, work: r.work.do}
	c.servers = func(ctx context.Context) []int {
		if r.view == nil || r.view.servers == nil {
			return nil
		}
		return r.view.servers(ctx)
	}
	if r.work.fresh {
		c.disk = r.stage.written(func() (int64, error) { return diskUse(r.view.upper) })
	}
	c.requests = func(ctx context.Context) (map[string]int64, error) {
		if r.view.requests == nil {
			return nil, nil
		}
		return r.view.requests(ctx)
	}
	if r.work.kept {
		c.close = r.unmount
	} else {
		c.cleanUp = func(ctx context.Context, _ *trial) error { return r.unmount(ctx) }
	}
	return c
}

// prepare mounts, and makes ready.
func (r *fsRun) prepare(ctx context.Context, t *trial) error {
	if r.work.warmup && !r.stage.tiny {
		if err := steps(r.mount, r.work.do)(ctx, t); err != nil {
			return errors.Join(err, r.unmount(ctx))
		}
		if err := r.unmount(ctx); err != nil {
			return err
		}
	}
	times := 1
	if r.view == nil && r.work.lists {
		times = 2
	}
	if err := r.mount(ctx, t); err != nil {
		return err
	}
	t.dir, t.upper = r.view.dir, r.view.upper
	for range times {
		if r.work.ready == nil {
			break
		}
		if err := r.work.ready(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// mount mounts what is not mounted.
func (r *fsRun) mount(ctx context.Context, t *trial) error {
	if r.view != nil {
		return nil
	}
	p, err := r.work.image(ctx)
	if err != nil {
		return err
	}
	if err := r.makePlace(ctx, p); err != nil {
		return err
	}
	if r.work.cold && !r.stage.tiny {
		if err := dropCaches(); err != nil {
			return err
		}
	}
	if r.view, err = r.on.mount(ctx, t, p, r.at); err != nil {
		r.view = nil
		return errors.Join(err, r.removePlace())
	}
	t.dir, t.upper = r.view.dir, r.view.upper
	return nil
}

func (r *fsRun) makePlace(ctx context.Context, p *picture) error {
	r.at = place{dir: r.stage.path(fmt.Sprintf("m%d", r.stage.next()))}
	if err := os.Mkdir(r.at.dir, 0o755); err != nil || !r.work.fresh {
		return err
	}
	r.at.disk = filepath.Join(r.at.dir, "disk")
	if err := freshDisk(ctx, r.at.disk, r.stage.tiny); err != nil {
		return err
	}
	if r.on.name != native {
		return nil
	}
	for _, name := range r.work.copies {
		to := filepath.Join(r.at.disk, "tree", name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if _, err := peers.Run(ctx, "cp", "-a", filepath.Join(p.flat, name), to); err != nil {
			return err
		}
	}
	return nil
}

func (r *fsRun) unmount(ctx context.Context) error {
	if r.view == nil {
		return nil
	}
	err := r.view.close(ctx)
	r.view = nil
	return errors.Join(err, r.removePlace())
}

func (r *fsRun) removePlace() error {
	var err error
	if r.at.disk != "" {
		err = unmount(r.at.disk)
	}
	return errors.Join(err, peers.UnmountBelow(r.at.dir), os.RemoveAll(r.at.dir))
}

// freshDisk makes an ext4 filesystem in a file beside dir and mounts it there.
// Nothing is left to be initialised in the background.
func freshDisk(ctx context.Context, dir string, tiny bool) error {
	size := "16G"
	if tiny {
		size = "512M"
	}
	script := `mkdir "$0" && truncate -s "$1" "$0.img" && mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=1 "$0.img" &&
		mount -o loop,noinit_itable "$0.img" "$0" && rmdir "$0/lost+found"`
	_, err := peers.Run(ctx, "sh", "-ec", script, dir, size)
	return err
}

// inodeSize is what an inode takes in ext4's tables, in bytes, which du does
// not count.
const inodeSize = 256

// diskUse sums up what is below dir, in bytes: blocks and inodes.
func diskUse(dir string) (used int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		used += st.Blocks*512 + inodeSize
		return nil
	})
	return used, err
}
