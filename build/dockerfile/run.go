package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/opencontainers/go-digest"

	"unio/build/runconfig"
	"unio/container/layermount"
	"unio/imagestore"
	"unio/imagestore/layer"
)

// Program is what a RUN runs.
type Program struct {
	ID      string // as it is shown
	Root    string // the mounted union
	Config  imagestore.RunConfig
	Args    []string
	Env     []string // all of it
	Network string   // "", "host", "none"
	Mounts  []Mount
	Output  *os.File // takes what it prints
}

// Runner runs a program until it ends. The code is the program's; an error
// says that it could not be run. When ctx ends, everything that the program
// started is killed. Nothing of it is left running in any case.
type Runner func(ctx context.Context, p *Program) (code int, err error)

// program is a RUN whose variables are known.
type program struct {
	args    []string // with the shell, if it has one
	saved   []string // args as the history tells them
	network string
	mounts  []*instructions.Mount
	script  *instructions.ShellInlineFile // a here-document to be run as a file
}

// readRun works out what a RUN runs.
func (r *stageRun) readRun(in *instructions.RunCommand) (*program, error) {
	p := &program{mounts: instructions.GetMounts(in), network: r.o.Network}
	if mode := instructions.GetNetwork(in); mode != instructions.NetworkDefault {
		p.network = string(mode)
	}
	if instructions.GetSecurity(in) == instructions.SecurityInsecure || len(instructions.GetDevices(in)) > 0 {
		return nil, bad("RUN with --security=insecure or --device is not allowed: programs of a build have no privileges")
	}
	line := in.ShellDependantCmdLine
	if len(line.Files) > 0 {
		if err := p.inline(&line); err != nil {
			return nil, err
		}
	}
	p.args = runconfig.CommandLine(&r.s.config.DockerOCIImageConfig, line)
	p.saved = p.args
	if open := r.s.openArgs(); len(open) > 0 {
		p.saved = slices.Concat([]string{fmt.Sprintf("|%d", len(open))}, open, p.args)
	}
	return p, nil
}

// inline puts here-documents into the command line, as BuildKit does: one that
// is all of the command is the script itself, run as a file if it says by what.
func (p *program) inline(line *instructions.ShellDependantCmdLine) error {
	if len(line.CmdLine) != 1 || !line.PrependShell {
		return bad("parsing produced an invalid run command: %v", line.CmdLine)
	}
	content := func(f *instructions.ShellInlineFile) string {
		if f.Chomp {
			return parser.ChompHeredocContent(f.Data)
		}
		return f.Data
	}
	first := &line.Files[0]
	switch {
	case parser.MustParseHeredoc(line.CmdLine[0]) == nil:
		full := line.CmdLine[0]
		for _, f := range line.Files {
			full += "\n" + f.Data + f.Name
		}
		line.CmdLine = []string{full}
	case strings.HasPrefix(first.Data, "#!"):
		p.script = &instructions.ShellInlineFile{Name: first.Name, Data: content(first)}
		line.CmdLine = []string{pipesDir + "/" + first.Name}
	default:
		line.CmdLine = []string{content(first)}
	}
	return nil
}

// pipesDir is where BuildKit shows a script to its program.
const pipesDir = "/dev/pipes"

// runProgram carries out a RUN.
func (r *stageRun) runProgram(ctx context.Context, before digest.Digest, in *instructions.RunCommand) error {
	p, err := r.readRun(in)
	if err != nil {
		return err
	}
	keys, err := r.mountKeys(ctx, p)
	if err != nil {
		return err
	}
	c := change{
		before: before, createdBy: strings.Join(p.saved, " "), container: true,
		extra: append(keys, "network "+p.network), hidden: len(keys) > 0,
	}
	c.make = func(ctx context.Context) (digest.Digest, error) { return r.runStep(ctx, p, c.id) }
	return r.commit(ctx, c)
}

// runStep runs the program over the layers so far and makes a layer of what it
// changed; "" if it changed nothing.
func (r *stageRun) runStep(ctx context.Context, p *program, id string) (d digest.Digest, err error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	mounts, err := r.openMounts(ctx, p)
	if err != nil {
		return "", err
	}
	st, err := r.executeMounted(ctx, p, mounts, id)
	defer func() { err = errors.Join(err, st.remove()) }()
	if err = errors.Join(err, mounts.close()); err != nil {
		return "", err
	}
	return r.layerOf(ctx, st)
}

