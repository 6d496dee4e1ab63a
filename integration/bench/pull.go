package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"unio/integration/debian"
	"unio/integration/peers"
)

const (
	pullLayers = 12
	pullName   = "bench/twelve:1"
	// pullCopies is how often the Debian root is in the image, each time under
	// another folder: with it the image has 800 MB or more.
	pullCopies = 2
)

// pull takes an image of twelve layers from a registry on this machine into an
// empty store.
func (s *stage) pull() contest {
	ours := []string{"--root", s.path("pull-store"), "--runroot", s.path("run")}
	var name string
	unio := func(ctx context.Context) error {
		return s.run(s.binary, append(ours, "pull", "-q", name)...)(ctx)
	}
	podman := func(ctx context.Context) error {
		return s.run("podman", "pull", "-q", "--tls-verify=false", name)(ctx)
	}
	forget := func(ctx context.Context) error {
		return s.run("podman", "rmi", "-f", name)(ctx)
	}
	return contest{
		name: "pull an image of 12 layers",
		prepare: func(ctx context.Context) (err error) {
			name, err = s.serveTwelve(ctx)
			return err
		},
		contestants: []contestant{
			{name: "unio", work: unio, cleanUp: s.remove(s.path("pull-store"))},
			{name: "podman", work: podman, cleanUp: forget},
		},
		goals: []goal{{ours: "unio", peer: "podman", atMost: 0.6}},
	}
}

// serveTwelve makes the image and puts it into a registry of its own, its
// layers compressed by gzip as registries have them.
func (s *stage) serveTwelve(ctx context.Context) (string, error) {
	err := os.MkdirAll(s.path("registry"), 0o755)
	if err == nil {
		err = s.needPodman()
	}
	if err != nil {
		return "", err
	}
	if s.registry, err = peers.StartRegistry(ctx, s.path("registry")); err != nil {
		return "", err
	}
	archive := s.path("twelve.tar")
	if err := makeTwelve(ctx, s.path(""), archive); err != nil {
		return "", fmt.Errorf("the image of %d layers: %w", pullLayers, err)
	}
	name := s.registry.Address + "/" + pullName
	_, err = peers.Run(ctx, "skopeo", "copy", "-q", "--dest-tls-verify=false", "docker-archive:"+archive, "docker://"+name)
	if err != nil {
		return "", err
	}
	return name, os.Remove(archive)
}

// makeTwelve writes a docker archive whose layers share out a Debian root.
func makeTwelve(ctx context.Context, dir, archive string) error {
	root, err := debian.Root(ctx, debian.Tools)
	if err != nil {
		return err
	}
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	sh := &sharer{each: info.Size() * pullCopies / pullLayers, where: map[string]*share{}}
	defer sh.close()
	for i := range pullLayers {
		if err := sh.add(fmt.Sprintf("%s/share-%d.tar", dir, i)); err != nil {
			return err
		}
	}
	for n := range pullCopies {
		if err := sh.take(root, fmt.Sprintf("copy%d", n)); err != nil {
			return err
		}
	}
	return sh.pack(ctx, dir, archive)
}

// share is one layer in the making.
type share struct {
	file *os.File
	buf  *bufio.Writer
	tar  *tar.Writer
	sum  hash.Hash
	size int64 // of the content so far
}

// sharer shares the entries of a tar out to layers, in their order.
type sharer struct {
	list  []*share
	each  int64 // bytes a layer is to have
	at    int
	where map[string]*share // a file's layer, for links to it
}

func (sh *sharer) add(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	s := &share{file: f, sum: sha256.New()}
	s.buf = bufio.NewWriterSize(io.MultiWriter(f, s.sum), 1<<20)
	s.tar = tar.NewWriter(s.buf)
	sh.list = append(sh.list, s)
	return nil
}

func (sh *sharer) close() {
	for _, s := range sh.list {
		s.file.Close()
		os.Remove(s.file.Name())
	}
}

// take shares out a tar, below a folder.
func (sh *sharer) take(from, below string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	r := tar.NewReader(bufio.NewReaderSize(f, 1<<20))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sh.entry(h, r, below); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// entry writes one entry. A hard link goes where its target is: podman applies
// each layer for itself.
func (sh *sharer) entry(h *tar.Header, r io.Reader, below string) error {
	if sh.list[sh.at].size > sh.each && sh.at < len(sh.list)-1 {
		sh.at++
	}
	s := sh.list[sh.at]
	h.Name = below + "/" + strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	h.Format, h.PAXRecords = tar.FormatPAX, nil
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if h.Typeflag == tar.TypeLink {
		h.Linkname = below + "/" + strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		s = sh.where[h.Linkname]
	}
	sh.where[h.Name] = s
	h.Typeflag = plainType(h.Typeflag)
	if err := s.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(s.tar, r)
	s.size += n
	return err
}

// plainType: what was sparse is written whole.
func plainType(t byte) byte {
	if t == tar.TypeGNUSparse {
		return tar.TypeReg
	}
	return t
}

// pack puts the layers into a docker archive.
func (sh *sharer) pack(ctx context.Context, dir, archive string) error {
	var layers, ids []string
	for _, s := range sh.list {
		if err := s.tar.Close(); err != nil {
			return err
		}
		if err := s.buf.Flush(); err != nil {
			return err
		}
		layers = append(layers, path.Base(s.file.Name()))
		ids = append(ids, "sha256:"+hex.EncodeToString(s.sum.Sum(nil)))
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"localhost/twelve:1"}, "Layers": layers}})
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := os.WriteFile(path.Join(dir, name), bytes.TrimSpace(text), 0o600); err != nil {
			return err
		}
	}
	_, err = peers.Run(ctx, "tar", append([]string{"-C", dir, "-cf", archive, "config.json", "manifest.json"}, layers...)...)
	return err
}
