package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/distribution/reference"
)

// Config is what registries.toml says of registries:
//
//	[[registry]]
//	prefix = "docker.io/library"          # which references: a host, or one with a path
//	location = "registry.example.com/hub" # what takes the prefix's place; default: the prefix
//	insecure = false                      # no valid certificate, or no TLS
//	blocked = false                       # refuse these references
//
//	[[registry.mirror]]                   # asked first when pulling, in this order
//	location = "localhost:5000/hub"
//	insecure = true
//
// The longest prefix that fits a reference counts. A push goes to the location
// alone.
type Config struct {
	Registries []RegistryConfig `toml:"registry"`

	file string
}

// RegistryConfig is one entry of a Config.
type RegistryConfig struct {
	Prefix   string         `toml:"prefix"`
	Location string         `toml:"location"`
	Insecure bool           `toml:"insecure"`
	Blocked  bool           `toml:"blocked"`
	Mirrors  []MirrorConfig `toml:"mirror"`
}

// MirrorConfig is a registry that has the same images under other names.
type MirrorConfig struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
}

// ReadConfig reads the first of these files that exists; none is no error.
func ReadConfig(files ...string) (*Config, error) {
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read registry settings: %w", err)
		}
		c, err := parseConfigFile(string(raw))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		c.file = file
		return c, nil
	}
	return &Config{}, nil
}

// parseConfigFile refuses what it does not know: a misspelt "blocked" must not
// go unnoticed.
func parseConfigFile(text string) (*Config, error) {
	c := &Config{}
	meta, err := toml.Decode(text, c)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown setting %q", unknown[0].String())
	}
	for i := range c.Registries {
		if err := c.Registries[i].normalise(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (r *RegistryConfig) normalise() error {
	if r.Prefix == "" {
		r.Prefix = r.Location
	}
	if r.Location == "" {
		r.Location = r.Prefix
	}
	for _, place := range append([]string{r.Prefix, r.Location}, r.mirrorLocations()...) {
		if err := checkPlace(place); err != nil {
			return err
		}
	}
	return nil
}

func (r *RegistryConfig) mirrorLocations() []string {
	var list []string
	for _, m := range r.Mirrors {
		list = append(list, m.Location)
	}
	return list
}

// checkPlace demands a host, with a path or without.
func checkPlace(place string) error {
	host, _, _ := strings.Cut(place, "/")
	if !looksLikeHost(host) {
		return fmt.Errorf("%q: want HOST[:PORT][/PATH]", place)
	}
	if _, err := reference.ParseNormalizedNamed(strings.TrimSuffix(place, "/") + "/x"); err != nil {
		return fmt.Errorf("%q: %w", place, err)
	}
	return nil
}

// find returns the entry with the longest prefix of a name, nil if none has.
func (c *Config) find(name string) *RegistryConfig {
	var best *RegistryConfig
	for i := range c.Registries {
		r := &c.Registries[i]
		if fits(r.Prefix, name) && (best == nil || len(r.Prefix) > len(best.Prefix)) {
			best = r
		}
	}
	return best
}

func fits(prefix, name string) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// insecureHosts lists the hosts that need no valid certificate.
func (c *Config) insecureHosts() []string {
	var list []string
	add := func(location string, insecure bool) {
		if host, _, _ := strings.Cut(location, "/"); insecure {
			list = append(list, host)
		}
	}
	for _, r := range c.Registries {
		add(r.Location, r.Insecure)
		for _, m := range r.Mirrors {
			add(m.Location, m.Insecure)
		}
	}
	return list
}

// places lists where a repository may be found: its mirrors, then its own
// location, which is the last. ErrBlocked: the settings forbid it.
func (c *Config) places(name reference.Named) ([]reference.Named, error) {
	r := c.find(name.Name())
	if r == nil {
		return []reference.Named{name}, nil
	}
	if r.Blocked {
		return nil, &userError{
			text: fmt.Sprintf("registry %s is blocked in %s", r.Prefix, c.file), kind: ErrUnsafe,
		}
	}
	var list []reference.Named
	rest := strings.TrimPrefix(name.Name(), strings.TrimSuffix(r.Prefix, "/"))
	for _, location := range append(r.mirrorLocations(), r.Location) {
		place, err := reference.ParseNormalizedNamed(strings.TrimSuffix(location, "/") + rest)
		if err != nil {
			return nil, fmt.Errorf("%s at %s: %w", name, location, err)
		}
		list = append(list, place)
	}
	return list, nil
}
