package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/retry"
)

// How credentials stay at home. The auth client attaches them to requests for
// the host that the reference names, drops them as soon as a redirect leaves
// that scheme, host and port, and ignores a challenge that comes from
// elsewhere. Below it, gate sees every request that goes out, redirected ones
// and those to token services included, and lets plain http through only to
// hosts that the user trusts with it. Upload locations are checked where they
// are used (upload.go), foreign layers are fetched by a client that has no
// credentials at all (blob.go).

const (
	dialTimeout  = 30 * time.Second
	tlsTimeout   = 15 * time.Second
	probeTimeout = 5 * time.Second
	maxRedirects = 10
)

// hostRules are the hosts, as host, host:port or network, that are spoken to
// without a checked certificate.
type hostRules []string

// insecure reports whether a host (with or without port) is listed or is a
// loopback address.
func (h hostRules) insecure(hostport string) bool {
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	if isLoopback(host) {
		return true
	}
	for _, listed := range h {
		if strings.EqualFold(listed, hostport) || strings.EqualFold(listed, host) || isWithin(listed, host) {
			return true
		}
	}
	return false
}

// isWithin reports whether a host is an address in a network, as "10.0.0.0/8",
// which docker's daemon takes in place of a host, too. Names are not resolved.
func isWithin(network, host string) bool {
	_, n, err := net.ParseCIDR(network)
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return err == nil && ip != nil && n.Contains(ip)
}

// isLoopback takes the host's name at its word: it resolves nothing, so that
// no name server can make a remote host look local.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// gate is the lowest layer of the client: it chooses whether certificates are
// checked, and refuses what must not go out.
type gate struct {
	hosts       hostRules
	strict, lax http.RoundTripper
}

// RoundTrip sends one request.
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	trusted := g.hosts.insecure(req.URL.Host)
	switch {
	case req.URL.Scheme == "https" && !trusted:
		return sorted(g.strict.RoundTrip(req))
	case trusted && (req.URL.Scheme == "https" || req.URL.Scheme == "http"):
		return sorted(g.lax.RoundTrip(req))
	}
	if req.Body != nil {
		req.Body.Close()
	}
	return nil, fmt.Errorf("%w: %s://%s is not encrypted and not listed as an insecure registry",
		ErrUnsafe, req.URL.Scheme, req.URL.Host)
}

// sorted brings the challenges of a response into the order of their worth: the
// auth client looks at the first only, some registries offer several, and a
// token is given to those without an account, too.
func sorted(resp *http.Response, err error) (*http.Response, error) {
	const key = "Www-Authenticate"
	if err != nil || len(resp.Header[key]) < 2 {
		return resp, err
	}
	worth := func(challenge string) int {
		scheme, _, _ := strings.Cut(challenge, " ")
		return slices.Index([]string{"basic", "bearer"}, strings.ToLower(scheme))
	}
	slices.SortStableFunc(resp.Header[key], func(a, b string) int { return worth(b) - worth(a) })
	return resp, nil
}

// newHTTPClient builds the client below the auth client: gate, then retries,
// then the rules for redirects.
func (c *Client) newHTTPClient() *http.Client {
	strict := &certificates{base: newTransport(c.o.TLS, false), dir: c.o.CertsDir, hosts: map[string]*http.Transport{}}
	c.gate = &gate{hosts: c.hosts, strict: strict, lax: newTransport(c.o.TLS, true)}
	again := &retry.Transport{Base: c.gate, Policy: func() retry.Policy { return &policy{first: c.o.RetryWait} }}
	return &http.Client{Transport: again, CheckRedirect: c.checkRedirect}
}

func newTransport(settings *tls.Config, lax bool) *http.Transport {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if settings != nil {
		conf = settings.Clone()
	}
	conf.InsecureSkipVerify = conf.InsecureSkipVerify || lax
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: commitWait,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   2 * defaultParallel,
		ForceAttemptHTTP2:     true,
		// Layers are compressed already, and their bytes are what is verified.
		DisableCompression: true,
	}
}

// checkRedirect follows redirects from a registry to wherever it keeps its
// blobs, but not from the outside to this machine, and nothing that was to be
// written.
func (c *Client) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	first := via[0].URL
	if isLoopback(req.URL.Hostname()) && !isLoopback(first.Hostname()) {
		return fmt.Errorf("%w: redirect from %s to this machine", ErrUnsafe, first.Host)
	}
	if m := via[0].Method; m != http.MethodGet && m != http.MethodHead && !sameOrigin(first, req.URL) {
		return fmt.Errorf("%w: %s redirects a %s to %s", ErrUnsafe, first.Host, m, req.URL.Host)
	}
	if first.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: redirect from %s to unencrypted %s", ErrUnsafe, first.Host, req.URL.Host)
	}
	return nil
}

// scheme finds out once how a host is reached. Only a host that may be spoken
// to over plain http is asked, without credentials, whether it knows TLS.
func (c *Client) scheme(ctx context.Context, host string) string {
	if !c.hosts.insecure(host) {
		return "https"
	}
	// Held while the host is asked, so that layers in parallel ask it once.
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.schemes[host]; ok {
		return s
	}
	s := c.probe(ctx, host)
	if ctx.Err() == nil {
		c.schemes[host] = s
	}
	return s
}

// probe asks host for TLS, and is content with any answer.
func (c *Client) probe(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return "https"
	}
	once := &http.Client{
		Transport:     c.gate,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := once.Do(req)
	if err != nil {
		c.log.Debug("registry does not speak TLS, using plain http", "host", host, "error", err)
		return "http"
	}
	resp.Body.Close()
	return "https"
}

// sameOrigin reports whether two URLs name the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) &&
		strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case strings.EqualFold(u.Scheme, "http"):
		return "80"
	}
	return "443"
}

// tidyURLError takes the queries out of the URLs in an error: the storage behind
// a registry is often reached by URLs that are secrets, and so are sessions.
func tidyURLError(err error) error {
	if err == nil || !strings.Contains(err.Error(), "://") {
		return err
	}
	secrets := regexp.MustCompile(`(://[^\s"?]*)\?[^\s"]*`)
	if text := secrets.ReplaceAllString(err.Error(), "$1"); text != err.Error() {
		return &tidiedError{text, err}
	}
	return err
}

// tidiedError is an error without what must not be shown of it.
type tidiedError struct {
	text string
	err  error
}

func (e *tidiedError) Error() string { return e.text }
func (e *tidiedError) Unwrap() error { return e.err }
