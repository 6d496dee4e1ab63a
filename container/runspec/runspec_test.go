package runspec

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/imagestore"
)

// newRoot makes a root folder with tables of users.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n",
		"group":  "root:x:0:\nann:x:1000:\nwheel:x:10:ann\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func image(c ocispec.ImageConfig) imagestore.RunConfig {
	return imagestore.RunConfig{DockerOCIImageConfig: dockerspec.DockerOCIImageConfig{ImageConfig: c}}
}

// mustNew describes a container that runs true, if nothing else is said.
func mustNew(t *testing.T, c ocispec.ImageConfig, o Options) *specs.Spec {
	t.Helper()
	if o.Root == "" {
		o.Root = newRoot(t)
	}
	if len(o.Args)+len(o.Entrypoint)+len(c.Cmd)+len(c.Entrypoint) == 0 {
		o.Args = []string{"true"}
	}
	spec, err := New(image(c), o)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestCommand(t *testing.T) {
	t.Parallel()
	cmd, entry := ocispec.ImageConfig{Cmd: []string{"c", "d"}}, ocispec.ImageConfig{Entrypoint: []string{"e"}, Cmd: []string{"c"}}
	for _, test := range []struct {
		image ocispec.ImageConfig
		o     Options
		want  string
	}{
		{cmd, Options{}, "c d"},
		{cmd, Options{Args: []string{"x"}}, "x"},
		{entry, Options{}, "e c"},
		{entry, Options{Args: []string{"x", "y"}}, "e x y"},
		{entry, Options{SetEntrypoint: true, Entrypoint: []string{"n"}}, "n"},
		{entry, Options{SetEntrypoint: true, Entrypoint: []string{"n"}, Args: []string{"x"}}, "n x"},
		{entry, Options{SetEntrypoint: true, Args: []string{"x"}}, "x"},
	} {
		config := image(test.image)
		if got := strings.Join(Command(&config, &test.o), " "); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.o, got, test.want)
		}
	}
	if _, err := New(image(entry), Options{Root: newRoot(t), SetEntrypoint: true}); err != ErrNoCommand {
		t.Errorf("no command: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	c := ocispec.ImageConfig{Env: []string{"PATH=/bin", "A=image", "B=image", "C=image"}, User: "ann"}
	spec := mustNew(t, c, Options{Env: []string{"B=user", "C", "D="}, TTY: true, Hostname: "h"})
	want := []string{"PATH=/bin", "HOSTNAME=h", "TERM=xterm", "B=user", "D=", "A=image", "HOME=/home/ann"}
	if !slices.Equal(spec.Process.Env, want) {
		t.Errorf("got %q, want %q", spec.Process.Env, want)
	}
	spec = mustNew(t, ocispec.ImageConfig{}, Options{Env: []string{"HOME=/x", "HOSTNAME=own"}, Hostname: "h"})
	if want := []string{"PATH=" + DefaultPath, "HOSTNAME=own", "HOME=/x"}; !slices.Equal(spec.Process.Env, want) {
		t.Errorf("got %q, want %q", spec.Process.Env, want)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		user   string
		groups []string
		want   specs.User
	}{
		{"", nil, specs.User{AdditionalGids: []uint32{0}}},
		{"ann", nil, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 10}}},
		{"1000:wheel", []string{"root", "99"}, specs.User{UID: 1000, GID: 10, AdditionalGids: []uint32{10, 0, 99}}},
		{"5:6", []string{"6"}, specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6}}},
	} {
		spec := mustNew(t, ocispec.ImageConfig{User: "ignored"}, Options{User: cmpOr(test.user, "0"), Groups: test.groups})
		if got := spec.Process.User; !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %+v, want %+v", test.user, got, test.want)
		}
	}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// TestErrors checks what is refused, in docker's words where docker has some.
