package main

import (
	"slices"
	"time"
)

// result is what a workload came to.
type result struct {
	Name  string    `json:"workload"`
	Title string    `json:"title"`
	Cold  bool      `json:"cold,omitempty"`
	Took  float64   `json:"seconds"`         // with all that it needs but the images
	Ready float64   `json:"prepare_seconds"` // of which before the first round
	Lines []*line   `json:"contestants"`
	Goals []verdict `json:"goals,omitempty"`
}

// line is one contestant of a result. Times are in milliseconds, sizes in
// bytes; all are medians of its rounds.
type line struct {
	Name      string           `json:"name"`
	Rounds    int              `json:"rounds"`
	Wall      float64          `json:"wall_ms"`
	All       []float64        `json:"all_ms"`
	Ratio     float64          `json:"ratio"` // to the first contestant that ran: the median of same-round ratios,
	Low       float64          `json:"ratio_low"`
	High      float64          `json:"ratio_high"`
	ClientCPU float64          `json:"client_cpu_ms"`
	ServerCPU float64          `json:"server_cpu_ms"`
	ClientRSS int64            `json:"client_peak_rss_bytes"`
	ServerRSS int64            `json:"server_peak_rss_bytes,omitempty"`
	Requests  *int64           `json:"requests,omitempty"`
	ByOp      map[string]int64 `json:"requests_by_operation,omitempty"` // of the last round
	Disk      int64            `json:"new_disk_bytes,omitempty"`
	Each      float64          `json:"op_us,omitempty"`
	Rate      float64          `json:"bytes_per_second,omitempty"`
	Missing   string           `json:"left_out,omitempty"` // why it did not run
	Failed    []string         `json:"failed,omitempty"`   // what went wrong in rounds that do not count
	Took      float64          `json:"seconds"`            // of all rounds, with getting ready

	samples map[int]sample // by round
}

func newResult(w workload) *result {
	r := &result{Name: w.name, Title: w.title, Cold: w.cold}
	for _, who := range w.contestants {
		r.Lines = append(r.Lines, &line{Name: who.name, samples: map[int]sample{}})
	}
	return r
}

func (r *result) line(name string) *line {
	for _, l := range r.Lines {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (r *result) missing(name string) bool { return r.line(name).Missing != "" }

// leaveOut takes a contestant out, with what it did before.
func (r *result) leaveOut(name string, why error) {
	l := r.line(name)
	l.Missing, l.samples = reason(why), map[int]sample{}
}

// failed notes a round that came to nothing. The second leaves the contestant
// out, and the first where nothing came before.
func (r *result) failed(name string, why error) {
	l := r.line(name)
	l.Failed = append(l.Failed, reason(why))
	if len(l.samples) == 0 || len(l.Failed) > 1 {
		r.leaveOut(name, why)
	}
}

func (r *result) add(name string, round int, s sample) { r.line(name).samples[round] = s }

// conclude computes the medians and judges the goals.
func (r *result) conclude(goals []goal) {
	var first *line
	for _, l := range r.Lines {
		if len(l.samples) == 0 {
			continue
		}
		if first == nil {
			first = l
		}
		l.conclude(first)
	}
	for _, g := range goals {
		if v, ok := r.judge(g); ok {
			r.Goals = append(r.Goals, v)
		}
	}
}

func (l *line) conclude(first *line) {
	l.Rounds = len(l.samples)
	for _, round := range l.rounds() {
		l.All = append(l.All, inMillis(l.samples[round].wall))
	}
	l.Wall = medianOf(l.All)
	all := ratios(l, first, wallTime)
	l.Ratio, l.Low, l.High = medianOf(all), slices.Min(all), slices.Max(all)
	l.ClientCPU = l.median(func(s sample) float64 { return inMillis(s.clientCPU) })
	l.ServerCPU = l.median(func(s sample) float64 { return inMillis(s.serverCPU) })
	l.ClientRSS = int64(l.median(func(s sample) float64 { return float64(s.clientRSS) }))
	l.ServerRSS = int64(l.median(serverMemory.of))
	l.Disk = int64(l.median(newDisk.of))
	l.Rate = l.median(throughput.of)
	if l.median(func(s sample) float64 { return float64(s.ops) }) > 0 {
		l.Each = l.median(opTime.of) * 1e6
	}
	if n := int64(l.median(requests.of)); n >= 0 {
		l.Requests, l.ByOp = &n, l.samples[slices.Max(l.rounds())].byOp
	}
}

// rounds are the numbers of its rounds, in order.
func (l *line) rounds() []int {
	var list []int
	for round := range l.samples {
		list = append(list, round)
	}
	slices.Sort(list)
	return list
}

func (l *line) median(of func(sample) float64) float64 { return medianOf(l.each(of)) }

// each are a figure of all rounds.
func (l *line) each(of func(sample) float64) (all []float64) {
	for _, s := range l.samples {
		all = append(all, of(s))
	}
	return all
}

// ratios are those of a to b in the rounds that both ran.
func ratios(a, b *line, f figure) []float64 {
	var all []float64
	for _, round := range a.rounds() {
		if other, ok := b.samples[round]; ok {
			all = append(all, f.of(a.samples[round])/f.of(other))
		}
	}
	return all
}

func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// medianOf is the middle one, or halfway between two; 0 for none.
func medianOf(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
