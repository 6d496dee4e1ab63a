package mergetest_test

import (
	"os/exec"
	"testing"

	"unio/unionfs/merge/lowertest"
	"unio/unionfs/merge/mergetest"
)

func TestConform(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("bash", "-euc", `mkdir -p a/b c; echo x > a/1; ln a/1 c/2; ln -s ../a c/link; mkfifo c/fifo
truncate -s 1M sparse; echo end >> sparse; touch empty`)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	m, err := mergetest.FromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lowertest.Conform(t, m)
}
