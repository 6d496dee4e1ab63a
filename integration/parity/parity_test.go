package parity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"unio/imagestore/registry/registrytest"
	"unio/integration/peers"
)

// workers is how many dockerds run at once, and so how many scripts.
const workers = 2

// TestParity runs testdata/*.sh, each a subtest: -run TestParity/rmi. With -v
// it shows every answer of docker. UNIO_PARITY_RECORD=1 writes the answers to
// testdata/*.answers, with which TestRecorded then compares.
func TestParity(t *testing.T) {
	needClient(t)
	b := newBench(t)
	eachScript(t, func(t *testing.T, path string, steps []Step) {
		got := run(t, b.pair(t), path, steps)
		if os.Getenv("UNIO_PARITY_RECORD") == "1" && !t.Failed() {
			must(t, os.WriteFile(recordedIn(path), []byte(got), 0o644))
		}
		check(t, path, got)
	})
}

// eachScript makes a subtest of each script.
func eachScript(t *testing.T, do func(t *testing.T, path string, steps []Step)) {
	scripts, err := filepath.Glob("testdata/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".sh"), func(t *testing.T) {
			t.Parallel()
			steps, err := ReadScript(path)
			must(t, err)
			do(t, path, steps)
		})
	}
}

// bench holds what all scripts share: the program under test, a registry, and
// dockerds that are taken in turn.
type bench struct {
	t       *testing.T // of the whole test
	unio    string
	docker  string
	env     []string // addresses of what the scripts talk to
	daemons chan *daemon
}

// daemon is a dockerd, started when it is first wanted.
type daemon struct {
	start sync.Once
	d     *peers.Docker
	dir   string
	err   error
}

func newBench(t *testing.T) *bench {
	docker, err := exec.LookPath("docker")
	missing(t, err)
	b := &bench{t: t, docker: docker, daemons: make(chan *daemon, workers)}
	b.start(t)
	for range workers {
		b.daemons <- &daemon{dir: shortDir(t)}
	}
	return b
}

// start makes what both kinds of runs need.
func (b *bench) start(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, errors.New("not root"))
	}
	b.unio = buildUnio(t)
	b.env = []string{
		"REGISTRY=" + registrytest.Start(t), "PRIVATE=" + registrytest.StartPrivate(t), "INDEX=" + startIndex(t),
		"FILES=" + serveFixtures(t),
	}
}

// serveFixtures serves the fixtures over HTTP, for what takes a URL.
func serveFixtures(t *testing.T) string {
	dir := t.TempDir()
	must(t, WriteFixtures(dir))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	return server.URL
}

// client is the major version of the docker client whose words unio speaks.
// Debian 12 has an older one; TestRecorded holds unio to the same answers there.
const client = 28

// needClient skips the test where docker's client is older.
func needClient(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "--version").Output()
	missing(t, err)
	var major int
	if _, err := fmt.Sscanf(string(out), "Docker version %d.", &major); err != nil {
		t.Fatalf("docker --version: %q: %v", out, err)
	}
	if major < client {
		t.Skipf("docker's client is version %d, the answers are those of %d: TestRecorded has them", major, client)
	}
}

// missing skips the test because this machine lacks something; where
// UNIO_TEST_REQUIRE=all, as in CI, that is a failure.
func missing(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("UNIO_TEST_REQUIRE") == "all" {
		t.Fatalf("required here: %v", err)
	}
	t.Skip(err)
}

