package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pieceWorks write the data of one file, in large pieces or in small ones.
// Those in small pieces have ours with the kernel's writeback cache beside.
func (s *stage) pieceWorks() []fsWork {
	one := func(name, title, op string, pieces, size int, goals []goal) fsWork {
		return fsWork{
			name: name, title: title, fresh: true, writeback: size <= 4096, goals: goals,
			do: func(ctx context.Context, t *trial) error {
				return t.client(ctx, op, filepath.Join(t.dir, "written"), fmt.Sprint(s.scale(pieces)), fmt.Sprint(size))
			},
		}
	}
	random := one("randwrite", "write 4 KiB × 20,000 at random places of 80 MB", "random", 20_000, 4096, nil)
	random.ready = func(ctx context.Context, t *trial) error { // holes would be another thing
		return t.client(ctx, "write", filepath.Join(t.dir, "written"), fmt.Sprint(s.scale(20_000)), "4096")
	}
	large := one("seqwrite", "write 256 MiB in pieces of 1 MiB", "write", 256, 1<<20, atMost(throughput, 1500e6, 1500e6))
	large.memory, large.long = largeMemory, true
	return []fsWork{
		large,
		one("smallwrite", "write 4 KiB × 20,000 in order", "write", 20_000, 4096, nil),
		random,
		one("append", "append 10,000 short lines through one descriptor", "append", 10_000, 40, ratio(overlayfs, 1.3, 1.3)),
		one("appendopen", "append 3,000 short lines, opening the file for each", "appendopen", 3_000, 40, ratio(overlayfs, 1.3, 1.3)),
		one("fsync", "write 4 KiB and fsync, 200 times", "fsync", 200, 4096, ratio(overlayfs, 1.3, 1.3)),
	}
}

// pieceOps are the clients of pieceWorks: FILE, how many pieces, of how many
// bytes.
func pieceOps() map[string]clientOp {
	return map[string]clientOp{
		"write": pieces(unix.O_WRONLY, func(p *piece) error { return p.write() }),
		"random": pieces(unix.O_RDWR, func(p *piece) error {
			_, err := p.f.WriteAt(p.data, rand.Int64N(p.count)*int64(len(p.data)))
			return err
		}),
		"append":     pieces(unix.O_WRONLY|unix.O_APPEND, func(p *piece) error { return p.write() }),
		"appendopen": pieces(unix.O_WRONLY|unix.O_APPEND, func(p *piece) error { return p.reopen() }),
		"fsync":      pieces(unix.O_WRONLY, func(p *piece) error { return errors.Join(p.write(), p.f.Sync()) }),
	}
}

// piece is what a client writes again and again.
type piece struct {
	f     *os.File
	data  []byte
	count int64
}

func (p *piece) write() error {
	_, err := p.f.Write(p.data)
	return err
}

// reopen writes one line as a program does that logs to a file by name.
func (p *piece) reopen() error {
	f, err := os.OpenFile(p.f.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(p.data)
	return errors.Join(err, f.Close())
}

// pieces makes a client that does one thing for each piece.
func pieces(flags int, each func(*piece) error) clientOp {
	return func(c *clock, args []string) error {
		var size int64
		p := &piece{}
		if _, err := fmt.Sscan(args[1]+" "+args[2], &p.count, &size); err != nil {
			return fmt.Errorf("how many, of which size: %w", err)
		}
		p.data = make([]byte, size)
		for i := range p.data {
			p.data[i] = byte('a' + i%26)
		}
		p.data[size-1] = '\n'
		f, err := os.OpenFile(args[0], flags|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		p.f = f
		c.begin()
		for range p.count {
			if err := each(p); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		err = f.Close() // where writes are collected, they happen here
		c.end(p.count, p.count*size)
		return err
	}
}
