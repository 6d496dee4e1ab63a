package registry

import (
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParsePlatform reads "os/arch[/variant]" or "arch", as docker's --platform
// does, with the names in use for the same architecture brought into one
// form. An empty string is this machine's platform.
func ParsePlatform(s string) (ocispec.Platform, error) {
	if s == "" {
		return normalPlatform(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}), nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return ocispec.Platform{}, fmt.Errorf("%w: %q is not os/arch[/variant]", ErrPlatform, s)
		}
	}
	var p ocispec.Platform
	switch len(parts) {
	case 1:
		p = ocispec.Platform{OS: "linux", Architecture: parts[0]}
		if parts[0] == "linux" {
			p.Architecture = runtime.GOARCH
		}
	case 2:
		p = ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	case 3:
		p = ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	default:
		return p, fmt.Errorf("%w: %q is not os/arch[/variant]", ErrPlatform, s)
	}
	return normalPlatform(p), nil
}

// normalPlatform gives each platform one name, as containerd and docker
// compare them: arm64 means v8, arm means v7, amd64 means v1, which are left out.
func normalPlatform(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i486", "i586", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if len(p.Variant) == 1 && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch p.Architecture + p.Variant {
	case "arm64v8", "amd64v1", "armv7":
		p.Variant = ""
	}
	return p
}

// platformName writes a platform as docker does.
func platformName(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// rank says how well an offered platform serves the wanted one: 0 not at all,
// higher is better. 32-bit ARM runs what was built for older variants, and an
// amd64 image with a variant is taken only when it was asked for.
func rank(want, have ocispec.Platform) int {
	want, have = normalPlatform(want), normalPlatform(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return 0
	}
	if want.Variant == have.Variant {
		return 100
	}
	if want.Architecture != "arm" {
		return 0
	}
	w, h := armVariant(want), armVariant(have)
	if h == 0 || w == 0 || h > w {
		return 0
	}
	return 10 + h
}

func armVariant(p ocispec.Platform) int {
	switch p.Variant {
	case "":
		return 7
	case "v8":
		return 8
	case "v6":
		return 6
	case "v5":
		return 5
	}
	return 0
}
