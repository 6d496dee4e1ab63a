package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// stage is what all workloads share: the scratch folder, the images made so
// far, and the tools.
type stage struct {
	options
	scratch  string
	binary   string // the unio to measure
	pictures map[string]*picture
	docker   *peers.Docker
	podman   *peers.Podman
	registry *peers.Registry
	absent   map[string]error // tools that cannot run
	unmade   map[string]error // images that could not be made
	number   int              // of the last mount
	making   time.Duration    // what the making of images took
	ring     string           // what the parameter enable_uring was at the start
	say      io.Writer        // for what is going on
}

// ringParameter says whether the kernel lets FUSE servers use rings.
const ringParameter = "/sys/module/fuse/parameters/enable_uring"

func newStage(o options, say io.Writer) (*stage, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root")
	}
	binary, err := exec.LookPath(orElse(os.Getenv("UNIO"), "unio"))
	if err != nil {
		return nil, err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		o.cache = filepath.Join(dir, "unio-bench")
	}
	s := &stage{options: o, binary: binary, pictures: map[string]*picture{}, absent: map[string]error{}, unmade: map[string]error{}, say: say}
	text, err := os.ReadFile(ringParameter)
	if err == nil {
		s.ring = strings.TrimSpace(string(text))
	}
	if err := s.makeScratch(); err != nil {
		return nil, err
	}
	return s, nil
}

// room is what images and scratch folder take of the disk, half of it each, in bytes.
const room = 12 << 30

// makeScratch makes the scratch folder. It is on the disk of the images, unless one asks for
// another: /tmp is in memory on many machines, where nothing is cold and links do not lead.
func (s *stage) makeScratch() error {
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.cache, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: s.cache, Err: err}
	}
	if free := int64(fs.Bavail) * fs.Bsize; !s.tiny && free < room {
		s.note("%s are free in %s: may be too little, images and runs together take %s", showBytes(float64(free)), s.cache, showBytes(room))
	}
	dir := s.dir
	if dir == "" {
		dir = os.TempDir()
		if deviceOf(dir) != deviceOf(s.cache) {
			dir = s.cache
		}
	}
	var err error
	s.scratch, err = os.MkdirTemp(dir, "unio-bench-")
	return err
}

// deviceOf is the number of the filesystem that a path is on; 0: not known.
func deviceOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Dev
}

func (s *stage) path(name string) string { return filepath.Join(s.scratch, name) }

// scale makes sizes small for the smoke test.
func (s *stage) scale(n int) int {
	if s.tiny {
		return max(n/100, 1)
	}
	return n
}

// wants tells whether a peer is to run at all.
func (s *stage) wants(peer string) bool { return s.peers == nil || slices.Contains(s.peers, peer) }

// next numbers mounts, so that each has a name of its own.
func (s *stage) next() int {
	s.number++
	return s.number
}

// unioIn makes a command of the unio under test on a store, with a transport.
func (s *stage) unioIn(ctx context.Context, store, transport string, args ...string) *exec.Cmd {
	own := []string{"--root", store, "--runroot", s.path("run")}
	cmd := exec.CommandContext(ctx, s.binary, append(own, args...)...)
	cmd.Env = append(os.Environ(), "UNIO_TRANSPORT="+transport)
	return cmd
}

// unio runs the unio under test, unmeasured, and returns what it prints.
func (s *stage) unio(ctx context.Context, store string, args ...string) (string, error) {
	t := &trial{}
	err := t.wait(s.unioIn(ctx, store, "dev", args...))
	return t.out, err
}

// unioStep makes a measured step of unio's command line.
func (s *stage) unioStep(store func() string, args ...string) step {
	return func(ctx context.Context, t *trial) error { return t.wait(s.unioIn(ctx, store(), "dev", args...)) }
}

// mountStats is what the bench needs of `unio mount --stats`.
type mountStats struct {
	Requests map[string]int64 `json:"requests"` // by operation
	Process  struct {
		Pid       int    `json:"pid"`
		Transport string `json:"transport"`
	} `json:"process"`
}

func (s *stage) statsOf(ctx context.Context, store, dir string) (st mountStats, err error) {
	text, err := s.unio(ctx, store, "mount", "--stats", "--format", "json", dir)
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal([]byte(text), &st)
}

// needDocker starts a docker daemon, once. What cannot run is noted.
func (s *stage) needDocker(ctx context.Context) error {
	if s.docker != nil || s.absent["docker"] != nil {
		return s.absent["docker"]
	}
	dir := s.path("docker")
	err := os.MkdirAll(dir, 0o755)
	if err == nil && !s.wants("docker") {
		err = errNotWanted
	}
	if err == nil {
		s.docker, err = peers.StartDocker(ctx, dir)
	}
	s.absent["docker"] = err
	return err
}

// errNotWanted is why the smoke test leaves peers out.
var errNotWanted = errors.New("not wanted in this run")

// needPodman prepares podman's store, once.
func (s *stage) needPodman() error {
	if s.podman != nil || s.absent["podman"] != nil {
		return s.absent["podman"]
	}
	dir := s.path("podman")
	err := os.MkdirAll(dir, 0o755)
	if err == nil && !s.wants("podman") {
		err = errNotWanted
	}
	if err == nil {
		s.podman, err = peers.NewPodman(dir)
	}
	s.absent["podman"] = err
	return err
}

// close stops and unmounts everything and removes the scratch folder. The
// kernel's parameter is again what it was.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, p := range s.pictures {
		errs = append(errs, s.unmountAll(ctx, p.store))
	}
	if s.docker != nil {
		errs = append(errs, s.docker.Close())
	}
	if s.podman != nil {
		errs = append(errs, s.podman.Close())
	}
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	errs = append(errs, peers.UnmountBelow(s.scratch), os.RemoveAll(s.scratch))
	if s.ring != "" {
		errs = append(errs, os.WriteFile(ringParameter, []byte(s.ring), 0o644))
	}
	return errors.Join(errs...)
}

// unmountAll ends what a run that failed has left mounted.
func (s *stage) unmountAll(ctx context.Context, store string) error {
	text, err := s.unio(ctx, store, "mount")
	if err != nil {
		return err
	}
	var errs []error
	for word := range strings.FieldsSeq(text) {
		if strings.HasPrefix(word, s.scratch+"/") {
			_, err := s.unio(ctx, store, "umount", word)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// note tells what is going on, where it takes long.
func (s *stage) note(format string, args ...any) { fmt.Fprintf(s.say, "… "+format+"\n", args...) }
