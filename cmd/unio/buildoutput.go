package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/build/output"
	"unio/imagestore"
)

// buildOutputs reads the values of --output; "-o DIR" alone means a folder.
func buildOutputs(c *cli.Context, o *dockerfile.Options) ([]output.Spec, error) {
	var specs []output.Spec
	for _, value := range c.StringSlice("output") {
		spec, err := output.Parse(value)
		if err != nil {
			return nil, err
		}
		if spec.ToStdout() && isTerminal(envOf(c).stdout) {
			return nil, errors.New("dest file is required for an archive. refusing to write to console")
		}
		if spec.Type == output.Image {
			if spec.Name != "" {
				o.Tags = append(o.Tags, spec.Name)
			}
			continue
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// writeOutputs hands the image to where --output says. As with BuildKit, the
// store does not keep it then, unless it has a name.
func (e *env) writeOutputs(ctx context.Context, res *dockerfile.Result, specs []output.Spec) error {
	st, err := e.store()
	if err != nil {
		return err
	}
	for _, spec := range specs {
		r := output.Result{Store: st, Image: res.Image, Stdout: e.stdout, Log: e.log}
		err = errors.Join(err, spec.Write(ctx, r))
	}
	if len(specs) == 0 || res.Existed || len(res.Image.Names) > 0 {
		return err
	}
	_, removeErr := st.Remove(context.WithoutCancel(ctx), res.Image.ID.String(), imagestore.RemoveOptions{NoPrune: true})
	return errors.Join(err, removeErr)
}
