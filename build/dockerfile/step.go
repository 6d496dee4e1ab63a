package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/opencontainers/go-digest"
)

// step carries out one instruction.
func (r *stageRun) step(ctx context.Context, cmd instructions.Command) error {
	r.tail = nil
	if err := r.expand(cmd); err != nil {
		return err
	}
	before, err := r.s.key()
	if err != nil {
		return err
	}
	switch in := cmd.(type) {
	case *instructions.RunCommand:
		return r.runProgram(ctx, before, in)
	case *instructions.CopyCommand:
		return r.copy(ctx, before, copyOf(in))
	case *instructions.AddCommand:
		return r.add(ctx, before, in)
	case *instructions.WorkdirCommand:
		return r.workdir(ctx, before, in)
	case *instructions.ArgCommand:
		r.arg(in)
	case *instructions.MaintainerCommand:
		r.s.author = in.Maintainer
	default:
		if err := r.s.editor.Apply(cmd); err != nil {
			return &textError{err.Error(), errors.Join(ErrDockerfile, err)}
		}
	}
	return r.commit(ctx, change{before: before, createdBy: r.comment(describe(cmd, r)), container: true})
}

// expand replaces the variables of an instruction.
func (r *stageRun) expand(cmd instructions.Command) error {
	env := shell.EnvsFromSlice(r.s.env())
	replace := func(word string) (string, error) {
		out, _, err := r.lex.ProcessWord(word, env)
		return out, err
	}
	if x, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(replace); err != nil {
			return &textError{err.Error(), errors.Join(ErrDockerfile, err)}
		}
	}
	if in, ok := cmd.(*instructions.ExposeCommand); ok {
		return r.expandPorts(in, env)
	}
	if x, ok := cmd.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true // a here-document keeps its quotes
		return x.ExpandRaw(func(word string) (string, error) {
			out, _, err := lex.ProcessWord(word, env)
			return out, err
		})
	}
	return nil
}

// expandPorts replaces the variables of EXPOSE, each of which may stand for
// several ports.
func (r *stageRun) expandPorts(in *instructions.ExposeCommand, env shell.EnvGetter) error {
	var ports []string
	for _, p := range in.Ports {
		words, err := r.lex.ProcessWords(p, env)
		if err != nil {
			return &textError{err.Error(), errors.Join(ErrDockerfile, err)}
		}
		ports = append(ports, words...)
	}
	slices.Sort(ports)
	in.Ports = ports
	return nil
}

// arg brings arguments into scope.
func (r *stageRun) arg(in *instructions.ArgCommand) {
	for i := range in.Args {
		arg := &in.Args[i]
		r.s.declared = append(r.s.declared, arg.Key)
		if value := r.plan.args.value(arg); value != nil {
			r.s.args = setVar(r.s.args, arg.Key, *value)
		}
	}
}

// comment is an instruction as the history tells it: a command that does
// nothing, in the form of docker's builder.
func (r *stageRun) comment(text string) string {
	sh := r.s.config.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return strings.Join(sh, " ") + " #(nop) " + text
}

// describe is an instruction with its variables replaced, as docker's builder
// words it in the history.
func describe(cmd instructions.Command, r *stageRun) string {
	cfg := &r.s.config
	switch in := cmd.(type) {
	case *instructions.ArgCommand:
		text := " ARG"
		for i := range in.Args {
			text += " " + in.Args[i].Key
			if in.Args[i].Value != nil {
				text += "=" + *in.Args[i].Value
			}
		}
		return text
	case *instructions.CmdCommand:
		return fmt.Sprintf(" CMD %q", cfg.Cmd)
	case *instructions.EntrypointCommand:
		return fmt.Sprintf(" ENTRYPOINT %q", cfg.Entrypoint)
	case *instructions.EnvCommand:
		return " ENV" + pairs(in.Env)
	case *instructions.LabelCommand:
		return " LABEL" + pairs(in.Labels)
	case *instructions.ExposeCommand:
		return " EXPOSE " + strings.Join(in.Ports, " ")
	case *instructions.HealthCheckCommand:
		h := cfg.Healthcheck
		return fmt.Sprintf(" HEALTHCHECK &{%q %q %q %q %q}", h.Test, h.Interval, h.Timeout, h.StartPeriod, rune(h.Retries))
	case *instructions.MaintainerCommand:
		return " MAINTAINER " + in.Maintainer
	case *instructions.OnbuildCommand:
		return " ONBUILD " + in.Expression
	case *instructions.ShellCommand:
		return fmt.Sprintf(" SHELL %v", in.Shell)
	case *instructions.StopSignalCommand:
		return " STOPSIGNAL " + in.Signal
	case *instructions.UserCommand:
		return " USER " + in.User
	case *instructions.VolumeCommand:
		return fmt.Sprintf(" VOLUME %v", in.Volumes)
	}
	return " " + strings.ToUpper(cmd.Name())
}

func pairs(list instructions.KeyValuePairs) string {
	text := ""
	for _, kv := range list {
		text += " " + kv.String()
	}
	return text
}

// workdir sets the working folder and makes it if it is missing.
func (r *stageRun) workdir(ctx context.Context, before digest.Digest, in *instructions.WorkdirCommand) error {
	if err := r.s.editor.Apply(in); err != nil {
		return err
	}
	dir := path.Clean(r.s.config.WorkingDir)
	return r.commit(ctx, change{
		before: before, createdBy: r.comment("WORKDIR " + dir), container: true,
		check: func(ctx context.Context) error { return r.checkFolder(ctx, dir) },
		make:  func(ctx context.Context) (digest.Digest, error) { return r.makeFolder(ctx, dir) },
	})
}