func TestErrors(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{User: "bob"}, "unable to find user bob: no matching entries in passwd file"},
		{Options{User: "ann:none"}, "unable to find group none: no matching entries in group file"},
		{Options{Groups: []string{"none"}}, "unable to find group none"},
		{Options{User: "4294967295"}, "uids and gids must be in range 0-2147483647"},
		{Options{Workdir: "x"}, "the working directory 'x' is invalid, it needs to be an absolute path"},
		{Options{CapAdd: []string{"NOTHING"}}, `invalid CapAdd: unknown capability: "CAP_NOTHING"`},
		{Options{SecurityOpts: []string{"nonsense"}}, `invalid --security-opt 2: "nonsense"`},
		{Options{SecurityOpts: []string{"seccomp=/profile.json"}}, "Decoding seccomp profile failed"},
		{Options{SecurityOpts: []string{"apparmor=mine"}}, "--security-opt apparmor=mine is not supported"},
		{Options{Namespaces: Namespaces{Network: "bridge"}}, "network bridge not found"},
		{Options{Namespaces: Namespaces{PID: "container"}}, "--pid: invalid PID mode"},
		{Options{Hostname: "h", Namespaces: Namespaces{UTS: "host"}}, "conflicting options: hostname and the UTS mode"},
		{Options{Mounts: []Mount{{Type: "bind", Source: "/x", Target: "y"}}}, "mount path must be absolute"},
		{Options{Mounts: []Mount{{Type: "bind", Source: "/x", Target: "/y/.."}}}, "destination can't be '/'"},
		{Options{Mounts: []Mount{{Type: "tmpfs", Target: "/y"}, {Type: "tmpfs", Target: "/y/"}}}, "Duplicate mount point: /y"},
		{Options{Devices: []string{"/dev/no-such"}}, `error gathering device information while adding custom device "/dev/no-such"`},
		{Options{Devices: []string{"/etc/passwd"}}, "not a device node"},
		{Options{Devices: []string{"/dev/null:/x:rwx"}}, "invalid device mode: rwx"},
		{Options{Devices: []string{"a:b:c:d"}}, "invalid device specification: a:b:c:d"},
		{Options{Ulimits: []string{"nofile"}}, "invalid ulimit argument: nofile"},
		{Options{Resources: Resources{Memory: 1 << 20}}, "Minimum memory limit allowed is 6MB"},
		{Options{Resources: Resources{Memory: 64 << 20, MemorySwap: 32 << 20}}, "Minimum memoryswap limit should be larger than memory limit"},
		{Options{Resources: Resources{MemorySwap: 32 << 20}}, "You should always set the Memory limit"},
		{Options{Resources: Resources{CPUPeriod: 10}}, "CPU cfs period can not be less than 1ms"},
		{Options{Resources: Resources{CPUQuota: 10}}, "CPU cfs quota can not be less than 1ms"},
		{Options{Resources: Resources{MemoryReservation: 1}}, "Minimum memory reservation allowed is 6MB"},
		{Options{Namespaces: Namespaces{Cgroup: "x"}}, "--cgroupns: invalid CGROUP mode"},
		{Options{Resources: Resources{NanoCPUs: 1, CPUPeriod: 1}}, "Conflicting options: Nano CPUs and CPU Period cannot both be set."},
	} {
		test.o.Root, test.o.Args = root, []string{"true"}
		if _, err := New(image(ocispec.ImageConfig{}), test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.o, err, test.want)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	kinds := func(spec *specs.Spec) string {
		var list []string
		for _, n := range spec.Linux.Namespaces {
			list = append(list, string(n.Type)+n.Path)
		}
		return strings.Join(list, " ")
	}
	for _, test := range []struct {
		n    Namespaces
		want string
	}{
		{Namespaces{}, "mount pid ipc uts cgroup"},
		{Namespaces{Network: "none", PID: "host", IPC: "shareable", UTS: "host", Cgroup: "private"}, "mount network ipc cgroup"},
		{Namespaces{Network: "host", IPC: "host", Cgroup: "host"}, "mount pid uts"},
		{Namespaces{Network: "ns:/proc/7/ns/net"}, "mount network/proc/7/ns/net pid ipc uts cgroup"},
	} {
		if got := kinds(mustNew(t, ocispec.ImageConfig{}, Options{Namespaces: test.n})); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.n, got, test.want)
		}
	}
	maps := &IDMaps{UIDs: []specs.LinuxIDMapping{{HostID: 5, Size: 1}}, GIDs: []specs.LinuxIDMapping{{HostID: 6, Size: 1}}}
	spec := mustNew(t, ocispec.ImageConfig{}, Options{Rootless: maps})
	if kinds(spec) != "mount pid ipc uts cgroup user" || spec.Linux.UIDMappings[0].HostID != 5 {
		t.Errorf("rootless: %+v", spec.Linux)
	}
	for _, m := range spec.Mounts {
		if slices.Contains(m.Options, "gid=5") {
			t.Error("a group that is not in the namespace")
		}
	}
}

