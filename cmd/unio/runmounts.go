package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"unio/container"
	"unio/container/volume"
)

// parseVolume reads one -v: [HOST-DIR|NAME:]DIR[:OPTIONS] (moby,
// volume/mounts/linux_parser.go).
func parseVolume(text string) (*container.MountPoint, error) {
	parts := strings.Split(text, ":")
	bad := fmt.Errorf("invalid volume specification: '%s'", text)
	m := &container.MountPoint{Type: "volume", Driver: "local", RW: true}
	switch len(parts) {
	case 1:
		m.Destination = parts[0]
	case 2, 3:
		m.Name, m.Destination = parts[0], parts[1]
		if len(parts) == 3 {
			m.Mode = parts[2]
		}
		if m.Name == "" || len(parts) == 2 && (m.Destination == "ro" || m.Destination == "rw") {
			return nil, bad
		}
	default:
		return nil, bad
	}
	if err := checkTarget(m.Destination); err != nil {
		return nil, fmt.Errorf("%w: invalid mount config for type %q: %w", bad, kindOfSource(m.Name), err)
	}
	m.Destination = path.Clean(m.Destination)
	if err := readMode(m); err != nil {
		return nil, err
	}
	return m, setSource(m)
}

func kindOfSource(source string) string {
	if isHostPath(source) {
		return "bind"
	}
	return "volume"
}

