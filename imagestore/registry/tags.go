package registry

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// maxTagPages bounds how long a registry can keep a listing going.
const maxTagPages = 10_000

// tags lists all tags of the repository.
func (r *repository) tags(ctx context.Context) ([]string, error) {
	var all []string
	next := r.url("tags", "list")
	for range maxTagPages {
		page, after, err := r.tagPage(ctx, next)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if after == nil {
			return all, nil
		}
		next = after
	}
	return nil, fmt.Errorf("tags of %s: %w: more than %d pages", r.path, ErrTooLarge, maxTagPages)
}

// tagPage fetches one page and the address of the next, nil after the last
// (distribution spec, "Listing Tags").
func (r *repository) tagPage(ctx context.Context, u *url.URL) (tags []string, next *url.URL, err error) {
	var list struct {
		Tags []string `json:"tags"`
	}
	link, err := r.getJSON(ctx, u, "tags of "+r.path, &list)
	if err != nil {
		return nil, nil, err
	}
	next, err = nextPage(link, u)
	return list.Tags, next, err
}

// nextPage reads the Link header (RFC 5988). It may only lead to the registry
// itself.
func nextPage(link string, base *url.URL) (*url.URL, error) {
	if link == "" {
		return nil, nil
	}
	target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.HasPrefix(link, "<") {
		return nil, fmt.Errorf("%w: Link header %q", ErrVerify, printable(link))
	}
	u, err := base.Parse(target)
	if err != nil || !sameOrigin(u, base) {
		return nil, fmt.Errorf("%w: tag list continues at %q", ErrUnsafe, printable(target))
	}
	return u, nil
}
