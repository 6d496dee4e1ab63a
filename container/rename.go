package container

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Rename gives a container another name, also while it runs. It gives ErrName
// and ErrConflict.
func (s *Store) Rename(c *Container, name string) error {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return say(ErrName, "Neither old nor new names may be empty")
	}
	if name == c.Name {
		return say(ErrName, "Renaming a container with the same name as its current name")
	}
	if CheckName(name) != nil {
		return say(ErrName, "Error when allocating new name: Invalid container name (%s), only %s are allowed", "/"+name, nameRule)
	}
	unlock, err := lockFile(filepath.Join(s.dir, "lock"), true)
	if err != nil {
		return fmt.Errorf("rename container %s: %w", c.Name, err)
	}
	defer unlock()
	if _, err := s.freeName(name); err != nil {
		if errors.Is(err, ErrConflict) {
			return say(ErrConflict, "Error when allocating new name: %s", err)
		}
		return err
	}
	fresh, err := s.load(c.ID)
	if err != nil {
		return fmt.Errorf("rename container %s: %w", c.Name, err)
	}
	fresh.Name = name
	if err := writeJSON(filepath.Join(fresh.dir, "config.json"), &fresh.Record); err != nil {
		return fmt.Errorf("rename container %s: %w", c.Name, err)
	}
	c.Name = name
	return nil
}
