package rootless

import (
	"math"
	"os"
	"slices"
	"testing"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/unionfs"
)

// TestLend: users that are lent come behind root in the order of the file; a
// line that makes no sense lends nothing.
func TestLend(t *testing.T) {
	root := specs.LinuxIDMapping{HostID: 1000, Size: 1}
	const all = 1 << 32
	for name, c := range map[string]struct {
		given []user.SubID
		want  []specs.LinuxIDMapping
	}{
		"nothing": {},
		"one":     {[]user.SubID{{SubID: 100000, Count: 65536}}, []specs.LinuxIDMapping{{ContainerID: 1, HostID: 100000, Size: 65536}}},
		"two": {
			[]user.SubID{{SubID: 300000, Count: 10}, {SubID: 100000, Count: 5}},
			[]specs.LinuxIDMapping{{ContainerID: 1, HostID: 300000, Size: 10}, {ContainerID: 11, HostID: 100000, Size: 5}},
		},
		"no users": {[]user.SubID{{SubID: 100000}, {SubID: 100000, Count: -1}}, nil},
		"root":     {[]user.SubID{{SubID: 0, Count: 10}, {SubID: -5, Count: 10}}, nil},
		"too many": {[]user.SubID{{SubID: 1, Count: all}, {SubID: all - 1, Count: 2}, {SubID: 1, Count: math.MaxInt64}, {SubID: math.MaxInt64, Count: 1}}, nil},
		"to the last": {
			[]user.SubID{{SubID: all - 10, Count: 10}},
			[]specs.LinuxIDMapping{{ContainerID: 1, HostID: all - 10, Size: 10}},
		},
		"one too many": {
			[]user.SubID{{SubID: 1, Count: all - 2}, {SubID: 1, Count: 1}},
			[]specs.LinuxIDMapping{{ContainerID: 1, HostID: 1, Size: all - 2}},
		},
	} {
		got := lend([]specs.LinuxIDMapping{root}, c.given)
		if want := append([]specs.LinuxIDMapping{root}, c.want...); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestRanges: what a container calls a user is what is stored; what shows is
// whom the host knows.
func TestRanges(t *testing.T) {
	got := ranges([]specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}})
	want := []unionfs.IDRange{{Stored: 0, Shown: 1000, Size: 1}, {Stored: 1, Shown: 100000, Size: 65536}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestMaps: root has the host's users, everybody else is root of a container.
func TestMaps(t *testing.T) {
	m := Maps()
	if os.Geteuid() == 0 {
		if m != nil || IDs() != nil || Others() {
			t.Errorf("root's containers have users of their own: %+v", m)
		}
		return
	}
	if m == nil || m.UIDs[0] != (specs.LinuxIDMapping{HostID: uint32(os.Geteuid()), Size: 1}) {
		t.Errorf("%+v", m)
	}
	if ids := IDs(); ids == nil || len(ids.UIDs) != len(m.UIDs) {
		t.Errorf("%+v", ids)
	}
}
