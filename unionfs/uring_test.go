package unionfs_test

import (
	"testing"

	"unio/unionfs/transport/transporttest"
)

// TestOverUring runs every test of this package that mounts once more, over
// io_uring.
func TestOverUring(t *testing.T) { transporttest.Again(t, "^Test", "") }
