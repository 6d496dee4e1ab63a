package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"unio/imagestore"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "Show the history of an image",
		ArgsUsage: "IMAGE",
		Before:    exactArgs(1),
		Action:    history,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
			&cli.BoolFlag{Name: "human", Aliases: []string{"H"}, Value: true, Usage: "Print sizes and dates in human readable format\n(default true)"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "Don't truncate output"},
			&cli.StringFlag{Name: "platform", Usage: "Fail unless the image is for this platform, as\nos[/arch[/variant]]"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only show image IDs"},
			&cli.BoolFlag{Name: "tree", Usage: "Show the images that this one is built on, and those\nbuilt on it"},
		},
	}
}

func history(c *cli.Context) error {
	e := envOf(c)
	st, err := e.store()
	if err != nil {
		return err
	}
	img, err := st.Lookup(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if err := wantPlatform(img, c.Args().First(), c.String("platform")); err != nil {
		return err
	}
	if c.Bool("tree") {
		t, err := newImageTree(c.Context, st)
		if err != nil {
			return err
		}
		return t.around(img.ID).print(e, c.String("format"), c.Bool("no-trunc"))
	}
	rows, err := historyRows(c.Context, st, img)
	if err != nil {
		return err
	}
	list := make([]any, len(rows))
	for i, r := range rows {
		r.long, r.human = c.Bool("no-trunc"), c.Bool("human")
		list[i] = r
	}
	l := &listing{
		standard: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
		quiet:    "{{.ID}}",
		headers: map[string]string{
			"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
			"CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
		},
		whole: c.Bool("no-trunc"),
	}
	if !c.Bool("human") {
		l.standard = strings.Replace(l.standard, "CreatedSince", "CreatedAt", 1)
	}
	return l.print(e.stdout, c.String("format"), c.Bool("quiet"), list)
}

// historyRow is one step; its methods are what templates may use.
type historyRow struct {
	id          digest.Digest // empty: no image of this machine ends here
	step        ocispec.History
	size        int64
	long, human bool
}

// historyWidth is where docker cuts commands.
const historyWidth = 45

func (r *historyRow) ID() string {
	if r.id == "" {
		return "<missing>"
	}
	return imageID(r.id, r.long)
}

func (r *historyRow) CreatedBy() string {
	by := strings.ReplaceAll(r.step.CreatedBy, "\t", " ")
	if r.long {
		return by
	}
	return ellipsis(by, historyWidth)
}

func (r *historyRow) CreatedAt() string {
	if r.step.Created == nil {
		return ""
	}
	return r.step.Created.Local().Format(time.RFC3339)
}

func (r *historyRow) CreatedSince() string {
	if !r.human {
		return r.CreatedAt()
	}
	return since(r.step.Created)
}

func (r *historyRow) Size() string {
	if r.human {
		return units.HumanSizeWithPrecision(float64(r.size), 3)
	}
	return strconv.FormatInt(r.size, 10)
}

func (r *historyRow) Comment() string { return r.step.Comment }

// historyRows returns the steps of an image, the last one first. The images
// it was made from on this machine name their steps.
func historyRows(ctx context.Context, st *imagestore.Store, img *imagestore.Image) ([]*historyRow, error) {
	steps := img.Config.History
	rows := make([]*historyRow, len(steps))
	layers := img.DiffIDs()
	for i, step := range steps {
		r := &historyRow{step: step}
		rows[len(steps)-1-i] = r
		if step.EmptyLayer || len(layers) == 0 {
			continue
		}
		size, err := st.ContentSize(ctx, layers[0])
		if err != nil {
			return nil, err
		}
		r.size, layers = size, layers[1:]
	}
	for {
		// An image has as many steps as there are from its row down: a build
		// adds several to its base.
		if at := len(steps) - len(img.Config.FullHistory()); at >= 0 && at < len(rows) {
			rows[at].id = img.ID
		}
		if img.Parent == "" {
			break
		}
		parent, err := st.Lookup(ctx, img.Parent.String())
		if err != nil {
			break // removed: the steps below have no image any more
		}
		img = parent
	}
	return rows, nil
}
