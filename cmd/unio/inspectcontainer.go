package main

import (
	"time"

	"unio/container"
)

// inspectedContainer is a container with docker's field names.
type inspectedContainer struct {
	ID          string `json:"Id"`
	Created     string
	Path        string
	Args        []string
	State       containerState
	Image       string
	LogPath     string
	Name        string
	GraphDriver graphDriver
	Config      any
}

type containerState struct {
	Status  string
	Running bool
	Dead    bool
	Pid     int
}

func (in *inspector) container(name string) (*inspectedContainer, error) {
	cs := container.Open(in.e.root, in.e.runRoot, in.e.log)
	c, err := cs.Lookup(name)
	if err != nil {
		return nil, err
	}
	mounts, err := cs.Mounts()
	if err != nil {
		return nil, err
	}
	v := &inspectedContainer{
		ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Args: []string{}, Image: c.Image.String(),
		LogPath: c.LogPath(), Name: "/" + c.Name, Config: c.Config,
		State: containerState{Status: "created"},
		GraphDriver: graphDriver{Name: "unio", Data: map[string]string{
			"UpperDir": c.UpperDir(), "WorkDir": c.WorkDir(),
		}},
	}
	if argv := append(append([]string{}, c.Config.Entrypoint...), c.Config.Cmd...); len(argv) > 0 {
		v.Path, v.Args = argv[0], argv[1:]
	}
	for _, m := range mounts {
		if m.Container == c.ID {
			v.State = containerState{Status: "mounted", Running: !m.Dead, Dead: m.Dead, Pid: m.Server.Pid}
			v.GraphDriver.Data["MergedDir"] = m.Dir
		}
	}
	return v, nil
}
