package container

import (
	"os"
	"testing"
	"time"
)

// TestUsage looks at this process, and at none.
func TestUsage(t *testing.T) {
	t.Parallel()
	var u Usage
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		continue // some ticks of processor time
	}
	u.add(os.Getpid())
	if u.CPU <= 0 || u.CPU > time.Hour || u.Memory < 1<<20 || u.Memory > machineMemory() || u.Tasks < 2 {
		t.Errorf("this process: %+v", u)
	}
	before := u
	u.add(1 << 30)
	if u != before {
		t.Errorf("a process that is not there: %+v", u)
	}
	if got, err := (&Container{}).Usage(); err != nil || *got != (Usage{}) {
		t.Errorf("a container that does not run: %+v, %v", got, err)
	}
}
