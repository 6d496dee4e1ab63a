package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// picture is an image in all the forms that contestants want. It is made
// once and kept in the cache; a run has hard links to unio's store of it.
type picture struct {
	ref    string   // its name in unio's store
	lower  string   // folder with the layers, each a folder as overlayfs has them
	layers []string // their names, topmost first
	probe  string   // a file that is in it
	flat   string   // the whole tree as a folder; empty: not there
	store  string   // unio's store of this run, of this image
}

// recipe makes a picture below a folder. Its text stands for all that the
// result depends on: a new text makes a new picture.
type recipe struct {
	name   string
	text   string
	layers int
	flat   bool
	probe  string // a file that will be in it
	make   func(ctx context.Context, dir string) error
}

// imageRef is the name of every picture in its own store.
const imageRef = "localhost/bench:4"

// picture returns an image, making it if there is none yet.
func (s *stage) picture(ctx context.Context, r recipe) (*picture, error) {
	if p := s.pictures[r.name]; p != nil {
		return p, nil
	}
	if err := s.unmade[r.name]; err != nil { // trying takes minutes
		return nil, err
	}
	dir, err := s.cached(ctx, r)
	if err != nil {
		s.unmade[r.name] = fmt.Errorf("image %s: %w", r.name, err)
		return nil, s.unmade[r.name]
	}
	p := &picture{ref: imageRef, probe: r.probe, lower: filepath.Join(dir, "lower"), store: s.path("store-" + r.name)}
	for i := r.layers; i > 0; i-- {
		p.layers = append(p.layers, fmt.Sprint(i))
	}
	if r.flat {
		p.flat = filepath.Join(dir, "flat")
	}
	if err := linkStore(ctx, filepath.Join(dir, "store"), p.store); err != nil {
		return nil, err
	}
	s.pictures[r.name] = p
	return p, nil
}

// linkStore gives a run a store of its own: blobs and indexes are never
// written again, so links will do.
func linkStore(ctx context.Context, from, to string) error {
	if _, err := peers.Run(ctx, "cp", "-al", from, to); err != nil {
		if _, err := peers.Run(ctx, "cp", "-a", "--reflink=auto", "-T", from, to); err != nil {
			return err
		}
		return nil
	}
	return unlinkSmall(to)
}

// unlinkSmall replaces links to what a store does change (references, locks,
// state) by copies.
func unlinkSmall(store string) error {
	return filepath.WalkDir(store, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		top, _, _ := strings.Cut(strings.TrimPrefix(path, store+"/"), "/")
		if slices.Contains([]string{"blobs", "layers", "views"}, top) {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	})
}

// cached returns the folder of a picture in the cache. Several runs may ask
// at once.
func (s *stage) cached(ctx context.Context, r recipe) (string, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%t", r.name, r.text, s.tiny))
	dir := filepath.Join(s.cache, r.name+"-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	s.note("making the image %s", r.name)
	defer func(start time.Time) { s.making += time.Since(start) }(time.Now())
	making := dir + ".making"
	if err := errors.Join(peers.UnmountBelow(making), os.RemoveAll(making), os.MkdirAll(filepath.Join(making, "lower"), 0o755)); err != nil {
		return "", err
	}
	if err := r.make(ctx, making); err != nil {
		return "", errors.Join(err, peers.UnmountBelow(making), os.RemoveAll(making))
	}
	if !s.tiny {
		unix.Sync()
	}
	return dir, os.Rename(making, dir)
}

// tarFile is an entry that recipes write.
type tarFile struct {
	name string
	size int64 // of the content, which is made up
	uid  int
}

// writeTar writes files, and the folders they are in, into a tar.
func writeTar(path string, files func(yield func(tarFile) bool)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	w, made := tar.NewWriter(buf), map[string]bool{}
	for file := range files {
		if err := writeEntry(w, file, made); err != nil {
			return fmt.Errorf("%s: %w", file.name, err)
		}
	}
	return errors.Join(w.Close(), buf.Flush())
}

func writeEntry(w *tar.Writer, f tarFile, made map[string]bool) error {
	if dir := filepath.Dir(f.name); !made[dir] {
		made[dir] = true
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch()}); err != nil {
			return err
		}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: f.size, Uid: f.uid, Gid: f.uid, ModTime: epoch()}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	line := strings.Repeat("content of "+f.name+"\n", int(f.size/16)+1)
	_, err := io.WriteString(w, line[:f.size])
	return err
}

// epoch is when all files of recipes were made.
func epoch() time.Time { return time.Unix(1_700_000_000, 0) }

// packArchive puts layers, tars in a folder, into a docker archive.
func packArchive(ctx context.Context, dir, archive, ref string, layers []string) error {
	ids := make([]string, len(layers))
	for i, name := range layers {
		sum, err := peers.Run(ctx, "sha256sum", filepath.Join(dir, name))
		if err != nil {
			return err
		}
		ids[i] = "sha256:" + strings.Fields(sum)[0]
	}
	config := map[string]any{
		"architecture": "amd64", "os": "linux", "created": epoch().UTC(),
		"config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	}
	manifest := []map[string]any{{"Config": "config.json", "RepoTags": []string{ref}, "Layers": layers}}
	for name, value := range map[string]any{"config.json": config, "manifest.json": manifest} {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	_, err := peers.Run(ctx, "tar", append([]string{"-C", dir, "-cf", archive, "config.json", "manifest.json"}, layers...)...)
	return err
}
