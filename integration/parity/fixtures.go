package parity

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
	"time"
)

// WriteFixtures fills a work folder with what scripts start from:
//
//	rootfs.tar  a root filesystem with busybox, for docker import
//	box.tar     docker archive: test/box:1, the same with CMD, ENV and labels
//	base.tar    docker archive: test/base:1, one tiny layer, created in 2020
//	chain.tar   docker archive: test/chain:1 and :2, three layers over that of
//	            test/base:1, with history, created in 2021
//	steps.tar   docker archive: test/steps:1 and :2, three layers that are in
//	            nothing else: a dockerd remembers what it has pushed where
//
// The archives are in docker's own old layout, so that both sides get the
// same image IDs.
func WriteFixtures(dir string) error {
	rootfs, err := busyboxTar()
	if err != nil {
		return err
	}
	base := layerTar("etc/base", "base\n")
	box := image{
		names: []string{"test/box:1"}, created: at(2019), layers: [][]byte{rootfs},
		config:  map[string]any{"Cmd": []string{"sh"}, "Env": []string{"PATH=/bin", "COLOR=blue"}, "Labels": map[string]string{"kind": "box"}},
		history: []string{"/bin/sh -c #(nop) ADD file:busybox in / ", "/bin/sh -c #(nop)  CMD [\"sh\"]"},
	}
	small := image{
		names: []string{"test/base:1"}, created: at(2020), layers: [][]byte{base},
		config:  map[string]any{"Env": []string{"PATH=/bin"}, "Labels": map[string]string{"kind": "base"}},
		history: []string{"/bin/sh -c #(nop) COPY file:base in /etc/base "},
	}
	chain := image{
		names: []string{"test/chain:1", "test/chain:2"}, created: at(2021),
		layers: [][]byte{base, layerTar("etc/one", strings.Repeat("1", 1000)), layerTar("etc/two", strings.Repeat("2", 123456))},
		config: map[string]any{"Env": []string{"PATH=/bin", "A=b"}, "Labels": map[string]string{"kind": "chain", "n": "3"}, "WorkingDir": "/srv"},
		history: []string{
			"/bin/sh -c #(nop) COPY file:base in /etc/base ", "/bin/sh -c #(nop) WORKDIR /srv",
			"/bin/sh -c echo a rather long command that a table cuts off > /etc/one", "/bin/sh -c #(nop) COPY file:two in /etc/two ",
		},
	}
	steps := image{
		names: []string{"test/steps:1", "test/steps:2"}, created: at(2022),
		layers: [][]byte{layerTar("srv/1", "first\n"), layerTar("srv/2", strings.Repeat("second", 3000)), layerTar("srv/3", "third\n")},
	}
	files := map[string][]byte{"rootfs.tar": rootfs}
	for name, img := range map[string]image{"box.tar": box, "base.tar": small, "chain.tar": chain, "steps.tar": steps} {
		if files[name], err = img.archive(); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func at(year int) time.Time { return time.Date(year, 1, 2, 3, 4, 5, 0, time.UTC) }

// image is what a docker archive is made from. A history line with "#(nop)"
// and neither ADD nor COPY made no layer.
type image struct {
	names   []string
	created time.Time
	layers  [][]byte
	config  map[string]any
	history []string
}

// archive lays the image out as docker save did before it wrote OCI layouts.
func (m image) archive() ([]byte, error) {
	var diffIDs, files []string
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i, layer := range m.layers {
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)))
		files = append(files, fmt.Sprintf("%064x/layer.tar", i+1))
		if err := addFile(w, files[i], 0o644, layer); err != nil {
			return nil, err
		}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": m.created, "config": m.config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}, "history": m.steps(),
	})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": m.names, "Layers": files}})
	if err != nil {
		return nil, err
	}
	if err := addFile(w, name, 0o644, config); err != nil {
		return nil, err
	}
	if err := addFile(w, "manifest.json", 0o644, manifest); err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}

func (m image) steps() []map[string]any {
	var list []map[string]any
	for i, by := range m.history {
		step := map[string]any{"created": m.created.Add(time.Duration(i-len(m.history)) * time.Hour), "created_by": by}
		if strings.Contains(by, "#(nop)") && !strings.Contains(by, "ADD") && !strings.Contains(by, "COPY") {
			step["empty_layer"] = true
		}
		list = append(list, step)
	}
	return list
}

// layerTar is a layer of one file and its folder.
func layerTar(name, text string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	// Nothing here can fail: the headers are plain, the target is memory.
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: filepath.Dir(name) + "/", Mode: 0o755, ModTime: at(2018)})
	_ = addFile(w, name, 0o644, []byte(text))
	_ = w.Close()
	return out.Bytes()
}

func addFile(w *tar.Writer, name string, mode int64, data []byte) error {
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: at(2018)})
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// busyboxTar is a root filesystem of Debian's static busybox.
func busyboxTar() ([]byte, error) {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range strings.Fields("bin/ dev/ etc/ home/ proc/ root/ sys/ tmp/ var/") {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: at(2018)}); err != nil {
			return nil, err
		}
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home:/bin/sh\n",
		"etc/group":  "root:x:0:\nann:x:1000:\nwheel:x:10:ann\n",
	}
	for _, name := range []string{"etc/passwd", "etc/group"} {
		if err := addFile(w, name, 0o644, []byte(files[name])); err != nil {
			return nil, err
		}
	}
	if err := addFile(w, "bin/busybox", 0o755, data); err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(string(applets)) {
		if name == "busybox" {
			continue
		}
		link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", ModTime: at(2018)}
		if err := w.WriteHeader(link); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return out.Bytes(), err
}
