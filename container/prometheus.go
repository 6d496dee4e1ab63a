package container

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"unio/unionfs/transport"
)

// WritePrometheus writes the figures of servers in Prometheus's text format,
// version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). Every
// sample has the label mount, the folder, so that the figures of several
// mounts may stand in one file.
func WritePrometheus(w io.Writer, all []*Stats) error {
	p := &exposition{w: bufio.NewWriter(w), all: all}
	p.requests()
	p.upper()
	p.process()
	return p.w.Flush()
}

// exposition writes families of samples: everything of one name together, over
// all mounts. Errors of writing are kept by the buffer.
type exposition struct {
	w   *bufio.Writer
	all []*Stats
}

// label is a name and its value.
type label struct{ name, value string }

func (p *exposition) family(name, kind, help string, each func(s *Stats, mount label)) {
	fmt.Fprintf(p.w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	for _, s := range p.all {
		each(s, label{"mount", s.Dir})
	}
}

// sample writes one line.
func (p *exposition) sample(name string, value float64, labels ...label) {
	p.w.WriteString(name)
	for i, l := range labels {
		p.w.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(p.w, `%s="%s"`, l.name, labelEscaper().Replace(l.value))
	}
	fmt.Fprintf(p.w, "} %s\n", float(value))
}

func labelEscaper() *strings.Replacer {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
}

func float(v float64) string {
	if v == float64(uint64(v)) {
		return strconv.FormatUint(uint64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// value writes a family with one sample a mount.
func (p *exposition) value(name, kind, help string, of func(*Stats) float64) {
	p.family(name, kind, help, func(s *Stats, mount label) { p.sample(name, of(s), mount) })
}

const (
	counter = "counter"
	gauge   = "gauge"
)

func (p *exposition) requests() {
	p.family("unio_mount_info", gauge, "What is mounted there; always 1.", func(s *Stats, mount label) {
		p.sample("unio_mount_info", 1, label{"target", s.Target}, label{"transport", string(s.Process.Transport)}, mount)
	})
	p.perOp("unio_fuse_requests_total", counter, "Requests of the kernel.", func(name string, o transport.OpStats, l ...label) {
		p.sample(name, float64(o.Requests), l...)
	})
	p.perOp("unio_fuse_request_errors_total", counter, "Requests answered with an error other than ENOSYS.",
		func(name string, o transport.OpStats, l ...label) { p.sample(name, float64(o.Errors), l...) })
	p.perOp("unio_fuse_request_duration_seconds", "histogram", "Time from reading a request to writing its answer.", p.histogram)
	p.value("unio_fuse_read_bytes_total", counter, "Bytes of data answered to READ.",
		func(s *Stats) float64 { return float64(s.BytesRead) })
	p.value("unio_fuse_written_bytes_total", counter, "Bytes of data taken from WRITE.",
		func(s *Stats) float64 { return float64(s.BytesWritten) })
}

// perOp writes a family with samples for each operation.
func (p *exposition) perOp(name, kind, help string, write func(name string, o transport.OpStats, l ...label)) {
	p.family(name, kind, help, func(s *Stats, mount label) {
		for _, op := range slices.Sorted(maps.Keys(s.Ops)) {
			write(name, s.Ops[op], label{"op", op}, mount)
		}
	})
}

func (p *exposition) histogram(name string, o transport.OpStats, l ...label) {
	sum := uint64(0)
	for i := 0; ; i++ {
		bound, ok := transport.BucketBound(i)
		if !ok {
			break
		}
		if i < len(o.Buckets) {
			sum += o.Buckets[i]
		}
		p.sample(name+"_bucket", float64(sum), append(slices.Clip(l), label{"le", float(bound.Seconds())})...)
	}
	p.sample(name+"_bucket", float64(o.Answered), append(slices.Clip(l), label{"le", "+Inf"})...)
	p.sample(name+"_sum", o.Seconds, l...)
	p.sample(name+"_count", float64(o.Answered), l...)
}

// upper writes the families of writable mounts; others have no samples there.
func (p *exposition) upper() {
	p.family("unio_copy_ups_total", counter, "Lower nodes copied into the upper, by what came along.", func(s *Stats, mount label) {
		if s.Upper == nil {
			return
		}
		c := s.Upper.CopyUps
		for _, k := range []struct {
			kind string
			n    uint64
		}{{"metadata", c.Metadata}, {"partial", c.Partial}, {"whole", c.Whole}} {
			p.sample("unio_copy_ups_total", float64(k.n), label{"kind", k.kind}, mount)
		}
	})
	for _, v := range []struct {
		name, kind, help string
		of               func(s *Stats) uint64
	}{
		{"unio_copied_bytes_total", counter, "Bytes of file data copied into the upper.", func(s *Stats) uint64 { return s.Upper.CopiedBytes }},
		{"unio_whiteouts_total", counter, "Whiteouts made.", func(s *Stats) uint64 { return s.Upper.Whiteouts }},
		{"unio_redirects_total", counter, "Renames of folders that show lower entries.", func(s *Stats) uint64 { return s.Upper.Redirects }},
		{"unio_upper_nodes", gauge, "Nodes in the table of what the upper changed.", func(s *Stats) uint64 { return s.Upper.Nodes }},
	} {
		p.family(v.name, v.kind, v.help, func(s *Stats, mount label) {
			if s.Upper != nil {
				p.sample(v.name, float64(v.of(s)), mount)
			}
		})
	}
}

func (p *exposition) process() {
	p.value("unio_server_resident_memory_bytes", gauge, "Memory of the server, mapped indexes included.",
		func(s *Stats) float64 { return float64(s.Process.Resident) })
	p.value("unio_server_goroutines", gauge, "Goroutines of the server.",
		func(s *Stats) float64 { return float64(s.Process.Goroutines) })
	p.value("unio_server_open_fds", gauge, "Open descriptors of the server.",
		func(s *Stats) float64 { return float64(s.Process.Descriptors) })
	p.value("unio_server_uptime_seconds", gauge, "Time since the server started.",
		func(s *Stats) float64 { return s.Process.Uptime })
	p.value("unio_server_restarts_total", counter, "Servers that the mount has outlived.",
		func(s *Stats) float64 { return float64(s.Process.Restarts) })
}
