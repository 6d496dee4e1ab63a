// Package output writes what a build made elsewhere than into the image store:
// to a folder, a tar of its files, or an OCI archive (build's -o, in the words
// of docker buildx).
//
// A folder is written through descriptors: whatever an image holds, and
// whatever links the folder has already, nothing outside of it is touched. An
// image is data from a stranger, so what would give it power on this machine
// does not get there: owners become the caller, set-id bits and capabilities
// go, devices are left out.
package output

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"unio/build/source"
	"unio/imagestore"
	"unio/imagestore/archive"
	"unio/imagestore/layer"
)

// ErrInvalid says that a value of -o cannot be understood.
var ErrInvalid = errors.New("invalid output")

// Type is a kind of output.
type Type string

// The types. Docker is the archive that load reads, which is an OCI archive as
// well.
const (
	Local  Type = "local"
	Tar    Type = "tar"
	OCI    Type = "oci"
	Docker Type = "docker"
	Image  Type = "image" // into the store, under Name: what a build does without -o
)

// Spec says what is to be written where.
type Spec struct {
	Type Type
	Dest string // folder or file; "-" or, where a file is meant, "": standard output
	Name string // of Image, OCI and Docker; "": the names of the build
}

// Parse reads a value of -o: "DIR", "-" for a tar on standard output, or
// "type=TYPE[,dest=PATH][,name=NAME]" as a line of CSV.
func Parse(value string) (Spec, error) {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return Spec{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(fields) == 1 && fields[0] == value && !strings.HasPrefix(value, "type=") {
		if value == "-" {
			return Spec{Type: Tar, Dest: "-"}, nil
		}
		return Spec{Type: Local, Dest: value}, nil
	}
	var s Spec
	for _, field := range fields {
		if err := s.set(field); err != nil {
			return Spec{}, err
		}
	}
	return s, s.check()
}

// set takes one KEY=VALUE of a line.
func (s *Spec) set(field string) error {
	key, value, ok := strings.Cut(field, "=")
	if !ok {
		return fmt.Errorf("%w: invalid value %s", ErrInvalid, field)
	}
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "type":
		s.Type = Type(value)
	case "dest":
		s.Dest = value
	case "name":
		s.Name = value
	default:
		return fmt.Errorf("%w: option %s is not known", ErrInvalid, key)
	}
	return nil
}

// check refuses what cannot be carried out, before the build begins.
func (s *Spec) check() error {
	switch s.Type {
	case "":
		return fmt.Errorf("%w: type is required for output", ErrInvalid)
	case Local:
		if s.Dest == "" || s.Dest == "-" {
			return fmt.Errorf("%w: dest is required for local output", ErrInvalid)
		}
	case Image:
		if s.Dest != "" {
			return fmt.Errorf("%w: an image has no dest", ErrInvalid)
		}
	case Tar, OCI, Docker:
	default:
		return fmt.Errorf("%w: unknown type %q: local, tar, oci, docker and image are known", ErrInvalid, s.Type)
	}
	return nil
}

// ToStdout reports whether the output goes to standard output.
func (s *Spec) ToStdout() bool {
	return s.Type != Image && s.Type != Local && (s.Dest == "" || s.Dest == "-")
}

// Result is what a build made.
type Result struct {
	Store  *imagestore.Store
	Image  *imagestore.Image // in the store, with a name or without
	Stdout io.Writer
	Log    *slog.Logger // told of what is left out; nil: nobody
}

// Write writes the result. A file appears whole or not at all; a folder is
// made, and filled beside what is in it. Image: nothing is left to do.
func (s *Spec) Write(ctx context.Context, r Result) error {
	switch s.Type {
	case Image:
		return nil
	case Local:
		return s.withView(ctx, r, func(v *imagestore.View) error {
			return WriteFolder(ctx, source.OpenView(v), s.Dest, r.Log)
		})
	case Tar:
		return s.withView(ctx, r, func(v *imagestore.View) error {
			return s.file(r, func(w io.Writer) error { return layer.WriteTree(ctx, v, w) })
		})
	}
	return s.file(r, func(w io.Writer) error {
		return archive.Save(ctx, r.Store, []string{s.reference(r.Image)}, w, archive.SaveOptions{})
	})
}

// reference names the image for an archive, by a name if it has one.
func (s *Spec) reference(img *imagestore.Image) string {
	switch {
	case s.Name != "":
		return s.Name
	case len(img.Names) > 0:
		return img.Names[0]
	}
	return img.ID.String()
}

func (s *Spec) withView(ctx context.Context, r Result, use func(*imagestore.View) error) error {
	v, err := r.Store.View(ctx, r.Image)
	if err != nil {
		return err
	}
	return errors.Join(use(v), v.Close())
}

// file writes to the file that was asked for, or to standard output.
func (s *Spec) file(r Result, write func(io.Writer) error) error {
	if s.ToStdout() {
		return write(r.Stdout)
	}
	if err := archive.WriteFile(s.Dest, write); err != nil {
		return fmt.Errorf("write %s: %w", s.Dest, err)
	}
	return os.Chmod(s.Dest, 0o644) // as docker's client leaves it
}
