package layer_test

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
	"unio/unionfs/merge"
)

func pathClean(p string) string { return path.Clean(p) }

func attr(mode, uid uint32, size uint64, sec int64) merge.Attr {
	return merge.Attr{Mode: mode, UID: uid, Size: size, Sec: sec}
}

// oldSegments are segments as the old GNU header has them.
func oldSegments(more bool, pairs ...int64) string {
	var b strings.Builder
	for _, n := range pairs {
		fmt.Fprintf(&b, "%011o\x00", n)
	}
	return b.String()
}

// oldSparse is a header block of GNU's old format; pairs are at most 4.
func oldSparse(realSize, dataSize int64, more bool, pairs ...int64) []byte {
	tail := strings.Repeat("\x00", 386-345) + oldSegments(more, pairs...)
	tail += strings.Repeat("\x00", 482-345-len(tail))
	if more {
		tail += "\x01"
	} else {
		tail += "\x00"
	}
	tail += fmt.Sprintf("%011o\x00", realSize)
	return rawHeader{name: "f", typ: 'S', magic: gnu, size: octal(dataSize), tail: tail}.block()
}

// oldMore is a block of further segments.
func oldMore(more bool, pairs ...int64) []byte {
	b := padded(oldSegments(more, pairs...))
	if more {
		b[504] = 1
	}
	return b
}

type sparseCase struct {
	name string
	tar  []byte
	want string // with - for a byte of hole
}

// sparseTars are sparse files in every format.
func sparseTars() []sparseCase {
	reg := rawHeader{name: "GNUSparseFile.0/f", typ: '0', magic: ustar}
	file := rawHeader{name: "f", typ: '0', magic: ustar}
	v10 := []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=f", "GNU.sparse.realsize=10"}
	return []sparseCase{
		{"old", archive(oldSparse(10, 5, false, 1, 2, 4, 3), padded("abcde")), "-ab-cde---"},
		{"old, all hole", archive(oldSparse(4, 0, false, 4, 0)), "----"},
		{"old, with a block more", archive(oldSparse(12, 5, true, 0, 1, 2, 1, 4, 1, 6, 1), oldMore(false, 8, 1, 12, 0), padded("abcde")), "a-b-c-d-e---"},
		{"old, with two blocks more", archive(oldSparse(4, 2, true, 0, 0), oldMore(true, 1, 1), oldMore(false, 3, 1), padded("ab")), "-a-b"},
		{"0.0", archive(paxOf('x', "GNU.sparse.size=10", "GNU.sparse.numblocks=2", "GNU.sparse.offset=1", "GNU.sparse.numbytes=2", "GNU.sparse.offset=4", "GNU.sparse.numbytes=3"), file.with("abcde")), "-ab-cde---"},
		{"0.1", archive(paxOf('x', "GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=f", "GNU.sparse.size=10", "GNU.sparse.map=1,2,4,3"), reg.with("abcde")), "-ab-cde---"},
		{"0.1 without a version", archive(paxOf('x', "GNU.sparse.name=f", "GNU.sparse.size=3", "GNU.sparse.map=3,0"), reg.with("")), "---"},
		{"1.0", archive(paxOf('x', v10...), reg.with(string(padded("2\n1\n2\n4\n3\n"))+"abcde")), "-ab-cde---"},
		{"1.0, nothing but hole", archive(paxOf('x', v10...), reg.with(string(padded("0\n")))), "----------"},
		{"1.0, map of two blocks", archive(paxOf('x', v10...), reg.with(string(padded("2\n"+strings.Repeat("0", 509)+"1\n2\n4\n3\n"))+"abcde")), "-ab-cde---"},
		{"1.0, segments that touch", archive(paxOf('x', v10...), reg.with(string(padded("2\n1\n2\n3\n3\n"))+"abcde")), "-abcde----"},
		{"unknown version is a plain file", archive(paxOf('x', "GNU.sparse.major=2", "GNU.sparse.minor=0"), file.with("abc")), "abc"},
	}
}

func TestLayerCase18Sparse(t *testing.T) {
	for _, c := range sparseTars() {
		t.Run(c.name, func(t *testing.T) {
			v := mustView(t, c.tar)
			ino := find(t, v, "f")
			got := strings.ReplaceAll(string(readAll(t, v, ino)), "\x00", "-")
			if got != c.want || attrOf(t, v, ino).Mode&unix.S_IFMT != unix.S_IFREG {
				t.Errorf("content %q, want %q", got, c.want)
			}
			segments, err := v.Segments(ino)
			check(t, err)
			marked := bytes.Repeat([]byte("-"), len(got))
			for _, s := range segments {
				copy(marked[s.Off:s.Off+s.Len], got[s.Off:s.Off+s.Len])
			}
			if string(marked) != c.want {
				t.Errorf("segments %v give %q", segments, marked)
			}
			sameAsArchiveTar(t, c.tar, mustScan(t, c.tar))
		})
	}
}

