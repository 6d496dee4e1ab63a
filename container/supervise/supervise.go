// Package supervise runs containers. Each running container has a supervisor:
// this program once more, in the background, which mounts the container, fills
// new volumes, starts the program by container/runner, keeps its output,
// serves those who attach, and notes how it ended. There is no daemon.
//
// A supervisor holds the container's run lock while it lives. What it leaves
// when it is killed, container.Store puts right for whoever looks next; the
// program itself dies with its supervisor.
//
// Clients talk to it in frames (frame.go): the one that started it over an
// inherited socket, others over one below the run root. The package neither
// prints nor knows the command line.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/runner"
	"unio/container/runspec"
	"unio/container/volume"
)

// supervisor is one run of a container.
type supervisor struct {
	store   *container.Store
	volumes *volume.Store
	log     *slog.Logger
	task    *task
	run     *container.Run
	mount   *container.Mount
	mounted bool // by us
	mounts  []runspec.Mount
	hub     *hub

	mu      sync.Mutex // guards what follows, which each start of the program makes anew
	process *runner.Process
	streams *streams

	// stopping: the supervisor has been told to end.
	stopping atomic.Bool
	// warnings are for the user who starts it.
	warnings []string
}

// MainOptions connect a supervisor with the store.
type MainOptions struct {
	Containers *container.Store
	Volumes    *volume.Store
	Log        *slog.Logger
}

// Main is the life of a supervisor's process. control is the socket to the
// client that started it, which is told of every error before the program runs.
func Main(ctx context.Context, control *os.File, o MainOptions) error {
	conn, err := net.FileConn(control)
	if err = errors.Join(err, control.Close()); err != nil {
		return fmt.Errorf("the client's socket: %w", err)
	}
	first := newFramed(conn)
	var h hello
	if err := first.receiveJSON(kindHello, &h); err != nil || h.Task == nil {
		return fmt.Errorf("read the task: %w", err)
	}
	// The client may go, the terminal may go: neither is a reason to end.
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE, unix.SIGTTOU, unix.SIGTTIN)
	ends := make(chan os.Signal, 4)
	signal.Notify(ends, unix.SIGTERM, unix.SIGINT)
	s := &supervisor{store: o.Containers, volumes: o.Volumes, log: o.Log, task: h.Task, hub: newHub()}
	durable, err := s.start(ctx, h.Attach)
	if err != nil {
		return s.refuse(first, err)
	}
	s.hub.add(first, h.Attach)
	if err := first.sendJSON(kindReply, reply{Warnings: s.warnings}); err != nil {
		s.hub.remove(first)
	}
	s.streams.flow()
	return s.serve(ctx, first, h.Attach, ends, durable)
}

// refuse tells the client why the container does not run, after everything
// has been undone.
func (s *supervisor) refuse(client *framed, err error) error {
	r := reply{Error: err.Error(), Code: codeOf(err)}
	if s.run != nil {
		err = errors.Join(err, s.end(container.End{Code: r.Code, Failed: r.Error}))
	}
	return errors.Join(err, client.sendJSON(kindReply, r))
}

// codeFailed is the exit code of docker run for what is not the program's
// fault.
const codeFailed = 125

func codeOf(err error) int {
	var start *runner.StartError
	if errors.As(err, &start) {
		return start.Code
	}
	return codeFailed
}

// start does everything up to the running program. durable brings its state
// to the disk.
func (s *supervisor) start(ctx context.Context, a Attach) (durable func() error, err error) {
	c, err := s.store.Lookup(s.task.ID)
	if err != nil {
		return nil, err
	}
	if s.run, err = s.store.Hold(c); err != nil {
		return nil, err
	}
	if err := s.makeMount(ctx); err != nil {
		return nil, err
	}
	if s.mounts, err = s.prepareMounts(ctx); err != nil {
		return nil, err
	}
	if err := s.run.Begin(); err != nil {
		return nil, err
	}
	return s.launch(ctx, a.Size)
}

// launch starts the program.
func (s *supervisor) launch(ctx context.Context, size *Size) (durable func() error, err error) {
	o, err := s.runOptions(s.mounts)
	if err != nil {
		return nil, err
	}
	streams, err := openStreams(s.run.Container, s.hub, size)
	if err != nil {
		return nil, err
	}
	defer streams.closeTheirs()
	o.Stdin, o.Stdout, o.Stderr, o.Console = streams.stdin, streams.stdout, streams.stderr, streams.console
	process, err := runner.Start(ctx, *o)
	if err != nil {
		return nil, errors.Join(err, streams.close())
	}
	s.mu.Lock()
	s.process, s.streams = process, streams
	s.mu.Unlock()
	durable, err = s.run.Started(s.process.Pid(), s.mounted)
	if err != nil {
		return nil, errors.Join(err, s.process.Kill())
	}
	return durable, nil
}

// now is the program as it runs.
func (s *supervisor) now() (*runner.Process, *streams) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process, s.streams
}

