package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ErrLogin says that a registry does not take a user's name and secret.
var ErrLogin = errors.New("login failed")

// Credential is a user's name and secret, or a token.
type Credential = auth.Credential

// ServerName turns what a user calls a registry, which may be a URL, into the
// host (with port) of its references; empty and Docker Hub's other names give
// docker.io.
func ServerName(server string) string {
	server = strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	host, _, _ := strings.Cut(server, "/")
	switch host {
	case "", hubName, hubHost, "index.docker.io":
		return hubName
	}
	return host
}

// Verify asks a registry whether it knows a user's name and secret. ErrLogin:
// it does not. A registry that asks nobody for credentials takes any.
func (c *Client) Verify(ctx context.Context, server string, cred Credential) error {
	host := apiHost(ServerName(server))
	u := &url.URL{Scheme: c.scheme(ctx, host), Host: host, Path: "/v2/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("login to %s: %w", server, err)
	}
	a := &auth.Client{Client: c.plain, Credential: auth.StaticCredential(host, cred), ClientID: "unio"}
	a.SetUserAgent(c.o.UserAgent)
	resp, err := a.Do(req)
	if err != nil {
		return loginError(u, tidyURLError(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &userError{text: fmt.Sprintf("login attempt to %s failed with status: %s", u, resp.Status), kind: ErrLogin}
	}
	return nil
}

// loginError tells a refusal by the token service from other trouble.
func loginError(u *url.URL, err error) error {
	var status *errcode.ErrorResponse
	if errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) {
		text := fmt.Sprintf("login attempt to %s failed with status: %d %s: incorrect username or password",
			u, status.StatusCode, http.StatusText(status.StatusCode))
		return &userError{text: text, kind: ErrLogin, err: err}
	}
	return nobodyThere(err)
}

// apiHost is where the API of a registry answers.
func apiHost(domain string) string {
	if domain == hubName {
		return hubHost
	}
	return domain
}

// Credentials are a user's secrets as docker keeps them: in config.json
// ($DOCKER_CONFIG or ~/.docker), or in the credential helpers it names.
type Credentials struct{ store *credentials.DynamicStore }

// OpenCredentials reads docker's config.json, which need not exist.
func OpenCredentials() (*Credentials, error) {
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{
		AllowPlaintextPut: true, DetectDefaultNativeStore: true,
	})
	if err != nil {
		return nil, fmt.Errorf("read docker's config.json: %w", err)
	}
	return &Credentials{store}, nil
}

// Get returns what is kept for a registry, empty if nothing is.
func (c *Credentials) Get(ctx context.Context, server string) (Credential, error) {
	cred, err := c.store.Get(ctx, keyOf(server))
	if err != nil {
		return cred, fmt.Errorf("credentials for %s: %w", ServerName(server), err)
	}
	return cred, nil
}

// Put keeps a user's name and secret, and reports the path of config.json if
// they lie there unencrypted, and did not before.
func (c *Credentials) Put(ctx context.Context, server string, cred Credential) (plain string, err error) {
	if old, err := c.Get(ctx, server); err == nil && old == cred {
		return "", nil
	}
	if err := c.store.Put(ctx, keyOf(server), cred); err != nil {
		return "", fmt.Errorf("store credentials for %s: %w", ServerName(server), err)
	}
	path := c.store.ConfigPath()
	inFile, err := hasSecret(path, keyOf(server))
	if err != nil || !inFile {
		return "", err
	}
	return path, nil
}

// Delete forgets what is kept for a registry, under whatever form of its name
// tools have written. Where the registry has a credential helper of its own, no
// other one is asked.
func (c *Credentials) Delete(ctx context.Context, server string) error {
	key := keyOf(server)
	keys := []string{key, "https://" + key, "http://" + key}
	conf, err := readDockerConfig(c.store.ConfigPath())
	if err != nil {
		return err
	}
	if strings.HasPrefix(key, "https://") || conf.Helpers[key] != "" { // Docker Hub's key is a URL already
		keys = keys[:1]
	}
	var errs []error
	for _, k := range keys {
		if err := c.store.Delete(ctx, k); err != nil {
			errs = append(errs, fmt.Errorf("remove credentials for %s: %w", ServerName(server), err))
		}
	}
	return errors.Join(errs...)
}

// keyOf is the name under which docker's config.json keeps a registry.
func keyOf(server string) string { return credentials.ServerAddressFromRegistry(ServerName(server)) }

// dockerConfig is what is looked at in docker's config.json.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	Helpers map[string]string `json:"credHelpers"`
}

// readDockerConfig reads config.json; one that is not there is empty.
func readDockerConfig(path string) (c dockerConfig, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read docker's config.json: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}

// hasSecret reports whether config.json itself holds a secret.
func hasSecret(path, key string) (bool, error) {
	conf, err := readDockerConfig(path)
	if err != nil {
		return false, err
	}
	entry := conf.Auths[key]
	return entry.Auth != "" || entry.IdentityToken != "", nil
}
