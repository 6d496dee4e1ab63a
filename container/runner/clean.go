package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// pointsFile notes, in Options.StateDir, what was made in the root to mount on,
// for the case that the one who would clear it is killed.
const pointsFile = "points.json"

// notePoints writes the note before anything else can fail.
func (l *launch) notePoints() error {
	if l.o.StateDir == "" || len(l.got.Made) == 0 {
		return nil
	}
	data, err := json.Marshal(l.got.Made)
	if err == nil {
		err = os.WriteFile(filepath.Join(l.o.StateDir, pointsFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note what was made in the root: %w", err)
	}
	return nil
}

// forgetPoints removes the note.
func (l *launch) forgetPoints() {
	if l.o.StateDir != "" {
		os.Remove(filepath.Join(l.o.StateDir, pointsFile))
	}
}

// Clean takes away what a container has left whose starter was killed, the
// processes in its cgroup included: cgroups, the state of a Runtime, and what was
// made in its root to mount on, if that is mounted. It takes the Options of the
// start (ID, StateDir, Runtime, ClearAll, and of the Spec the root's path). Doing
// it again, or where there is nothing, is no error.
func Clean(o Options) error {
	RemoveCgroups(o.ID)
	if o.StateDir == "" {
		return nil
	}
	r := &ociRun{o: &o, bundle: filepath.Join(o.StateDir, "bundle")}
	if _, err := os.Stat(r.bundle); err == nil && o.Runtime != "" {
		r.remove()
	}
	name := filepath.Join(o.StateDir, pointsFile)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up after a container: %w", err)
	}
	var made []point
	if json.Unmarshal(data, &made) == nil && o.Spec != nil && o.Spec.Root != nil {
		clearPoints(o.Spec.Root.Path, made, o.ClearAll)
	}
	return os.Remove(name)
}
