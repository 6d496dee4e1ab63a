package dockerfile

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"unio/imagestore"
)

// scratchName is what FROM calls an image without anything.
const scratchName = "scratch"

// from begins the stage and carries out what the base image has for those who
// build on it.
func (r *stageRun) from(ctx context.Context) error {
	r.tell(Event{Kind: StepBegins, Text: strings.TrimSpace(r.stage.SourceCode)})
	if err := r.begin(ctx); err != nil {
		return err
	}
	triggers := r.s.config.OnBuild
	if len(triggers) == 0 {
		return r.tellImage()
	}
	r.s.config.OnBuild = nil
	r.tell(Event{Kind: Triggers, N: len(triggers)})
	for _, line := range triggers {
		if err := r.trigger(ctx, line); err != nil {
			return err
		}
	}
	return r.tellImage()
}

// begin finds the state that FROM names.
func (r *stageRun) begin(ctx context.Context) (err error) {
	if i := r.plan.byName(r.stage.base, r.stage.index); i >= 0 {
		s, err := r.stageState(ctx, i)
		if err != nil {
			return err
		}
		r.s, err = s.clone()
		return err
	}
	var img *imagestore.Image
	if r.stage.base != scratchName {
		if img, err = r.image(ctx, r.stage.base, r.stage.platform); err != nil {
			return err
		}
	}
	r.s, err = newState(img, r.stage.platform)
	return err
}

// image finds an image, once for all stages.
func (r *stageRun) image(ctx context.Context, name, platform string) (*imagestore.Image, error) {
	key := name + "\x00" + platform
	r.imagesMu.Lock()
	p := r.images[key]
	if p == nil {
		p = &pulled{}
		r.images[key] = p
	}
	r.imagesMu.Unlock()
	p.once.Do(func() {
		p.img, p.err = r.o.Image(ctx, name, platform, func(line string) { r.tell(Event{Kind: Output, Text: line}) })
	})
	return p.img, p.err
}

// trigger carries out one ONBUILD instruction of the base image.
func (r *stageRun) trigger(ctx context.Context, line string) error {
	ast, err := parser.Parse(strings.NewReader(line))
	if err != nil {
		return fmt.Errorf("%w: trigger %q of the base image: %w", ErrDockerfile, line, err)
	}
	if len(ast.AST.Children) != 1 {
		return bad("onbuild trigger should be a single expression")
	}
	cmd, err := instructions.ParseCommand(ast.AST.Children[0])
	if err != nil {
		return fmt.Errorf("%w: trigger %q of the base image: %w", ErrDockerfile, line, err)
	}
	return r.step(ctx, cmd)
}
