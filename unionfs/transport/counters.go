package transport

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// Opcodes that this package must know (include/uapi/linux/fuse.h, enum
// fuse_opcode).
const (
	opForget      = 2
	opInit        = 26
	opBatchForget = 42
	opcodes       = 64 // one more than the largest that is counted by name
)

// opcodeName names the request of an opcode as the kernel does, without FUSE_.
func opcodeName(op int) string {
	names := [opcodes]string{
		1: "LOOKUP", "FORGET", "GETATTR", "SETATTR", "READLINK", "SYMLINK",
		8: "MKNOD", "MKDIR", "UNLINK", "RMDIR", "RENAME", "LINK", "OPEN", "READ", "WRITE", "STATFS", "RELEASE",
		20: "FSYNC", "SETXATTR", "GETXATTR", "LISTXATTR", "REMOVEXATTR", "FLUSH", "INIT", "OPENDIR", "READDIR",
		29: "RELEASEDIR", "FSYNCDIR", "GETLK", "SETLK", "SETLKW", "ACCESS", "CREATE", "INTERRUPT", "BMAP", "DESTROY",
		39: "IOCTL", "POLL", "NOTIFY_REPLY", "BATCH_FORGET", "FALLOCATE", "READDIRPLUS", "RENAME2", "LSEEK",
		47: "COPY_FILE_RANGE", "SETUPMAPPING", "REMOVEMAPPING", "SYNCFS", "TMPFILE", "STATX", "COPY_FILE_RANGE_64",
	}
	switch {
	case op == 0:
		return "OTHER"
	case names[op] == "":
		return fmt.Sprintf("OPCODE_%d", op)
	}
	return names[op]
}

// Counters counts requests by opcode. A request is counted before it is
// handled, so whoever has an answer finds it counted. FORGET, BATCH_FORGET
// and INTERRUPT come whenever the kernel likes.
type Counters struct {
	n [opcodes]atomic.Uint64 // index 0: opcodes out of range
}

func (c *Counters) add(op uint32) {
	if op >= opcodes {
		op = 0
	}
	c.n[op].Add(1)
}

// Total returns the number of all requests.
func (c *Counters) Total() uint64 {
	var sum uint64
	for i := range c.n {
		sum += c.n[i].Load()
	}
	return sum
}

// Snapshot returns the numbers that are not zero, by the name of the request:
// LOOKUP, GETATTR and so on; OTHER for what FUSE had not defined when this
// was written.
func (c *Counters) Snapshot() map[string]uint64 {
	m := map[string]uint64{}
	for i := range c.n {
		if n := c.n[i].Load(); n > 0 {
			m[opcodeName(i)] = n
		}
	}
	return m
}

// String lists the numbers, sorted by name: "GETATTR=2 LOOKUP=7".
func (c *Counters) String() string {
	m := c.Snapshot()
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%d", name, m[name])
	}
	return b.String()
}
