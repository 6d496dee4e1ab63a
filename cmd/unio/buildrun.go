package main

import (
	"context"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/container"
	"unio/container/layermount"
)

// buildMountsCommand serves the mounts of a build's steps.
func buildMountsCommand() *cli.Command {
	return &cli.Command{
		Name: "build-mounts", Usage: "Serve the mounts of a build (started by build)", Hidden: true,
		Action: func(c *cli.Context) error {
			e := envOf(c)
			control, err := controlSocket()
			if err != nil {
				return err
			}
			return silent(layermount.Serve(context.WithoutCancel(c.Context), control, e.openLayers, e.log))
		},
	}
}

// openLayers opens the merged tree of a chain for a mount server.
func (e *env) openLayers(ctx context.Context, diffIDs []digest.Digest) (layermount.Lower, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	return st.ViewOf(ctx, diffIDs)
}

// buildRunner runs the programs of RUN.
func (e *env) buildRunner(c *cli.Context) dockerfile.Runner {
	return func(ctx context.Context, p *dockerfile.Program) (int, error) {
		return container.Chroot(ctx, container.ChrootOptions{
			Root: p.Root, Args: p.Args, Env: p.Env, Dir: p.Config.WorkingDir, User: p.Config.User,
			Runner: e.command("runner"), Stdout: p.Output, Stderr: p.Output,
		})
	}
}
