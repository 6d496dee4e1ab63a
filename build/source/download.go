package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// unnamedFile is the name of a download whose URL and headers give none
// (moby, builder/dockerfile/copy.go).
const unnamedFile = "__unnamed__"

// errorBody is how much of a server's explanation is shown, in bytes.
const errorBody = 300

// Request describes a download.
type Request struct {
	URL string
	// Checksum is what the content must have; "": anything.
	Checksum digest.Digest
	Client   *http.Client // nil: http.DefaultClient
	Temp     string       // as in [Options]
}

// Remote is a tree of one downloaded file, of mode 0600 as ADD makes it.
type Remote struct {
	// Name is the file's name, from the URL or the server.
	Name string
	// Unnamed says that Name was made up, as neither told one.
	Unnamed bool
	data    *os.File
	entry   Entry
}

// IsURL reports whether a source of ADD is to be downloaded.
func IsURL(s string) bool {
	return (strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")) && !IsGit(s)
}

// Download gets a file. The error of a server that refuses is docker's; what
// has another digest gives ErrChecksum. Passwords in the URL are in no error.
func Download(ctx context.Context, q Request) (*Remote, error) {
	u, err := url.Parse(q.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: URL that cannot be parsed", ErrInvalid)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: URL %s", ErrInvalid, u.Redacted())
	}
	client := q.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, redact(err, u)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, statusError(resp, u)
	}
	return keep(resp, u, &q)
}

// redact takes the password out of what the client says.
func redact(err error, u *url.URL) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return fmt.Errorf("Get %q: %w", u.Redacted(), ue.Err)
	}
	return err
}

// statusError quotes the beginning of what the server says, as docker does,
// which often tells what is wrong where the code does not.
func statusError(resp *http.Response, u *url.URL) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, errorBody))
	text := string(bytes.TrimSpace(body))
	if err != nil {
		text = "error reading body"
	}
	return fmt.Errorf("failed to GET %s with status %s: %s", u.Redacted(), resp.Status, text)
}

// keep writes the body to a file and checks it.
func keep(resp *http.Response, u *url.URL, q *Request) (_ *Remote, err error) {
	data, err := tempFile(q.Temp)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, data.Close())
		}
	}()
	sum := digest.Canonical.Digester()
	if q.Checksum != "" {
		if err := q.Checksum.Validate(); err != nil {
			return nil, fmt.Errorf("%w: checksum %q: %w", ErrInvalid, q.Checksum, err)
		}
		sum = q.Checksum.Algorithm().Digester()
	}
	size, err := io.Copy(io.MultiWriter(data, sum.Hash()), resp.Body)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", u.Redacted(), err)
	}
	if q.Checksum != "" && sum.Digest() != q.Checksum {
		return nil, fmt.Errorf("%w: %s: digest mismatch %s: %s", ErrChecksum, u.Redacted(), sum.Digest(), q.Checksum)
	}
	r := &Remote{data: data, entry: Entry{Mode: unix.S_IFREG | 0o600, Size: size, ModTime: modified(resp)}}
	if r.Name = fileName(resp, u); r.Name == "" {
		r.Name, r.Unnamed = unnamedFile, true
	}
	r.entry.Name = r.Name
	return r, nil
}

// modified is what the server says of the file's age; 1970 when it does not.
func modified(resp *http.Response) time.Time {
	t, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		return time.Unix(0, 0)
	}
	return t
}

// fileName is the last component of the URL's path or else what the server
// calls the file.
func fileName(resp *http.Response, u *url.URL) string {
	if base := path.Base(u.Path); u.Path != "" && !strings.HasSuffix(u.Path, "/") && usable(base) {
		return base
	}
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
	if err != nil || strings.HasSuffix(params["filename"], "/") {
		return ""
	}
	if base := path.Base(params["filename"]); usable(base) {
		return base
	}
	return ""
}

// usable reports whether a file can have this name.
func usable(base string) bool {
	return base != "." && base != ".." && base != "/" && !strings.ContainsAny(base, "/\x00")
}

// Close removes the file.
func (r *Remote) Close() error { return r.data.Close() }

// Lstat describes the file, or the root above it.
func (r *Remote) Lstat(name string) (Entry, error) {
	switch name {
	case "":
		return Entry{Mode: unix.S_IFDIR | 0o755, ModTime: r.entry.ModTime}, nil
	case r.Name:
		return r.entry, nil
	}
	return Entry{}, notExist("stat", name)
}

// ReadDir lists the one file.
func (r *Remote) ReadDir(name string) ([]Entry, error) {
	if name != "" {
		return nil, notExist("read", name)
	}
	return []Entry{r.entry}, nil
}

// Open opens the file.
func (r *Remote) Open(name string) (io.ReadCloser, error) {
	if name != r.Name {
		return nil, notExist("open", name)
	}
	return io.NopCloser(io.NewSectionReader(r.data, 0, r.entry.Size)), nil
}
