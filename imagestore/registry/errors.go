package registry

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// pullError says in docker's words why a pull of ref failed.
func pullError(err error, ref reference.Named) error {
	code, cause := registryCode(err)
	switch code {
	case errcode.ErrorCodeUnauthorized:
		return &userError{text: cause, kind: ErrNotFound, err: err}
	case errcode.ErrorCodeDenied:
		return &userError{
			text: fmt.Sprintf("pull access denied for %s, repository does not exist or may require 'unio login': %s",
				reference.FamiliarName(ref), cause),
			kind: ErrNotFound, err: err,
		}
	case errcode.ErrorCodeManifestUnknown:
		return &userError{
			text: fmt.Sprintf("manifest for %s not found: %s", reference.FamiliarString(ref), cause),
			kind: ErrNotFound, err: err,
		}
	case errcode.ErrorCodeNameUnknown:
		return &userError{
			text: fmt.Sprintf("repository %s not found: %s", reference.FamiliarName(ref), cause),
			kind: ErrNotFound, err: err,
		}
	}
	return serverError(nobodyThere(err))
}

// pushError says in docker's words why a push failed: in the registry's own.
func pushError(err error) error {
	code, cause := registryCode(err)
	switch code {
	case errcode.ErrorCodeDenied, errcode.ErrorCodeUnauthorized:
		return &userError{text: cause, kind: ErrNotFound, err: err}
	}
	return serverError(nobodyThere(err))
}

// serverError gives the registry's own words, if it had trouble with a
// manifest, or docker's for an answer without any.
func serverError(err error) error {
	var resp *errcode.ErrorResponse
	if !errors.As(err, &resp) || resp.URL == nil || !strings.Contains(resp.URL.Path, "/manifests/") {
		return err
	}
	text := fmt.Sprintf("received unexpected HTTP status: %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch {
	case len(resp.Errors) == 0:
	case resp.StatusCode >= http.StatusInternalServerError: // docker keeps the words for itself
		text += ": " + resp.Errors[0].Error()
	default:
		text = resp.Errors[0].Error()
	}
	return &userError{text: text, kind: ErrUnreachable, err: err}
}

// nobodyThere names the registry as a whole if no connection to it could be
// made, as docker does, which always asks for /v2/ first.
func nobodyThere(err error) error {
	var sent *url.Error
	var broken *net.OpError
	if !errors.As(err, &sent) || !errors.As(err, &broken) || !unreachable(broken) {
		return err
	}
	u, parseErr := url.Parse(sent.URL)
	if parseErr != nil || !strings.HasPrefix(u.Path, "/v2/") {
		return err
	}
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/v2/"}
	return &userError{text: fmt.Sprintf("Get %q: %v", base.String(), broken), kind: ErrUnreachable, err: err}
}

// registryCode reduces an error to one of the codes of the distribution spec,
// "" if it has none, and the registry's own words.
func registryCode(err error) (code, cause string) {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return errcode.ErrorCodeUnauthorized, "no basic auth credentials"
	}
	var resp *errcode.ErrorResponse
	if !errors.As(err, &resp) {
		return "", ""
	}
	if len(resp.Errors) > 0 {
		return resp.Errors[0].Code, resp.Errors[0].Error()
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return errcode.ErrorCodeUnauthorized, "unauthorized: authentication required"
	case http.StatusForbidden:
		return errcode.ErrorCodeDenied, "denied: requested access to the resource is denied"
	case http.StatusNotFound:
		if strings.Contains(resp.URL.Path, "/manifests/") {
			return errcode.ErrorCodeManifestUnknown, "manifest unknown"
		}
	}
	return "", ""
}

// userError is an error in docker's words. It still is what caused it.
type userError struct {
	text string
	kind error // one of this package's sentinels
	err  error
}

func (e *userError) Error() string   { return e.text }
func (e *userError) Unwrap() []error { return []error{e.kind, e.err} }
