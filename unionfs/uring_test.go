package unionfs_test

import (
	"testing"

	"unio/unionfs/transport/transporttest"
)

// TestOverUring runs the tests of this package once more, over io_uring. What
// TestCrash looks at is on disk, whichever way the request came.
func TestOverUring(t *testing.T) { transporttest.Again(t, "^Test", "^TestCrash$") }