func TestBadSparse(t *testing.T) {
	reg := rawHeader{name: "f", typ: '0', magic: ustar}
	v01 := func(m string) []byte { return paxOf('x', "GNU.sparse.size=10", "GNU.sparse.map="+m) }
	v10 := paxOf('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=10")
	for _, c := range []struct {
		name string
		tar  []byte
		err  error
	}{
		{"overlap", archive(v01("0,3,2,2"), reg.with("abcde")), layer.ErrBadTar},
		{"wrong order", archive(v01("4,1,2,1"), reg.with("ab")), layer.ErrBadTar},
		{"beyond the file", archive(v01("9,2"), reg.with("ab")), layer.ErrBadTar},
		{"less data than segments", archive(v01("0,3"), reg.with("ab")), layer.ErrBadTar},
		{"more data than segments", archive(v01("0,1"), reg.with("ab")), layer.ErrBadTar},
		{"negative", archive(v01("-1,2"), reg.with("ab")), layer.ErrBadTar},
		{"overflow", archive(v01("9223372036854775807,2"), reg.with("ab")), layer.ErrBadTar},
		{"odd", archive(v01("0,1,2"), reg.with("a")), layer.ErrBadTar},
		{"no number", archive(v01("0,x"), reg.with("a")), layer.ErrBadTar},
		{"size no number", archive(paxOf('x', "GNU.sparse.size=x", "GNU.sparse.map=0,1"), reg.with("a")), layer.ErrBadTar},
		{"size negative", archive(paxOf('x', "GNU.sparse.size=-1", "GNU.sparse.major=0", "GNU.sparse.minor=1"), reg.with("")), layer.ErrBadTar},
		{"0.0 out of order", archive(paxOf('x', "GNU.sparse.numbytes=2", "GNU.sparse.offset=1"), reg.with("ab")), layer.ErrBadTar},
		{"1.0 longer than the data", archive(v10, reg.with("9\n1\n")), layer.ErrBadTar},
		{"1.0 truncated", append(v10, rawHeader{name: "f", typ: '0', size: "2000"}.block()...), layer.ErrBadTar},
		{"1.0 no number", archive(v10, reg.with(string(padded("x\n")))), layer.ErrBadTar},
		{"1.0 endless", archive(v10, reg.with(strings.Repeat("1", 9<<20))), layer.ErrLimit},
		{"1.0 of a folder", archive(v10, rawHeader{name: "d/", typ: '5'}.block()), layer.ErrBadTar},
		{"0.1 of a folder", archive(v01("0,0"), rawHeader{name: "d/", typ: '5'}.block()), layer.ErrBadTar},
		{"old without GNU magic", archive(rawHeader{name: "f", typ: 'S', magic: ustar}.block()), layer.ErrBadTar},
		{"old truncated", oldSparse(4, 2, true, 0, 1), layer.ErrBadTar},
		{"old without end", append(oldSparse(4, 2, true, 0, 0), bytes.Repeat(oldMore(true, bytesOfPairs()...), 20_000)...), layer.ErrLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := scan(c.tar); !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
		})
	}
}

func bytesOfPairs() (pairs []int64) {
	for range 21 {
		pairs = append(pairs, 1, 0)
	}
	return pairs
}

// A file beyond 4 GiB, nearly all hole, costs nothing to index or read.
func TestSparseBeyond4GiB(t *testing.T) {
	const size = 5 << 30
	reg := rawHeader{name: "f", typ: '0', magic: ustar}
	b := archive(paxOf('x', fmt.Sprintf("GNU.sparse.size=%d", int64(size)), fmt.Sprintf("GNU.sparse.map=0,1,%d,2", int64(size-2))), reg.with("abc"))
	v := mustView(t, b)
	ino := find(t, v, "f")
	for off, want := range map[int64]string{0: "a\x00", size - 3: "\x00bc", size - 1: "c", 1 << 32: "\x00\x00\x00\x00", size: "", size + 5: ""} {
		p := []byte("xxxx")[:max(len(want), 1)]
		n, err := v.ReadAt(ino, p, off)
		if err != nil || string(p[:n]) != want {
			t.Errorf("at %d: %q, %v; want %q", off, p[:n], err, want)
		}
	}
	if v.DataSize() != size {
		t.Errorf("data size %d", v.DataSize())
	}
}

func fsTime(sec, nsec int64) time.Time { return time.Unix(sec, nsec) }
