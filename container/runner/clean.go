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
func notePoints(dir string, made []point) error {
	if dir == "" || len(made) == 0 {
		return nil
	}
	data, err := json.Marshal(made)
	name := filepath.Join(dir, pointsFile)
	if err == nil {
		err = os.WriteFile(name+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("note what was made in the root: %w", err)
	}
	return nil
}

// forgetPoints removes the note.
func forgetPoints(dir string) {
	if dir != "" {
		os.Remove(filepath.Join(dir, pointsFile))
	}
}

// Stubs lists what there is, as long as a container runs, in its root to mount
// on and will be taken away, outermost first. dir is its StateDir.
func Stubs(dir string) (paths []string) {
	data, err := os.ReadFile(filepath.Join(dir, pointsFile))
	var made []point
	if err != nil || json.Unmarshal(data, &made) != nil {
		return nil
	}
	for _, p := range made {
		if !p.Keep && !p.Wanted {
			paths = append(paths, p.Path)
		}
	}
	return paths
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
