package dockerfile

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// buildArgs are the values that --build-arg gives and what ARG says before the
// first FROM.
type buildArgs struct {
	given map[string]*string
	meta  []string // NAME=VALUE, also what is known of the platforms
	code  []string // the ARGs before the first FROM as they were written

	mu    sync.Mutex // guards taken
	taken map[string]bool
}

// isProxy tells the arguments that every RUN sees if they are given, without
// an ARG, and that count in no cache key (Dockerfile reference, "Predefined
// ARGs").
func isProxy(name string) bool {
	switch strings.ToUpper(name) {
	case "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY":
		return true
	}
	return false
}

// newBuildArgs evaluates the ARGs before the first FROM, each with those before
// it.
func newBuildArgs(o *Options, meta []instructions.ArgCommand, escape rune) (*buildArgs, error) {
	a := &buildArgs{given: o.BuildArgs, taken: map[string]bool{}, meta: platformArgs(o.Platform)}
	lex := shell.NewLex(escape)
	for _, cmd := range meta {
		a.code = append(a.code, cmd.String())
		for _, arg := range cmd.Args {
			a.take(arg.Key)
			value := arg.Value
			if given, ok := a.given[arg.Key]; ok && given != nil {
				value = given
			} else if value != nil {
				word, _, err := lex.ProcessWord(*value, a.metaEnv())
				if err != nil {
					return nil, &textError{err.Error(), errors.Join(ErrDockerfile, err)}
				}
				value = &word
			}
			if value != nil {
				a.meta = setVar(a.meta, arg.Key, *value)
			}
		}
	}
	return a, nil
}

// platformArgs are the arguments that BuildKit sets by itself.
func platformArgs(target string) []string {
	own := "linux/" + runtime.GOARCH
	if target == "" {
		target = own
	}
	var list []string
	for _, p := range []struct{ prefix, platform string }{{"BUILD", own}, {"TARGET", target}} {
		parts := append(strings.SplitN(p.platform, "/", 3), "", "")
		list = append(list, p.prefix+"PLATFORM="+p.platform, p.prefix+"OS="+parts[0],
			p.prefix+"ARCH="+parts[1], p.prefix+"VARIANT="+parts[2])
	}
	return list
}

func (a *buildArgs) metaEnv() shell.EnvGetter { return shell.EnvsFromSlice(a.meta) }

// take notes that an ARG declares a name.
func (a *buildArgs) take(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken[name] = true
}

// unused are the given arguments that no ARG has taken, sorted.
func (a *buildArgs) unused() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for name := range a.given {
		if !a.taken[name] && !isProxy(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// value is what an ARG of a stage is: as given, as the ARG says, as the ARG
// before the first FROM says; nil: it has no value.
func (a *buildArgs) value(arg *instructions.KeyValuePairOptional) *string {
	a.take(arg.Key)
	if given := a.given[arg.Key]; given != nil {
		return given
	}
	if arg.Value != nil {
		return arg.Value
	}
	if v, ok := lookupVar(a.meta, arg.Key); ok {
		return &v
	}
	return nil
}

// proxies are the given arguments that need no ARG, sorted.
func (a *buildArgs) proxies() []string {
	var list []string
	for name, value := range a.given {
		if isProxy(name) && value != nil {
			list = append(list, name+"="+*value)
		}
	}
	slices.Sort(list)
	return list
}

// setVar sets NAME=VALUE in a list, in its old place if it has one.
func setVar(list []string, name, value string) []string {
	for i, old := range list {
		if strings.HasPrefix(old, name+"=") {
			list[i] = name + "=" + value
			return list
		}
	}
	return append(list, name+"="+value)
}

func lookupVar(list []string, name string) (string, bool) {
	for _, entry := range slices.Backward(list) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
