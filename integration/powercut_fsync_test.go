package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// promises are the ways in which what an fsync covers depends on more of the
// upper than the file itself. Each does something to a folder of the image and
// fsyncs last; after a power cut right then, check must print what is wanted.
// Python is used where a descriptor has to stay open.
func promises() []struct{ name, do, check, want string } {
	return []struct{ name, do, check, want string }{
		{"fdatasync of a copy", `printf NEW | dd of=file conv=notrunc,fdatasync status=none`, `head -1 file`, "NEWe 0"},
		{"fdatasync of metadata first", `chmod 600 file; printf NEW | dd of=file conv=notrunc,fdatasync status=none`, `head -1 file; stat -c %a file`, "NEWe 0\n600"},
		{
			"fdatasync of a block of a big file", `printf NEW | dd of=big conv=notrunc,fdatasync bs=1 seek=500000 status=none`,
			`head -c 500003 big | tail -c 3; tail -c 5 big; stat -c %s big`, "NEW9999\n1048576",
		},
		{
			"fdatasync of two blocks of a big file", `printf A | dd of=big conv=notrunc,fdatasync bs=1 seek=9 status=none
			printf B | dd of=big conv=notrunc,fdatasync bs=1 seek=900000 status=none`,
			`head -c 10 big | tail -c 1; head -c 900001 big | tail -c 1; tail -c 5 big`, "AB9999",
		},
		{"fsync of metadata only", `chmod 600 file; sync file`, `stat -c %a file; head -c 6 file`, "600\nfile 0"},
		{"fsync of an attribute", `setfattr -n user.a -v b file; sync file`, `getfattr --only-values -n user.a file; head -c 6 file`, "bfile 0"},
		{"fsync after a truncation", `truncate -s 6 file; sync file`, `cat file`, "file 0"},
		{"fsync of an emptied file", `: >file; sync file`, `stat -c %s file`, "0"},
		{"new folders", `mkdir -p n/a/b; echo new >n/a/b/f; sync n/a/b/f`, `cat n/a/b/f`, "new"},
		{"new file deep in the lower", `echo new >sub/deep/f; sync sub/deep/f`, `cat sub/deep/f sub/deep/x`, "new\nx"},
		{"folder below copied folders", `echo new >sub/deep/f; sync sub/deep`, `ls sub/deep`, "f\nx"},
		{"folder of a whiteout", `rm file; sync .`, `test ! -e file && echo gone`, "gone"},
		{"folder of a renamed file", `mv file other; sync .`, `test ! -e file && echo gone; head -c 6 other`, "gone\nfile 0"},
		{"file that was renamed", `mv file sub/other; sync sub/other`, `head -c 6 sub/other; test ! -e file && echo gone`, "file 0gone"},
		{"folder of a moved folder", `mv sub moved; sync .`, `cat moved/deep/x; test ! -e sub && echo gone`, "x\ngone"},
		{"moved into another", `mkdir to; mv sub/deep to/d; sync to`, `cat to/d/x; ls sub`, "x"},
		{"file in a moved folder", `mv sub moved; echo y >moved/deep/x; sync moved/deep/x`, `cat moved/deep/x; test ! -e sub && echo gone`, "y\ngone"},
		{"new folder over a removed one", `rm -r sub; mkdir sub; sync .`, `ls -A sub; test -d sub && echo there`, "there"},
		{"other name of a link", `printf NEW | dd of=link1 conv=notrunc,fdatasync status=none`, `head -c 6 link2; stat -c %h link2`, "NEWk 02"},
		{"removed name of a link", `rm link1; sync .`, `test ! -e link1 && echo gone; stat -c %h link2`, "gone\n1"},
		{"new name of a link", `ln link1 sub/link3; sync sub/link3`, `stat -c %h link2; head -c 6 sub/link3`, "3\nlink 0"},
		{"new name, folder", `ln file name; sync .`, `stat -c %h file; head -c 6 name`, "2\nfile 0"},
		{"replaced file", `echo new >tmp; sync tmp; mv tmp file; sync .`, `cat file; test ! -e tmp && echo gone`, "new\ngone"},
		{"mapped page", `python3 -c 'import mmap
f = open("file", "r+b"); m = mmap.mmap(f.fileno(), 0); m[0:3] = b"NEW"; m.flush()'`, `head -1 file`, "NEWe 0"},
		{"file without a name", `xfs_io -T -c "pwrite -q -S 0x6e 0 3" -c "flink named" -c fsync .`, `cat named`, "nnn"},
		{"file that lost its name", `python3 -c 'import os
f = os.open("file", os.O_RDWR); os.unlink("file"); os.write(f, b"new"); os.fsync(f); os.fdatasync(f)'; sync .`, `test ! -e file && echo gone`, "gone"},
		{"new file written with O_SYNC", `printf new | dd of=n oflag=sync status=none`, `cat n`, "new"},
		{"new file written with O_DSYNC", `printf new | dd of=sub/n oflag=dsync status=none`, `cat sub/n`, "new"},
		{"untouched file and folder", `sync file; sync -d file; sync sub; sync sub/deep`, `head -c 6 file; cat sub/deep/x`, "file 0x"},
	}
}

// TestPowerCutPromises cuts the power right after an fsync, once for each of
// the things that it depends on. The next commit of the upper's journal is far
// away, so nothing else brings them to the disk.
func TestPowerCutPromises(t *testing.T) {
	needTool(t, "python3", "xfs_io", "setfattr", "getfattr")
	disks := []string{"ext4"}
	if os.Getenv("UNIO_TEST_LONG") != "" {
		disks = append(disks, "xfs", "btrfs")
	}
	for _, disk := range disks {
		t.Run(disk, func(t *testing.T) { cutPromises(t, disk) })
	}
}

func cutPromises(t *testing.T, disk string) {
	r := newPowerRig(t, disk)
	if disk == "ext4" {
		shell(t, r.store(), "mount -o remount,commit=1000 .")
	}
	list := promises()
	lower := r.path("lower")
	for i := range list {
		shell(t, r.dir, fmt.Sprintf(`mkdir -p lower/%d/sub/deep; cd lower/%[1]d; echo x >sub/deep/x
			for i in $(seq 0 999); do echo file $i; done >file
			for i in $(seq 0 999); do echo link $i; done >link1; ln link1 link2; head -c 1048576 < <(yes 9999999) >big`, i))
	}
	pack(t, lower, r.path("lower.tar"))
	r.run("import", "-q", r.path("lower.tar"), "example/pc:1")
	mnt := r.box.mount("--name", "pc", "example/pc:1")
	shell(t, r.store(), "sync -f .")
	for i, p := range list {
		clone := filepath.Join(r.xfs, fmt.Sprint(i))
		shell(t, filepath.Join(mnt, fmt.Sprint(i)), p.do)
		must(t, ficlone(filepath.Join(r.xfs, "disk.img"), clone))
	}
	for i, p := range list {
		r.inspect(filepath.Join(r.xfs, fmt.Sprint(i)), "pc", func(mnt string) {
			dir := filepath.Join(mnt, fmt.Sprint(i))
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("%s: %v", p.name, err)
				return
			}
			if got := shell(t, dir, "set +e; "+p.check+"; true"); strings.TrimSpace(got) != p.want {
				t.Errorf("%s: after the cut:\n%s\nwant:\n%s", p.name, got, p.want)
			}
		})
	}
}
