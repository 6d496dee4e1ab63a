package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/imagestore"
)

// layerCommand is "unio layer": layers as they are, below all images.
func layerCommand() *cli.Command {
	return group("layer", "Look at layers",
		&cli.Command{
			Name:      "ls",
			Aliases:   []string{"list"},
			Usage:     "List layers",
			ArgsUsage: "[IMAGE]",
			Before:    maxArgs(1),
			Action:    layerList,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
				&cli.BoolFlag{Name: "no-trunc", Usage: "Don't truncate output"},
				&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only show diffIDs"},
			},
		},
		&cli.Command{
			Name:      "inspect",
			Usage:     "List what is in a layer, whiteouts included",
			ArgsUsage: "DIFFID",
			Before:    exactArgs(1),
			Action:    layerInspect,
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "json", Usage: "Print all that the index says, as JSON"},
			},
		},
	)
}

// layerRow is one layer; its methods are what templates may use.
type layerRow struct {
	layer   imagestore.LayerRef
	content int64
	names   []string
	long    bool
}

func (r *layerRow) DiffID() string  { return imageID(r.layer.DiffID, r.long) }
func (r *layerRow) Size() string    { return units.HumanSizeWithPrecision(float64(r.content), 3) }
func (r *layerRow) TarSize() string { return units.HumanSizeWithPrecision(float64(r.layer.Size), 3) }
func (r *layerRow) Blob() string    { return imageID(r.layer.Blob.Digest, r.long) }
func (r *layerRow) Images() string  { return strings.Join(r.names, ",") }

func layerList(c *cli.Context) error {
	e := envOf(c)
	st, err := e.store()
	if err != nil {
		return err
	}
	rows, err := layerRows(c.Context, st, c.Args().First())
	if err != nil {
		return err
	}
	list := make([]any, len(rows))
	for i, r := range rows {
		r.long = c.Bool("no-trunc")
		list[i] = r
	}
	l := &listing{
		standard: "{{.DiffID}}\t{{.Size}}\t{{.TarSize}}\t{{.Images}}",
		quiet:    "{{.DiffID}}",
		headers: map[string]string{
			"DiffID": "DIFF ID", "Size": "SIZE", "TarSize": "TAR SIZE", "Images": "IMAGES", "Blob": "BLOB",
		},
	}
	return l.print(e.stdout, c.String("format"), c.Bool("quiet"), list)
}

// layerRows returns the layers of one image, bottom first, or of all, each
// once, with the images that have them.
func layerRows(ctx context.Context, st *imagestore.Store, name string) ([]*layerRow, error) {
	list, err := st.List(ctx)
	if name != "" {
		var img *imagestore.Image
		img, err = st.Lookup(ctx, name)
		list = []*imagestore.Image{img}
	}
	if err != nil {
		return nil, err
	}
	known := map[digest.Digest]*layerRow{}
	var rows []*layerRow
	for _, img := range list {
		names := img.Names
		if len(names) == 0 {
			names = []string{imagestore.ShortID(img.ID)}
		}
		for _, l := range img.Layers {
			if r := known[l.DiffID]; r != nil {
				r.names = append(r.names, names...)
				continue
			}
			size, err := st.ContentSize(ctx, l.DiffID)
			if err != nil {
				return nil, err
			}
			r := &layerRow{layer: l, content: size, names: append([]string(nil), names...)}
			known[l.DiffID] = r
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func layerInspect(c *cli.Context) error {
	e := envOf(c)
	st, err := e.store()
	if err != nil {
		return err
	}
	diffID, err := findLayer(c.Context, st, c.Args().First())
	if err != nil {
		return err
	}
	x, err := st.Index(c.Context, diffID)
	if err != nil {
		return err
	}
	defer x.Close()
	w := bufio.NewWriter(e.stdout)
	if c.Bool("json") {
		err = layerJSON(w, diffID, x)
	} else {
		err = layerTable(w, x)
	}
	return errors.Join(err, w.Flush())
}

// findLayer finds a layer by its diffID or a prefix of it that no other has.
func findLayer(ctx context.Context, st *imagestore.Store, name string) (digest.Digest, error) {
	prefix := strings.TrimPrefix(name, "sha256:")
	list, err := st.List(ctx)
	if err != nil {
		return "", err
	}
	var found digest.Digest
	for _, img := range list {
		for _, d := range img.DiffIDs() {
			if prefix == "" || !strings.HasPrefix(d.Encoded(), prefix) || d == found {
				continue
			}
			if found != "" {
				return "", fmt.Errorf("multiple IDs found with provided prefix: %s", name)
			}
			found = d
		}
	}
	if found == "" {
		return "", fmt.Errorf("No such layer: %s", name)
	}
	return found, nil
}

// writeJSON writes v indented as docker's inspect does.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}
