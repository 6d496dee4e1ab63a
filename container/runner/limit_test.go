package runner

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestUnified writes limits into what looks like cgroups of version 2.
func TestUnified(t *testing.T) {
	t.Parallel()
	number := func(n int64) *int64 { return &n }
	period, shares, weight := uint64(50_000), uint64(1024), uint16(300)
	h := hierarchy{dir: t.TempDir()}
	g := &cgroups{}
	got := map[string]string{}
	for _, l := range limitsOf(&specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: number(64 << 20), Swap: number(96 << 20), Reservation: number(32 << 20)},
		CPU:     &specs.LinuxCPU{Shares: &shares, Quota: number(25_000), Period: &period, Cpus: "0-1"},
		Pids:    &specs.LinuxPids{Limit: number(-1)},
		BlockIO: &specs.LinuxBlockIO{Weight: &weight},
	}) {
		dir, err := g.enter(&h, testID, l.controller)
		must(t, err)
		must(t, l.set(&h, dir))
		for _, s := range l.settings(&h) {
			data, err := os.ReadFile(filepath.Join(dir, s.file))
			must(t, err)
			got[s.file] = string(data)
		}
	}
	want := map[string]string{
		"memory.max": "67108864", "memory.swap.max": "33554432", "memory.low": "33554432",
		"cpu.weight": "39", "cpu.max": "25000 50000", "cpuset.cpus": "0-1", "pids.max": "max",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	control, err := os.ReadFile(filepath.Join(h.dir, "unio/cgroup.subtree_control"))
	if err != nil || !strings.HasPrefix(string(control), "+") {
		t.Errorf("controllers: %q, %v", control, err)
	}
	if len(g.dirs) != 1 || g.dirs[0] != filepath.Join(h.dir, "unio", testID) {
		t.Errorf("groups: %q", g.dirs)
	}
}

// TestWarnings asks for what this kernel cannot do, and for nothing.
func TestWarnings(t *testing.T) {
	t.Parallel()
	weight := uint16(300)
	r := &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: &weight}}
	if list := Warnings(&specs.Linux{Resources: r}); len(list) > 0 {
		var log strings.Builder
		o := &Options{
			ID: testID + "0007", Log: slog.New(slog.NewTextHandler(&log, nil)),
			Spec: &specs.Spec{Linux: &specs.Linux{Resources: r, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}}}},
		}
		g, err := makeCgroups(o)
		must(t, err)
		g.remove()
		if !strings.Contains(log.String(), "limit discarded") {
			t.Errorf("warnings %q, but logged: %q", list, log.String())
		}
	}
	if list := Warnings(&specs.Linux{}); len(list) > 0 {
		t.Errorf("warnings without limits: %q", list)
	}
}
