package main

import (
	"testing"

	"unio/unionfs/transport/transporttest"
)

// TestOverUring runs the scripts about mounts and what runs in them once more,
// over io_uring.
func TestOverUring(t *testing.T) {
	transporttest.Again(t, "^TestScripts$/^(mount|mount_dead|chroot|cp|run|run_traces|life|build_run)$", "")
}
