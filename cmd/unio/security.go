package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"unio/container"
	"unio/container/runspec"
)

// setSecurity takes --security-opt over into what is kept of a container. As
// docker's client does, it reads the file of a profile, and keeps the paths that
// are hidden in fields of their own.
func setSecurity(h *container.HostConfig, options []string) error {
	options, err := readProfiles(options)
	if err != nil {
		return err
	}
	if !h.Privileged {
		h.MaskedPaths, h.ReadonlyPaths = runspec.MaskedPaths(), runspec.ReadonlyPaths()
	}
	if i := slices.Index(options, runspec.SystemPathsUnconfined); i >= 0 {
		options = slices.Delete(options, i, i+1)
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	if len(options) > 0 {
		h.SecurityOpt = options
	}
	return nil
}

// readProfiles puts the profile itself, as compact JSON, in the place of its
// file's name.
func readProfiles(options []string) ([]string, error) {
	options = slices.Clone(options)
	for i, o := range options {
		name, value, ok := strings.Cut(o, "=")
		if !ok {
			name, value, ok = strings.Cut(o, ":") // docker's older form
		}
		if !ok && o != "no-new-privileges" {
			return nil, fmt.Errorf("Invalid --security-opt: %q", o) //lint:ignore ST1005 docker's words
		}
		if name != "seccomp" || value == "unconfined" || value == "builtin" {
			continue
		}
		data, err := os.ReadFile(value)
		if err != nil {
			return nil, fmt.Errorf("opening seccomp profile (%s) failed: %w", value, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, data); err != nil {
			return nil, fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", value, err)
		}
		options[i] = "seccomp=" + compact.String()
	}
	return options, nil
}
