package registry

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParsePlatform reads "os/arch[/variant]", "os" or "arch", as docker's
// --platform does, with the names in use for the same architecture brought
// into one form. An empty string is this machine's platform. Errors are those
// of containerd's platforms package, which docker shows.
func ParsePlatform(s string) (ocispec.Platform, error) {
	mine := normalPlatform(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if s == "" {
		return mine, nil
	}
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if part == "" || strings.Trim(part, platformLetters) != "" {
			return ocispec.Platform{}, platformError("%q is an invalid component of %q: platform specifier component must match %q",
				part, s, "^[A-Za-z0-9_-]+$")
		}
	}
	switch len(parts) {
	case 1:
		p := normalPlatform(ocispec.Platform{OS: mine.OS, Architecture: s})
		switch {
		case slices.Contains(knownSystems(), strings.ToLower(s)):
			return normalPlatform(ocispec.Platform{OS: s, Architecture: mine.Architecture}), nil
		case !slices.Contains(knownArchitectures(), p.Architecture):
			return ocispec.Platform{}, platformError("%q: unknown operating system or architecture", s)
		}
		return p, nil
	case 2:
		return normalPlatform(ocispec.Platform{OS: parts[0], Architecture: parts[1]}), nil
	case 3:
		return normalPlatform(ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}), nil
	}
	return ocispec.Platform{}, platformError("%q: cannot parse platform specifier", s)
}

const platformLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func platformError(format string, args ...any) error {
	return &userError{text: fmt.Sprintf(format, args...) + ": invalid argument", kind: ErrPlatform}
}

// knownSystems and knownArchitectures are those that a platform of one word
// may name: Go's, as docker has them.
func knownSystems() []string {
	return strings.Fields("aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos")
}

func knownArchitectures() []string {
	return strings.Fields("386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le " +
		"ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm")
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