// executeMounted runs the program over the layers so far. What it changed is in
// the step's folders when it returns.
func (r *stageRun) executeMounted(ctx context.Context, p *program, mounts *opened, id string) (st step, err error) {
	st, unmount, err := r.mount(r.s.layers, true)
	if err != nil {
		return st, err
	}
	err = r.execute(ctx, p, &Program{
		ID: id, Root: st.point, Config: r.s.config, Args: p.args, Network: p.network, Mounts: mounts.list,
		Env: slices.Concat(r.s.env(), r.plan.args.proxies(), mounts.env),
	})
	return st, errors.Join(err, unmount())
}

// mount mounts layers, with folders for what changes, or read-only.
func (r *stageRun) mount(layers []digest.Digest, writable bool) (st step, unmount func() error, err error) {
	m, s, err := r.mounting()
	if err != nil {
		return st, nil, err
	}
	if st, err = s.newStep(); err != nil {
		return st, nil, err
	}
	o := layermount.Options{Layers: layers, Dir: st.point}
	if writable {
		o.Upper, o.Work = st.upper, st.work
	}
	if err := m.Mount(o); err != nil {
		return st, nil, errors.Join(err, st.remove())
	}
	return st, func() error { return m.Unmount(st.point) }, nil
}

// mounting starts what mounts of this build need, if it has none yet.
func (b *build) mounting() (*layermount.Mounter, *scratch, error) {
	b.scratchMu.Lock()
	defer b.scratchMu.Unlock()
	var err error
	if b.scratch == nil {
		if b.scratch, err = openScratch(b.st.Root(), b.o.RunRoot); err != nil {
			return nil, nil, err
		}
	}
	if b.mounter == nil {
		if b.mounter, err = layermount.Start(b.o.MountServer, b.logFile()); err != nil {
			return nil, nil, err
		}
	}
	return b.mounter, b.scratch, nil
}

// layerOf makes a layer of what a step has left in its upper folder.
func (r *stageRun) layerOf(ctx context.Context, st step) (digest.Digest, error) {
	view, err := r.st.ViewOf(ctx, r.s.layers)
	if err != nil {
		return "", err
	}
	defer view.Close()
	up := layer.Upper{Dir: st.upper, Work: st.work, Root: os.Geteuid() == 0}
	changes, err := layer.Diff(ctx, up, view)
	if err != nil {
		return "", err
	}
	if changes.Empty() {
		return "", nil
	}
	if r.o.Epoch != nil {
		changes.ClampTimes(*r.o.Epoch)
	}
	return r.addLayer(ctx, func(w io.Writer) error { return changes.WriteTar(ctx, w) })
}

// execute runs the program and shows what it prints.
func (r *stageRun) execute(ctx context.Context, p *program, program *Program) error {
	out, stop, err := r.output()
	if err != nil {
		return err
	}
	program.Output = out
	code, err := r.o.Run(ctx, program)
	stop()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case code != 0:
		return &CommandError{Args: p.args, Code: code}
	}
	return nil
}

// outputGrace is how long what a program left behind may still print.
const outputGrace = time.Second

// output gives a descriptor whose text is told of as this step's; stop waits
// for the end of it.
func (r *stageRun) output() (w *os.File, stop func(), err error) {
	in, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	r.tail = &tail{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 32<<10)
		for {
			n, err := in.Read(buf)
			if n > 0 {
				r.tail.Write(buf[:n])
				r.tell(Event{Kind: Output, Text: string(buf[:n])})
			}
			if err != nil {
				return
			}
		}
	}()
	return w, func() {
		w.Close()
		select {
		case <-done:
		case <-time.After(outputGrace):
			_ = in.SetReadDeadline(time.Now())
			<-done
		}
		in.Close()
	}, nil
}

// maxTail is how much of the end of an output is kept, in bytes.
const maxTail = 4 << 10

// tail keeps the end of what is written to it. It is written by one goroutine
// and read when that has ended.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
}

// String is what was kept, from the start of a line on if there is one.
func (t *tail) String() string {
	s := string(t.b)
	if len(s) == maxTail {
		_, s, _ = strings.Cut(s, "\n")
	}
	return s
}
