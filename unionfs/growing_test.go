package unionfs_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// pattern is the content of files in these tests: no byte of it is zero, so a
// page that is older than the size shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + i%251)
	}
	return b
}

// TestGrowingFile has one descriptor write a file that it made while others
// read it to its end: whatever they get must be what was written. Writing past
// the page cache failed here. (Mappings are left out: stat may be ahead of the
// kernel's own idea of the size for the length of a request, and what is mapped
// beyond that is SIGBUS.)
func TestGrowingFile(t *testing.T) {
	r := newRig(t, "echo x > lower")
	r.mount(false)
	r.run("cat lower")
	want := pattern(600_000)
	for round := range 4 {
		path := filepath.Join(r.dir, fmt.Sprint("file", round))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() { watch(t, path, want, done) })
		}
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%(900*(1+round)))
			if _, err := f.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		close(done)
		readers.Wait()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
	}
}

// watch reads a growing file until done, and once more.
func watch(t *testing.T, path string, want []byte, done <-chan struct{}) {
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for last := false; ; {
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
		if err != nil || !bytes.HasPrefix(want, got) {
			t.Errorf("%d bytes read are not what was written, %v", len(got), err)
			return
		}
		if last {
			return
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
}

// TestFileAndMapping has a descriptor and a mapping write by turns.
func TestFileAndMapping(t *testing.T) {
	r := newRig(t, "echo x > lower")
	r.mount(false)
	path := filepath.Join(r.dir, "file")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := pattern(10_000)
	write := func(at, n int) {
		t.Helper()
		if _, err := f.WriteAt(want[at:at+n], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	write(0, len(want))
	other, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mem, err := unix.Mmap(int(other.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	for i := range 200 {
		a, b := i*49%9000, i*31%9000
		want[a], want[b] = byte(i+1), byte(i+2)
		mem[a] = want[a]
		write(b, 1)
		mem[b+1], want[b+1] = 7, 7
		if !bytes.Equal(mem, want) {
			t.Fatalf("after %d turns the mapping shows something else", i)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read: something else, %v", err)
	}
}

// TestWriteTakesRights: a write takes set-id bits and capabilities away also
// when they came after the file was opened, and the mode that the kernel goes
// by at an exec is the new one.
func TestWriteTakesRights(t *testing.T) {
	r := newRig(t, "mkdir d; chmod 777 d")
	r.mount(false)
	out := r.run(`python3 -c '
import os
os.umask(0)
f = os.open("d/caps", os.O_WRONLY|os.O_CREAT, 0o755); os.write(f, b"one")
os.setxattr("d/caps", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
print("set", os.listxattr("d/caps"))
os.write(f, b"two"); print("written", os.listxattr("d/caps"))
os.setgid(65534); os.setuid(65534)
def mode(p): return oct(os.stat(p).st_mode & 0o7777)
f = os.open("d/late", os.O_WRONLY|os.O_CREAT, 0o755); os.write(f, b"#!/bin/sh\n")
os.fchmod(f, 0o6755); print(mode("d/late")); os.write(f, b"id\n"); print(mode("d/late"))
f = os.open("d/early", os.O_WRONLY|os.O_CREAT, 0o6755); print(mode("d/early")); os.write(f, b"x"); print(mode("d/early"))
'`)
	want := "set ['security.capability']\nwritten []\n0o6755\n0o755\n0o6755\n0o755\n"
	if out != want {
		t.Errorf("got %swant %s", out, want)
	}
}