func isHostPath(source string) bool {
	return filepath.IsAbs(source) || source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

func checkTarget(dir string) error {
	switch {
	case !path.IsAbs(dir):
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", dir)
	case path.Clean(dir) == "/":
		return errors.New("invalid specification: destination can't be '/'")
	}
	return nil
}

// readMode reads the options of a -v.
func readMode(m *container.MountPoint) error {
	if m.Mode == "" {
		return nil
	}
	for _, o := range strings.Split(m.Mode, ",") {
		switch o {
		case "ro":
			m.RW = false
		case "nocopy":
			m.NoCopy = true
		case "rw", "z", "Z", "consistent", "cached", "delegated", "copy":
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			m.Propagation = o
		default:
			return fmt.Errorf("invalid mode: %s", m.Mode)
		}
	}
	return nil
}

// setSource decides whether a folder of the host or a volume is meant.
func setSource(m *container.MountPoint) error {
	if isHostPath(m.Name) {
		abs, err := filepath.Abs(m.Name)
		m.Type, m.Source, m.Name, m.Driver = "bind", abs, "", ""
		if m.Propagation == "" {
			m.Propagation = "rprivate"
		}
		return err
	}
	if m.Name == "" {
		return nil
	}
	return volume.CheckName(m.Name)
}

// parseMount reads one --mount (docker, opts/mount.go).
func parseMount(text string) (*container.MountSpec, error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, err
	}
	m := &container.MountSpec{Type: "volume", Options: map[string]string{}}
	for _, field := range fields {
		name, value, given := strings.Cut(field, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if err := m.Set(name, value, given); err != nil {
			return nil, fmt.Errorf("%w in '%s'", err, field)
		}
	}
	switch {
	case m.Type == "":
		return nil, errors.New("type is required")
	case m.Target == "":
		return nil, errors.New("target is required")
	}
	return m, nil
}

// pointOf turns a --mount into a mount point.
func pointOf(spec *container.MountSpec) (*container.MountPoint, error) {
	m := &container.MountPoint{Type: spec.Type, Destination: path.Clean(spec.Target), RW: !spec.ReadOnly}
	fail := func(err error) (*container.MountPoint, error) {
		return nil, fmt.Errorf("invalid mount config for type %q: %w", spec.Type, err)
	}
	if err := checkTarget(spec.Target); err != nil {
		return fail(err)
	}
	switch spec.Type {
	case "bind":
		if spec.Source == "" {
			return fail(errors.New("field Source must not be empty"))
		}
		if !filepath.IsAbs(spec.Source) {
			return fail(fmt.Errorf("invalid mount path: '%s' mount path must be absolute", spec.Source))
		}
		if _, err := os.Stat(spec.Source); err != nil {
			return fail(fmt.Errorf("bind source path does not exist: %s", spec.Source))
		}
		m.Source, m.Propagation = path.Clean(spec.Source), spec.Options["bind-propagation"]
		if m.Propagation == "" {
			m.Propagation = "rprivate"
		}
	case "volume":
		m.Name, m.Driver, m.NoCopy = spec.Source, "local", spec.Options["volume-nocopy"] == "true"
		if m.Name != "" {
			return m, volume.CheckName(m.Name)
		}
	case "tmpfs":
		if spec.Source != "" {
			return fail(errors.New("field Source must not be specified"))
		}
		mode, err := tmpfsMode(spec.Options)
		m.Mode = mode
		return m, err
	default:
		return fail(errors.New("mount type unknown"))
	}
	return m, nil
}

// tmpfsMode turns tmpfs-size and tmpfs-mode into mount options.
func tmpfsMode(o map[string]string) (string, error) {
	var list []string
	if v, ok := o["tmpfs-size"]; ok {
		n, err := units.RAMInBytes(v)
		if err != nil {
			return "", fmt.Errorf("invalid value for tmpfs-size: %s", v)
		}
		list = append(list, fmt.Sprintf("size=%d", n))
	}
	if v, ok := o["tmpfs-mode"]; ok {
		if _, err := strconv.ParseUint(v, 8, 32); err != nil {
			return "", fmt.Errorf("invalid value for tmpfs-mode: %s", v)
		}
		list = append(list, "mode="+v)
	}
	return strings.Join(list, ","), nil
}

// mountPoints decides on everything that is mounted into a new container:
// --volumes-from, -v, --mount, then volumes of the image that nothing else
// takes the place of. Volumes are made, those without a name too.
func (w *wanted) mountPoints(e *env) ([]container.MountPoint, error) {
	p := &points{}
	for _, from := range w.host.VolumesFrom {
		if err := p.inherit(e, from); err != nil {
			return nil, err
		}
	}
	taken := len(p.list)
	for _, text := range w.volumes {
		m, err := parseVolume(text)
		if err != nil {
			return nil, err
		}
		if m.Type == "bind" || m.Name != "" {
			w.host.Binds = append(w.host.Binds, text)
		} else {
			w.config.Volumes = withKey(w.config.Volumes, m.Destination)
		}
		if err := p.add(m, taken); err != nil {
			return nil, err
		}
	}
	for i := range w.host.Mounts {
		m, err := pointOf(&w.host.Mounts[i])
		if err != nil {
			return nil, err
		}
		if err := p.add(m, taken); err != nil {
			return nil, err
		}
	}
	for dir := range w.config.Volumes {
		if _, isTmpfs := w.host.Tmpfs[dir]; !isTmpfs && !p.has(path.Clean(dir)) {
			p.list = append(p.list, container.MountPoint{Type: "volume", Driver: "local", Destination: path.Clean(dir), RW: true})
		}
	}
	return p.list, p.makeVolumes(e)
}

func withKey(m map[string]struct{}, key string) map[string]struct{} {
	if m == nil {
		m = map[string]struct{}{}
	}
	m[key] = struct{}{}
	return m
}

// points collects mount points.
type points struct{ list []container.MountPoint }

func (p *points) has(dir string) bool {
	return slices.ContainsFunc(p.list, func(m container.MountPoint) bool { return m.Destination == dir })
}

// add adds one. It may take the place of one that was inherited, which are the
// first ones.
func (p *points) add(m *container.MountPoint, inherited int) error {
	i := slices.IndexFunc(p.list, func(have container.MountPoint) bool { return have.Destination == m.Destination })
	switch {
	case i < 0:
		p.list = append(p.list, *m)
	case i < inherited:
		p.list[i] = *m
	default:
		return fmt.Errorf("Duplicate mount point: %s", m.Destination) //lint:ignore ST1005 docker's words
	}
	return nil
}

// inherit takes over what another container has: CONTAINER[:ro|rw].
func (p *points) inherit(e *env, text string) error {
	name, mode, _ := strings.Cut(text, ":")
	if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
		return fmt.Errorf("invalid mode: %s", mode)
	}
	from, err := e.containers().Lookup(name)
	if err != nil {
		return err
	}
	for _, m := range from.Mounts {
		if m.Type == "tmpfs" || p.has(m.Destination) {
			continue
		}
		m.Anonymous, m.RW = false, m.RW && mode != "ro"
		p.list = append(p.list, m)
	}
	return nil
}

// makeVolumes makes the volumes that are not there yet, and the folders of the
// host that -v names.
func (p *points) makeVolumes(e *env) error {
	volumes := volume.Open(e.root)
	for i := range p.list {
		m := &p.list[i]
		if m.Type == "bind" {
			if err := makeSource(m.Source); err != nil {
				return err
			}
		}
		if m.Type != "volume" {
			continue
		}
		m.Anonymous = m.Anonymous || m.Name == ""
		v, err := volumes.Create(volume.CreateOptions{Name: m.Name})
		if err != nil {
			return err
		}
		m.Name, m.Source = v.Name, v.Mountpoint()
	}
	return nil
}

// makeSource makes a folder of the host that is to be mounted, as docker does
// for -v.
func makeSource(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("error while creating mount source path '%s': %w", dir, err)
	}
	return nil
}
