package build

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// ErrChange says that a line of -c cannot be applied.
var ErrChange = errors.New("invalid change")

// isChange reports whether a Dockerfile instruction, in small letters, may
// stand in a change (docker's commit and import take these).
func isChange(name string) bool {
	switch name {
	case "cmd", "entrypoint", "env", "expose", "healthcheck", "label",
		"onbuild", "stopsignal", "user", "volume", "workdir":
		return true
	}
	return false
}

// ApplyChanges applies Dockerfile instructions to a config, in order, as
// docker's commit -c and import -c do. Variables in them stand for those of
// the config's environment. After an error, which wraps ErrChange, the config
// may be half changed.
func ApplyChanges(cfg *dockerspec.DockerOCIImageConfig, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	parsed, err := parser.Parse(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChange, err)
	}
	ch := &changer{cfg: cfg, lex: shell.NewLex(parsed.EscapeToken)}
	for _, node := range parsed.AST.Children {
		if err := ch.apply(node); err != nil {
			return fmt.Errorf("%w: %w", ErrChange, err)
		}
	}
	return nil
}

// changer applies instructions one after the other.
type changer struct {
	cfg    *dockerspec.DockerOCIImageConfig
	lex    *shell.Lex
	cmdSet bool // a CMD stood before: a later ENTRYPOINT keeps it
}

func (ch *changer) apply(node *parser.Node) error {
	if name := strings.ToLower(node.Value); !isChange(name) {
		return fmt.Errorf("%s is not a valid change command", name)
	}
	instruction, err := instructions.ParseInstruction(node)
	if err != nil {
		return err
	}
	if x, ok := instruction.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(ch.expand); err != nil {
			return err
		}
	}
	return ch.dispatch(instruction)
}

// expand replaces variables in a word.
func (ch *changer) expand(word string) (string, error) {
	out, _, err := ch.lex.ProcessWord(word, shell.EnvsFromSlice(ch.cfg.Env))
	return out, err
}

func (ch *changer) dispatch(instruction any) error {
	cfg := ch.cfg
	switch in := instruction.(type) {
	case *instructions.CmdCommand:
		cfg.Cmd = ch.commandLine(in.ShellDependantCmdLine)
		ch.cmdSet = true
	case *instructions.EntrypointCommand:
		cfg.Entrypoint = ch.commandLine(in.ShellDependantCmdLine)
		if !ch.cmdSet {
			cfg.Cmd = nil // it was meant for the old entrypoint
		}
	case *instructions.EnvCommand:
		for _, kv := range in.Env {
			cfg.Env = setEnv(cfg.Env, kv.Key, kv.Value)
		}
	case *instructions.ExposeCommand:
		return ch.expose(in.Ports)
	case *instructions.HealthCheckCommand:
		cfg.Healthcheck = in.Health
	case *instructions.LabelCommand:
		ch.label(in.Labels)
	case *instructions.OnbuildCommand:
		cfg.OnBuild = append(cfg.OnBuild, in.Expression)
	case *instructions.StopSignalCommand:
		return ch.stopSignal(in.Signal)
	case *instructions.UserCommand:
		cfg.User = in.User
	case *instructions.VolumeCommand:
		return ch.volumes(in.Volumes)
	case *instructions.WorkdirCommand:
		ch.workdir(in.Path)
	default:
		return fmt.Errorf("%T is not a valid change command", instruction)
	}
	return nil
}

// commandLine is the exec form of a command; the shell form gets the image's
// shell in front.
func (ch *changer) commandLine(line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	sh := ch.cfg.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, sh...), strings.Join(line.CmdLine, " "))
}

// setEnv sets one variable, in its old place if there is one.
func setEnv(env []string, name, value string) []string {
	entry := name + "=" + value
	for i, old := range env {
		if strings.HasPrefix(old, name+"=") {
			env[i] = entry
			return env
		}
	}
	return append(env, entry)
}

func (ch *changer) label(labels instructions.KeyValuePairs) {
	if ch.cfg.Labels == nil {
		ch.cfg.Labels = map[string]string{}
	}
	for _, kv := range labels {
		ch.cfg.Labels[kv.Key] = kv.Value
	}
}

func (ch *changer) volumes(volumes []string) error {
	if ch.cfg.Volumes == nil {
		ch.cfg.Volumes = map[string]struct{}{}
	}
	for _, v := range volumes {
		if v = strings.TrimSpace(v); v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		ch.cfg.Volumes[v] = struct{}{}
	}
	return nil
}

// workdir takes a relative folder from where the config stands now.
func (ch *changer) workdir(dir string) {
	if !path.IsAbs(dir) {
		dir = path.Join("/", ch.cfg.WorkingDir, dir)
	}
	ch.cfg.WorkingDir = path.Clean(dir)
}

func (ch *changer) expose(ports []string) error {
	if ch.cfg.ExposedPorts == nil {
		ch.cfg.ExposedPorts = map[string]struct{}{}
	}
	for _, spec := range ports {
		list, err := parsePorts(spec)
		if err != nil {
			return err
		}
		for _, p := range list {
			ch.cfg.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

func (ch *changer) stopSignal(name string) error {
	if !isSignal(name) {
		return fmt.Errorf("invalid signal: %s", name)
	}
	ch.cfg.StopSignal = name
	return nil
}
