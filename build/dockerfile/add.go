package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"unio/build/place"
	"unio/build/source"
)

// add reads an ADD whose variables have been replaced, and carries it out.
func (r *stageRun) add(ctx context.Context, before digest.Digest, in *instructions.AddCommand) (err error) {
	f := &files{name: "ADD", in: in.SourcesAndDest}
	f.copy = place.Copy{Add: true, Chown: in.Chown, Chmod: in.Chmod, Link: in.Link, Exclude: in.ExcludePatterns}
	f.flag = fmt.Sprintf("%q %q %t %q", in.Chown, in.Chmod, in.Link, in.ExcludePatterns)
	if in.Unpack != nil {
		f.flag += fmt.Sprintf(" unpack %t", *in.Unpack)
	}
	remote, local := splitRemotes(in.SourcePaths)
	f.in.SourcePaths = local
	if in.Checksum != "" && len(local)+len(in.SourceContents) > 0 {
		return bad("checksum can't be specified for non-HTTP(S) & non-Git sources")
	}
	quick := []string{"by checksum", in.Checksum, fmt.Sprintf("%q %q", remote, in.DestPath), f.flag}
	if in.Checksum != "" {
		// What has this checksum was added before: nothing has to be fetched.
		if found, err := r.findQuick(ctx, before, quick); found || err != nil {
			return err
		}
		f.quick = quick
	}
	defer func() {
		for _, c := range f.open {
			err = errors.Join(err, c.Close())
		}
	}()
	for _, url := range remote {
		if err := r.fetch(ctx, f, in, url); err != nil {
			return err
		}
	}
	return r.copy(ctx, before, f)
}

// splitRemotes tells what is fetched from what is in the context.
func splitRemotes(sources []string) (remote, local []string) {
	for _, s := range sources {
		if source.IsURL(s) || source.IsGit(s) {
			remote = append(remote, s)
		} else {
			local = append(local, s)
		}
	}
	return remote, local
}

// fetch gets a file or a repository as one more source.
func (r *stageRun) fetch(ctx context.Context, f *files, in *instructions.AddCommand, url string) error {
	if source.IsGit(url) {
		return r.fetchGit(ctx, f, in, url)
	}
	remote, err := source.Download(ctx, source.Request{URL: url, Checksum: digest.Digest(in.Checksum)})
	if err != nil {
		return &textError{"ADD failed: " + err.Error(), err}
	}
	f.open = append(f.open, remote)
	if remote.Unnamed && strings.HasSuffix(in.DestPath, "/") {
		return bad("ADD failed: cannot determine filename for source %s", url)
	}
	f.copy.More = append(f.copy.More, place.Part{Tree: remote, Name: remote.Name, Unpack: in.Unpack != nil && *in.Unpack})
	return nil
}

func (r *stageRun) fetchGit(ctx context.Context, f *files, in *instructions.AddCommand, url string) error {
	if in.KeepGitDir != nil && *in.KeepGitDir {
		return bad("ADD --keep-git-dir is not supported: what is added is the files of the commit")
	}
	g, err := source.OpenGit(ctx, url, source.Options{})
	if err != nil {
		return &textError{"ADD failed: " + err.Error(), err}
	}
	f.open = append(f.open, g)
	if sum := strings.TrimPrefix(in.Checksum, "sha256:"); in.Checksum != "" && !strings.HasPrefix(g.Commit, sum) {
		return bad("ADD failed: expected checksum to match %s, got %s", in.Checksum, g.Commit)
	}
	f.copy.More = append(f.copy.More, place.Part{Tree: g})
	return nil
}
