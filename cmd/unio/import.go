package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/build"
	"unio/imagestore/registry"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "Import the contents from a tarball to create a filesystem image",
		ArgsUsage: "file|URL|- [REPOSITORY[:TAG]]",
		Before:    minArgs(1), // docker's client leaves a third word alone
		Action:    importImage,
		Flags: append(progressFlags("Show no progress"),
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "Apply Dockerfile instruction to the created image"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "Set commit message for imported image"},
			&cli.StringFlag{Name: "platform", Usage: "Set platform, as os/arch[/variant]"},
		),
	}
}

// importImage makes an image of a tar and prints its ID.
func importImage(c *cli.Context) error {
	e := envOf(c)
	src := c.Args().First()
	o := build.ImportOptions{
		From: src, Name: c.Args().Get(1),
		Message: c.String("message"), Changes: c.StringSlice("change"),
	}
	if err := checkImportName(o.Name); err != nil {
		return err
	}
	if s := c.String("platform"); s != "" {
		p, err := registry.ParsePlatform(s)
		if err != nil {
			return err
		}
		o.Platform = p
	}
	if o.Message == "" {
		o.Message = "Imported from " + importedFrom(src)
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	in, size, err := openImport(c.Context, e, src)
	if err != nil {
		return err
	}
	defer in.Close()
	if isURL(src) {
		fmt.Fprintln(e.stdout, "Downloading from", redacted(src))
	}
	p, err := showOwnProgress(c, e.stderr)
	if err != nil {
		return err
	}
	defer p.Done()
	o.Reader, o.Size, o.Progress = in, size, p
	img, err := build.Import(c.Context, st, o)
	if err != nil {
		return err
	}
	p.Done()
	_, err = fmt.Fprintln(e.stdout, img.ID)
	return err
}

// checkImportName looks at the name of an image to be before anything is read.
func checkImportName(name string) error {
	if name == "" {
		return nil
	}
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return plainly(err) // docker's client says so
	}
	if _, ok := n.(reference.Canonical); ok {
		return errors.New("cannot import digest reference")
	}
	return nil
}

// importedFrom is what the history says of the source: a URL as it is, but no
// path of this machine.
func importedFrom(src string) string {
	if isURL(src) {
		return redacted(src)
	}
	return "-"
}

// openImport opens what is to be imported: a file, a URL, or stdin for "-".
// The size is 0 when it is not known.
func openImport(ctx context.Context, e *env, from string) (io.ReadCloser, int64, error) {
	if from == "-" {
		if isTerminal(e.stdin) {
			return nil, 0, errors.New("requested import from stdin, but stdin is a terminal")
		}
		return io.NopCloser(e.stdin), 0, nil
	}
	if isURL(from) {
		u, err := url.Parse(from)
		if err != nil {
			return nil, 0, err
		}
		return openURL(ctx, u)
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, 0, plainly(err)
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = fmt.Errorf("%s is a folder; import takes a tar", from)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// openURL downloads. A user and password in the URL are not shown in errors.
func openURL(ctx context.Context, u *url.URL) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept-Encoding", "identity") // what comes is hashed as it is
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err // names the URL without its password
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, 0, fmt.Errorf("failed to GET %s with status %s%s", u.Redacted(), resp.Status, whatServerSaid(resp.Body))
	}
	return resp.Body, max(resp.ContentLength, 0), nil
}

// redacted is a URL without its password.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	return u.Redacted()
}

// whatServerSaid is the beginning of an error page, fit for a message.
func whatServerSaid(body io.Reader) string {
	const limit = 200
	page, err := io.ReadAll(io.LimitReader(body, limit))
	text := strings.TrimSpace(string(page))
	if err != nil || text == "" || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return "" // HTML, or worse
	}
	return ": " + text
}
