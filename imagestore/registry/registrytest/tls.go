package registrytest

import (
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
)

// StartTLS is [Start] of a registry that answers over TLS to some names. ca is
// a file with the certificate to trust. Nobody resolves the names; a
// [Gateway] leads there.
func StartTLS(t testing.TB, more string, names ...string) (addr, ca string) {
	t.Helper()
	dir := t.TempDir()
	key, cert := selfSigned(t, names...)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(dir, "ca.crt")
	writePEM(t, ca, "CERTIFICATE", cert)
	writePEM(t, filepath.Join(dir, "key.pem"), "PRIVATE KEY", raw)
	addr = StartIn(t, t.TempDir(), fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", ca, filepath.Join(dir, "key.pem"))+more)
	return addr, ca
}

// Gateway is an HTTP proxy, as HTTPS_PROXY names one: it leads host names to
// addresses that it was told, and keeps the names it was asked for.
type Gateway struct {
	// URL is what to set HTTP_PROXY and HTTPS_PROXY to.
	URL string
	// User and password that it wants, "user:password"; empty: none.
	Want string

	hosts map[string]string // host:port → address

	mu    sync.Mutex
	asked []string
}

// NewGateway starts a proxy that leads to hosts, a map from host:port to
// address, until the test ends.
func NewGateway(t testing.TB, hosts map[string]string) *Gateway {
	t.Helper()
	g := &Gateway{hosts: hosts}
	s := httptest.NewUnstartedServer(g)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	g.URL = s.URL
	return g
}

// Asked lists the hosts that the gateway was asked for.
func (g *Gateway) Asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.asked...)
}

// ServeHTTP leads a connection (CONNECT) or a request to its host.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.asked = append(g.asked, r.Method+" "+r.Host)
	g.mu.Unlock()
	if user, password, _ := proxyAuth(r); g.Want != "" && user+":"+password != g.Want {
		w.Header().Set("Proxy-Authenticate", `Basic realm="gateway"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	addr, ok := g.hosts[r.Host]
	switch {
	case !ok:
		http.Error(w, "no such host", http.StatusBadGateway)
	case r.Method == http.MethodConnect:
		tunnel(w, addr)
	default:
		g.forward(w, r, addr)
	}
}

// proxyAuth reads the credentials for the proxy, which look like those for a
// server.
func proxyAuth(r *http.Request) (user, password string, ok bool) {
	like := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return like.BasicAuth()
}

func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, addr string) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", addr, ""
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// tunnel joins the client's connection with one to addr.
func tunnel(w http.ResponseWriter, addr string) {
	there, err := net.Dial("tcp", addr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(there, early)
		_ = there.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(here, there)
	_ = here.Close()
	<-done
}
