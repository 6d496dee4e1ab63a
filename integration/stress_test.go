package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unio/unionfs/transport/transporttest"
)

// fsStressors are stress-ng's stressors of the filesystem class that say
// something of a filesystem and verify what they read: all at once. make
// test-long runs all of the class, one after another. "io" is left out: it
// opens every mount of the machine, and those of other tests are then busy.
const fsStressors = "access,chdir,chmod,chown,copy-file,dentry,dir,dirdeep,dirmany,dup,fallocate,fcntl,fpunch,fsize,fstat," +
	"hdd,link,lockf,mknod,open,rename,symlink,sync-file,touch,utime,xattr"

// TestStressNG runs stress-ng's stressors with --verify on a container. Nothing
// fails, nothing is left in the log, and the tree is as before in the end, live
// and on the next mount.
func TestStressNG(t *testing.T) { transporttest.Each(t, stressNG) }

func stressNG(t *testing.T) {
	needTool(t, "stress-ng")
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:stress")
	mnt := b.mount("--name", "stress", "busybox:stress")
	before := tool(t, "sh", "-c", "cd "+mnt+" && find . -path ./usr/share -prune -o -printf '%P %y %i %s\n' | sort")
	dir := filepath.Join(mnt, "usr/share")
	args := []string{"--temp-path", dir, "--verify", "--oomable"}
	if long() {
		args = append(args, "--class", "filesystem", "--exclude", "binderfs,io", "--sequential", "2", "-t", "5s")
	} else {
		for name := range strings.SplitSeq(fsStressors, ",") {
			args = append(args, "--"+name, "1")
		}
		args = append(args, "-t", "5s")
	}
	cmd := exec.Command("stress-ng", args...)
	out, err := cmd.CombinedOutput()
	if text := string(out); err != nil || strings.Contains(text, "fail:") {
		t.Errorf("stress-ng: %v\n%s\n%s", err, text, b.serverLogs())
	}
	for range 2 {
		after := tool(t, "sh", "-c", "cd "+mnt+" && find . -path ./usr/share -prune -o -printf '%P %y %i %s\n' | sort")
		if after != before {
			t.Errorf("the tree is another one:\n%s\nbefore:\n%s", after, before)
		}
		if left := tool(t, "sh", "-c", "ls -A "+dir+" | grep -v -x -e doc -e data -e sparse || true"); left != "" {
			t.Errorf("left behind: %s", left)
		}
		b.run("umount", mnt)
		b.run("mount", "stress", mnt)
	}
}

// serverLogs is what the servers of the box's containers have said.
func (b *box) serverLogs() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(b.store(), "containers/*/log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		all.Write(text)
	}
	return all.String()
}

// TestFio writes at random with fio, which verifies what it reads back: by
// requests past the page cache, through it, and by a mapping; on a new file and
// on one that the image has.
func TestFio(t *testing.T) { transporttest.Each(t, fioVerifies) }

func fioVerifies(t *testing.T) {
	needTool(t, "fio")
	b := newBox(t)
	must(t, os.MkdirAll(b.path("root/d"), 0o755))
	shell(t, b.dir, "head -c 16M /dev/urandom >root/d/lower-direct; cp root/d/lower-direct root/d/lower-buffered; cp root/d/lower-direct root/d/lower-mmap")
	pack(t, b.path("root"), b.path("root.tar"))
	b.run("import", "-q", b.path("root.tar"), "fio:1")
	mnt := b.mount("--name", "fio", "fio:1")
	size := "16M"
	if long() {
		size = "256M"
	}
	for name, engine := range map[string]string{
		"direct": "--ioengine=libaio --direct=1 --iodepth=8", "buffered": "--ioengine=psync --fsync=64", "mmap": "--ioengine=mmap",
	} {
		for _, kind := range []string{"new", "lower"} {
			file := filepath.Join(mnt, "d", kind+"-"+name)
			jobs := fmt.Sprintf("fio --name=%s --filename=%s %s --rw=randrw --bsrange=4k-64k --size=%s --verify=crc32c --verify_fatal=1 --do_verify=1",
				name, file, engine, size)
			if kind == "lower" { // what is not written must stay, so it is not verified
				jobs = strings.Replace(jobs, "randrw", "randwrite --io_size=4M", 1)
			}
			shell(t, b.dir, jobs+" >fio.log 2>&1 || { cat fio.log; exit 1; }")
		}
	}
	sums := tool(t, "sh", "-c", "cd "+mnt+"/d && md5sum *")
	b.run("umount", mnt)
	b.run("mount", "fio", mnt)
	if again := tool(t, "sh", "-c", "cd "+mnt+"/d && md5sum *"); again != sums {
		t.Errorf("the next mount reads\n%s\nnot\n%s", again, sums)
	}
}
