package runspec

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/imagestore"
)

// Resources are docker's limits; zero values set none.
type Resources struct {
	Memory, MemorySwap, MemoryReservation int64 // bytes; swap -1: unlimited
	NanoCPUs                              int64 // --cpus in billionths
	CPUShares, CPUPeriod, CPUQuota        int64
	CPUSet, MemSet                        string // --cpuset-cpus, --cpuset-mems
	Pids                                  int64  // -1: unlimited
	BlkioWeight                           uint16
	Swappiness                            *int64 // --memory-swappiness, 0 to 100
	KeepOnOOM                             bool   // --oom-kill-disable
}

// cpuPeriod is the period, in µs, of which --cpus sets a share.
const cpuPeriod = 100_000

// minMemory is the least memory, in bytes, that docker allows.
const minMemory = 6 << 20

// setResources says what is limited. Which cgroup takes a limit is the
// runner's affair.
func setResources(spec *specs.Spec, _ *imagestore.RunConfig, o *Options) error {
	r := &o.Resources
	if err := r.check(); err != nil {
		return err
	}
	to := spec.Linux.Resources
	if to == nil {
		to = &specs.LinuxResources{}
		spec.Linux.Resources = to
	}
	r.setMemory(to)
	r.setCPU(to)
	if r.Pids != 0 {
		to.Pids = &specs.LinuxPids{Limit: &r.Pids}
	}
	if r.BlkioWeight != 0 {
		to.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	if o.ID != "" {
		spec.Linux.CgroupsPath = "/unio/" + o.ID
	}
	return nil
}

// check has docker's messages (moby, daemon/daemon_unix.go).
func (r *Resources) check() error {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return fmt.Errorf("Minimum memory limit allowed is 6MB") //nolint:staticcheck // docker's words
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return fmt.Errorf("Minimum memoryswap limit should be larger than memory limit, see usage") //nolint:staticcheck // docker's words
	case r.Memory == 0 && r.MemorySwap > 0:
		return fmt.Errorf("You should always set the Memory limit when using Memoryswap limit, see usage") //nolint:staticcheck // docker's words
	case r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation:
		return fmt.Errorf("Minimum memory limit can not be less than memory reservation limit, see usage") //nolint:staticcheck // docker's words
	case r.MemoryReservation != 0 && r.MemoryReservation < minMemory:
		return fmt.Errorf("Minimum memory reservation allowed is 6MB") //nolint:staticcheck // docker's words
	case r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0):
		return fmt.Errorf("Conflicting options: Nano CPUs and CPU Period cannot both be set.") //nolint:staticcheck // docker's words
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1e6):
		return fmt.Errorf("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return fmt.Errorf("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	return nil
}

func (r *Resources) setMemory(to *specs.LinuxResources) {
	if r.Memory == 0 && r.MemoryReservation == 0 && r.Swappiness == nil && !r.KeepOnOOM {
		return
	}
	to.Memory = &specs.LinuxMemory{}
	if r.Swappiness != nil {
		swappiness := uint64(*r.Swappiness)
		to.Memory.Swappiness = &swappiness
	}
	if r.KeepOnOOM {
		to.Memory.DisableOOMKiller = &r.KeepOnOOM
	}
	if r.MemoryReservation != 0 {
		to.Memory.Reservation = &r.MemoryReservation
	}
	if r.Memory == 0 {
		return
	}
	to.Memory.Limit = &r.Memory
	swap := r.MemorySwap
	if swap == 0 {
		swap = 2 * r.Memory // as much swap as memory, docker's default
	}
	to.Memory.Swap = &swap
}

func (r *Resources) setCPU(to *specs.LinuxResources) {
	cpu := &specs.LinuxCPU{Cpus: r.CPUSet, Mems: r.MemSet}
	period, quota := uint64(r.CPUPeriod), r.CPUQuota
	if r.NanoCPUs > 0 {
		period, quota = cpuPeriod, r.NanoCPUs*cpuPeriod/1e9
	}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		cpu.Shares = &shares
	}
	if period > 0 {
		cpu.Period = &period
	}
	if quota != 0 {
		cpu.Quota = &quota
	}
	if *cpu != (specs.LinuxCPU{}) {
		to.CPU = cpu
	}
}

// setDevices says which devices there are beside those of every container, and
// what may be opened (moby, oci/defaults.go and daemon/oci_linux.go).
func setDevices(spec *specs.Spec, _ *imagestore.RunConfig, o *Options) error {
	spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: o.Privileged, Access: "rwm"}}}
	if o.Privileged {
		return hostDevices(spec)
	}
	spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, defaultDeviceRules()...)
	for _, text := range o.Devices {
		if err := addDevice(spec, text); err != nil {
			return err
		}
	}
	return nil
}

// defaultDeviceRules let a container make any device node, and open a few.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	pts := int64(136)
	return append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &pts, Access: "rwm"})
}

// addDevice reads --device HOST[:CONTAINER[:RWM]]. A folder stands for the
// devices in it.
func addDevice(spec *specs.Spec, text string) error {
	host, inside, access, err := splitDevice(text)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		return fmt.Errorf("error gathering device information while adding custom device %q: no such file or directory", host)
	}
	found := false
	err = filepath.WalkDir(real, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeDevice == 0 {
			return err
		}
		d, err := deviceAt(name, inside+strings.TrimPrefix(name, real))
		if err != nil {
			return err
		}
		found = true
		spec.Linux.Devices = append(spec.Linux.Devices, *d)
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices,
			specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("error gathering device information while adding custom device %q: not a device node", host)
	}
	return err
}

// splitDevice reads a device mapping as the docker command line does.
func splitDevice(text string) (host, inside, access string, err error) {
	parts := strings.Split(text, ":")
	host, inside, access = parts[0], parts[0], "rwm"
	switch {
	case len(parts) > 3 || host == "":
		return "", "", "", fmt.Errorf("invalid device specification: %s", text)
	case len(parts) == 3:
		inside, access = parts[1], parts[2]
	case len(parts) == 2 && isAccess(parts[1]):
		access = parts[1]
	case len(parts) == 2:
		inside = parts[1]
	}
	if !isAccess(access) {
		return "", "", "", fmt.Errorf("invalid device mode: %s", access)
	}
	return host, inside, access, nil
}

func isAccess(s string) bool { return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == "" }

// deviceAt describes a device node of the host.
func deviceAt(host, inside string) (*specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(host, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: host, Err: err}
	}
	d := &specs.LinuxDevice{
		Path: inside, Type: "c", Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), UID: &st.Uid, GID: &st.Gid,
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		d.Type = "b"
	}
	mode := os.FileMode(st.Mode & 0o7777)
	d.FileMode = &mode
	return d, nil
}

// hostDevices gives a privileged container the devices of the host's /dev,
// but terminals and what every container has of its own.
func hostDevices(spec *specs.Spec) error {
	return filepath.WalkDir("/dev", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what cannot be looked at is not given
		case e.IsDir() && (name == "/dev/pts" || name == "/dev/shm" || name == "/dev/mqueue" || name == "/dev/fd"):
			return filepath.SkipDir
		case e.Type()&fs.ModeDevice == 0 || name == "/dev/console" || name == "/dev/ptmx":
			return nil
		}
		d, err := deviceAt(name, name)
		if err == nil {
			spec.Linux.Devices = append(spec.Linux.Devices, *d)
		}
		return nil
	})
}
