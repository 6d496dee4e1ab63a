package main

import (
	"archive/tar"
	"context"
	"os"
	"os/exec"
	"strings"
)

// tiny is the image whose containers are started: busybox as /bin/true.
const tiny = "localhost/tiny:1"

// startUp runs containers that end at once.
func (s *stage) startUp() contest {
	limits := []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}
	podman := append([]string{"run", "--rm", "--network", "none", "--runtime", "runc"}, limits...)
	return contest{
		name: "run --rm IMAGE true",
		prepare: func(ctx context.Context) error {
			if err := s.needPodman(); err != nil {
				return err
			}
			return s.importTiny(ctx)
		},
		contestants: []contestant{
			{name: "unio", work: s.run("unio", "run", "--rm", "--network", "none", tiny, "/bin/true")},
			{name: "podman", work: s.run("podman", append(podman, tiny, "/bin/true")...)},
		},
		goals: []goal{{ours: "unio", peer: "podman", atMost: 0.5}},
	}
}

// importTiny gives the image to unio and to podman.
func (s *stage) importTiny(ctx context.Context) error {
	path := s.path("tiny.tar")
	if err := writeTiny(path); err != nil {
		return err
	}
	defer os.Remove(path)
	if _, err := s.unio(ctx, "import", "-q", path, tiny); err != nil {
		return err
	}
	if s.podman == nil {
		return nil
	}
	_, err := s.podman.Run(ctx, "import", "-q", path, tiny)
	return err
}

func writeTiny(path string) error {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, dir := range strings.Fields("bin dev etc proc sys tmp") {
		if err := w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/true", Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}