// runOptions say what the runner is to do.
func (s *supervisor) runOptions(mounts []runspec.Mount) (*runner.Options, error) {
	c := s.run.Container
	spec, err := Spec(c, s.mount.Dir, mounts)
	if err != nil {
		return nil, err
	}
	files, err := runspec.NetFiles(spec, runspec.NetOptions{
		DNS: c.Host.DNS, DNSSearch: c.Host.DNSSearch, DNSOptions: c.Host.DNSOptions, ExtraHosts: c.Host.ExtraHosts,
	})
	if err != nil {
		return nil, err
	}
	o := &runner.Options{
		ID: c.ID, Spec: spec, Files: files, Command: s.task.Runner, Log: s.log,
		Init: c.Host.Init != nil && *c.Host.Init, Tied: true,
	}
	if o.Runtime, err = container.Runtime(c.Host.Runtime); err != nil {
		return nil, err
	}
	s.warnings = runner.Warnings(spec.Linux)
	o.StateDir, err = s.run.RuntimeDir()
	return o, err
}

// makeMount mounts the container unless a user has done so.
func (s *supervisor) makeMount(ctx context.Context) error {
	m, err := s.store.MountOf(s.run.Container)
	if err == nil && !m.Dead {
		s.mount = m
		return nil
	}
	s.mount, err = s.store.Mount(ctx, container.MountOptions{
		Container: s.run.Container, Writeback: true, Server: s.task.Server, Keeper: s.task.Keeper, Debug: s.task.Debug,
	})
	s.mounted = err == nil
	return err
}

// serve sees to the clients until the program has ended for good, and then to
// the end.
func (s *supervisor) serve(ctx context.Context, first *framed, a Attach, ends <-chan os.Signal, durable func() error) error {
	listener, err := s.run.Listen()
	if err != nil {
		s.log.Error("nobody can attach", "err", err)
	} else {
		defer listener.Close()
		go s.accept(listener)
	}
	go s.hear(first, a)
	go func() {
		for range ends {
			s.stop()
		}
	}()
	e := s.await(durable)
	for policy := newPolicy(&s.run.Host.RestartPolicy); policy.again(e, s.run.State.StartedAt) && !s.stopping.Load(); {
		if e, err = s.repeat(ctx, e, policy.delay); err != nil {
			if !errors.Is(err, errStopped) {
				s.log.Error("start again", "err", err)
			}
			break
		}
	}
	if listener != nil {
		listener.Close()
	}
	err = s.end(e)
	s.hub.exit(Exit{Code: e.Code, Error: textOf(err)})
	return err
}

// await waits for the end of the program and of its output. Meanwhile the
// state gets to the disk.
func (s *supervisor) await(durable func() error) container.End {
	go func() {
		if err := durable(); err != nil {
			s.log.Error("write the state", "err", err)
		}
	}()
	code, err := s.process.Wait()
	e := container.End{Code: code, At: time.Now(), OOM: s.process.OOMKilled()}
	if err != nil {
		s.log.Error("wait for the program", "err", err)
	}
	s.streams.drain()
	return e
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// stopWait is how long a container has to end when the machine goes down.
const stopWait = 10 * time.Second

// stop ends the program, as when the machine goes down.
func (s *supervisor) stop() {
	s.stopping.Store(true)
	process, _ := s.now()
	_ = s.store.Resume(s.run.Container)             // what is stopped does not end
	_ = process.Signal(StopSignal(s.run.Container)) // it may have ended just now
	time.AfterFunc(stopWait, func() { _ = process.Kill() })
}

// end gives everything back and notes the end. The container is free for
// others afterwards.
func (s *supervisor) end(e container.End) error {
	var errs []error
	if s.streams != nil {
		errs = append(errs, s.streams.close())
	}
	if s.mounted {
		errs = append(errs, s.unmount())
	}
	errs = append(errs, s.run.Resumed(), s.run.RemoveRuntimeDir())
	if s.run.Host.AutoRemove {
		errs = append(errs, s.remove())
	} else {
		errs = append(errs, s.run.Ended(e))
	}
	return errors.Join(append(errs, s.run.Close())...)
}

// unmount takes the mount away, out of the hands of who still looks into it.
func (s *supervisor) unmount() error {
	err := s.store.Unmount(context.Background(), s.mount.Dir, container.UnmountOptions{})
	if errors.Is(err, container.ErrBusy) {
		err = s.store.Unmount(context.Background(), s.mount.Dir, container.UnmountOptions{Lazy: true})
	}
	if errors.Is(err, container.ErrNotMounted) {
		return nil
	}
	return err
}

// remove removes a container that was run with --rm, and its volumes without
// a name.
func (s *supervisor) remove() error {
	if err := s.run.Remove(context.Background()); err != nil {
		return err
	}
	var errs []error
	for _, m := range s.run.Mounts {
		if m.Anonymous {
			errs = append(errs, s.volumes.Remove(m.Name, nil))
		}
	}
	return errors.Join(errs...)
}