// TestMounts checks the order of mounts, and that the user's take the place of
// those that every container has.
func TestMounts(t *testing.T) {
	t.Parallel()
	spec := mustNew(t, ocispec.ImageConfig{}, Options{ShmSize: 1 << 20, Mounts: []Mount{
		{Type: "bind", Source: "/s", Target: "/a/b", ReadOnly: true, Propagation: "rslave"},
		{Type: "bind", Source: "/s", Target: "/a", NoRecursive: true},
		{Type: "tmpfs", Target: "/dev/shm/", Options: []string{"size=1k"}},
	}})
	var targets []string
	for _, m := range spec.Mounts {
		targets = append(targets, m.Destination)
		switch {
		case m.Destination == "/a/b" && strings.Join(m.Options, ",") != "rbind,ro,rslave",
			m.Destination == "/a" && strings.Join(m.Options, ",") != "bind,rprivate",
			m.Destination == "/dev/shm" && strings.Join(m.Options, ",") != "noexec,nosuid,nodev,size=1k":
			t.Errorf("%+v", m)
		}
	}
	want := "/proc /dev /dev/pts /sys /sys/fs/cgroup /dev/mqueue /a /a/b /dev/shm"
	if got := strings.Join(targets, " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNetFiles(t *testing.T) {
	t.Parallel()
	spec := mustNew(t, ocispec.ImageConfig{}, Options{Hostname: "h", Namespaces: Namespaces{Network: "none"}, Mounts: []Mount{{Type: "bind", Source: "/etc/hosts", Target: "/etc/hosts"}}})
	files, err := NetFiles(spec, NetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == "/etc/hosts" {
			t.Error("a file that the user mounts is made")
		}
		if f.Path == "/etc/hostname" && string(f.Data) != "h\n" {
			t.Errorf("hostname: %q", f.Data)
		}
	}
	o := NetOptions{DNS: []string{"1.2.3.4"}, DNSSearch: []string{"a.b", "c"}, DNSOptions: []string{"ndots:2"}}
	got := o.resolvConf([]byte("# kept\nnameserver 9.9.9.9\nsearch x\ndomain y\noptions z\nsortlist 1"))
	if want := "# kept\nsortlist 1\nsearch a.b c\nnameserver 1.2.3.4\noptions ndots:2\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	hosts, err := addHosts([]byte("x\n"), []string{"a:1.2.3.4", "b=::1", "c:[::2]", "d:host-gateway"})
	if want := "x\n1.2.3.4\ta\n::1\tb\n::2\tc\n127.0.0.1\td\n"; err != nil || string(hosts) != want {
		t.Errorf("got %q, %v, want %q", hosts, err, want)
	}
	for _, bad := range []string{"a", ":1.2.3.4", "a:1.2.3"} {
		if _, err := addHosts(nil, []string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	r := mustNew(t, ocispec.ImageConfig{}, Options{ID: "x", Resources: Resources{Memory: 64 << 20, NanoCPUs: 1_500_000_000, Pids: -1}}).Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Memory.Swap != 128<<20 || *r.CPU.Quota != 150_000 || *r.CPU.Period != 100_000 || *r.Pids.Limit != -1 {
		t.Errorf("%+v %+v %+v", r.Memory, r.CPU, r.Pids)
	}
	r = mustNew(t, ocispec.ImageConfig{}, Options{}).Linux.Resources
	if r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil || r.Devices[0].Allow {
		t.Errorf("%+v", r)
	}
}
