package container

import (
	"fmt"
	"strconv"
	"strings"
)

// HostConfig is what a container has of the host, with docker's field names
// and in docker's order (moby, api/types/container): inspect shows it as it is.
// What unio has no use for is kept, so that a user finds again what was asked.
type HostConfig struct {
	Binds           []string
	ContainerIDFile string
	LogConfig       LogConfig
	NetworkMode     string
	PortBindings    map[string][]PortBinding
	RestartPolicy   RestartPolicy
	AutoRemove      bool
	VolumeDriver    string
	VolumesFrom     []string
	ConsoleSize     [2]uint
	Annotations     map[string]string `json:",omitempty"`

	CapAdd          []string
	CapDrop         []string
	CgroupnsMode    string
	DNS             []string `json:"Dns"`
	DNSOptions      []string `json:"DnsOptions"`
	DNSSearch       []string `json:"DnsSearch"`
	ExtraHosts      []string
	GroupAdd        []string
	IpcMode         string
	Cgroup          string
	Links           []string
	OomScoreAdj     int
	PidMode         string
	Privileged      bool
	PublishAllPorts bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	Tmpfs           map[string]string `json:",omitempty"`
	UTSMode         string
	UsernsMode      string
	ShmSize         int64             // bytes
	Sysctls         map[string]string `json:",omitempty"`
	Runtime         string

	Resources

	Mounts        []MountSpec `json:",omitempty"`
	MaskedPaths   []string
	ReadonlyPaths []string
	Init          *bool `json:",omitempty"`
}

// Resources are the limits of a container; sizes are bytes, 0 is no limit.
type Resources struct {
	CPUShares         int64 `json:"CpuShares"`
	Memory            int64
	NanoCPUs          int64 `json:"NanoCpus"` // 1e9 is one processor
	CgroupParent      string
	BlkioWeight       uint16
	CPUPeriod         int64  `json:"CpuPeriod"` // microseconds
	CPUQuota          int64  `json:"CpuQuota"`  // microseconds
	CpusetCpus        string // as 0-3,5
	CpusetMems        string
	Devices           []Device
	DeviceCgroupRules []string
	MemoryReservation int64
	MemorySwap        int64 // memory and swap together; -1: no limit
	MemorySwappiness  *int64
	OomKillDisable    *bool
	PidsLimit         *int64
	Ulimits           []Ulimit
}

// LogConfig says what becomes of the output.
type LogConfig struct {
	Type   string // json-file or none
	Config map[string]string
}

// PortBinding is a port of the host that -p asked for.
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// RestartPolicy says when a supervisor starts a program that has ended again.
type RestartPolicy struct {
	Name              string // no, always, unless-stopped, on-failure
	MaximumRetryCount int
}

// Device is a device of the host that --device asked for.
type Device struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string
}

// Ulimit is one limit of setrlimit(2), by the name that docker gives it.
type Ulimit struct {
	Name string
	Hard int64
	Soft int64
}

// MountSpec is a mount that --mount asked for.
type MountSpec struct {
	Type        string // bind, volume, tmpfs
	Source      string `json:",omitempty"`
	Target      string
	ReadOnly    bool              `json:",omitempty"`
	Options     map[string]string `json:",omitempty"` // what else it said
	VolumeLabel map[string]string `json:",omitempty"`
}

// MountPoint is a mount of a container, as inspect shows it. They are decided
// when the container is created.
type MountPoint struct {
	Type        string // bind, volume, tmpfs
	Name        string `json:",omitempty"` // of the volume
	Source      string // folder or file of the host
	Destination string // absolute, inside of the container
	Driver      string `json:",omitempty"`
	Mode        string // as the user wrote it: ro, z, …
	RW          bool
	Propagation string

	// Anonymous volumes go with the container when it is removed with -v.
	Anonymous bool `json:",omitempty"`
	// NoCopy keeps a new volume from getting what the image has there.
	NoCopy bool `json:",omitempty"`
}

// Set sets one field of a --mount. The error lacks the field, which the caller
// knows.
func (m *MountSpec) Set(name, value string, given bool) error {
	on := func() (bool, error) {
		if !given || value == "" {
			return true, nil
		}
		switch value {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return false, fmt.Errorf("invalid value for %s: %s", name, value)
	}
	var err error
	switch name {
	case "type":
		m.Type = strings.ToLower(value)
	case "source", "src":
		m.Source = value
	case "target", "dst", "destination":
		m.Target = value
	case "readonly", "ro":
		m.ReadOnly, err = on()
	case "volume-nocopy":
		var no bool
		no, err = on()
		m.Options[name] = strconv.FormatBool(no)
	case "volume-label":
		label, text, _ := strings.Cut(value, "=")
		if m.VolumeLabel == nil {
			m.VolumeLabel = map[string]string{}
		}
		m.VolumeLabel[label] = text
	case "bind-propagation", "bind-nonrecursive", "bind-recursive", "consistency", "tmpfs-size", "tmpfs-mode", "volume-driver", "volume-opt":
		if !given {
			return fmt.Errorf("invalid field '%s' must be a key=value pair", name)
		}
		m.Options[name] = value
	default:
		return fmt.Errorf("unexpected key '%s'", name)
	}
	return err
}
