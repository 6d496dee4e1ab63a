// Package runconfig applies Dockerfile instructions to the config of an image:
// those of a build, and those that commit and import take as changes. It knows
// the instructions that change nothing but the config; variables in them have
// been replaced by then.
package runconfig

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Editor applies instructions one after the other to Config.
type Editor struct {
	Config *dockerspec.DockerOCIImageConfig
	cmdSet bool // a CMD stood before: a later ENTRYPOINT keeps it
}

// ErrNoChange says that an instruction does more than change a config.
var ErrNoChange = errors.New("is not a valid change command")

// Apply applies one instruction, as package instructions of buildkit parsed it.
// It gives [ErrNoChange] for one that is not about the config alone.
func (e *Editor) Apply(instruction any) error {
	cfg := e.Config
	switch in := instruction.(type) {
	case *instructions.CmdCommand:
		cfg.Cmd = CommandLine(cfg, in.ShellDependantCmdLine)
		e.cmdSet = len(in.CmdLine) > 0
	case *instructions.EntrypointCommand:
		cfg.Entrypoint = CommandLine(cfg, in.ShellDependantCmdLine)
		if !e.cmdSet {
			cfg.Cmd = nil // it was meant for the old entrypoint
		}
	case *instructions.EnvCommand:
		for _, kv := range in.Env {
			cfg.Env = SetEnv(cfg.Env, kv.Key, kv.Value)
		}
	case *instructions.ExposeCommand:
		return e.expose(in.Ports)
	case *instructions.HealthCheckCommand:
		cfg.Healthcheck = in.Health
	case *instructions.LabelCommand:
		e.label(in.Labels)
	case *instructions.OnbuildCommand:
		cfg.OnBuild = append(cfg.OnBuild, in.Expression)
	case *instructions.ShellCommand:
		cfg.Shell = in.Shell
	case *instructions.StopSignalCommand:
		return e.stopSignal(in.Signal)
	case *instructions.UserCommand:
		cfg.User = in.User
	case *instructions.VolumeCommand:
		return e.volumes(in.Volumes)
	case *instructions.WorkdirCommand:
		e.workdir(in.Path)
	default:
		return fmt.Errorf("%T %w", instruction, ErrNoChange)
	}
	return nil
}

// CommandLine is the exec form of a command; the shell form gets the config's
// shell in front.
func CommandLine(cfg *dockerspec.DockerOCIImageConfig, line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell || line.CmdLine == nil {
		return line.CmdLine
	}
	sh := cfg.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return slices.Concat(sh, line.CmdLine)
}

// SetEnv sets one variable, in its old place if there is one.
func SetEnv(env []string, name, value string) []string {
	entry := name + "=" + value
	for i, old := range env {
		if strings.HasPrefix(old, name+"=") {
			env[i] = entry
			return env
		}
	}
	return append(env, entry)
}

func (e *Editor) label(labels instructions.KeyValuePairs) {
	if e.Config.Labels == nil {
		e.Config.Labels = map[string]string{}
	}
	for _, kv := range labels {
		e.Config.Labels[kv.Key] = kv.Value
	}
}

func (e *Editor) volumes(volumes []string) error {
	if e.Config.Volumes == nil {
		e.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range volumes {
		if v = strings.TrimSpace(v); v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		e.Config.Volumes[v] = struct{}{}
	}
	return nil
}

// workdir takes a relative folder from where the config stands now.
func (e *Editor) workdir(dir string) {
	if !path.IsAbs(dir) {
		dir = path.Join("/", e.Config.WorkingDir, dir)
	}
	e.Config.WorkingDir = path.Clean(dir)
}

func (e *Editor) expose(ports []string) error {
	if e.Config.ExposedPorts == nil {
		e.Config.ExposedPorts = map[string]struct{}{}
	}
	for _, spec := range ports {
		list, err := parsePorts(spec)
		if err != nil {
			return err
		}
		for _, p := range list {
			e.Config.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

func (e *Editor) stopSignal(name string) error {
	if !isSignal(name) {
		return fmt.Errorf("Invalid signal: %s", name)
	}
	e.Config.StopSignal = name
	return nil
}
