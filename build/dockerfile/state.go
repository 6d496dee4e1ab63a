package dockerfile

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/build/runconfig"
	"unio/imagestore"
)

// state is what a stage has become: what the image would be if it ended here.
type state struct {
	base     *imagestore.Image // of FROM; nil: scratch
	platform ocispec.Platform
	author   string
	config   imagestore.RunConfig
	editor   runconfig.Editor
	layers   []digest.Digest // diffIDs, bottom first
	history  []ocispec.History
	created  *time.Time
	changed  bool     // an instruction was carried out: it is not the base any more
	args     []string // NAME=VALUE of the ARGs that have a value
	declared []string // names of all ARGs so far
}

// defaultPath is the PATH of images that set none (docker's).
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// newState is the state behind a FROM; img is nil for scratch.
func newState(img *imagestore.Image, platform string) (*state, error) {
	s := &state{base: img}
	if img == nil {
		s.platform = parsePlatform(platform)
	} else {
		s.platform = img.Config.Platform
		s.author, s.created = img.Config.Author, img.Config.Created
		s.layers = slices.Clone(img.DiffIDs())
		s.history = img.Config.FullHistory()
		if err := cloneJSON(&img.Config.Config, &s.config); err != nil {
			return nil, err
		}
	}
	s.editor.Config = &s.config.DockerOCIImageConfig
	if _, ok := lookupVar(s.config.Env, "PATH"); !ok {
		s.config.Env = append(s.config.Env, "PATH="+defaultPath)
	}
	return s, nil
}

// clone is the state for another stage to go on with.
func (s *state) clone() (*state, error) {
	c := *s
	c.config = imagestore.RunConfig{}
	if err := cloneJSON(&s.config, &c.config); err != nil {
		return nil, err
	}
	c.editor = runconfig.Editor{Config: &c.config.DockerOCIImageConfig}
	c.layers, c.history = slices.Clone(s.layers), slices.Clone(s.history)
	c.args, c.declared = slices.Clone(s.args), slices.Clone(s.declared)
	return &c, nil
}

func cloneJSON(from, to any) error {
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		return fmt.Errorf("copy config: %w", err)
	}
	return nil
}

// parsePlatform reads os/arch[/variant]; what is missing is this machine's.
func parsePlatform(s string) ocispec.Platform {
	p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	parts := strings.Split(s, "/")
	if parts[0] != "" {
		p.OS = parts[0]
	}
	if len(parts) > 1 {
		p.Architecture = parts[1]
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	return p
}

// marshal is the config of the image.
func (s *state) marshal() ([]byte, error) {
	if !s.changed && s.base != nil {
		return s.base.RawConfig, nil
	}
	c := imagestore.ImageConfig{
		Created: s.created, Author: s.author, Platform: s.platform, Config: s.config,
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: s.layers}, History: s.history,
	}
	if c.RootFS.DiffIDs == nil {
		c.RootFS.DiffIDs = []digest.Digest{} // null is no list
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write config: %w", err)
	}
	return data, nil
}

// imageID is the ID of the image; empty: there is nothing in it yet.
func (s *state) imageID() (string, error) {
	if !s.changed && s.base == nil {
		return "", nil
	}
	config, err := s.marshal()
	if err != nil {
		return "", err
	}
	return imagestore.ShortID(digest.FromBytes(config)), nil
}

// key is the digest of all of the state that a step can depend on: not of when
// it was made or what it is called.
func (s *state) key() (digest.Digest, error) {
	data, err := json.Marshal(struct {
		Layers   []digest.Digest
		Config   *imagestore.RunConfig
		Author   string
		Platform ocispec.Platform
	}{s.layers, &s.config, s.author, s.platform})
	if err != nil {
		return "", fmt.Errorf("key of a build step: %w", err)
	}
	return digest.FromBytes(data), nil
}

// env are the variables that instructions may use: those of the image and, if
// they are not there, the ARGs.
func (s *state) env() []string { return append(slices.Clone(s.config.Env), s.openArgs()...) }

// openArgs are the ARGs with a value that no ENV hides, sorted.
func (s *state) openArgs() []string {
	var list []string
	for _, arg := range s.args {
		name, _, _ := strings.Cut(arg, "=")
		if _, hidden := lookupVar(s.config.Env, name); !hidden {
			list = append(list, arg)
		}
	}
	slices.Sort(list)
	return list
}

// add ends a step.
func (s *state) add(createdBy string, created time.Time, layer digest.Digest) {
	if layer != "" {
		s.layers = append(s.layers, layer)
	}
	s.history = append(s.history, ocispec.History{
		Created: &created, CreatedBy: createdBy, Author: s.author, EmptyLayer: layer == "",
	})
	s.created, s.changed = &created, true
}
