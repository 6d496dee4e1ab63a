package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/template"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/imagestore"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "Return low-level information on unio objects",
		ArgsUsage: "NAME|ID [NAME|ID...]",
		Before:    minArgs(1),
		Action:    inspect,
		Flags: []cli.Flag{
			inspectFormat(),
			&cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "Display total file sizes if the type is container"},
			&cli.StringFlag{Name: "type", Usage: "Only inspect objects of the given type (image, container)"},
		},
	}
}

// imageInspectCommand is "unio image inspect", which knows images only.
func imageInspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "Display detailed information on one or more images",
		ArgsUsage: "IMAGE [IMAGE...]",
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			return inspectAll(c, []string{kindImage}, "No such image: %s")
		},
		Flags: []cli.Flag{
			inspectFormat(),
			&cli.StringFlag{Name: "platform", Usage: "Accepted; an image here has one platform", Hidden: true},
		},
	}
}

func inspectFormat() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "Format output: \"json\" or a Go template"}
}

const (
	kindImage     = "image"
	kindContainer = "container"
)

func inspect(c *cli.Context) error {
	kinds := []string{kindContainer, kindImage}
	missing := "No such object: %s"
	switch kind := c.String("type"); kind {
	case "":
	case kindImage, kindContainer:
		kinds = []string{kind}
		missing = "No such " + kind + ": %s"
	default:
		return fmt.Errorf("unknown type: %q: must be one of %q, %q", kind, kindContainer, kindImage)
	}
	return inspectAll(c, kinds, missing)
}

// inspectAll prints what it finds and then fails for what it does not find,
// as docker does: the output is a whole JSON array in any case.
func inspectAll(c *cli.Context, kinds []string, missing string) error {
	e := envOf(c)
	format := c.String("format")
	var tmpl *template.Template
	if format != "" && format != "json" {
		var err error
		if tmpl, err = template.New("").Funcs(templateFuncs()).Parse(format); err != nil {
			return withCode(exitTemplate, templateError(err))
		}
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	in := &inspector{e: e, st: st, size: c.Bool("size")}
	found := []any{}
	err = each(c.Context, c.Args().Slice(), func(name string) error {
		v, err := in.find(c.Context, kinds, name)
		if errors.Is(err, imagestore.ErrNotFound) || errors.Is(err, container.ErrNotFound) {
			return fmt.Errorf(missing, name)
		}
		if err == nil {
			found = append(found, v)
		}
		return err
	})
	return errors.Join(printInspected(e.stdout, format, tmpl, found), err)
}

func printInspected(w io.Writer, format string, tmpl *template.Template, found []any) error {
	switch {
	case format == "json":
		line, err := toJSON(found)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, line)
		return err
	case tmpl == nil:
		return writeJSON(w, found)
	}
	for _, v := range found {
		line, err := executeInspect(tmpl, v)
		if err != nil {
			return templateError(err)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// executeInspect runs a template on v, and if that has no such field, on its
// JSON form: "{{.Id}}" works as well as "{{.ID}}".
func executeInspect(tmpl *template.Template, v any) (string, error) {
	var b bytes.Buffer
	err := tmpl.Execute(&b, v)
	if err == nil {
		return b.String(), nil
	}
	doc, jerr := json.Marshal(v)
	if jerr != nil {
		return "", jerr
	}
	var raw any
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	if jerr := dec.Decode(&raw); jerr != nil {
		return "", jerr
	}
	b.Reset()
	if tmpl.Option("missingkey=error").Execute(&b, raw) != nil {
		return "", err
	}
	return b.String(), nil
}

// inspector finds objects by name.
type inspector struct {
	e    *env
	st   *imagestore.Store
	size bool
}

// find looks for an object of one of the kinds, in their order.
func (in *inspector) find(ctx context.Context, kinds []string, name string) (any, error) {
	var err error
	for _, kind := range kinds {
		var v any
		if kind == kindContainer {
			v, err = in.container(name)
		} else {
			v, err = in.image(ctx, name)
		}
		if err == nil || !errors.Is(err, imagestore.ErrNotFound) && !errors.Is(err, container.ErrNotFound) {
			return v, err
		}
	}
	return nil, err
}

// inspectedImage is an image with docker's field names, in docker's order.
type inspectedImage struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string
	DockerVersion string
	Author        string
	Config        imagestore.RunConfig
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	GraphDriver   graphDriver
	RootFS        rootFS
	Metadata      map[string]time.Time
}

type graphDriver struct {
	Data map[string]string
	Name string
}

type rootFS struct {
	Type   string
	Layers []digest.Digest `json:",omitempty"`
}

func (in *inspector) image(ctx context.Context, name string) (*inspectedImage, error) {
	img, err := in.st.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	size, err := in.st.ImageSize(ctx, img)
	if err != nil {
		return nil, err
	}
	c := &img.Config
	comment := c.Comment
	if n := len(c.History); comment == "" && n > 0 {
		comment = c.History[n-1].Comment
	}
	created := ""
	if c.Created != nil {
		created = c.Created.Format(time.RFC3339Nano)
	}
	return &inspectedImage{
		ID: img.ID.String(), RepoTags: orEmpty(img.Names), RepoDigests: orEmpty(img.Digests),
		Parent: img.Parent.String(), Comment: comment, Created: created, DockerVersion: c.DockerVersion,
		Author: c.Author, Config: c.Config, Architecture: c.Architecture, Variant: c.Variant,
		Os: c.OS, OsVersion: c.OSVersion, Size: size,
		GraphDriver: graphDriver{Name: "unio"},
		RootFS:      rootFS{Type: c.RootFS.Type, Layers: img.DiffIDs()},
		Metadata:    map[string]time.Time{"LastTagTime": img.Tagged},
	}, nil
}

// orEmpty makes JSON show an empty list as one.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