// buildUnio makes the binary as `make build` does; $UNIO names one that is
// there already.
func buildUnio(t *testing.T) string {
	if given := os.Getenv("UNIO"); given != "" {
		path, err := filepath.Abs(given)
		must(t, err)
		return path
	}
	path := filepath.Join(t.TempDir(), "unio")
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-ldflags", "-s -w", "-o", path, "../../cmd/unio")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// shortDir is a folder with a name short enough for sockets below it.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "up")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// take waits for a free dockerd; the script gives it back empty.
func (b *bench) take(t *testing.T) *daemon {
	d := <-b.daemons
	d.start.Do(func() {
		if d.d, d.err = peers.StartDocker(context.Background(), d.dir); d.err == nil {
			b.t.Cleanup(func() { must(b.t, d.d.Close()) })
		}
	})
	if errors.Is(d.err, peers.ErrMissing) {
		b.daemons <- d
		missing(t, d.err)
	}
	must(t, d.err)
	t.Cleanup(func() {
		must(t, d.empty())
		b.daemons <- d
	})
	return d
}

// empty removes what a script left in a dockerd.
func (d *daemon) empty() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, ErrSlow)
	defer cancel()
	ids, err := d.d.Run(ctx, "ps", "-aq")
	if err != nil {
		return err
	}
	if list := strings.Fields(ids); len(list) > 0 {
		if _, err := d.d.Run(ctx, append([]string{"rm", "-f", "-v"}, list...)...); err != nil {
			return err
		}
	}
	_, err = d.d.Run(ctx, "system", "prune", "-af", "--volumes")
	return err
}

// pair puts a docker and a unio side by side, both empty.
func (b *bench) pair(t *testing.T) *Pair {
	t.Helper()
	d := b.take(t)
	return &Pair{
		Docker: b.side(t, "docker", "DOCKER_HOST=unix://"+filepath.Join(d.dir, "docker.sock")),
		Unio:   b.side(t, "unio"),
	}
}

// side makes one side in a folder of its own.
func (b *bench) side(t *testing.T, name string, env ...string) *Side {
	t.Helper()
	dir := shortDir(t)
	program := b.docker
	env = append(env, b.env...)
	if name != "docker" {
		program = b.unio
		env = append(env, "UNIO_ROOT="+filepath.Join(dir, "store"), "UNIO_RUNROOT="+filepath.Join(dir, "run"))
	}
	s, err := NewSide(name, dir, program, env...)
	must(t, err)
	for _, e := range b.env { // addresses are others in each run
		name, address, _ := strings.Cut(e, "=")
		s.Hide(strings.TrimPrefix(address, "http://"), "‹"+name+"›")
	}
	must(t, WriteFixtures(s.dir))
	if name == "unio" {
		t.Cleanup(func() {
			// What containers of a script still run, and mount, ends with it.
			_, err := s.Run(context.Background(), `ids=$(docker ps -aq) && [ -z "$ids" ] || docker rm -f $ids`)
			must(t, errors.Join(err, peers.UnmountBelow(dir)))
		})
	}
	return s
}

// run runs a script and returns what both sides agreed on.
func run(t *testing.T, p *Pair, path string, steps []Step) string {
	t.Helper()
	var record Recorded
	for _, s := range steps {
		o, err := p.Run(t.Context(), s)
		must(t, err)
		if testing.Verbose() {
			t.Logf("%s:%d: $ %s\n%s", path, s.Line, s.Command, o.Docker)
		}
		if !s.Quiet {
			record.Add(s, o.Agreed)
		}
		if o.Problem == "" {
			continue
		}
		t.Errorf("%s:%d: $ %s\n%s", path, s.Line, s.Command, o.Problem)
		if s.Quiet {
			t.Fatalf("docker:\n%s\nunio:\n%s", o.Docker, o.Unio)
		}
	}
	return record.Text()
}

// recordedIn is the file of the recorded answers of a script.
func recordedIn(script string) string { return strings.TrimSuffix(script, ".sh") + ".answers" }

// check compares the answers of a script with those recorded.
func check(t *testing.T, script, got string) {
	t.Helper()
	file := recordedIn(script)
	want, err := ReadRecorded(file)
	if err != nil {
		t.Fatalf("%v: record docker's answers with UNIO_PARITY_RECORD=1 -run TestParity", err)
	}
	if text := FirstDifference(want, got); text != "" && !t.Failed() {
		t.Errorf("%s: %s", file, text)
	}
}

