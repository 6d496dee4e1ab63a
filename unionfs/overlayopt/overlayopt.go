// Package overlayopt reads the mount options of overlay filesystems: those of
// the kernel's overlayfs (Documentation/filesystems/overlayfs.rst), those of
// fuse-overlayfs (its manual), those that mount(8) passes to a helper, and our
// own. It touches no file.
//
// What is split where, and what a backslash does, is as in the kernel's
// fs/overlayfs/params.c: an option ends at a comma, a lower folder at a colon,
// and a backslash takes any character as it is.
package overlayopt

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"unio/unionfs"
)

// MaxLower is the largest number of lower folders (OVL_MAX_STACK in
// fs/overlayfs/params.h).
const MaxLower = 500

// ErrUnknown says that there is no such option.
var ErrUnknown = errors.New("unknown mount option")

// Options is what a list of mount options asks for. Paths are absolute but not
// cleaned: "link/../x" leads where the kernel says. A nil switch was not
// mentioned.
type Options struct {
	Lower       []string // topmost first, no path twice
	Upper, Work string   // Upper is empty for a read-only mount of the lowers

	ReadOnly    bool
	Suid, Dev   *bool
	AllowOther  bool
	AllowRoot   bool     // let root and nobody else in beside the one who mounts
	FsName      string   // empty: the caller's choice
	Subtype     string   // empty: the caller's choice
	Kernel      []string // further flags for mount(2), in mount(8)'s words
	Labels      []string // SELinux contexts: for mount(2), where SELinux is in use
	Writeback   bool
	Transport   string        // auto, dev or uring; empty: the caller's choice
	Timeout     time.Duration // as in unionfs.Options
	StaticNlink bool
	NoXattrs    bool
	ACL         bool
	Debug       bool
	Log         string // file for the server's log, empty for none

	IDs unionfs.IDs

	Volatile      bool  // no syncs, and a mark on the upper
	UserXattr     bool  // user.* attributes, whoever mounts
	Override      bool  // owners in user.containers.override_stat, whoever mounts
	Plain         *bool // an upper that others can read at every moment
	Metacopy      *bool
	Redirect      *bool
	Partial       *bool
	squashAll     bool
	appendedLower []string
}

// Parser says how to read options.
type Parser struct {
	Dir    string // absolute folder that relative paths start from
	Sloppy bool   // pass over what is unknown, as mount(8) -s asks for
}

// Parse reads the values of several -o, of which the later win. Every error
// names the option that it is about.
func (p Parser) Parse(values ...string) (*Options, error) {
	o := &Options{}
	for _, value := range values {
		for word := range words(value) {
			if err := o.set(word); err != nil {
				if p.Sloppy && errors.Is(err, ErrUnknown) {
					continue
				}
				return nil, err
			}
		}
	}
	if err := o.finish(p.Dir); err != nil {
		return nil, err
	}
	return o, nil
}

// finish checks what options are together.
func (o *Options) finish(dir string) error {
	o.Lower = append(o.Lower, o.appendedLower...)
	o.appendedLower = nil
	switch {
	case len(o.Lower) == 0:
		return errors.New("option lowerdir is missing")
	case len(o.Lower) > MaxLower:
		return fmt.Errorf("option lowerdir: %d folders, and there can be %d", len(o.Lower), MaxLower)
	case o.Upper != "" && o.Work == "":
		return errors.New("option workdir is missing: upperdir needs one")
	case o.Upper == "":
		o.Work = "" // of no use, as overlayfs says
	}
	if o.squashAll {
		root := uint32(0)
		if o.IDs.SquashUID == nil {
			o.IDs.SquashUID = &root
		}
		if o.IDs.SquashGID == nil {
			o.IDs.SquashGID = &root
		}
	}
	return o.absolute(dir)
}

// absolute completes relative paths and leaves out lower folders that are
// named again: what they hold is in sight already.
func (o *Options) absolute(dir string) error {
	lower := o.Lower
	o.Lower = nil
	seen := make(map[string]bool, len(lower))
	for _, path := range lower {
		if path = from(dir, path); !seen[path] {
			seen[path] = true
			o.Lower = append(o.Lower, path)
		}
	}
	if o.Log != "" {
		o.Log = from(dir, o.Log)
	}
	if o.Upper == "" {
		return nil
	}
	o.Upper, o.Work = from(dir, o.Upper), from(dir, o.Work)
	if o.Upper == o.Work {
		return fmt.Errorf("upperdir and workdir are the same folder: %s", o.Upper)
	}
	return nil
}

func from(dir, path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return dir + "/" + path
}
