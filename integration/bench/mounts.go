package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// layerCounts are the images that differ in nothing but their number of layers.
func (s *stage) layerCounts() []int {
	if s.tiny {
		return []int{1, 10}
	}
	return []int{1, 10, 127, 500}
}

// layersOf names a number of layers.
func layersOf(n int) string {
	if n == 1 {
		return "1 layer"
	}
	return fmt.Sprintf("%d layers", n)
}

// mountWorks compare images by their number of layers and files.
func (s *stage) mountWorks() []workload {
	mount := workload{name: "mount", title: "mount of 25,000 files in 1, 10, 127, 500 layers, until it answers"}
	lookup := workload{name: "lookup", long: true, title: "lstat of 5,000 of 25,000 files in 1, 10, 127, 500 layers", cold: true}
	for _, n := range s.layerCounts() {
		image := func(ctx context.Context) (*picture, error) { return s.layered(ctx, n) }
		what := ", " + layersOf(n)
		mount.add(s.mountContest(image, what))
		lookup.add(s.lookupContest(image, n, what))
	}
	for _, who := range []string{oursDev, oursRing} {
		one, many := who+", "+layersOf(1), who+", "+layersOf(127)
		grows := goal{of: many, against: one, bound: 1.1}
		mount.goals = append(mount.goals, grows, goal{of: one, bound: millis(10)}, goal{of: many, bound: millis(10)})
		lookup.goals = append(lookup.goals, grows)
	}
	files := workload{name: "mountfiles", long: true, title: "mount of 250,000 files, until it answers", goals: atMost(wallTime, millis(10), millis(10))}
	files.add(s.mountContest(func(ctx context.Context) (*picture, error) { return s.crowd(ctx, s.scale(250_000)) }, ""))
	return []workload{mount, files, lookup}
}

// add joins another image's contestants.
func (w *workload) add(more workload) {
	before := w.prepare
	w.prepare = func(ctx context.Context) error {
		if before != nil {
			if err := before(ctx); err != nil {
				return err
			}
		}
		return more.prepare(ctx)
	}
	w.contestants = append(w.contestants, more.contestants...)
}

// lookupContest looks at files of a layered image. The peers, which need ten seconds
// for it, show with two numbers of layers what more of them cost.
func (s *stage) lookupContest(image func(context.Context) (*picture, error), layers int, what string) workload {
	without := []string{native, unionfsFuse}
	if layers == 10 || layers == 500 {
		without = append(without, overlayfs, fuseOverlay)
	}
	w := s.filesystemWork(fsWork{
		image: image, cold: true, without: without,
		do: func(ctx context.Context, t *trial) error {
			p, err := image(ctx)
			if err != nil {
				return err
			}
			part, err := s.every(5, p, "names")
			if err != nil {
				return err
			}
			return t.client(ctx, "lstat", t.dir, part, "1")
		},
	})
	for i := range w.contestants {
		w.contestants[i].name += what
	}
	return w
}

// mountContest mounts an image, each time anew.
func (s *stage) mountContest(image func(context.Context) (*picture, error), what string) workload {
	w := workload{prepare: func(ctx context.Context) error {
		_, err := image(ctx)
		return err
	}}
	for _, f := range s.filesystems() {
		if f.name != native && f.name != unionfsFuse {
			w.contestants = append(w.contestants, (&mountRun{stage: s, image: image, on: f}).contestant(what))
		}
	}
	return w
}

// mountRun mounts an image on one filesystem.
type mountRun struct {
	stage *stage
	image func(context.Context) (*picture, error)
	on    filesystem
	at    place
	view  *view
}

func (r *mountRun) contestant(what string) contestant {
	c := contestant{name: r.on.name + what, prepare: r.prepare, work: r.work, cleanUp: r.cleanUp}
	c.servers = func(ctx context.Context) []int {
		if r.view == nil || r.view.servers == nil {
			return nil
		}
		return r.view.servers(ctx)
	}
	return c
}

func (r *mountRun) prepare(context.Context, *trial) error {
	r.view = nil
	r.at = place{dir: r.stage.path(fmt.Sprintf("m%d", r.stage.next()))}
	return os.Mkdir(r.at.dir, 0o755)
}

// work mounts and looks at what is mounted.
func (r *mountRun) work(ctx context.Context, t *trial) error {
	p, err := r.image(ctx)
	if err != nil {
		return err
	}
	if r.view, err = r.on.mount(ctx, t, p, r.at); err != nil {
		return err
	}
	if t.wall > 0 { // the filesystem has looked itself
		return nil
	}
	return answers(r.view.dir, p)
}

// answers looks at a file of what is mounted.
func answers(dir string, p *picture) error {
	_, err := os.Lstat(filepath.Join(dir, p.probe))
	return err
}

func (r *mountRun) cleanUp(ctx context.Context, _ *trial) error {
	var err error
	if r.view != nil {
		err = r.view.close(ctx)
	}
	return errors.Join(err, os.RemoveAll(r.at.dir))
}
