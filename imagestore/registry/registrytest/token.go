package registrytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// leeway is how long docker-registry goes on taking a token that has expired
// (registry/auth/token of distribution 2.8).
const leeway = time.Minute

// Tokens is a service that gives tokens to [User], and to others if Anyone is
// set (distribution spec, "Token Authentication Specification").
type Tokens struct {
	// URL is the realm that the registry sends clients to.
	URL string
	// Life is how long a token serves.
	Life time.Duration
	// Anyone says that no password is needed to read.
	Anyone bool

	key  *ecdsa.PrivateKey
	cert []byte

	mu     sync.Mutex
	issued []string
}

// StartWithTokens is [Start] of a registry that wants tokens of a service of
// this test.
func StartWithTokens(t testing.TB) (addr string, s *Tokens) {
	t.Helper()
	s = &Tokens{Life: time.Hour}
	s.key, s.cert = selfSigned(t, "tokens")
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL + "/token"
	bundle := filepath.Join(t.TempDir(), "tokens.pem")
	writePEM(t, bundle, "CERTIFICATE", s.cert)
	return StartIn(t, t.TempDir(), fmt.Sprintf(
		"auth:\n  token: {realm: %q, service: registry, issuer: tokens, rootcertbundle: %q}\n", s.URL, bundle)), s
}

// Issued lists the scopes that tokens were given for.
func (s *Tokens) Issued() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.issued...)
}

// access is what a token permits to do with a repository.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// ServeHTTP gives a token.
func (s *Tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, given := r.BasicAuth()
	if given && (user != User || password != Password) || !given && !s.Anyone {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	scopes := strings.Fields(strings.Join(r.URL.Query()["scope"], " "))
	s.mu.Lock()
	s.issued = append(s.issued, strings.Join(scopes, " "))
	s.mu.Unlock()
	token, err := s.sign(grants(scopes, given))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// grants reads scopes, "repository:some/app:pull,push"; who has given no name
// may only read.
func grants(scopes []string, known bool) []access {
	var list []access
	for _, scope := range scopes {
		first, last := strings.Index(scope, ":"), strings.LastIndex(scope, ":")
		if first < 0 || first == last {
			continue
		}
		actions := strings.Split(scope[last+1:], ",")
		if !known {
			actions = []string{"pull"}
		}
		list = append(list, access{scope[:first], scope[first+1 : last], actions})
	}
	return list
}

// sign makes a JSON web token (RFC 7515, RFC 7519), by ES256.
func (s *Tokens) sign(list []access) (string, error) {
	now := time.Now()
	header := map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}}
	claims := map[string]any{
		"iss": "tokens", "sub": User, "aud": "registry", "jti": rand.Text(), "access": list,
		"exp": now.Add(s.Life - leeway).Unix(), "nbf": now.Add(-time.Hour).Unix(), "iat": now.Unix(),
	}
	var parts []string
	for _, part := range []any{header, claims} {
		raw, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(raw))
	}
	text := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	signature := append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// selfSigned makes a key and a certificate for a name, which is its own
// authority.
func selfSigned(t testing.TB, names ...string) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageAny},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func writePEM(t testing.TB, path, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}
