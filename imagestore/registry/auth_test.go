package registry

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Registries give tokens to those who have no account, too.
func TestAnonymousToken(t *testing.T) {
	f := newFake(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	var asked []string
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			asked = append(asked, r.Header.Get("Authorization")+r.URL.RawQuery)
			w.Write([]byte(`{"access_token":"` + goodToken + `"}`))
			return true
		}
		if r.Header.Get("Authorization") == "Bearer "+goodToken {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="s",scope="repository:x:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	mustPull(t, newStore(t), f.host+"/x:1")
	if len(asked) != 1 || asked[0] != "scope=repository%3Ax%3Apull&service=s" {
		t.Errorf("token requests: %q", asked)
	}
}

// Docker Hub and others give identity tokens, which docker keeps in place of a
// password and hands in for tokens by OAuth2.
func TestIdentityToken(t *testing.T) {
	f := newFake(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	const identity = "identity-0123456789"
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			if r.Method != http.MethodPost || r.PostFormValue("refresh_token") != identity || r.PostFormValue("grant_type") != "refresh_token" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			w.Write([]byte(`{"access_token":"` + goodToken + `"}`))
			return true
		}
		if r.Header.Get("Authorization") == "Bearer "+goodToken {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="s",scope="repository:x:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := `{"auths":{"http://` + f.host + `/v2/":{"identitytoken":"` + identity + `"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, func(o *Options) { o.Credentials = nil })
	if _, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{}); err != nil {
		t.Error(err)
	}
}

// Tokens live for minutes, a pull may take longer.
func TestTokenExpires(t *testing.T) {
	f := newFake(t)
	var layers []map[string]string
	for i := range 6 {
		layers = append(layers, map[string]string{fmt.Sprint(i): "x"})
	}
	f.publish(t, "1", imageOf(t, "", layers...))
	var issued, used atomic.Int32
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			used.Store(0)
			fmt.Fprintf(w, `{"token":"t%d"}`, issued.Add(1))
			return true
		}
		if r.Header.Get("Authorization") == fmt.Sprint("Bearer t", issued.Load()) && used.Add(1) <= 3 {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	c, _ := newClient(t, func(o *Options) { o.Parallel = 1 })
	if _, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := issued.Load(); n < 2 {
		t.Errorf("%d tokens issued", n)
	}
}

func TestPullOverTLS(t *testing.T) {
	f := newFakeTLS(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	mustPull(t, newStore(t), f.host+"/x:1") // loopback: any certificate will do
	c := trusting(t, f.Server)
	if _, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{}); err != nil {
		t.Errorf("with a certificate that is known: %v", err)
	}
	c, _ = newClient(t)
	c.gate.lax = c.gate.strict // as for a host that is not loopback
	c.schemes[f.host] = "https"
	_, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate that nobody knows: %v", err)
	}
}

// A registry such as Docker Hub gives anyone a token, and refuses it where there
// is no such repository, or none that is public.
func TestNoSuchRepositoryByToken(t *testing.T) {
	for code, want := range map[string]string{
		"insufficient_scope": "pull access denied for HOST/x, repository does not exist or may require 'unio login': " +
			"denied: requested access to the resource is denied",
		"invalid_token": "unauthorized: authentication required",
	} {
		f := newFake(t)
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				w.Write([]byte(`{"token":"` + goodToken + `"}`))
				return true
			}
			challenge := `Bearer realm="` + f.URL + `/token",service="s",scope="repository:x:pull"`
			if r.Header.Get("Authorization") != "" {
				challenge += `,error="` + code + `"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
			apiError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
			return true
		}
		_, err := pullError1(t, f.host+"/x:1", PullOptions{})
		if err == nil || err.Error() != strings.ReplaceAll(want, "HOST", f.host) || !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// Of several challenges the one that can be met counts, wherever it stands.
func TestSeveralChallenges(t *testing.T) {
	for _, offers := range [][]string{{"Negotiate", "Basic", "Bearer"}, {"Bearer", "Basic"}, {"Negotiate", "Bearer"}} {
		f := newFake(t)
		f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				w.Write([]byte(`{"token":"` + goodToken + `"}`))
				return true
			}
			if r.Header.Get("Authorization") == "Bearer "+goodToken {
				return false
			}
			for _, scheme := range offers {
				w.Header().Add("WWW-Authenticate", scheme+` realm="`+f.URL+`/token",service="s"`)
			}
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		mustPull(t, newStore(t), f.host+"/x:1")
	}
	f := newFake(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	f.on("GET", "", func(w http.ResponseWriter, r *http.Request) bool {
		if _, password, _ := r.BasicAuth(); password == secretWord {
			return false
		}
		w.Header()["Www-Authenticate"] = []string{"Negotiate", `Basic realm="x"`}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	c, _ := newClient(t, withPassword)
	if _, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{}); err != nil {
		t.Error(err)
	}
}
