package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// walkScript looks at every file's attributes.
const walkScript = "find . -xdev -size +4000000k"

// tarScript packs 4,300 files into a pipe: tar itself reads nothing when it writes
// to /dev/null.
const tarScript = "tar -cf - --one-file-system usr/share usr/lib/python3* | cat >/dev/null"

// headers are 6,900 of the 17,900 files below /usr/include: more of the same would
// cost time and show nothing new. The small image has no such folders.
const headers = `set -- usr/include/boost/[f-m]*; [ -e "$1" ] || set -- usr/include`

// grepScript finds nothing, which grep's exit code 1 says.
const grepScript = headers + `
grep -r -F "no text has this in it" "$@" >/dev/null || [ $? -eq 1 ]`

// readWorks are the workloads that only read.
func (s *stage) readWorks() []fsWork {
	return slices.Concat(s.walkWorks(), s.stormWorks(), s.largeWorks(), s.programWorks(), s.crowdWorks())
}

// script makes a step of a shell script in the folder under test.
func script(text string) step {
	return func(ctx context.Context, t *trial) error { return t.shell(ctx, text) }
}

// walkWorks walk the whole tree with programs. First means that the mount is
// new but what lies below it has been read.
func (s *stage) walkWorks() []fsWork {
	return []fsWork{
		{name: "findcold", title: "find of the whole tree", cold: true, do: script(walkScript), goals: ratio(overlayfs, 2.2, 2.2)},
		{name: "find", title: "find of the whole tree again", kept: true, lists: true, ready: script(walkScript), do: script(walkScript)},
		{name: "tarcold", long: true, title: "tar of 4,300 files", cold: true, do: script(tarScript)},
		{name: "tar", long: true, title: "tar of 4,300 files again", kept: true, lists: true, ready: script(tarScript), do: script(tarScript), goals: ratio(overlayfs, 1.3, 1.3)},
		{name: "grepcold", long: true, title: "grep -r in 6,900 headers", cold: true, do: script(grepScript)},
		{name: "grep", long: true, title: "grep -r in 6,900 headers of a new mount", warmup: true, do: script(grepScript), goals: ratio(overlayfs, 1.25, 1.05)},
		{name: "grepagain", long: true, title: "grep -r in 6,900 headers again", kept: true, lists: true, ready: script(grepScript), do: script(grepScript), goals: ratio(overlayfs, 1.25, 1.05)},
	}
}

// stormWorks call the same thing very often, with several threads.
func (s *stage) stormWorks() []fsWork {
	list := []fsWork{{
		name: "roundtrip", title: "statfs, 20,000 times", kept: true, do: func(ctx context.Context, t *trial) error {
			return t.client(ctx, "statfs", t.dir, fmt.Sprint(s.scale(20_000)))
		},
		goals: atMost(opTime, 25e-6, 12e-6),
	}}
	for _, threads := range []string{"1", "2", "8"} {
		lstat := s.storm("lstat", "names", threads)
		open := s.storm("open", "files", threads)
		cold := fsWork{name: "lstat" + threads, title: "lstat of every fifth file, threads: " + threads, cold: true, long: threads != "8", do: lstat}
		warm := fsWork{
			name: "open" + threads, title: "open, read 4 KiB, close of every fifth file again, threads: " + threads,
			kept: true, ready: open, do: open, long: true, goals: ratio(overlayfs, 1, 1),
		}
		if threads == "8" {
			cold.goals = ratio(overlayfs, 0.8, 0.8)
		} else {
			warm.without = []string{unionfsFuse} // ten seconds each time; once is enough
		}
		list = append(list, cold, warm)
	}
	return list
}

// storm makes a step of a client that takes a fifth of a list of names of the realistic
// image: all folders have their share in it.
func (s *stage) storm(op, list, threads string) step {
	return func(ctx context.Context, t *trial) error {
		part, err := s.every(5, s.pictures["debian"], list)
		if err != nil {
			return err
		}
		return t.client(ctx, op, t.dir, part, threads)
	}
}

// names is the path of a list of names beside the layers.
func (p *picture) names(list string) string { return filepath.Join(filepath.Dir(p.lower), list) }

// every writes each nth line of a list of names into the scratch folder, once.
func (s *stage) every(nth int, p *picture, list string) (string, error) {
	path := s.path(fmt.Sprintf("%s-%s-%d", filepath.Base(p.store), list, nth))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	text, err := os.ReadFile(p.names(list))
	if err != nil {
		return "", err
	}
	var part strings.Builder
	i := 0
	for line := range strings.Lines(string(text)) {
		if i%nth == 0 {
			part.WriteString(line)
		}
		i++
	}
	return path, os.WriteFile(path, []byte(part.String()), 0o644)
}

