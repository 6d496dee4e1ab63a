package runspec

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/imagestore"
)

// DefaultPath is the PATH of a program whose image sets none (docker's).
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ErrNoCommand says that neither the image nor the user names a program.
var ErrNoCommand = errors.New("No command specified") //nolint:staticcheck // docker's words

// setProcess describes the program itself.
func setProcess(spec *specs.Spec, image *imagestore.RunConfig, o *Options) error {
	args := Command(image, o)
	if len(args) == 0 {
		return ErrNoCommand
	}
	spec.Process = &specs.Process{Terminal: o.TTY, Args: args}
	if o.OOMScoreAdj != 0 {
		spec.Process.OOMScoreAdj = &o.OOMScoreAdj
	}
	if err := setWorkdir(spec.Process, cmp.Or(o.Workdir, image.WorkingDir, "/")); err != nil {
		return err
	}
	account, err := findUser(spec, cmp.Or(o.User, image.User), o.Groups)
	if err != nil {
		return err
	}
	spec.Process.User = account.User
	spec.Process.Env = o.environment(image, spec.Hostname, account.Home)
	return setRlimits(spec.Process, o.Ulimits)
}

// setWorkdir refuses relative folders, as docker does.
func setWorkdir(p *specs.Process, dir string) error {
	if !path.IsAbs(dir) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", dir)
	}
	p.Cwd = path.Clean(dir)
	return nil
}

// Command is the program and its arguments: the entrypoint, followed by what the
// user says or else the image's command. An entrypoint of the user's makes the
// image's command void.
func Command(image *imagestore.RunConfig, o *Options) []string {
	entrypoint, args := image.Entrypoint, o.Args
	if o.SetEntrypoint {
		entrypoint = o.Entrypoint
	}
	if len(args) == 0 && !o.SetEntrypoint {
		args = image.Cmd
	}
	return slices.Concat(entrypoint, args)
}

// environment is what docker gives a program, in docker's order.
func (o *Options) environment(image *imagestore.RunConfig, hostname, home string) []string {
	env := []string{"PATH=" + DefaultPath}
	if hostname != "" {
		env = append(env, "HOSTNAME="+hostname)
	}
	if o.TTY {
		env = append(env, "TERM=xterm")
	}
	wanted := slices.Clone(o.Env)
	for _, e := range image.Env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(o.Env, func(have string) bool { return envName(have) == name }) {
			wanted = append(wanted, e)
		}
	}
	env = ReplaceEnv(env, wanted)
	if _, ok := LookupEnv(env, "HOME"); !ok {
		env = append(env, "HOME="+home)
	}
	return env
}

// ReplaceEnv puts entries NAME=VALUE in the place of those of the same name, or
// behind the others; an entry without "=" takes its name away.
func ReplaceEnv(env, changes []string) []string {
	env = slices.Clone(env)
	for _, change := range changes {
		name := envName(change)
		at := slices.IndexFunc(env, func(e string) bool { return envName(e) == name })
		set := strings.ContainsRune(change, '=')
		switch {
		case at >= 0 && set:
			env[at] = change
		case at >= 0:
			env = slices.Delete(env, at, at+1)
		case set:
			env = append(env, change)
		}
	}
	return env
}

func envName(entry string) string {
	name, _, _ := strings.Cut(entry, "=")
	return name
}

// LookupEnv finds the last value of a variable.
func LookupEnv(env []string, name string) (string, bool) {
	for _, e := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// setRlimits reads --ulimit.
func setRlimits(p *specs.Process, limits []string) error {
	for _, text := range limits {
		u, err := units.ParseUlimit(text)
		if err != nil {
			return err
		}
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: limitValue(u.Soft), Hard: limitValue(u.Hard),
		})
	}
	return nil
}

// limitValue turns docker's -1 into the kernel's "unlimited".
func limitValue(v int64) uint64 {
	if v < 0 {
		return unix.RLIM_INFINITY
	}
	return uint64(v)
}
