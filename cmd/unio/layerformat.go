package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
	"unio/whiteout"
)

// layerTable lists the entries of a layer like "tar tv": mode, owner, size or
// device number, time, name. Whiteouts, opaque folders and folders that the
// tar does not hold are marked.
func layerTable(w io.Writer, x *layer.Index) error {
	for e := range x.Entries() {
		if _, err := fmt.Fprintln(w, tableLine(&e)); err != nil {
			return err
		}
	}
	return nil
}

func tableLine(e *layer.Entry) string {
	name := printable(displayPath(e.Path))
	if e.Whiteout == whiteout.File {
		return fmt.Sprintf("%-10s %-11s %9s %16s %s", "whiteout", "", "", "", name)
	}
	if e.Hardlink {
		return fmt.Sprintf("%-10s %-11s %9s %16s %s link to %s", "hardlink", "", "", "", name, printable(displayPath(e.Link)))
	}
	a := &e.Attr
	size := strconv.FormatUint(a.Size, 10)
	if t := a.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		size = fmt.Sprintf("%d,%d", unix.Major(a.Rdev), unix.Minor(a.Rdev))
	} else if a.IsDir() {
		size = "0"
	}
	line := fmt.Sprintf("%s %-11s %9s %s %s", modeString(a.Mode), fmt.Sprintf("%d/%d", a.UID, a.GID), size,
		time.Unix(a.Sec, 0).UTC().Format("2006-01-02 15:04"), name)
	switch {
	case a.IsSymlink():
		line += " -> " + printable(e.Link)
	case e.Opaque:
		line += " (opaque)"
	}
	if e.Implicit {
		line += " (not in the tar)"
	}
	if len(e.Xattrs) > 0 {
		line += " (" + xattrNames(e.Xattrs) + ")"
	}
	return line
}

func displayPath(p string) string {
	if p == "" {
		return "."
	}
	return p
}

// printable quotes names that would not show as they are.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

func xattrNames(xattrs []layer.Xattr) string {
	names := make([]string, len(xattrs))
	for i, x := range xattrs {
		names[i] = printable(x.Name)
	}
	return strings.Join(names, " ")
}

// modeString is a mode as "ls -l" shows it.
func modeString(mode uint32) string {
	s := []byte("?rwxrwxrwx")
	s[0] = typeLetter(mode)
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			s[i+1] = '-'
		}
	}
	for _, b := range []struct {
		bit   uint32
		at    int
		x, no byte
	}{{unix.S_ISUID, 3, 's', 'S'}, {unix.S_ISGID, 6, 's', 'S'}, {unix.S_ISVTX, 9, 't', 'T'}} {
		switch {
		case mode&b.bit == 0:
		case s[b.at] == 'x':
			s[b.at] = b.x
		default:
			s[b.at] = b.no
		}
	}
	return string(s)
}

func typeLetter(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	case unix.S_IFCHR:
		return 'c'
	case unix.S_IFBLK:
		return 'b'
	case unix.S_IFIFO:
		return 'p'
	case unix.S_IFSOCK:
		return 's'
	}
	return '-'
}

// jsonLayer is a layer as "layer inspect --json" prints it.
type jsonLayer struct {
	DiffID  digest.Digest
	Size    uint64 // bytes of file content
	Entries []jsonEntry
}

type jsonEntry struct {
	Path     string
	Type     string            // dir, file, symlink, hardlink, char, block, fifo, socket, whiteout
	Mode     string            `json:",omitempty"` // octal, without the type
	UID, GID uint32            `json:",omitempty"`
	Size     uint64            `json:",omitempty"`
	Time     *time.Time        `json:",omitempty"`
	Link     string            `json:",omitempty"`
	Device   string            `json:",omitempty"`
	Opaque   bool              `json:",omitempty"`
	Implicit bool              `json:",omitempty"`
	Xattrs   map[string]string `json:",omitempty"` // values in base64
	Extents  []layer.Extent    `json:",omitempty"` // where the tar holds the data
}

func layerJSON(w io.Writer, diffID digest.Digest, x *layer.Index) error {
	l := jsonLayer{DiffID: diffID, Size: x.DataSize(), Entries: []jsonEntry{}}
	for e := range x.Entries() {
		l.Entries = append(l.Entries, newJSONEntry(&e))
	}
	return writeJSON(w, l)
}

func newJSONEntry(e *layer.Entry) jsonEntry {
	j := jsonEntry{Path: displayPath(e.Path), Link: e.Link, Opaque: e.Opaque, Implicit: e.Implicit, Type: "whiteout"}
	switch {
	case e.Whiteout == whiteout.File:
		return j
	case e.Hardlink:
		j.Type = "hardlink"
		return j
	}
	a := &e.Attr
	t := time.Unix(a.Sec, int64(a.Nsec)).UTC()
	j.Type, j.Mode, j.Time = typeName(a.Mode), fmt.Sprintf("%04o", a.Mode&0o7777), &t
	j.UID, j.GID, j.Size, j.Extents = a.UID, a.GID, a.Size, e.Extents
	if j.Type == "char" || j.Type == "block" {
		j.Device = fmt.Sprintf("%d:%d", unix.Major(a.Rdev), unix.Minor(a.Rdev))
	}
	for _, x := range e.Xattrs {
		if j.Xattrs == nil {
			j.Xattrs = map[string]string{}
		}
		j.Xattrs[x.Name] = base64.StdEncoding.EncodeToString(x.Value)
	}
	return j
}

func typeName(mode uint32) string {
	return map[byte]string{
		'd': "dir", 'l': "symlink", 'c': "char", 'b': "block", 'p': "fifo", 's': "socket", '-': "file",
	}[typeLetter(mode)]
}
