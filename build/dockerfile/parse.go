package dockerfile

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// plan is a Dockerfile that has been read: what is to be done, and in which
// order.
type plan struct {
	source []string // its lines
	escape rune
	args   *buildArgs
	stages []*stage
	last   int // the stage whose result is the image
	total  int // steps of all stages that are run
}

// stage is one FROM with what follows.
type stage struct {
	instructions.Stage
	index    int
	base     string // of FROM, with variables replaced
	platform string
	needs    []int // other stages that it reads
	needed   bool  // is run
	first    int   // number of its FROM among all steps
}

// parse reads the Dockerfile and decides which stages are to be run.
func parse(o *Options) (*plan, error) {
	p := &plan{source: strings.Split(strings.TrimSuffix(string(o.Dockerfile), "\n"), "\n")}
	if len(bytes.TrimSpace(o.Dockerfile)) == 0 {
		return nil, bad("the Dockerfile cannot be empty")
	}
	ast, err := parser.Parse(bytes.NewReader(o.Dockerfile))
	if err != nil {
		return nil, p.parseError(err)
	}
	p.escape = ast.EscapeToken
	stages, metaArgs, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil, p.parseError(err)
	}
	if len(stages) == 0 {
		return nil, bad("dockerfile contains no stages to build")
	}
	if p.args, err = newBuildArgs(o, metaArgs, p.escape); err != nil {
		return nil, p.atLines(err, metaArgs[0].Location())
	}
	for i := range stages {
		s := &stage{Stage: stages[i], index: i}
		if err := p.readFrom(s, o); err != nil {
			return nil, p.atLines(err, s.Location)
		}
		p.stages = append(p.stages, s)
	}
	if err := p.findTarget(o.Target); err != nil {
		return nil, err
	}
	addLabels(p.stages[p.last], o.Labels)
	return p, p.connect(len(metaArgs))
}

// addLabels adds what --label says behind the last instruction, sorted.
func addLabels(s *stage, labels map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		s.AddCommand(instructions.NewLabelCommand(name, labels[name], true))
	}
}

// readFrom replaces the variables of a FROM.
func (p *plan) readFrom(s *stage, o *Options) error {
	lex := shell.NewLex(p.escape)
	name, _, err := lex.ProcessWord(s.BaseName, p.args.metaEnv())
	if err != nil {
		return &textError{err.Error(), errors.Join(ErrDockerfile, err)}
	}
	if name == "" {
		return bad("base name (%s) should not be blank", s.BaseName)
	}
	s.base, s.platform = name, o.Platform
	if s.Platform != "" {
		if s.platform, _, err = lex.ProcessWord(s.Platform, p.args.metaEnv()); err != nil {
			return &textError{err.Error(), errors.Join(ErrDockerfile, err)}
		}
		if s.platform == "" {
			return bad("empty platform value from expression %s", s.Platform)
		}
	}
	return nil
}

// findTarget finds the stage that is wanted.
func (p *plan) findTarget(target string) error {
	p.last = len(p.stages) - 1
	if target == "" {
		return nil
	}
	if i := p.byName(target, len(p.stages)); i >= 0 {
		p.last = i
		return nil
	}
	n, err := strconv.Atoi(target)
	if err != nil || n < 0 || n >= len(p.stages) {
		return bad("failed to reach build target %s in Dockerfile", target)
	}
	p.last = n
	return nil
}

// byName finds the last stage of that name before a certain one; -1: there is
// none. Case does not matter.
func (p *plan) byName(name string, before int) int {
	for i := before - 1; i >= 0; i-- {
		if p.stages[i].Name != "" && strings.EqualFold(p.stages[i].Name, name) {
			return i
		}
	}
	return -1
}

// reference finds the stage that a --from names; -1: it names an image. A
// number must be that of an earlier stage, a name may be that of a later one.
func (p *plan) reference(from string, user int) (int, error) {
	if i := p.byName(from, user); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(from); err == nil {
		switch {
		case n == user:
			return -1, bad("invalid from flag value %s: refers to current build stage", from)
		case n < 0 || n > user:
			return -1, bad("invalid from flag value %s: index out of bounds", from)
		}
		return n, nil
	}
	return p.byName(from, len(p.stages)), nil
}

// fromOf lists what the instructions of a stage read from elsewhere.
func fromOf(cmd instructions.Command) []string {
	switch in := cmd.(type) {
	case *instructions.CopyCommand:
		if in.From != "" {
			return []string{in.From}
		}
	case *instructions.RunCommand:
		var list []string
		for _, m := range instructions.GetMounts(in) {
			if m.From != "" {
				list = append(list, m.From)
			}
		}
		return list
	}
	return nil
}

// connect finds which stages need which, and numbers the steps.
func (p *plan) connect(metaArgs int) error {
	for _, s := range p.stages {
		if i := p.byName(s.base, s.index); i >= 0 {
			s.needs = append(s.needs, i)
		}
		for _, cmd := range s.Commands {
			for _, from := range fromOf(cmd) {
				i, err := p.reference(from, s.index)
				if err != nil {
					return p.atLines(err, cmd.Location())
				}
				if i >= 0 {
					s.needs = append(s.needs, i)
				}
			}
		}
	}
	if err := p.mark(p.last, map[int]bool{}); err != nil {
		return err
	}
	p.total = metaArgs
	for _, s := range p.stages {
		if s.needed {
			s.first = p.total + 1
			p.total += 1 + len(s.Commands)
		}
	}
	return nil
}

// mark marks a stage and all that it needs. path holds the stages that wait
// for it.
func (p *plan) mark(i int, path map[int]bool) error {
	s := p.stages[i]
	if path[i] {
		return p.atLines(bad("circular dependency detected on stage: %s", s.Name), s.Location)
	}
	if s.needed {
		return nil
	}
	path[i] = true
	for _, n := range s.needs {
		if err := p.mark(n, path); err != nil {
			return err
		}
	}
	delete(path, i)
	s.needed = true
	return nil
}
