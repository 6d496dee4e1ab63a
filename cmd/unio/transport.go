package main

import (
	"cmp"
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/unionfs/transport"
)

// transportVariable is the environment variable behind --transport.
const transportVariable = "UNIO_TRANSPORT"

const transportUsage = "How the kernel's requests reach the server of a mount: auto,\ndev (/dev/fuse) or uring (io_uring); see 'unio help transport'"

// transportKind reads the value of --transport; empty means auto.
func transportKind(word string) (transport.Kind, error) {
	switch kind := transport.Kind(cmp.Or(word, string(transport.Auto))); kind {
	case transport.Auto, transport.Dev, transport.Uring:
		return kind, nil
	}
	return "", fmt.Errorf("unknown transport %q: auto, dev or uring", word)
}

// setTransport takes over a command's own --transport.
func (e *env) setTransport(c *cli.Context) (err error) {
	if word := c.String("transport"); word != "" {
		e.transport, err = transportKind(word)
	}
	return err
}

// transportName is what figures and lists call a transport.
func transportName(kind transport.Kind) string {
	return string(cmp.Or(kind, transport.Dev)) // an older server does not say
}

// transportState says what a mount made now would take, and why.
func (e *env) transportState() string {
	if e.transport == transport.Dev {
		return "dev (as --transport or " + transportVariable + " says)"
	}
	if err := transport.UringUsable(); err != nil {
		return fmt.Sprintf("dev (%v)", err)
	}
	return "uring"
}

const transportTopic = `How the kernel's requests reach the server of a mount: --transport KIND of mount and
overlay, mount option transport=KIND, or UNIO_TRANSPORT for every command.

  dev    by /dev/fuse. Works everywhere. A server that dies is replaced and nobody
         notices; 'mount --reload' puts a new unio below mounts in use
  uring  by io_uring, Linux 6.14 or later: a request takes a third of the time. When a
         server dies, the mount is made anew by itself, but files that were open are
         lost (ENOTCONN), and --reload is refused
  auto   uring where the kernel allows it, else dev, and a line in the mount's log says
         why; so does 'unio info'. The default

The kernel's parameter enable_uring of fuse must be on. 'uring', when root asks for it,
turns it on until the next boot; auto never does. To have it always, one of

  echo 'options fuse enable_uring=1' >/etc/modprobe.d/fuse-uring.conf   fuse is a module
  fuse.enable_uring=1                                on the kernel's command line: built in

'unio mount' and 'unio mount --stats' show what a mount uses.
`
