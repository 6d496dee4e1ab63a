package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/cow"
	"unio/unionfs"
	"unio/unionfs/overlayopt"
	"unio/unionfs/transport"
)

// overlayCommand mounts plain folders as the kernel's overlayfs does.
func overlayCommand() *cli.Command {
	return &cli.Command{
		Name: "overlay", Usage: "Mount plain folders, one over the other", ArgsUsage: "DIR",
		Description: `The options are those of the kernel's overlayfs and of fuse-overlayfs:
lowerdir=A:B (topmost first; \: \, and \\ for such characters in a name),
upperdir=U and workdir=W, both on one filesystem; without them the mount is
read-only. Further ro, uidmapping=, gidmapping=, squash_to_root, squash_to_uid=,
squash_to_gid=, metacopy=, redirect_dir=, partial=, plain, volatile, userxattr,
static_nlink, noxattrs, acl, timeout=, transport=, fsname=, log=, and the usual ones of mount(8).
The mount stays when the command ends; umount takes it away.

The links unio-overlay (for container engines) and mount.fuse.unio (for mount
and /etc/fstab) do the same.`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "options", Aliases: []string{"o"}, Usage: "Mount options, separated by commas"},
			&cli.StringFlag{Name: "transport", Usage: transportUsage},
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "Serve until the mount ends, with the log on stderr"},
		},
		Before: exactArgs(1),
		Action: func(c *cli.Context) error {
			if err := envOf(c).setTransport(c); err != nil {
				return err
			}
			return mountOverlay(c.Context, overlayLine{
				transport: envOf(c).transport,
				options:   c.StringSlice("options"), dir: c.Args().First(),
				foreground: c.Bool("foreground"), debug: envOf(c).debug, runRoot: envOf(c).runRoot,
			}, overlayDefaults{suid: true, dev: true})
		},
	}
}

// overlayServerCommand is the server that overlay starts in the background.
func overlayServerCommand() *cli.Command {
	return &cli.Command{
		Name: "overlay-server", Usage: "Serve an overlay mount (started by overlay)", ArgsUsage: "DIR", Hidden: true,
		Action: func(*cli.Context) error { return silent(runOverlayServer(os.Stdin, os.Stdout)) },
	}
}

// overlayLine is the command line, under whatever name.
type overlayLine struct {
	options    []string // the values of -o
	dir        string
	foreground bool
	debug      bool
	sloppy     bool // unknown options are passed over
	fake       bool // everything but the mount
	runRoot    string
	transport  transport.Kind // unless the options say another
}

// overlayDefaults is what differs by the name of the program.
type overlayDefaults struct {
	suid, dev bool // what root's mounts honour unless told otherwise
	plain     bool // an upper that others read
}

// overlayTask is a mount to be made, with all that the options leave open
// decided. It travels to the server as JSON.
type overlayTask struct {
	Dir        string // real and absolute
	Options    overlayopt.Options
	Suid, Dev  bool
	AllowOther bool
	Clone      bool // the lowers are mounted anew without what is mounted in them
	Upper      cow.Options
	Trusted    bool // root of the machine: trusted.* attributes
	Root       bool // real owners
	Log        string
	RunRoot    string // where the mount is made known
	ID         string // and as what
	Transport  transport.Kind
}

// mountOverlay makes an overlay mount.
func mountOverlay(ctx context.Context, l overlayLine, d overlayDefaults) error {
	if words, ok := remountWords(l.options); ok {
		return transport.Remount(l.dir, words)
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	o, err := overlayopt.Parser{Dir: cwd, Sloppy: l.sloppy}.Parse(l.options...)
	if err != nil {
		return err
	}
	t := planOverlay(o, d)
	t.RunRoot, t.Transport = l.runRoot, cmp.Or(transport.Kind(o.Transport), l.transport)
	if err := checkOverlay(t, l.dir); err != nil {
		return err
	}
	switch {
	case l.fake:
		return nil
	case l.foreground || l.debug || o.Debug:
		t.Options.Debug = o.Debug || l.debug
		return serveOverlay(ctx, t, os.Stderr, func() error { return nil })
	}
	return startOverlay(ctx, t)
}

// remountWords splits options of which one is "remount". mount(8) gives all
// others that the mount has, too, in the words of /proc/mounts.
func remountWords(options []string) (words []string, ok bool) {
	for _, list := range options {
		words = append(words, strings.Split(list, ",")...)
	}
	return words, slices.Contains(words, "remount")
}

// planOverlay decides what the options leave open.
func planOverlay(o *overlayopt.Options, d overlayDefaults) *overlayTask {
	root := os.Geteuid() == 0
	t := &overlayTask{
		Options: *o, Log: o.Log,
		Suid: or(o.Suid, d.suid && root), Dev: or(o.Dev, d.dev && root),
		AllowOther: o.AllowOther || root && !o.AllowRoot,
		Root:       root && !o.Override,
		Trusted:    root && !o.Override && !o.UserXattr && inFirstNamespace(),
	}
	plain := or(o.Plain, d.plain)
	t.Upper = cow.Options{
		Upper: o.Upper, Work: o.Work, Root: t.Root, UserXattr: !t.Trusted, HostOwners: true, Volatile: o.Volatile, ACL: o.ACL,
		WhiteoutNames: true,
		AllNames:      plain, NoMetacopy: !or(o.Metacopy, !plain), NoPartial: !or(o.Partial, !plain), NoRedirect: !or(o.Redirect, !plain),
	}
	return t
}

func or(given *bool, otherwise bool) bool {
	if given != nil {
		return *given
	}
	return otherwise
}

// overlayName is the mount's source in /proc/mounts unless fsname= says another.
const overlayName = "unio-overlay"

// inFirstNamespace reports whether the user namespace is the machine's own.
// Only there can trusted.* attributes be used (xattr(7)).
func inFirstNamespace() bool {
	var inside, outside, size uint64
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	n, _ := fmt.Sscan(string(data), &inside, &outside, &size)
	return n == 3 && inside == 0 && outside == 0 && size == 1<<32-1
}

// serverOptions are those of the mount itself.
func (t *overlayTask) serverOptions() unionfs.Options {
	o := &t.Options
	s := unionfs.Options{
		Dir: t.Dir, ReadOnly: o.ReadOnly, FsName: cmp.Or(o.FsName, overlayName), Subtype: o.Subtype, AllowOther: t.AllowOther,
		Suid: t.Suid, Dev: t.Dev, Writeback: o.Writeback, Extra: o.Kernel, Transport: t.Transport,
		Timeout: o.Timeout, StaticNlink: o.StaticNlink, NoXattrs: o.NoXattrs, ACL: o.ACL, CheckAccess: true,
	}
	if o.IDs.Mapped() {
		s.IDs = &o.IDs
	}
	// As mount(8): where SELinux is not in use its options are dropped.
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		s.Extra = append(s.Extra, o.Labels...)
	}
	return s
}

// errAllowRoot explains an option that FUSE itself does not have.
var errAllowRoot = errors.New("option allow_root cannot be met without root: allow_other lets all users in")

// realFolder returns the absolute path of a folder, without symbolic links.
func realFolder(what, path string) (string, error) {
	st, err := os.Stat(path)
	if err == nil && !st.IsDir() {
		err = errors.New("not a folder")
	}
	if err != nil {
		if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return "", fmt.Errorf("%s %s: %w", what, path, err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
