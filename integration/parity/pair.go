package parity

import (
	"context"
	"fmt"
)

// Pair is docker and unio side by side. Where docker's answers are known (see
// [Recorded]) its place is empty, and StandIn, another unio, does what only docker
// is to do: filling a registry for both.
type Pair struct{ Docker, Unio, StandIn *Side }

// Outcome is how a step went on both sides.
type Outcome struct {
	Step         Step
	Docker, Unio Answer // masked unless the step is quiet, before differences are explained
	// Agreed is what both say once differences are explained.
	Agreed Answer
	// Problem says what is wrong; empty: nothing.
	Problem string
}

// Run runs a step on the sides that it is for.
func (p *Pair) Run(ctx context.Context, s Step) (Outcome, error) {
	o := Outcome{Step: s}
	var err error
	if docker := p.docker(s); docker != nil {
		if o.Docker, err = docker.Run(ctx, s.Command); err != nil {
			return o, err
		}
	}
	if s.Only != "docker" {
		if o.Unio, err = p.Unio.Run(ctx, s.Command); err != nil {
			return o, err
		}
	}
	if s.Quiet {
		o.Problem = failed(o)
		return o, nil
	}
	o.Unio = p.Unio.Masked(o.Unio)
	if p.Docker != nil {
		o.Docker = p.Docker.Masked(o.Docker)
		o.Problem, err = judge(o)
	}
	if err == nil {
		o.Agreed, err = agreed(o)
	}
	return o, err
}

// docker is who does docker's part of a step; nil: nobody.
func (p *Pair) docker(s Step) *Side {
	switch {
	case s.Only == "unio":
		return nil
	case p.Docker == nil && s.Only == "docker":
		return p.StandIn
	}
	return p.Docker
}

// failed says which side failed in a step that must succeed.
func failed(o Outcome) string {
	switch {
	case o.Docker.Code != 0:
		return "docker failed"
	case o.Unio.Code != 0:
		return "unio failed"
	}
	return ""
}

// agreed is unio's answer with differences explained.
func agreed(o Outcome) (Answer, error) {
	list, err := differencesNamed(o.Step.Differences)
	if err != nil {
		return Answer{}, err
	}
	_, unio, err := explain(list, Answer{}, o.Unio)
	return unio, err
}

// judge compares the answers of a step.
func judge(o Outcome) (problem string, err error) {
	list, err := differencesNamed(o.Step.Differences)
	if err != nil {
		return "", err
	}
	for i := range list { // an entry that no longer matters is a stale excuse
		others := append(list[:i:i], list[i+1:]...)
		docker, unio, err := explain(others, o.Docker, o.Unio)
		if err != nil {
			return "", err
		}
		if docker == unio {
			return fmt.Sprintf("the difference %s does not show any more", list[i].Name), nil
		}
	}
	docker, unio, err := explain(list, o.Docker, o.Unio)
	if err != nil {
		return "", err
	}
	if docker != unio {
		return fmt.Sprintf("docker:\n%s\nunio:\n%s", docker, unio), nil
	}
	return "", nil
}
