package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// report is the JSON form of a run.
type report struct {
	Machine machine           `json:"machine"`
	Unio    string            `json:"unio"`
	Tools   map[string]string `json:"tools,omitempty"` // name → what it says of its version
	Started time.Time         `json:"started"`
	Seconds float64           `json:"seconds"` // without setting up
	Rounds  int               `json:"rounds"`  // at most, of a contestant
	Quick   bool              `json:"quick,omitempty"`
	Image   string            `json:"image"`
	Results []*result         `json:"results"`
}

// machine says where a run was.
type machine struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes"`
	Disk   string `json:"scratch_filesystem"`
}

func thisMachine(scratch string) machine {
	m := machine{CPUs: runtime.NumCPU(), CPU: cpuModel(), Kernel: "unknown", Disk: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var fs unix.Statfs_t
	if unix.Statfs(scratch, &fs) == nil {
		m.Disk = filesystemName(fs.Type)
	}
	return m
}

// peerVersions are what the peers that are there say of themselves. The kernel's are with
// the kernel.
func peerVersions(ctx context.Context) map[string]string {
	found := map[string]string{}
	for name, args := range map[string][]string{
		"dockerd": {"--version"}, "podman": {"--version"}, "runc": {"--version"}, "buildah": {"--version"}, "umoci": {"--version"},
		"skopeo": {"--version"}, "fuse-overlayfs": {"--version"}, "unionfs": {"-V"}, "docker-registry": {"--version"},
	} {
		if out, err := peers.Run(ctx, name, args...); err == nil {
			found[name] = lineOf(out, name)
		}
	}
	return found
}

// lineOf is the first line with a word in it, or else the first: FUSE servers tell of their
// libraries before.
func lineOf(text, word string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[max(0, slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, word) }))]
}

func filesystemName(magic int64) string {
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	}
	return orElse(names[magic], fmt.Sprintf("%#x", magic))
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func (m machine) String() string {
	return fmt.Sprintf("Linux %s, %d × %s, %s of memory, scratch on %s", m.Kernel, m.CPUs, m.CPU, showBytes(float64(m.Memory)), m.Disk)
}

// idle is the number of workloads that nobody ran.
func (r *report) idle() (n int) {
	for _, res := range r.Results {
		if res.idle() {
			n++
		}
	}
	return n
}

func (r *report) save(o options) error {
	if o.json != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.mark == "" {
		return nil
	}
	var text strings.Builder
	r.markdown(&text)
	return os.WriteFile(o.mark, []byte(text.String()), 0o644)
}

var columns = []string{"", "wall", "each, rate", "×", "spread", "rounds", "client CPU", "server CPU", "client RSS", "server RSS", "requests", "new disk"}

// cells are a line's columns.
func (l *line) cells() []string {
	duration := func(ms float64) string { return showTime(time.Duration(ms * 1e6)) }
	return []string{
		l.Name, duration(l.Wall), l.speed(), showRatio(l.Ratio), showRatio(l.Low) + "–" + showRatio(l.High), fmt.Sprint(l.Rounds),
		duration(l.ClientCPU), some(l.ServerRSS > 0, duration(l.ServerCPU)), some(l.ClientRSS > 0, showBytes(float64(l.ClientRSS))),
		some(l.ServerRSS > 0, showBytes(float64(l.ServerRSS))), l.requests(), some(l.Disk != 0, showBytes(float64(l.Disk))),
	}
}

// showRatio prints two digits behind the point, or what matters of a small one.
func showRatio(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// speed is the throughput, or the time of one operation.
func (l *line) speed() string {
	switch {
	case l.Rate > 0:
		return throughput.show(l.Rate)
	case l.Each > 0:
		return showTime(time.Duration(l.Each * 1e3))
	}
	return ""
}

func (l *line) requests() string {
	if l.Requests == nil {
		return ""
	}
	return thousands(*l.Requests)
}

func some(is bool, text string) string {
	if !is {
		return ""
	}
	return text
}

// heading names a workload.
func (r *result) heading() string {
	cold := ""
	if r.Cold {
		cold = ", cold"
	}
	return r.Name + ": " + r.Title + cold
}

// idle tells whether nobody ran.
func (r *result) idle() bool {
	return !slices.ContainsFunc(r.Lines, func(l *line) bool { return l.Missing == "" })
}

// print writes a workload's part of the table.
func (r *result) print(w io.Writer) {
	fmt.Fprintln(w, r.heading())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join(columns, "\t")+"\t")
	for _, l := range r.Lines {
		if l.Missing == "" && l.Rounds > 0 {
			fmt.Fprintln(t, strings.Join(l.cells(), "\t")+"\t")
		}
	}
	_ = t.Flush() // errors of w show in the line after
	for i, l := range r.Lines {
		if i > 0 && r.idle() {
			break // one line says it for all
		}
		if l.Missing != "" {
			fmt.Fprintf(w, "  %s is left out: %s\n", l.Name, l.Missing)
		} else if len(l.Failed) > 0 {
			fmt.Fprintf(w, "  %s failed in one round: %s\n", l.Name, l.Failed[0])
		}
	}
	for _, v := range r.Goals {
		fmt.Fprintf(w, "  goal: %s\n", v)
	}
	fmt.Fprintf(w, "  took %.1f s, %.1f s of it before the first round\n", r.Took, r.Ready)
	fmt.Fprintln(w)
}
