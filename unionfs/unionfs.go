// Package unionfs serves a union as a FUSE mount: it translates the kernel's
// requests into calls on package cow or, for a read-only mount, on the lower
// alone.
//
// The server is stateless, like an NFS server. OPEN, OPENDIR, CREATE, FLUSH
// and ACCESS are answered ENOSYS, whereupon the kernel stops asking; there are
// no file handles, and every read and write goes by node number. The kernel's
// dentry, attribute and page caches are the only cache, and as nobody else
// changes what is below, what it has seen stays valid until it changes it
// itself.
//
// A process must never touch the mount that it serves.
package unionfs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
	"unio/unionfs/transport"
)

// Options say what to mount where.
type Options struct {
	Lower      merge.Lower  // what is mounted
	Cow        *cow.FS      // its writable upper; nil: the mount is read-only
	ReadOnly   bool         // mount read-only although there is an upper
	Dir        string       // mount point
	FsName     string       // first column of /proc/mounts
	AllowOther bool         // other users may use the mount (always, for root)
	Suid       bool         // honour setuid bits and file capabilities
	Dev        bool         // honour device files
	Writeback  bool         // let the kernel collect writes; see docs/design.md for what it costs readers
	Extra      []string     // further mount options, as for mount(8)
	Log        *slog.Logger // nil: nothing is logged

	Transport transport.Kind // how requests come; "": transport.Auto

	Subtype     string        // the filesystem type is fuse.SUBTYPE; default unio
	IDs         *IDs          // how owners on disk show; nil: as they are
	Timeout     time.Duration // how long the kernel may believe names and attributes; 0: for ever, < 0: not at all
	StaticNlink bool          // folders show one link, whatever they hold
	NoXattrs    bool          // extended attributes are not supported
	ACL         bool          // access control lists count; needs cow.Options.ACL, and root
	CheckAccess bool          // the kernel checks permissions also for an ordinary user alone

	// Takeover goes on with the mount of a server that has ended instead of
	// making one. The other options must be those of that server.
	Takeover *Takeover
	// Ledger is what the server hands on to one that takes over; nil: none will.
	Ledger *Ledger
}

// Takeover is what a server leaves behind that has ended.
type Takeover struct {
	Device *os.File // its descriptor of /dev/fuse, which is closed with the server
	Init   []byte   // what [Server.InitRequest] said there
}

const (
	maxWrite      = 1 << 20
	maxBackground = 64
)

// Server is a mount that is being served.
type Server struct {
	dev  *transport.Device
	done chan struct{}
	err  error // of serving, once done is closed
}

// Mount mounts a union and serves it in the background. It returns when the
// mount answers. With Options.Takeover it gives transport.ErrNoResend on kernels
// that cannot do that; the mount is then as dead as it was.
func Mount(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dev, err := openDevice(&o)
	if err != nil {
		return nil, err
	}
	s := &Server{dev: dev, done: make(chan struct{})}
	if o.Cow != nil {
		o.Cow.OnListing(s.dropListing(o.Log))
	}
	fs := newFilesystem(&o)
	fs.dropAttrs = s.dropAttrs(o.Log)
	handler := newInPlace(fs, o.Lower, fuse.NewProtocolServer(fs, protocolOptions(&o)))
	var how transport.ServeOptions
	if o.Ledger != nil {
		how.Answered = o.Ledger.setAnswered
	}
	go func() {
		s.err = dev.Serve(handler, how)
		s.err = errors.Join(s.err, dev.Close())
		close(s.done)
	}()
	select {
	case <-dev.Ready():
		return s, nil
	case <-s.done:
	}
	err = fmt.Errorf("serve %s: %w", o.Dir, orUnmounted(s.err))
	if o.Takeover != nil {
		return nil, err
	}
	return nil, errors.Join(err, transport.Unmount(o.Dir, transport.UnmountOptions{Lazy: true}))
}

