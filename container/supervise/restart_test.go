package supervise

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/runspec"
)

// TestPolicies: who is started again after which ends, and how often.
func TestPolicies(t *testing.T) {
	const many = 50
	for _, c := range []struct {
		name          string
		most          int
		code, started int
	}{
		{"", 0, 1, 0},
		{"no", 0, 1, 0},
		{"always", 0, 0, many},
		{"always", 0, 1, many},
		{"unless-stopped", 0, 0, many},
		{"on-failure", 0, 0, 0},
		{"on-failure", 0, 1, many},
		{"on-failure", 3, 1, 3},
		{"on-failure", 3, 0, 0},
	} {
		p := newPolicy(&container.RestartPolicy{Name: c.name, MaximumRetryCount: c.most})
		now, starts := time.Now(), 0
		for starts < many && p.again(container.End{Code: c.code, At: now}, now) {
			starts++
		}
		if starts != c.started {
			t.Errorf("%q, at most %d, code %d: started %d times, want %d", c.name, c.most, c.code, starts, c.started)
		}
	}
}

// TestDelays: who ends at once waits twice as long each time, up to a minute;
// who has run for a while begins anew.
func TestDelays(t *testing.T) {
	p := newPolicy(&container.RestartPolicy{Name: "always"})
	now := time.Now()
	after := func(ran time.Duration) time.Duration {
		p.again(container.End{At: now}, now.Add(-ran))
		return p.delay
	}
	var got []time.Duration
	for range 12 {
		got = append(got, after(time.Second)/time.Millisecond)
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000}
	if !slices.Equal(got, want) {
		t.Errorf("delays of %v ms, want %v", got, want)
	}
	if d := after(longRun); d != firstDelay {
		t.Errorf("after a long run: %v", d)
	}
	if d := after(0); d != 2*firstDelay {
		t.Errorf("and then: %v", d)
	}
}

// TestMountsOf: what is mounted into a container, sorted by where.
func TestMountsOf(t *testing.T) {
	c := &container.Container{}
	c.Mounts = []container.MountPoint{
		{Type: "volume", Name: "data", Destination: "/v", RW: true},
		{Type: "bind", Source: "/host", Destination: "/b", Propagation: "rslave"},
		{Type: "tmpfs", Destination: "/t", Mode: "size=1m,mode=700", RW: true},
	}
	c.Host.Tmpfs = map[string]string{"/a//b/": ""}
	list, err := mountsOf(c, func(name string) (string, error) { return "/volumes/" + name, nil })
	if err != nil {
		t.Fatal(err)
	}
	want := []runspec.Mount{
		{Type: "tmpfs", Target: "/a/b"},
		{Type: "bind", Source: "/host", Target: "/b", ReadOnly: true, Propagation: "rslave"},
		{Type: "tmpfs", Target: "/t", Options: []string{"size=1m", "mode=700"}},
		{Type: "bind", Source: "/volumes/data", Target: "/v"},
	}
	equal := func(a, b runspec.Mount) bool {
		same := slices.Equal(a.Options, b.Options)
		a.Options, b.Options = nil, nil
		return same && a.Type == b.Type && a.Source == b.Source && a.Target == b.Target && a.ReadOnly == b.ReadOnly && a.Propagation == b.Propagation
	}
	if !slices.EqualFunc(list, want, equal) {
		t.Errorf("got %+v\nwant %+v", list, want)
	}
	if _, err := mountsOf(c, func(string) (string, error) { return "", unix.ENOENT }); err != unix.ENOENT {
		t.Errorf("without its volume: %v", err)
	}
}

func TestOptions(t *testing.T) {
	c := &container.Container{}
	pids := int64(20)
	c.Host.PidsLimit = &pids
	c.Host.Devices = []container.Device{{PathOnHost: "/dev/x", PathInContainer: "/dev/y", CgroupPermissions: "rw"}}
	c.Host.Ulimits = []container.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}
	o := Options(c, "/root", nil)
	if o.Root != "/root" || o.Resources.Pids != pids || !slices.Equal(o.Devices, []string{"/dev/x:/dev/y:rw"}) || !slices.Equal(o.Ulimits, []string{"nofile=10:20"}) {
		t.Errorf("%+v", o)
	}
}

func TestStopSignal(t *testing.T) {
	c := &container.Container{}
	for text, want := range map[string]unix.Signal{"": unix.SIGTERM, "SIGQUIT": unix.SIGQUIT, "9": unix.SIGKILL, "nonsense": unix.SIGTERM} {
		c.Config.StopSignal = text
		if got := StopSignal(c); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
