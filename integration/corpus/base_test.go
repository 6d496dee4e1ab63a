package corpus

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// made is when everything in the base images was made.
func made() time.Time { return time.Date(2019, 1, 2, 3, 4, 5, 0, time.UTC) }

// rootfs is a layer of Debian's static busybox with the files that a container
// engine would otherwise put there itself.
func rootfs(t *testing.T) []byte {
	t.Helper()
	program, err := exec.LookPath("busybox")
	must(t, err)
	data, err := os.ReadFile(program)
	must(t, err)
	applets, err := exec.Command(program, "--list").Output()
	must(t, err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(hdr tar.Header, content string) {
		hdr.ModTime, hdr.Size = made(), int64(len(content))
		must(t, w.WriteHeader(&hdr))
		_, err := w.Write([]byte(content))
		must(t, err)
	}
	for _, dir := range strings.Fields("bin/ dev/ dev/pts/ dev/shm/ etc/ home/ home/user/ proc/ root/ run/ srv/ sys/ usr/ usr/local/ usr/local/bin/ var/ var/lib/") {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, "")
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, "")
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nuser:x:1000:1001::/home/user:/bin/sh\n",
		"etc/group":  "root:x:0:\ndaemon:x:1:\nstaff:x:50:user\nusers:x:1001:\n",
		"etc/hosts":  "", "etc/hostname": "", "etc/resolv.conf": "", "dev/console": "",
	} {
		add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, string(data))
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "srv/link", Linkname: "/var/lib"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/mtab", Linkname: "/proc/mounts"}, "")
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, "")
		}
	}
	must(t, w.Close())
	return out.Bytes()
}

// writeBases writes the docker archives of the base images and returns their paths.
func writeBases(t *testing.T, dir string) []string {
	t.Helper()
	layer := rootfs(t)
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	configs := map[string]map[string]any{
		"bb:1": {"Env": []string{path}, "Cmd": []string{"sh"}},
		"onbuild:1": {
			"Env": []string{path, "FROM_BASE=1"}, "Cmd": []string{"base"}, "WorkingDir": "/srv",
			"OnBuild": []string{"COPY app /srv/app", "RUN echo built > /srv/stamp", "ENV TRIGGERED=yes"},
		},
	}
	var paths []string
	for name, config := range configs {
		p := filepath.Join(dir, strings.ReplaceAll(name, ":", "-")+".tar")
		must(t, os.WriteFile(p, dockerArchive(t, name, layer, config), 0o644))
		paths = append(paths, p)
	}
	return paths
}

// dockerArchive wraps a layer as docker load reads it.
func dockerArchive(t *testing.T, name string, layer []byte, config map[string]any) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, data []byte) {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: made()}))
		_, err := w.Write(data)
		must(t, err)
	}
	image, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": made(), "config": config,
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		"history": []map[string]any{{"created": made(), "created_by": "base"}},
	})
	must(t, err)
	file := fmt.Sprintf("%x.json", sha256.Sum256(image))
	manifest, err := json.Marshal([]map[string]any{{"Config": file, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	must(t, err)
	add("layer.tar", layer)
	add(file, image)
	add("manifest.json", manifest)
	must(t, w.Close())
	return out.Bytes()
}
