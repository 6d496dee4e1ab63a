package dockerfile

import (
	"context"
)

// Mount is what a program of a RUN sees besides the image.
type Mount struct {
	Source   string // of the host; empty: a tmpfs
	Target   string // absolute, inside
	ReadOnly bool
	Size     int64 // of a tmpfs, bytes; 0: the kernel's default
}

// opened are the mounts of a RUN in use, and the variables that carry secrets.
type opened struct {
	list []Mount
	env  []string
}

// mountKeys are the parts of a RUN's key that its mounts make.
func (r *stageRun) mountKeys(ctx context.Context, p *program) ([]string, error) {
	if len(p.mounts) > 0 {
		return nil, bad("RUN --mount is not supported yet")
	}
	return nil, nil
}

// openMounts makes what the mounts of a RUN show.
func (r *stageRun) openMounts(ctx context.Context, p *program) (*opened, func(), error) {
	return &opened{}, func() {}, nil
}
