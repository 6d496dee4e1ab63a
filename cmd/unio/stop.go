package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/supervise"
)

// stopFlags are those of stop and restart.
func stopFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Usage: "Signal to send to the container"},
		&cli.IntFlag{Name: "timeout", Aliases: []string{"t"}, Usage: "Seconds to wait before killing the container"},
		&cli.IntFlag{Name: "time", Hidden: true}, // what docker called it before 28
	}
}

func stopCommand() *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Usage:     "Stop one or more running containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags:     stopFlags(),
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			return eachEchoed(c, func(e *env, found *container.Container) error { return e.stop(c, found) })
		},
	}
}

func restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "Restart one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags:     stopFlags(),
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			return eachEchoed(c, func(e *env, found *container.Container) error {
				if err := e.stop(c, found); err != nil {
					return fmt.Errorf("Cannot restart container %s: %w", found.Name, err) //lint:ignore ST1005 docker's words
				}
				return e.startOne(c.Context, found.ID)
			})
		},
	}
}

// eachEchoed does something with each container that the arguments name, and
// prints the argument when that is done.
func eachEchoed(c *cli.Context, do func(*env, *container.Container) error) error {
	e := envOf(c)
	return each(c.Context, c.Args().Slice(), func(name string) error {
		found, err := e.containers().Lookup(name)
		if err == nil {
			err = do(e, found)
		}
		if err == nil {
			_, err = fmt.Fprintln(e.stdout, name)
		}
		return err
	})
}

// defaultStop is how long a program may take to end, in seconds.
const defaultStop = 10

// stop asks a program to end, and kills it if it does not.
func (e *env) stop(c *cli.Context, found *container.Container) error {
	if !found.State.Active() {
		return nil
	}
	sig := supervise.StopSignal(found)
	if text := c.String("signal"); text != "" {
		var err error
		if sig, err = container.ParseSignal(text); err != nil {
			return err
		}
	}
	seconds := defaultStop
	if found.Config.StopTimeout != nil {
		seconds = *found.Config.StopTimeout
	}
	for _, name := range []string{"time", "timeout"} {
		if c.IsSet(name) {
			seconds = c.Int(name)
		}
	}
	return e.end(c.Context, found, sig, seconds)
}

// end sends a signal and, so many seconds later, SIGKILL; negative: never.
func (e *env) end(ctx context.Context, found *container.Container, sig unix.Signal, seconds int) error {
	cs := e.containers()
	if err := cs.MarkStopped(found); err != nil {
		return err
	}
	if err := found.Signal(sig); err != nil && !errors.Is(err, container.ErrNotRunning) {
		return err
	}
	if err := cs.Resume(found); err != nil {
		return err
	}
	wait, cancel := context.WithCancel(ctx)
	if seconds >= 0 {
		wait, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	}
	defer cancel()
	_, err := cs.Wait(wait, found)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if err := found.Signal(unix.SIGKILL); err != nil && !errors.Is(err, container.ErrNotRunning) {
		return err
	}
	_, err = cs.Wait(ctx, found)
	return err
}

func killCommand() *cli.Command {
	return &cli.Command{
		Name:      "kill",
		Usage:     "Kill one or more running containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Usage: "Signal to send to the container"},
		},
		Before: minArgs(1),
		Action: func(c *cli.Context) error {
			e := envOf(c)
			return each(c.Context, c.Args().Slice(), func(name string) error { return e.kill(c, name) })
		},
	}
}

// kill sends a signal. After SIGKILL it returns when the container has ended.
func (e *env) kill(c *cli.Context, name string) error {
	sig := unix.SIGKILL
	if text := c.String("signal"); text != "" {
		var err error
		if sig, err = container.ParseSignal(text); err != nil {
			return err
		}
	}
	cs := e.containers()
	found, err := cs.Lookup(name)
	if err == nil && sig == unix.SIGKILL {
		err = cs.MarkStopped(found)
	}
	if err == nil {
		err = found.Signal(sig)
	}
	if err == nil && (sig == unix.SIGKILL || sig == supervise.StopSignal(found)) {
		err = cs.Resume(found)
	}
	if err != nil {
		return fmt.Errorf("Cannot kill container: %s: %w", name, err) //lint:ignore ST1005 docker's words
	}
	if sig == unix.SIGKILL {
		if _, err := cs.Wait(c.Context, found); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(e.stdout, name)
	return err
}

func waitCommand() *cli.Command {
	return &cli.Command{
		Name:      "wait",
		Usage:     "Block until one or more containers stop, then print their exit codes",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			e := envOf(c)
			return each(c.Context, c.Args().Slice(), func(name string) error {
				cs := e.containers()
				found, err := cs.Lookup(name)
				if err != nil {
					return err
				}
				code, err := supervise.WaitCode(c.Context, cs, found)
				if err == nil {
					_, err = fmt.Fprintln(e.stdout, code)
				}
				return err
			})
		},
	}
}
