package runspec

import (
	"errors"
	"fmt"
	"strings"

	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/container/seccomp"
	"unio/imagestore"
)

// Values of --security-opt seccomp that name no profile of the user's.
const (
	seccompUnconfined = "unconfined"
	seccompBuiltin    = "builtin"
)

// SystemPathsUnconfined is the --security-opt that hides nothing of /proc and /sys.
const SystemPathsUnconfined = "systempaths=unconfined"

// setSecurity reads --security-opt and sets the filter of system calls. What
// would need a security module is accepted where it asks for less than there is
// anyway.
func setSecurity(spec *specs.Spec, _ *imagestore.RunConfig, o *Options) error {
	profile := ""
	for _, opt := range o.SecurityOpts {
		name, value, found := strings.Cut(opt, "=")
		if !found {
			name, value, _ = strings.Cut(opt, ":") // docker's older form
		}
		switch {
		case name == "no-new-privileges":
			if value != "" && value != "true" && value != "false" {
				return fmt.Errorf("invalid --security-opt 2: %q", opt)
			}
			spec.Process.NoNewPrivileges = value != "false"
		case name == "seccomp":
			profile = value
		case name == "systempaths" && value == "unconfined":
			spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
		case name == "apparmor" && value == "unconfined", name == "label" && value == "disable":
		case name == "apparmor", name == "label", name == "systempaths":
			return fmt.Errorf("--security-opt %s=%s is not supported", name, value)
		default:
			return fmt.Errorf("invalid --security-opt 2: %q", opt)
		}
	}
	return setSeccomp(spec, o, profile)
}

// setSeccomp puts the container under a profile: docker's, or the one that the
// user gives as JSON. A privileged container is under the user's only (moby,
// daemon/seccomp_linux.go).
func setSeccomp(spec *specs.Spec, o *Options, profile string) (err error) {
	switch {
	case profile == seccompUnconfined, o.Privileged && profile == "":
		return nil
	case profile == "", profile == seccompBuiltin:
		spec.Linux.Seccomp, err = profiles.GetDefaultProfile(spec)
	case !seccomp.Supported():
		return errors.New("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
	default:
		spec.Linux.Seccomp, err = profiles.LoadProfile(profile, spec)
	}
	return err
}