// part is how much of the large file is read, in bytes: twice as much, above and below
// the union, is what settleMemory can have ready.
const part = 256 << 20

// largeWorks read the first quarter of the file of 1 GiB.
func (s *stage) largeWorks() []fsWork {
	large := func(op string, args ...string) step {
		return func(ctx context.Context, t *trial) error {
			return t.client(ctx, op, append([]string{filepath.Join(t.dir, "srv/large"), fmt.Sprint(part)}, args...)...)
		}
	}
	warm, cold := fmt.Sprint(s.scale(50_000)), fmt.Sprint(s.scale(2_000))
	return []fsWork{
		{name: "seqreadcold", long: true, title: "sequential read of 256 MiB", cold: true, memory: largeMemory, do: large("seqread")},
		{name: "seqread", long: true, title: "sequential read of 256 MiB again", kept: true, ready: large("seqread"), do: large("seqread"), goals: ratio(overlayfs, 1.4, 1.4)},
		{name: "randreadcold", long: true, title: "random reads of 4 KiB, " + cold, cold: true, do: large("randread", cold)},
		{name: "randread", long: true, title: "random reads of 4 KiB again, " + warm, kept: true, ready: large("seqread"), do: large("randread", warm)},
		{name: "mmapcold", long: true, title: "256 MiB read through a mapping", cold: true, memory: largeMemory, do: large("mmap")},
		{name: "mmap", title: "256 MiB read through a mapping again", kept: true, ready: large("mmap"), do: large("mmap")},
	}
}

// programWorks run programs of the image in it.
func (s *stage) programWorks() []fsWork {
	inside := func(times int, args ...string) step {
		return func(ctx context.Context, t *trial) error { return t.chroot(ctx, max(s.scale(times), 2), args...) }
	}
	modules := "asyncio, email.mime.text, http.server, json, logging.handlers, unittest, xml.dom.minidom, multiprocessing"
	if s.tiny { // its python is Debian's minimal one
		modules = "os, re"
	}
	python := func(times int) step { return inside(times, "/usr/bin/python3", "-c", "import "+modules) }
	gcc := func(times int) step {
		return inside(times, "/usr/bin/gcc", "-c", "-o", "/tmp/x.o", "/srv/headers.c")
	}
	status := func(ctx context.Context, t *trial) error {
		return t.run(ctx, "git", "-C", filepath.Join(t.dir, "srv/repo"), "-c", "safe.directory=*", "status", "--porcelain")
	}
	repo := []string{"srv/repo"}
	return []fsWork{
		{name: "exec", title: "/bin/true, 500 times", kept: true, ready: inside(1, "/bin/true"), do: inside(500, "/bin/true"), goals: ratio(overlayfs, 1.3, 1.3)},
		{name: "python", long: true, title: "python imports 8 modules, 5 times", kept: true, ready: python(1), do: python(5), goals: ratio(overlayfs, 1.15, 1.15)},
		{name: "gcc", long: true, title: "gcc -c, 40 times", kept: true, ready: gcc(1), do: gcc(40), goals: ratio(overlayfs, 1.15, 1.15)},
		{name: "gitfirst", long: true, title: "git status of a new mount", fresh: true, warmup: true, copies: repo, do: status},
		{name: "git", title: "git status again", fresh: true, lists: true, copies: repo, ready: status, do: status},
	}
}

// crowdWorks have very many files.
func (s *stage) crowdWorks() []fsWork {
	listed := func(ctx context.Context) (*picture, error) { return s.listed(ctx, s.scale(100_000)) }
	crowd := func(ctx context.Context) (*picture, error) { return s.crowd(ctx, s.scale(1_000_000)) }
	list := func(ctx context.Context, t *trial) error {
		return t.client(ctx, "readdir", filepath.Join(t.dir, "listed"))
	}
	many := 40<<20 + 250*975_000.0
	return []fsWork{
		{name: "readdircold", long: true, title: "names of a folder of 100,000", image: listed, cold: true, do: list},
		{name: "readdir", title: "names of a folder of 100,000 again", image: listed, kept: true, lists: true, ready: list, do: list},
		{
			name: "memory", title: "find of the whole tree, for the server's memory", do: script(walkScript), without: []string{native, overlayfs},
			goals: atMost(serverMemory, 40<<20, 40<<20),
		},
		{
			// Memory needs no second round; fuse-overlayfs takes two minutes and 306 MiB.
			name: "memory1m", long: true, title: "find of 1,000,000 files, for the server's memory", image: crowd, do: script(walkScript), rounds: 1,
			without: []string{native, overlayfs, fuseOverlay, unionfsFuse}, goals: atMost(serverMemory, many, many),
		},
	}
}
