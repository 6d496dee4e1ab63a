package main

import (
	"cmp"

	"unio/container"
	"unio/imagestore"
)

// store opens the image store. Containers and mounts pin the images they
// need.
func (e *env) store() (*imagestore.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.images == nil {
		st, err := imagestore.Open(e.root, imagestore.Options{Log: e.log, InUse: e.imagesInUse})
		if err != nil {
			return nil, err
		}
		e.images = st
	}
	return e.images, nil
}

// imagesInUse lists what needs an image: containers, which run while they are
// mounted, and mounts of images.
func (e *env) imagesInUse() ([]imagestore.Use, error) {
	cs := container.Open(e.root, e.runRoot, e.log)
	mounts, err := cs.Mounts()
	if err != nil {
		return nil, err
	}
	mounted := map[string]bool{}
	var uses []imagestore.Use
	for _, m := range mounts {
		mounted[m.Container] = !m.Dead
		if m.Container == "" && m.Image != "" {
			uses = append(uses, imagestore.Use{ImageID: m.Image, Container: cmp.Or(m.Name, m.ID), Running: !m.Dead})
		}
	}
	list, err := cs.ListIntact()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		uses = append(uses, imagestore.Use{ImageID: c.Image, Container: c.ID, Running: mounted[c.ID] || c.State.Active()})
	}
	return uses, nil
}