// TestRecorded runs the scripts with unio alone and compares with what docker
// said: for machines without dockerd.
func TestRecorded(t *testing.T) {
	b := &bench{t: t}
	b.start(t)
	eachScript(t, func(t *testing.T, path string, steps []Step) {
		check(t, path, run(t, &Pair{Unio: b.side(t, "unio"), StandIn: b.side(t, "stand-in")}, path, steps))
	})
}

// TestDifferencesAreDocumented holds docs/parity.md to the table of entries,
// and the entries to the scripts.
func TestDifferencesAreDocumented(t *testing.T) {
	documented := documentedDifferences(t)
	used := usedDifferences(t)
	for _, d := range Differences() {
		if reason, ok := documented[d.Name]; !ok || reason != d.Reason {
			t.Errorf("docs/parity.md says of %s: %q, want %q", d.Name, reason, d.Reason)
		}
		if !used[d.Name] {
			t.Errorf("no script shows the difference %s", d.Name)
		}
		delete(documented, d.Name)
	}
	for name := range documented {
		t.Errorf("docs/parity.md lists the difference %s, which is no entry", name)
	}
}

// documentedDifferences reads the rows "| `name` | reason |".
func documentedDifferences(t *testing.T) map[string]string {
	data, err := os.ReadFile("../../docs/parity.md")
	must(t, err)
	list := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| (.*) \\|$").FindAllStringSubmatch(string(data), -1) {
		list[m[1]] = m[2]
	}
	return list
}

func usedDifferences(t *testing.T) map[string]bool {
	scripts, err := filepath.Glob("testdata/*.sh")
	must(t, err)
	used := map[string]bool{}
	for _, path := range scripts {
		steps, err := ReadScript(path)
		must(t, err)
		for _, s := range steps {
			for _, name := range s.Differences {
				used[name] = true
			}
		}
	}
	return used
}

func TestParseScript(t *testing.T) {
	steps, err := parseScript("# c\n\ndocker ps\nquiet docker \\\n  load\n~a,b docker x\nunio: y\n")
	must(t, err)
	want := []Step{
		{Line: 3, Command: "docker ps"},
		{Line: 4, Command: "docker   load", Quiet: true},
		{Line: 6, Command: "docker x", Differences: []string{"a", "b"}},
		{Line: 7, Command: "y", Only: "unio", Quiet: true},
	}
	if fmt.Sprint(steps) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", steps, want)
	}
	if _, err := parseScript("quiet"); err == nil {
		t.Error("a word without a command was taken")
	}
}

func TestMask(t *testing.T) {
	a, b := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	m := newMasker("unio", "/tmp/x")
	got := m.mask(a[:12] + " " + b + "  3 minutes ago    " + a + " unio 2020-01-02T03:04:05Z /tmp/x/f unionfs")
	want := "ID‹1› LONGID‹2›  ‹ago›  LONGID‹1› docker ‹time› ‹dir›/f unionfs"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestJudge: a difference must explain everything, and must still be needed.
func TestJudge(t *testing.T) {
	same := Outcome{Docker: Answer{Stdout: "x"}, Unio: Answer{Stdout: "x"}}
	if problem, err := judge(same); problem != "" || err != nil {
		t.Errorf("same answers: %q, %v", problem, err)
	}
	other := Outcome{Docker: Answer{Stdout: "x"}, Unio: Answer{Stdout: "x", Code: 1}}
	if problem, _ := judge(other); problem == "" {
		t.Error("other exit codes are no problem")
	}
	unknown := Outcome{Step: Step{Differences: []string{"nonesuch"}}}
	if _, err := judge(unknown); err == nil {
		t.Error("an unknown difference is taken")
	}
	if slices.ContainsFunc(Differences(), func(d Difference) bool { return d.Name == "" || d.Reason == "" }) {
		t.Error("a difference without name or reason")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
