package container

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"unio/cow"
	"unio/unionfs/transport"
)

// promSample is one line of the format.
type promSample struct {
	name   string
	labels map[string]string
	order  string // the labels as they stand there
	value  float64
}

// promFamily is what HELP, TYPE and samples say of one metric.
type promFamily struct {
	kind    string
	samples []promSample
}

// parsePrometheus reads the text format as strictly as its description has it
// (prometheus.io/docs/instrumenting/exposition_formats): HELP, then TYPE, once
// a family, before its samples, which stand together; valid names, escapes and
// numbers; no sample twice; the file ends with a line feed.
func parsePrometheus(text string) (map[string]*promFamily, error) {
	if !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("no line feed at the end")
	}
	families := map[string]*promFamily{}
	seen := map[string]bool{}
	current, helped := "", ""
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		switch words := strings.SplitN(line, " ", 4); {
		case strings.HasPrefix(line, "# HELP ") && len(words) == 4:
			helped = words[2]
		case strings.HasPrefix(line, "# TYPE ") && len(words) == 4:
			if current = words[2]; helped != current || families[current] != nil {
				return nil, fmt.Errorf("type of %s without help, or twice", current)
			}
			families[current] = &promFamily{kind: words[3]}
		default:
			s, err := parseSample(line)
			if err != nil {
				return nil, fmt.Errorf("%w: %q", err, line)
			}
			if families[current] == nil || baseName(s.name, families[current].kind) != current || seen[s.name+s.order] {
				return nil, fmt.Errorf("sample of another family, or twice: %q", line)
			}
			seen[s.name+s.order] = true
			families[current].samples = append(families[current].samples, s)
		}
	}
	return families, nil
}

func baseName(name, kind string) string {
	if kind != "histogram" {
		return name
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return base
		}
	}
	return ""
}

func parseSample(line string) (s promSample, err error) {
	parts := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)$`).FindStringSubmatch(line)
	if parts == nil {
		return s, fmt.Errorf("no sample")
	}
	s = promSample{name: parts[1], labels: map[string]string{}, order: parts[2]}
	one := regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(,|$)`)
	for rest := parts[2]; rest != ""; {
		l := one.FindStringSubmatch(rest)
		if l == nil || s.labels[l[1]] != "" {
			return s, fmt.Errorf("bad label")
		}
		s.labels[l[1]] = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(l[2])
		rest = rest[len(l[0]):]
	}
	s.value, err = strconv.ParseFloat(parts[3], 64)
	return s, err
}

// checkHistogram looks at the series of one histogram: bounds and counts rise,
// the last bucket is +Inf and equals the count.
func checkHistogram(f *promFamily) error {
	bound, count := map[string]float64{}, map[string]float64{}
	for _, s := range f.samples {
		key := s.labels["op"] + " " + s.labels["mount"]
		switch {
		case strings.HasSuffix(s.name, "_bucket"):
			le, err := strconv.ParseFloat(s.labels["le"], 64)
			if err != nil || le <= bound[key] || s.value < count[key] {
				return fmt.Errorf("%s: bucket %v", key, s)
			}
			bound[key], count[key] = le, s.value
		case strings.HasSuffix(s.name, "_count"):
			if !math.IsInf(bound[key], 1) || s.value != count[key] {
				return fmt.Errorf("%s: count %v, last bucket %v", key, s.value, count[key])
			}
		}
	}
	return nil
}

func someStats() []*Stats {
	ops := map[string]transport.OpStats{
		"LOOKUP": {Requests: 7, Errors: 1, Answered: 6, Seconds: 0.000123, Buckets: []uint64{0, 2, 3, 1}},
		"READ":   {Requests: 1, Answered: 1, Seconds: 9.5, Buckets: append(make([]uint64, 24), 1)},
		"WRITE":  {Requests: 1},
	}
	return []*Stats{
		{
			Dir: `/mnt/a "quoted\` + "\nname", Target: "one", Stats: transport.Stats{Ops: ops, BytesRead: 1 << 40, BytesWritten: 3},
			Upper: &cow.Stats{CopyUps: cow.CopyUps{Metadata: 4, Partial: 5, Whole: 6}, CopiedBytes: 77, Whiteouts: 8, Redirects: 9, Nodes: 10},
		},
		{Dir: "/mnt/b", Target: "two", Stats: transport.Stats{Ops: ops}, Process: ProcessStats{Pid: 5, Uptime: 1.5}},
	}
}

// TestPrometheus reads back what is written.
func TestPrometheus(t *testing.T) {
	var b strings.Builder
	if err := WritePrometheus(&b, someStats()); err != nil {
		t.Fatal(err)
	}
	families, err := parsePrometheus(b.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkHistogram(families["unio_fuse_request_duration_seconds"]); err != nil {
		t.Error(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, s := range f.samples {
			got[fmt.Sprint(s.name, " ", s.labels["op"], s.labels["kind"], s.labels["le"], " ", s.labels["mount"])] = s.value
		}
	}
	a := someStats()[0].Dir
	for key, want := range map[string]float64{
		"unio_fuse_requests_total LOOKUP " + a:                        7,
		"unio_fuse_request_errors_total LOOKUP /mnt/b":                1,
		"unio_fuse_request_duration_seconds_bucket LOOKUP1e-06 " + a:  0,
		"unio_fuse_request_duration_seconds_bucket LOOKUP2e-06 " + a:  2,
		"unio_fuse_request_duration_seconds_bucket LOOKUP8e-06 " + a:  6,
		"unio_fuse_request_duration_seconds_bucket READ8.388608 " + a: 0,
		"unio_fuse_request_duration_seconds_bucket READ+Inf " + a:     1,
		"unio_fuse_request_duration_seconds_sum READ " + a:            9.5,
		"unio_fuse_request_duration_seconds_count WRITE " + a:         0,
		"unio_fuse_read_bytes_total  " + a:                            1 << 40,
		"unio_copy_ups_total partial " + a:                            5,
		"unio_copied_bytes_total  " + a:                               77,
		"unio_upper_nodes  " + a:                                      10,
		"unio_server_uptime_seconds  /mnt/b":                          1.5,
		"unio_server_restarts_total  /mnt/b":                          0,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%q: %v (there: %v), want %v", key, v, ok, want)
		}
	}
	if _, ok := got["unio_upper_nodes  /mnt/b"]; ok {
		t.Error("a read-only mount has no upper to report on")
	}
}

// TestPrometheusReaderIsStrict: the reader above finds faults.
func TestPrometheusReaderIsStrict(t *testing.T) {
	head := "# HELP a b\n# TYPE a counter\n"
	if _, err := parsePrometheus(head + `a{x="1"} 2` + "\n"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		head + `a{x="1"} 2`,
		head + "a{x=\"1\"} 2\na{x=\"1\"} 3\n",
		head + "b{x=\"1\"} 2\n",
		head + "a{x=\"\\q\"} 2\n",
		head + "a{x=\"1\"} two\n",
		head + "a{x=\"1\"}  2\n",
		head + "\n",
		head + head,
		"# TYPE a counter\na{x=\"1\"} 2\n",
	} {
		if _, err := parsePrometheus(text); err == nil {
			t.Errorf("no fault found in %q", text)
		}
	}
}
