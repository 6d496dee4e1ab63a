package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Ways in which the files of a scenario can exist on a union.
const (
	fresh = "fresh" // made through the mount: in the upper only
	lower = "lower" // in the lower only
	meta  = "meta"  // in the lower, then changed by a chmod that changes nothing
	data  = "data"  // in the lower, then written to
)

// item is one word of a scenario's files, "NAME" and what it is, then
// "@MODE[:UID:GID]":
//
//	f           empty file          f=text      file with a text
//	f#1000      1,000 bytes         f~1000      a hole of 1,000 bytes
//	d/          folder              l->target   symbolic link
//	h==f        hard link of f      p|          fifo
//	c%c1,3      device              s<=/bin/sh  copy of a file of the host
//
// Files are 0644 and folders 0755 without a mode; "." stands for the
// scenario's folder itself.
type item struct {
	name, kind, rest string
	mode             uint32
	uid, gid         int
}

func parseItems(files string) ([]item, error) {
	var list []item
	for word := range strings.FieldsSeq(files) {
		it, err := parseItem(word)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		list = append(list, it)
	}
	return list, nil
}

func parseItem(word string) (it item, err error) {
	what, attrs, _ := strings.Cut(word, "@")
	it = item{name: what, mode: 0o644}
	for _, kind := range []string{"->", "==", "<=", "=", "#", "~", "%"} {
		if name, rest, ok := strings.Cut(what, kind); ok {
			it.name, it.kind, it.rest = name, kind, rest
			break
		}
	}
	switch last := what[len(what)-1]; {
	case it.kind == "" && (last == '/' || last == '|'):
		it.name, it.kind = what[:len(what)-1], string(last)
	case what == ".":
		it.kind = "/"
	}
	if it.kind == "/" {
		it.mode = 0o755
	}
	if attrs == "" {
		return it, nil
	}
	return it, it.parseAttrs(attrs)
}

func (it *item) parseAttrs(attrs string) error {
	parts := strings.Split(attrs, ":")
	mode, err := strconv.ParseUint(parts[0], 8, 32)
	if err != nil {
		return err
	}
	it.mode = uint32(mode)
	if len(parts) == 3 {
		it.uid, err = strconv.Atoi(parts[1])
		if err == nil {
			it.gid, err = strconv.Atoi(parts[2])
		}
	}
	return err
}

// plant makes a scenario's folder with its files.
func plant(dir, files string) error {
	items, err := parseItems(files)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, it := range items {
		if err := it.make(dir); err != nil {
			return fmt.Errorf("make %s: %w", it.name, err)
		}
	}
	return nil
}

func (it *item) make(dir string) error {
	path := filepath.Join(dir, it.name)
	var err error
	switch it.kind {
	case "/":
		err = os.Mkdir(path, 0o755)
		if it.name == "." && errors.Is(err, os.ErrExist) {
			err = nil
		}
	case "->":
		err = os.Symlink(it.rest, path)
	case "==":
		return os.Link(filepath.Join(dir, it.rest), path)
	case "|":
		err = unix.Mkfifo(path, 0o644)
	case "%":
		err = it.makeDevice(path)
	default:
		err = it.makeFile(path)
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(path, it.uid, it.gid); err != nil || it.kind == "->" {
		return err
	}
	return unix.Chmod(path, it.mode)
}

func (it *item) makeDevice(path string) error {
	var kind rune
	var major, minor uint32
	if _, err := fmt.Sscanf(it.rest, "%c%d,%d", &kind, &major, &minor); err != nil {
		return err
	}
	typ := uint32(unix.S_IFCHR)
	if kind == 'b' {
		typ = unix.S_IFBLK
	}
	return unix.Mknod(path, typ|0o600, int(unix.Mkdev(major, minor)))
}

func (it *item) makeFile(path string) error {
	var content []byte
	var err error
	switch it.kind {
	case "=":
		content = []byte(it.rest)
	case "#":
		content = pattern(size(it.rest))
	case "<=":
		if content, err = os.ReadFile(it.rest); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, content, 0o644); err != nil || it.kind != "~" {
		return err
	}
	return os.Truncate(path, int64(size(it.rest)))
}

// size reads a size; what is none is 0, which no scenario can mean.
func size(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// pattern is n bytes that tell where they are from.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d\n", i)
	}
	return b.Bytes()[:n]
}

// disturb copies up what the files of the working folder are, as the variant
// says, without changing anything that a scenario sees but the change time.
func disturb(files, variant string) error {
	if variant != meta && variant != data {
		return nil
	}
	items, err := parseItems(files)
	if err != nil {
		return err
	}
	for _, it := range items {
		if err := it.disturb(variant); err != nil {
			return fmt.Errorf("copy up %s: %w", it.name, err)
		}
	}
	return nil
}

func (it *item) disturb(variant string) error {
	if it.kind == "->" {
		return os.Lchown(it.name, it.uid, it.gid)
	}
	if it.kind == "==" {
		return nil
	}
	if variant == data && it.kind == "~" { // a write would fill the hole
		return os.Truncate(it.name, int64(size(it.rest)))
	}
	regular := strings.Contains("= # ~ <=", it.kind)
	if variant == data && regular {
		return rewrite(it.name)
	}
	return unix.Chmod(it.name, it.mode)
}

// rewrite writes a file's first byte over itself, and leaves its times.
func rewrite(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	b := make([]byte, 1)
	err = unix.Fstat(int(f.Fd()), &st)
	if n, readErr := f.Read(b); err == nil && readErr == nil {
		_, err = f.WriteAt(b[:n], 0)
	} else if err == nil { // empty: there is nothing to write over
		err = errors.Join(f.Truncate(1), f.Truncate(0))
	}
	return errors.Join(err, unix.UtimesNano(name, []unix.Timespec{st.Atim, st.Mtim}), f.Close())
}
