package main

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"os"

	"unio/integration/peers"
)

// diffFiles is how many files each of two images has that are compared.
const diffFiles = 80_000

// diff compares two images in which every file has another owner.
func (s *stage) diff() contest {
	first, second := "localhost/many:a", "localhost/many:b"
	return contest{
		name: "diff of two images of 80,000 files",
		prepare: func(ctx context.Context) error {
			if err := s.needPodman(); err != nil {
				return err
			}
			for uid, name := range []string{first, second} {
				if err := s.importMany(ctx, name, uid); err != nil {
					return err
				}
			}
			return nil
		},
		contestants: []contestant{
			{name: "unio", work: s.run("unio", "diff", first, second)},
			{name: "podman", work: s.run("podman", "diff", first, second)},
		},
		goals: []goal{{ours: "unio", milliseconds: 500}},
	}
}

// needPodman prepares podman's store, unless another contest has.
func (s *stage) needPodman() (err error) {
	if s.podman != nil || s.absent["podman"] != nil {
		return nil
	}
	dir := s.path("podman-alone")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if s.podman, err = peers.NewPodman(dir); err != nil {
		s.podman, s.absent["podman"] = nil, err
	}
	return nil
}

// importMany gives an image of small files to unio and to podman.
func (s *stage) importMany(ctx context.Context, name string, uid int) error {
	path := s.path("many-files.tar")
	if err := writeMany(path, uid); err != nil {
		return err
	}
	defer os.Remove(path)
	if _, err := s.unio(ctx, "import", "-q", path, name); err != nil {
		return err
	}
	if s.podman == nil {
		return nil
	}
	_, err := s.podman.Run(ctx, "import", "-q", path, name)
	return err
}

func writeMany(path string, uid int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(buf)
	for i := range diffFiles {
		text := fmt.Appendf(nil, "content of file %d\n", i)
		h := &tar.Header{Name: fmt.Sprintf("d%03d/f%05d", i/100, i), Mode: 0o644, Uid: uid, Size: int64(len(text))}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return buf.Flush()
}
