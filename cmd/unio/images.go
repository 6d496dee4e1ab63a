package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/imagestore"
)

func imagesCommand() *cli.Command {
	return &cli.Command{
		Name:      "images",
		Usage:     "List images",
		ArgsUsage: "[REPOSITORY[:TAG]]",
		Before:    maxArgs(1),
		Action:    images,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Show all images (default hides intermediate images)"},
			&cli.BoolFlag{Name: "digests", Usage: "Show digests"},
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "Filter output based on conditions provided"},
			&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "Don't truncate output"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only show image IDs"},
			&cli.BoolFlag{Name: "tree", Usage: "Show who is built on whom, and what removing each would\nfree (unique size)"},
		},
	}
}

func images(c *cli.Context) error {
	e := envOf(c)
	given, err := parseFilters(c, "dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return err
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	f, err := newImageFilter(c.Context, st, given, time.Now())
	if err != nil {
		return err
	}
	if c.Args().First() != "" { // an empty name is none, as docker has it
		f.patterns = append(f.patterns, c.Args().First())
	}
	if c.Bool("tree") {
		if c.NArg() > 0 || len(given) > 0 || c.Bool("quiet") {
			return errors.New("--tree shows all images: it goes with neither a name, filters nor --quiet")
		}
		t, err := newImageTree(c.Context, st)
		if err != nil {
			return err
		}
		return t.print(e, c.String("format"), c.Bool("no-trunc"))
	}
	l := &imageLister{
		st: st, filter: f, all: c.Bool("all"),
		digests: c.Bool("digests") || strings.Contains(c.String("format"), ".Digest"),
		long:    c.Bool("no-trunc"),
	}
	rows, err := l.rows(c.Context)
	if err != nil {
		return err
	}
	return l.print(e.stdout, c.String("format"), c.Bool("quiet"), rows)
}

// imageLister makes the rows of "images".
type imageLister struct {
	st                 *imagestore.Store
	filter             *imageFilter
	all, digests, long bool
}

// imageRow is one row; its methods are what templates may use.
type imageRow struct {
	img               *imagestore.Image
	repo, tag, digest string
	size              int64
	long              bool
}

func (r *imageRow) ID() string         { return imageID(r.img.ID, r.long) }
func (r *imageRow) Repository() string { return r.repo }
func (r *imageRow) Tag() string        { return r.tag }
func (r *imageRow) Digest() string     { return r.digest }
func (r *imageRow) Size() string       { return units.HumanSizeWithPrecision(float64(r.size), 3) }
func (r *imageRow) CreatedSince() string {
	return since(r.img.Config.Created)
}

func (r *imageRow) CreatedAt() string {
	return r.img.Config.CreatedAt().Local().Format("2006-01-02 15:04:05 -0700 MST")
}
func (r *imageRow) Containers() string  { return "N/A" }
func (r *imageRow) SharedSize() string  { return "N/A" }
func (r *imageRow) UniqueSize() string  { return "N/A" }
func (r *imageRow) VirtualSize() string { return units.HumanSize(float64(r.size)) }

func imageID(id digest.Digest, long bool) string {
	if long {
		return id.String()
	}
	return imagestore.ShortID(id)
}

// since is how long ago something was, in docker's words.
func since(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Now().UTC().Sub(*t)) + " ago"
}

func (l *imageLister) rows(ctx context.Context) ([]any, error) {
	list, err := l.st.List(ctx)
	if err != nil {
		return nil, err
	}
	parents := map[digest.Digest]bool{}
	for _, img := range list {
		parents[img.Parent] = true
	}
	var rows []any
	for _, img := range list {
		// An image without a name that others were made from is a step on
		// the way.
		if img.Dangling() && parents[img.ID] && !l.all || l.filter.headsOnly() && parents[img.ID] {
			continue
		}
		if !l.filter.matches(img) {
			continue
		}
		size, err := l.st.ImageSize(ctx, img)
		if err != nil {
			return nil, err
		}
		for _, r := range l.rowsOf(img) {
			r.size, r.long = size, l.long
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// rowsOf gives an image a row for each name.
func (l *imageLister) rowsOf(img *imagestore.Image) []*imageRow {
	digests := map[string][]string{} // by repository
	for _, name := range img.Digests {
		if repo, d, ok := strings.Cut(name, "@"); ok && l.filter.matchesName(name) {
			digests[repo] = append(digests[repo], d)
		}
	}
	var rows []*imageRow
	seen := map[string]bool{}
	for _, name := range img.Names {
		repo, tag := splitName(name)
		if l.filter.matchesName(name) {
			seen[repo] = true
			rows = append(rows, l.rowsWith(imageRow{img: img, repo: repo, tag: tag}, digests[repo])...)
		}
	}
	for _, name := range img.Digests {
		if repo, _, _ := strings.Cut(name, "@"); !seen[repo] && len(digests[repo]) > 0 {
			seen[repo] = true
			rows = append(rows, l.rowsWith(imageRow{img: img, repo: repo, tag: missing}, digests[repo])...)
		}
	}
	if img.Dangling() && len(l.filter.patterns) == 0 {
		rows = append(rows, &imageRow{img: img, repo: missing, tag: missing, digest: missing})
	}
	return rows
}

// rowsWith repeats a row for each digest, if digests are shown.
func (l *imageLister) rowsWith(r imageRow, digests []string) []*imageRow {
	r.digest = missing
	if !l.digests || len(digests) == 0 {
		return []*imageRow{&r}
	}
	var rows []*imageRow
	for _, d := range digests {
		row := r
		row.digest = d
		rows = append(rows, &row)
	}
	return rows
}

// splitName splits a name as users type it into repository and tag.
func splitName(name string) (repo, tag string) {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name, missing
	}
	if t, ok := n.(reference.Tagged); ok {
		return reference.FamiliarName(n), t.Tag()
	}
	return reference.FamiliarName(n), missing
}

// imageHeaders are the columns of a table of images.
func imageHeaders() map[string]string {
	return map[string]string{
		"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID",
		"CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE",
		"VirtualSize": "SIZE", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS",
	}
}

func (l *imageLister) print(w io.Writer, format string, quiet bool, rows []any) error {
	t := &listing{
		standard: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
		quiet:    "{{.ID}}", rawQuiet: "image_id: {{.ID}}",
		headers: imageHeaders(),
		whole:   l.long,
	}
	if l.digests && (format == "" || format == "table") {
		t.standard = strings.Replace(t.standard, "\t{{.ID}}", "\t{{.Digest}}\t{{.ID}}", 1)
	}
	if l.digests && strings.HasPrefix(format, "table ") && !strings.Contains(format, "{{.Digest}}") {
		format += "\t{{.Digest}}"
	}
	t.raw = rawImage
	if l.digests {
		t.raw = strings.Replace(t.raw, "image_id", "digest: {{.Digest}}\nimage_id", 1)
	}
	return t.print(w, format, quiet, rows)
}

// rawImage is the format "raw".
const rawImage = `repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
`
