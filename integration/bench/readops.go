package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// readOps are the clients that read.
func readOps() map[string]clientOp {
	return map[string]clientOp{
		"lstat": storm(lstatName), "open": storm(openName), "statfs": statfsStorm,
		"seqread": readThrough, "randread": readHereAndThere, "mmap": readMapped, "readdir": readNames,
	}
}

// storm makes a client that calls one for each name of a list: DIR LIST THREADS.
func storm(one func(name string, buf []byte) error) clientOp {
	return func(c *clock, args []string) error {
		var threads int
		if len(args) != 3 {
			return errors.New("want DIR LIST THREADS")
		}
		if _, err := fmt.Sscan(args[2], &threads); err != nil {
			return fmt.Errorf("threads: %w", err)
		}
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		if err := os.Chdir(args[0]); err != nil {
			return err
		}
		names := strings.Fields(string(text))
		c.begin()
		err = share(names, threads, one)
		c.end(int64(len(names)), 0)
		return err
	}
}

// batch is how many names a thread takes at once.
const batch = 64

// share lets threads take names from the list, as many at once as the
// scheduler wants: a system call that waits has its own.
func share(names []string, threads int, one func(name string, buf []byte) error) error {
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make([]error, threads)
	for i := range threads {
		all.Go(func() {
			buf := make([]byte, 4096)
			for failed[i] == nil {
				from := int(next.Add(batch)) - batch
				if from >= len(names) {
					return
				}
				for _, name := range names[from:min(from+batch, len(names))] {
					failed[i] = errors.Join(failed[i], one(name, buf))
				}
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func lstatName(name string, _ []byte) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func openName(name string, buf []byte) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = unix.Read(fd, buf)
	return errors.Join(err, unix.Close(fd))
}

// statfsStorm asks DIR's filesystem about itself TIMES: each is one request and
// its answer, as statfs is never cached.
func statfsStorm(c *clock, args []string) error {
	var times int64
	if len(args) != 2 {
		return errors.New("want DIR TIMES")
	}
	if _, err := fmt.Sscan(args[1], &times); err != nil {
		return fmt.Errorf("how often: %w", err)
	}
	var st unix.Statfs_t
	c.begin()
	for range times {
		if err := unix.Statfs(args[0], &st); err != nil {
			return err
		}
	}
	c.end(times, 0)
	return nil
}

// opened is a file that a client reads, with so many BYTES of it.
type opened struct {
	*os.File
	size int64
}

// openPart opens FILE, of which a client reads the first BYTES, or all if it is shorter.
func openPart(args []string) (f opened, err error) {
	if len(args) < 2 {
		return f, errors.New("want FILE BYTES")
	}
	var part int64
	if _, err := fmt.Sscan(args[1], &part); err != nil {
		return f, fmt.Errorf("how much: %w", err)
	}
	if f.File, err = os.Open(args[0]); err != nil {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return f, errors.Join(err, f.Close())
	}
	f.size = min(info.Size(), part)
	return f, nil
}

// readThrough reads FILE BYTES from its start.
func readThrough(c *clock, args []string) error {
	c.begin()
	f, err := openPart(args)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, sum := make([]byte, 128<<10), int64(0) // as cat(1)
	for sum < f.size {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		sum += int64(n)
	}
	c.end(0, sum)
	return nil
}

// block is what is read at once at random places, in bytes.
const block = 4096

// readHereAndThere reads blocks of FILE BYTES, TIMES, at the same random places in
// every run.
func readHereAndThere(c *clock, args []string) error {
	var times int64
	if _, err := fmt.Sscan(args[2], &times); err != nil {
		return fmt.Errorf("how often: %w", err)
	}
	c.begin()
	f, err := openPart(args)
	if err != nil {
		return err
	}
	defer f.Close()
	places, buf := rand.New(rand.NewPCG(1, 2)), make([]byte, block)
	for range times {
		if _, err := f.ReadAt(buf, places.Int64N(f.size/block)*block); err != nil {
			return err
		}
	}
	c.end(times, 0)
	return nil
}

// readMapped touches every page of FILE BYTES through a mapping.
func readMapped(c *clock, args []string) error {
	c.begin()
	f, err := openPart(args)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := unix.Mmap(int(f.Fd()), 0, int(f.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	sum := int64(0) // used, so that the compiler keeps the loop
	for i := 0; i < len(data); i += os.Getpagesize() {
		sum += int64(data[i])
	}
	err = unix.Munmap(data)
	c.end(0, f.size)
	if sum < 0 {
		return errors.New("negative bytes")
	}
	return err
}

// readNames reads the names in DIR, and nothing else of them.
func readNames(c *clock, args []string) error {
	c.begin()
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf, count := make([]byte, 32<<10), int64(0) // as glibc's readdir(3)
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return os.NewSyscallError("getdents64", err)
		}
		if n == 0 {
			break
		}
		names = names[:0]
		_, found, _ := unix.ParseDirent(buf[:n], -1, names)
		count += int64(found)
	}
	c.end(count, 0)
	return nil
}
