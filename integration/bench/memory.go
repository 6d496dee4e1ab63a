package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Memory that a virtual machine frees may go back to its host within seconds
// (free page reporting, mm/page_reporting.c), and then the first who touches it waits for the
// host, four times as long as for memory that is there. So a child touches as much
// as a run will need right before the run, whoever's turn it is.
const (
	someMemory = 64 << 20  // bytes; for work on many small files
	keptMemory = 16 << 20  // for programs alone, where all that they read is there already
	fileMemory = 256 << 20 // for images of tools
	// largeMemory is for large files, which stand in the page cache twice: as the
	// union's and as those below it. More would be reported before it is used.
	largeMemory = 512 << 20
)

// settleMemory has the memory for a run in the machine.
func settleMemory(ctx context.Context, bytes int64) error {
	if free := sizeIn("/proc/meminfo", "MemAvailable:") / 2; bytes > free {
		bytes = free
	}
	return (&trial{}).client(ctx, "touch", fmt.Sprint(bytes))
}

// touchMemory is the client that writes into each page of so many BYTES.
func touchMemory(_ *clock, args []string) error {
	var size int
	if _, err := fmt.Sscan(args[0], &size); err != nil {
		return fmt.Errorf("how many bytes: %w", err)
	}
	if size < os.Getpagesize() {
		return nil
	}
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE) // fewer faults; a kernel without huge pages has more
	for i := 0; i < len(data); i += os.Getpagesize() {
		data[i] = 1
	}
	return os.NewSyscallError("munmap", unix.Munmap(data))
}