// openDevice makes the mount, or takes one over.
func openDevice(o *Options) (*transport.Device, error) {
	how := transport.MountOptions{
		Dir: o.Dir, FsName: o.FsName, Subtype: o.Subtype, AllowOther: o.AllowOther,
		// The user to whom an image belongs may do everything in it, whoever
		// its files say they belong to, as root may.
		Permissive: os.Geteuid() != 0 && !o.AllowOther && !o.CheckAccess,
		ReadOnly:   o.ReadOnly || o.Cow == nil, Suid: o.Suid, Dev: o.Dev,
		MaxRead: maxWrite, Extra: o.Extra, Transport: o.Transport, Log: o.Log,
	}
	if o.Takeover == nil {
		return transport.Mount(how)
	}
	fd, err := unix.FcntlInt(o.Takeover.Device.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	dev, err := transport.Takeover(how, fd, o.Takeover.Init)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return dev, o.Takeover.Device.Close()
}

// dropListing returns what makes the kernel forget the listing of a folder: it
// does so by itself when an entry comes or goes, but not when the folder moves
// and its ".." with it.
func (s *Server) dropListing(log *slog.Logger) func(merge.Ino) {
	return func(folder merge.Ino) {
		err := s.dev.InvalidateInode(uint64(folder), 0, 0)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			log.Warn("cannot drop the listing of a moved folder", "ino", uint64(folder), "err", err)
		}
	}
}

// dropAttrs returns what makes the kernel forget the attributes of a folder, and
// those that are on their way to it.
func (s *Server) dropAttrs(log *slog.Logger) func(folder uint64) {
	return func(folder uint64) {
		const noData = -1
		err := s.dev.InvalidateInode(folder, noData, 0)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			log.Warn("cannot drop the attributes of a changed folder", "ino", folder, "err", err)
		}
	}
}

var errUnmounted = errors.New("unmounted before it answered")

func orUnmounted(err error) error {
	if err == nil {
		return errUnmounted
	}
	return err
}

// protocolOptions say what go-fuse is to agree upon with the kernel in INIT. It
// mounts and reads nothing itself.
func protocolOptions(o *Options) *fuse.MountOptions {
	log := o.Log
	m := &fuse.MountOptions{
		MaxWrite: maxWrite, MaxBackground: maxBackground, Name: "unio", FsName: o.FsName,
		ExplicitDataCacheControl: true, EnableSymlinkCaching: true,
		ExtraCapabilities: fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_ASYNC_DIO | fuse.CAP_EXPORT_SUPPORT,
		Logger:            slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		PanicHandler: func(v any) fuse.Status {
			log.Error("request failed by panic", "panic", v, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
	if o.Cow != nil {
		m.ExtraCapabilities |= fuse.CAP_HANDLE_KILLPRIV_V2
	}
	if o.ACL {
		// With DONT_MASK the umask comes with the request: where a folder has a
		// default list, that list takes its place.
		m.EnableAcl = true
		m.ExtraCapabilities |= fuse.CAP_DONT_MASK | fuse.CAP_SETXATTR_EXT
	}
	if o.Cow != nil && o.Writeback {
		m.ExtraCapabilities |= fuse.CAP_WRITEBACK_CACHE
	}
	return m
}

// Wait returns when the mount is gone, with the error that ended it or nil if
// it was unmounted.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Unmount takes the mount away. transport.ErrBusy: it is in use; with lazy it
// goes when it no longer is.
func (s *Server) Unmount(lazy bool) error {
	return transport.Unmount(s.dev.Dir(), transport.UnmountOptions{Lazy: lazy})
}

// Requests returns how many requests came, by name of the operation.
func (s *Server) Requests() map[string]uint64 { return s.dev.Counters().Snapshot() }

// Stats returns what is known of the requests: errors, times and bytes too.
func (s *Server) Stats() transport.Stats { return s.dev.Counters().Stats() }

// Transport tells how requests come: transport.Dev or transport.Uring.
func (s *Server) Transport() transport.Kind { return s.dev.Transport() }

// Device returns a copy of the descriptor of /dev/fuse, for another process to
// keep.
func (s *Server) Device() (*os.File, error) { return s.dev.File() }

// InitRequest returns what the kernel asked first.
func (s *Server) InitRequest() []byte { return s.dev.InitRequest() }

// Drain ends serving without unmounting, so that another server can take over:
// see [transport.Device.Drain].
func (s *Server) Drain(atMost time.Duration) bool { return s.dev.Drain(atMost) }
