package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/imagestore"
	"unio/imagestore/registry"
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
			return inspectAll(c, []string{kindImage}, "")
		},
		Flags: []cli.Flag{
			inspectFormat(),
			&cli.StringFlag{Name: "platform", Usage: "Fail unless the image is for this platform, as\nos[/arch[/variant]]"},
		},
	}
}

// containerInspectCommand is "unio container inspect", which knows containers
// only.
func containerInspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "Display detailed information on one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			return inspectAll(c, []string{kindContainer}, "No such container: %s")
		},
		Flags: []cli.Flag{
			inspectFormat(),
			&cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "Display total file sizes"},
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
	kind := c.String("type")
	switch {
	case !c.IsSet("type"):
		return inspectAll(c, kinds, "No such object: %s")
	case kind == "":
		return plainly(fmt.Errorf("type is empty: must be one of %s", quoted(kinds)))
	case !slices.Contains(kinds, kind):
		return plainly(fmt.Errorf("unknown type: %q: must be one of %s", kind, quoted(kinds)))
	}
	return inspectAll(c, []string{kind}, "")
}

// quoted is a list of words in quotes.
func quoted(words []string) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = strconv.Quote(w)
	}
	return strings.Join(list, ", ")
}

// inspectAll prints what it finds and then fails for what it does not find,
// as docker does: the output is a whole JSON array in any case. missing is what
// it says of names that nothing has; empty: what is said of the kind.
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
	in := &inspector{e: e, st: st, size: c.Bool("size"), platform: c.String("platform")}
	found := []any{}
	err = each(c.Context, c.Args().Slice(), func(name string) error {
		v, err := in.find(c.Context, kinds, name)
		if name == "" && missing != "" {
			return plainly(errors.New("invalid container name or ID: value is empty"))
		}
		if missing != "" && isMissing(err) {
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
	var problems []error
	printed := 0
	for _, v := range found {
		line, err := executeInspect(tmpl, v)
		if err != nil {
			problems = append(problems, templateError(err))
			continue
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		printed++
	}
	if printed == 0 { // docker ends a line that has nothing in it
		_, err := fmt.Fprintln(w)
		return errors.Join(append([]error{err}, problems...)...)
	}
	return errors.Join(problems...)
}

// isMissing reports whether nothing has the name that was looked for, be it
// because nothing can have it.
func isMissing(err error) bool {
	return errors.Is(err, imagestore.ErrNotFound) || errors.Is(err, imagestore.ErrInvalid) || errors.Is(err, container.ErrNotFound)
}

// executeInspect runs a template on v, and if that has no such field, on its
// JSON form: "{{.Id}}" works as well as "{{.ID}}". The error is that of the latter,
// as docker's is.
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
	err = tmpl.Option("missingkey=error").Execute(&b, raw)
	return b.String(), err
}

// inspector finds objects by name.
type inspector struct {
	e    *env
	st   *imagestore.Store
	size bool
	// platform must be that of an image, unless it is empty.
	platform string
}

// find looks for an object of one of the kinds, in their order.
func (in *inspector) find(ctx context.Context, kinds []string, name string) (any, error) {
	var err error
	for _, kind := range kinds {
		var v any
		if kind == kindContainer {
			v, err = in.container(ctx, name)
		} else {
			v, err = in.image(ctx, name)
		}
		if err == nil || !isMissing(err) {
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
	Config        dockerspec.DockerOCIImageConfig
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
	if err := wantPlatform(img, name, in.platform); err != nil {
		return nil, err
	}
	if in.size {
		fmt.Fprintln(in.e.stderr, "WARNING: --size ignored for image")
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
		Author: c.Author, Config: c.Config.DockerOCIImageConfig, Architecture: c.Architecture, Variant: c.Variant,
		Os: c.OS, OsVersion: c.OSVersion, Size: size,
		GraphDriver: graphDriver{Name: "unio", Data: in.places(img)},
		RootFS:      rootFS{Type: c.RootFS.Type, Layers: img.DiffIDs()},
		Metadata:    map[string]time.Time{"LastTagTime": img.Tagged},
	}, nil
}

// places says where the parts of an image lie: its config, and its layers as
// tars, the top one first.
func (in *inspector) places(img *imagestore.Image) map[string]string {
	var tars []string
	for _, d := range slices.Backward(img.DiffIDs()) {
		if path, err := in.st.Blobs().Path(d); err == nil {
			tars = append(tars, path)
		}
	}
	places := map[string]string{"Layers": strings.Join(tars, ":")}
	if path, err := in.st.Blobs().Path(img.ID); err == nil {
		places["Config"] = path
	}
	return places
}

// wantPlatform fails if an image is not for the platform that the user asked
// for; empty: any.
func wantPlatform(img *imagestore.Image, name, platform string) error {
	if platform == "" {
		return nil
	}
	want, err := registry.ParsePlatform(platform)
	if err != nil {
		return err
	}
	have := img.Platform()
	if want.OS == have.OS && want.Architecture == have.Architecture && (want.Variant == "" || want.Variant == have.Variant) {
		return nil
	}
	return fmt.Errorf("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
		name, platformText(have), platformText(want))
}

// platformText is a platform as os/arch[/variant].
func platformText(p ocispec.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// orEmpty makes JSON show an empty list as one.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
