package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"unio/integration/peers"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == clientCommand {
		os.Exit(runClient(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// unioUnderTest is the program that $UNIO names, or one made for the test.
func unioUnderTest(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("UNIO"); given != "" {
		return given
	}
	path := filepath.Join(t.TempDir(), "unio")
	cmd := exec.Command("go", "build", "-o", path, "unio/cmd/unio")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// need skips the test where something is missing; where
// UNIO_TEST_REQUIRE=all, as in CI, that is a failure.
func need(t *testing.T, what string, ok bool) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("UNIO_TEST_REQUIRE") == "all" {
		t.Fatalf("required here: %s", what)
	}
	t.Skipf("needs %s", what)
}

// smokePeers are the contestants beside ours: one for filesystems, one for tools.
var smokePeers = []string{overlayfs, "podman"}

// TestBenchSmoke runs every workload once, on small images, for unio and one
// peer. What it takes decides nothing, only that it works.
func TestBenchSmoke(t *testing.T) {
	need(t, "root", os.Geteuid() == 0)
	for _, tool := range []string{"podman", "skopeo", "mkfs.ext4", "git", "debootstrap"} {
		_, err := exec.LookPath(tool)
		need(t, tool, err == nil)
	}
	t.Setenv("UNIO", unioUnderTest(t))
	o := options{tiny: true, dir: os.TempDir(), cache: t.TempDir(), only: regexp.MustCompile(""), peers: smokePeers}.normal()
	var log strings.Builder
	s, err := newStage(o, &log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	r, err := s.runAll(context.Background(), &log)
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range r.Results {
		checkSmoke(t, res)
		t.Logf("%s: %.1f s", res.Name, res.Took)
	}
	r.markdown(io.Discard)
}

// checkSmoke wants that unio ran, without a ring at least, and all others that
// were to.
func checkSmoke(t *testing.T, r *result) {
	t.Helper()
	ran := 0
	for _, l := range r.Lines {
		switch {
		case l.Rounds > 0:
			ran++
		case strings.HasPrefix(l.Name, oursRing), strings.Contains(l.Missing, errNotWanted.Error()):
		default:
			t.Errorf("%s: %s did not run: %s", r.Name, l.Name, l.Missing)
		}
	}
	if ours := r.Lines[0]; ours.Rounds == 0 || ours.Wall <= 0 {
		t.Errorf("%s: %s: %+v", r.Name, ours.Name, ours)
	}
	if ran < 1 {
		t.Errorf("%s: nobody ran", r.Name)
	}
}

// TestConclude computes with rounds whose times are known.
func TestConclude(t *testing.T) {
	r := newResult(workload{name: "x", contestants: []contestant{{name: oursDev}, {name: overlayfs}, {name: "gone"}}})
	for round, pair := range [][2]int{{10, 20}, {30, 30}, {20, 80}} {
		r.add(oursDev, round, sample{wall: time.Duration(pair[0]) * time.Millisecond, requests: int64(round)})
		r.add(overlayfs, round, sample{wall: time.Duration(pair[1]) * time.Millisecond, requests: -1})
	}
	r.failed("gone", errors.New("crashed"))
	r.conclude(append(ratio(overlayfs, 0.6, 0.1), goal{of: oursDev, figure: requests, bound: 0}, goal{of: oursDev, bound: millis(50)}))
	ours, peer := r.line(oursDev), r.line(overlayfs)
	if ours.Wall != 20 || peer.Wall != 30 || peer.Ratio != 2 || peer.Low != 1 || peer.High != 4 {
		t.Errorf("ours %+v\npeer %+v", ours, peer)
	}
	if peer.Requests != nil || ours.Requests == nil || *ours.Requests != 1 {
		t.Errorf("requests: %v, %v", ours.Requests, peer.Requests)
	}
	if len(r.Goals) != 3 || !r.Goals[0].Met || r.Goals[0].Is != 0.5 || r.Goals[1].Met {
		t.Errorf("goals: %v", r.Goals)
	}
	if r.Goals[0].Settled || !r.Goals[2].Settled || r.Goals[0].Low != 0.25 || r.Goals[0].High != 1 {
		t.Errorf("the first goal has a round that misses it, the last has none: %+v", r.Goals)
	}
	if !r.missing("gone") || r.missing(oursDev) {
		t.Error("the one that crashed is left out, and nobody else")
	}
}

// TestOrder wants each contestant first in some round, and the slow one, which no
// goal names, in the first round alone.
func TestOrder(t *testing.T) {
	w := workload{name: "x", contestants: []contestant{{name: oursDev}, {name: overlayfs}, {name: unionfsFuse}, {name: fuseOverlay}}, goals: ratio(overlayfs, 1, 1)}
	c := &course{
		pace: pace{rounds: 4, least: 3, limit: time.Second}, workload: w, named: w.named(), result: newResult(w),
		spent: map[string]time.Duration{unionfsFuse: time.Minute, oursDev: time.Minute, overlayfs: dear},
	}
	want := []string{
		oursDev + " " + overlayfs + " " + unionfsFuse + " " + fuseOverlay, overlayfs + " " + oursDev + " " + fuseOverlay, fuseOverlay + " " + oursDev + " " + overlayfs, fuseOverlay,
	}
	for round, names := range want {
		var is []string
		for _, who := range c.next(round) {
			is = append(is, who.name)
		}
		if strings.Join(is, " ") != names {
			t.Errorf("round %d: %q instead of %q", round, is, names)
		}
	}
	if !c.goesOn(2, c.next(2)) || c.goesOn(3, c.next(3)) && time.Since(c.start) > c.limit {
		t.Error("three rounds, whatever the time, and a fourth only in it")
	}
	c.spent[overlayfs]++
	if next := c.next(1); len(next) != 2 || next[0].name != oursDev {
		t.Errorf("a peer that has taken too long is not asked again: %v", next)
	}
	for who, millis := range map[string]int{oursDev: 9, overlayfs: 10} { // a goal of 1.0 is not decided by that
		c.result.add(who, 0, sample{wall: time.Duration(millis) * time.Millisecond})
	}
	if next := c.next(1); len(next) != 3 {
		t.Errorf("one whose next round may decide a goal is asked: %v", next)
	}
	c.result.add(overlayfs, 0, sample{wall: 18 * time.Millisecond})
	if next := c.next(1); len(next) != 2 {
		t.Errorf("one who has taken twice as long is not: %v", next)
	}
}

// TestCannotRun wants a workload left out, with the reason, and the run to go on.
func TestCannotRun(t *testing.T) {
	w := workload{
		name: "x", contestants: []contestant{{name: oursDev}, {name: overlayfs}},
		prepare: func(context.Context) error { return fmt.Errorf("registry: %w", peers.ErrMissing) },
	}
	s := &stage{}
	r, err := s.timed(context.Background(), w, func() (_, _ time.Duration) { return time.Second, time.Second })
	if err != nil || !r.idle() || r.Lines[1].Missing != "not available here" {
		t.Errorf("%v, %+v", err, r)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := s.timed(ctx, w, nil); err == nil {
		t.Error("what was interrupted is at an end")
	}
}
