// Package registry is the client for image registries: it pulls images into a
// store and pushes them from there, over the distribution protocol
// (github.com/opencontainers/distribution-spec, and docker's older dialect of
// it).
//
// What a pull relies on is checked here or, for layers, by the store while
// they stream in: nothing that a registry says is believed. Manifests and
// configs are limited in size and verified against their digests; the
// reference is written last, so a pull that is interrupted leaves nothing but
// blobs that the next pull finds again.
//
// Credentials come from docker's config.json. They go to the registry that
// the reference names, and to the token service that this registry names over
// an equally safe scheme, and to no one else: see transport.go.
//
// The package prints nothing. It reports each step, in docker's words, to an
// [imagestore.Progress].
package registry

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"unio/imagestore"
)

// Errors of this package. They are wrapped with the reference or digest that
// they are about.
var (
	// ErrNotFound says that the registry has no such repository or tag, or
	// does not show it to this user.
	ErrNotFound = errors.New("not found in the registry")
	// ErrUnreachable says that no connection to the registry could be made, or
	// that it answers nothing but that it has trouble.
	ErrUnreachable = errors.New("registry cannot be reached")
	// ErrUnsupported says that what the registry sent is no image, or is in
	// a format that is not read here, such as docker's schema 1.
	ErrUnsupported = errors.New("unsupported")
	// ErrVerify says that content does not have the digest or the size that
	// was promised, or contradicts itself.
	ErrVerify = errors.New("verification failed")
	// ErrTooLarge says that a manifest or a config exceeds MaxMetadata.
	ErrTooLarge = errors.New("too large")
	// ErrPlatform says that an image does not exist for the platform asked.
	ErrPlatform = errors.New("no such platform")
	// ErrReference says that a reference cannot be parsed or not be used in
	// this place.
	ErrReference = errors.New("invalid reference")
	// ErrUnsafe says that a registry asked for something that would send
	// credentials or content to a place that the user did not name.
	ErrUnsafe = errors.New("refused")
)

// MaxMetadata is the largest manifest, index or config that is read, in bytes.
const MaxMetadata = 4 << 20

const (
	defaultParallel  = 4
	defaultStall     = 60 * time.Second
	defaultRetryWait = 250 * time.Millisecond
	// commitWait is how long a registry may take to answer once it has the
	// whole of a request: some copy a finished upload to other storage first.
	commitWait = 10 * time.Minute
	// maxTries is how often one step is tried before its error is final.
	maxTries = 5
)

// Options says how a Client works. The zero value is good for use.
type Options struct {
	// Log receives what is done at debug level; nil for none.
	Log *slog.Logger
	// Progress receives each step; nil for none.
	Progress imagestore.Progress
	// Insecure lists registries, as host, host:port or network (CIDR), whose certificate is
	// not checked and that may be spoken to over plain http. A loopback
	// address always counts as listed.
	Insecure []string
	// Credentials finds a user's name and secret for a registry; nil means
	// docker's config.json with its credential helpers.
	Credentials auth.CredentialFunc
	// UserAgent names the program to registries; default "unio".
	UserAgent string
	// Parallel is how many layers move at once; default 4.
	Parallel int
	// Stall is how long a transfer may stand still before it is tried again;
	// default one minute.
	Stall time.Duration
	// RetryWait is the first pause before something is tried again; it
	// doubles with each try. Default 250 ms.
	RetryWait time.Duration
	// Chunk is how many bytes of a blob go out in one request; default 32 MiB.
	Chunk int64
	// Config names mirrors and other places of registries; nil for none.
	Config *Config
	// CertsDir has, for each host, certificates to trust and to present;
	// empty for none. Docker's is /etc/docker/certs.d.
	CertsDir string
	// TLS holds extra settings, such as root certificates; nil for none.
	TLS *tls.Config
}

// Client talks to registries. It is safe for concurrent use and remembers
// tokens, and how each host is reached, for as long as it lives.
type Client struct {
	o     Options
	log   *slog.Logger
	hosts hostRules
	gate  *gate        // what every request goes through
	plain *http.Client // never adds credentials: foreign layers, probes
	auth  *auth.Client // adds them for the registry's own host only

	mu      sync.Mutex
	schemes map[string]string // host:port → "https" or "http"
}

// New makes a client. It touches neither the network nor a file.
func New(o Options) *Client {
	o = o.withDefaults()
	hosts := slices.Concat(o.Insecure, o.Config.insecureHosts())
	c := &Client{o: o, log: o.Log, hosts: hostRules(hosts), schemes: map[string]string{}}
	c.plain = c.newHTTPClient()
	c.auth = &auth.Client{
		Client:     c.plain,
		Cache:      auth.NewCache(),
		Credential: o.Credentials,
		ClientID:   "unio",
	}
	c.auth.SetUserAgent(o.UserAgent)
	return c
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = silent{}
	}
	if o.Config == nil {
		o.Config = &Config{}
	}
	if o.Credentials == nil {
		o.Credentials = dockerCredentials()
	}
	if o.UserAgent == "" {
		o.UserAgent = "unio"
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Chunk <= 0 {
		o.Chunk = uploadChunk
	}
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.RetryWait <= 0 {
		o.RetryWait = defaultRetryWait
	}
	return o
}

// silent is the Progress of a client that was given none.
type silent struct{}

func (silent) Update(imagestore.Event) {}

// step reports one step of one layer or tag.
func (c *Client) step(id, action string) {
	c.o.Progress.Update(imagestore.Event{ID: id, Action: action})
}
