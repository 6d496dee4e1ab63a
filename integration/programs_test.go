package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/integration/debian"
	"unio/integration/tree"
)

// programs are what real software does in a chroot on the writable mount.
// Each script leaves its traces, which the commit must then carry.
var programs = []struct{ name, script string }{
	{"dpkg", `
		dpkg -i /root/hello.deb
		[ "$(hello)" = "Hello, world!" ]
		dpkg -s hello | grep -q '^Status: install ok installed'`},
	{"gcc", `
		cd /root
		cat >a.c <<-'END'
			#include <fcntl.h>
			#include <stdio.h>
			#include <string.h>
			#include <sys/mman.h>
			#include <unistd.h>
			int main(void) {
				int fd = open("mapped", O_RDWR | O_CREAT, 0644);
				if (fd < 0 || ftruncate(fd, 100000)) return 1;
				char *map = mmap(0, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), text[6] = "";
				if (map == MAP_FAILED) return 2;
				memcpy(map + 50000, "hello", 5);
				if (pread(fd, text, 5, 50000) != 5 || strcmp(text, "hello") || msync(map, 100000, MS_SYNC)) return 3;
				return puts("compiled here") < 0;
			}
		END
		gcc -O2 -o a.out a.c
		[ "$(./a.out)" = "compiled here" ]
		[ "$(dd if=mapped bs=1 skip=50000 count=5 status=none)" = hello ]`},
	{"git", `
		cd /root
		export HOME=/root GIT_CONFIG_NOSYSTEM=1
		git config --global user.name Tester; git config --global user.email tester@example.org
		git init -q origin && cd origin
		for i in $(seq 200); do mkdir -p d$((i % 10)); echo $i >d$((i % 10))/$i; done
		git add . && git commit -q -m first && cd ..
		git clone -q origin copy && cd copy
		[ -z "$(git status --porcelain)" ]
		echo more >>d1/1 && git commit -qam second && git gc -q && git fsck --strict
		[ -z "$(git status --porcelain)" ]`},
	{"sqlite3", `
		cd /root
		sqlite3 test.db 'create table t(a integer primary key, b text)'
		for i in $(seq 20); do sqlite3 test.db "insert into t(b) values('row $i')"; done
		sqlite3 test.db 'pragma journal_mode=wal; insert into t(b) values (randomblob(100000)); update t set b = b || a'
		[ "$(sqlite3 test.db 'select count(*) from t')" = 21 ]
		[ "$(sqlite3 test.db 'pragma integrity_check')" = ok ]`},
	{"tar", `
		cd /root
		mkdir many && for d in $(seq 50); do mkdir many/$d; for f in $(seq 100); do echo "$d $f" >many/$d/$f; done; done
		tar cf many.tar many && mkdir out && tar xf many.tar -C out
		[ "$(find out -type f | wc -l)" = 5000 ]
		diff -r many out/many
		rm -rf many
		[ ! -e many ]
		rm -rf out/many/1 out/many/2*`},
	{"python3", `
		cd /root
		python3 -c '
import os
with open("made", "wb+") as f:
    f.truncate(100000)
    f.seek(5)
    f.write(b"hello")
assert open("made", "rb").read(20)[5:10] == b"hello"
os.rename("made", "renamed")
os.link("renamed", "linked")
os.symlink("renamed", "pointer")
assert os.stat("linked").st_nlink == 2
'`},
	{"lower", `
		rm -rf /usr/share/doc /usr/share/man
		mkdir /usr/share/doc && echo new >/usr/share/doc/file
		mv /usr/share/info /usr/share/information 2>/dev/null || cp -a /usr/share/info /usr/share/information
		echo appended >>/etc/passwd; chmod 0700 /opt; chown 7:8 /srv
		rm /etc/hostname 2>/dev/null || true
		rmdir /media; echo now a file >/media; rm /etc/debian_version; mkdir /etc/debian_version
		ln /bin/true /root/true`},
	{"find", `
		find / -xdev -type f -newer /etc/os-release | wc -l
		ls -laR /usr/lib >/dev/null
		sync`},
}

// TestPrograms runs real programs in a chroot on the writable mount of a real
// root, commits, mounts the new image, and compares it with the mount it came
// from.
func TestPrograms(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.run("import", "-q", debianTar(t, debian.Tools), "debian:tools")
	deb, err := debian.Package(t.Context(), "hello")
	if err != nil && !errors.Is(err, debian.ErrNoMirror) {
		t.Fatal(err)
	}
	need(t, "a Debian mirror", err)

	mnt := b.mount("--name", "work", "debian:tools")
	copyFile(t, deb, filepath.Join(mnt, "root/hello.deb"))
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			r := b.try("chroot", "work", "/bin/sh", "-exc", "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"+p.script)
			if r.code != 0 {
				t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
	b.run("commit", "-m", "programs ran", "work", "debian:changed")
	live := readTree(t, mnt, tree.Options{})
	assertTree(t, live, b.mount("--read-only", "debian:changed"), "after a commit")
	assertDiffSays(t, b.run("diff", "work"))
	b.run("umount", mnt)
	assertTree(t, live, b.mount("work"), "after a remount")
}

// assertTree compares a folder with a tree that was read before.
func assertTree(t *testing.T, want map[string]tree.Entry, dir, when string) {
	t.Helper()
	for _, line := range tree.Diff(want, readTree(t, dir, tree.Options{}), 20) {
		t.Errorf("%s: %s", when, line)
	}
}

// assertRemountSame unmounts the container, mounts it again elsewhere, and
// expects the same tree.
func assertRemountSame(t *testing.T, b *box, container, mnt string) {
	t.Helper()
	before := readTree(t, mnt, tree.Options{})
	b.run("umount", mnt)
	assertTree(t, before, b.mount(container), "after a remount")
}

// assertDiffSays looks for what the scripts did in docker's notation.
func assertDiffSays(t *testing.T, diff string) {
	t.Helper()
	lines := "\n" + diff + "\n"
	for _, want := range []string{
		"A /root/a.out", "A /root/renamed", "A /root/linked", "A /root/pointer", "C /etc/passwd", "C /etc",
		"D /usr/share/man", "C /opt", "C /srv", "A /usr/share/doc/file", "A /usr/bin/hello", "C /root",
	} {
		if !strings.Contains(lines, "\n"+want+"\n") {
			t.Errorf("diff does not say %q", want)
		}
	}
	for _, never := range []string{"A /root/many\n", "/usr/share/man/man1"} {
		if strings.Contains(lines, never) {
			t.Errorf("diff says %q", never)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
