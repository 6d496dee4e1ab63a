package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// certificates gives each host the transport that trusts what the machine
// trusts, and besides what lies in DIR/HOST[:PORT], as for docker's daemon:
// *.crt are certificates of authorities, NAME.cert and NAME.key are a
// client's own (docs.docker.com, "Verify repository client with
// certificates").
type certificates struct {
	base *http.Transport
	dir  string

	mu    sync.Mutex
	hosts map[string]*http.Transport
}

// RoundTrip sends a request by its host's transport.
func (c *certificates) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := c.of(req.URL.Host)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

func (c *certificates) of(host string) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.hosts[host]; t != nil {
		return t, nil
	}
	t, err := c.load(host)
	if err != nil {
		return nil, fmt.Errorf("certificates for %s: %w", host, err)
	}
	c.hosts[host] = t
	return t, nil
}

func (c *certificates) load(host string) (*http.Transport, error) {
	dir := filepath.Join(c.dir, filepath.Base(host))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || c.dir == "" {
		return c.base, nil
	}
	if err != nil {
		return nil, err
	}
	t := c.base.Clone()
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".crt":
			err = trust(t.TLSClientConfig, path)
		case ".cert":
			err = present(t.TLSClientConfig, path)
		}
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// trust adds the authorities in a file to those of the machine.
func trust(conf *tls.Config, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	pool := conf.RootCAs
	if pool == nil {
		if pool, err = x509.SystemCertPool(); err != nil {
			return err
		}
	} else {
		pool = pool.Clone()
	}
	if !pool.AppendCertsFromPEM(raw) {
		return fmt.Errorf("%s: no certificate in PEM form", path)
	}
	conf.RootCAs = pool
	return nil
}

// present adds a client's own certificate, whose key lies beside it.
func present(conf *tls.Config, path string) error {
	pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
	if err != nil {
		return err
	}
	conf.Certificates = append(conf.Certificates, pair)
	return nil
}

// TrustFile returns TLS settings that trust, besides what the machine trusts,
// the authorities in a file.
func TrustFile(path string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := trust(conf, path); err != nil {
		return nil, fmt.Errorf("trust %s: %w", path, err)
	}
	return conf, nil
}
