package runspec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/imagestore"
)

// DefaultCapabilities are what root of a container may do by default: docker's
// list (moby, oci/caps/defaults.go).
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// allCapabilities are those that this process may hand out: what it is bound to
// itself cannot be given to anyone.
func allCapabilities() ([]string, error) {
	self, err := capability.NewPid2(0)
	if err == nil {
		err = self.Load()
	}
	if err != nil {
		return nil, fmt.Errorf("read the own capabilities: %w", err)
	}
	var list []string
	for _, c := range capability.ListKnown() {
		if self.Get(capability.BOUNDING, c) {
			list = append(list, capName(c))
		}
	}
	return list, nil
}

func capName(c capability.Cap) string { return "CAP_" + strings.ToUpper(c.String()) }

// setCapabilities applies --cap-add, --cap-drop and --privileged.
func setCapabilities(spec *specs.Spec, _ *imagestore.RunConfig, o *Options) error {
	list, err := o.capabilities()
	if err != nil {
		return err
	}
	p := spec.Process
	p.Capabilities = &specs.LinuxCapabilities{Bounding: list}
	if p.User.UID == 0 { // others get theirs from the files they run
		p.Capabilities.Effective, p.Capabilities.Permitted = list, list
	}
	return nil
}

// capabilities is the set that is left of the default one. ALL in both lists
// means what moby makes of it (oci/caps/utils.go): drop is looked at first.
func (o *Options) capabilities() ([]string, error) {
	all, err := allCapabilities()
	if err != nil || o.Privileged {
		return all, err
	}
	add, err := normalize("CapAdd", o.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := normalize("CapDrop", o.CapDrop)
	if err != nil {
		return nil, err
	}
	var base []string
	switch {
	case slices.Contains(drop, "ALL") && slices.Contains(add, "ALL"):
		base = all
	case slices.Contains(drop, "ALL"):
		return without(add, []string{"ALL"}), nil
	case slices.Contains(add, "ALL"):
		return without(all, drop), nil
	default:
		base = without(DefaultCapabilities(), drop)
	}
	for _, c := range add {
		if c != "ALL" && !slices.Contains(base, c) {
			base = append(base, c)
		}
	}
	// The default ones may be beyond us, as inside of another container.
	return slices.DeleteFunc(base, func(c string) bool { return !slices.Contains(all, c) && !slices.Contains(add, c) }), nil
}

func without(list, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(drop, c) })
}

// normalize spells capabilities as the kernel's headers do. The error is in
// docker's words, flag being its field.
func normalize(flag string, names []string) ([]string, error) {
	var list []string
	for _, name := range names {
		c := strings.ToUpper(name)
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		known := slices.ContainsFunc(capability.ListKnown(), func(k capability.Cap) bool { return capName(k) == c })
		if c != "ALL" && !known {
			return nil, fmt.Errorf("invalid %s: unknown capability: %q", flag, c)
		}
		list = append(list, c)
	}
	return list, nil
}
