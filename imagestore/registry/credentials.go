package registry

import (
	"context"
	"fmt"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// dockerCredentials looks secrets up in docker's config.json
// ($DOCKER_CONFIG or ~/.docker) and in the credential helpers that it names.
// The file is read when the first secret is needed: a registry that asks for
// none works even if the file is damaged.
func dockerCredentials() auth.CredentialFunc {
	open := sync.OnceValues(func() (credentials.Store, error) {
		return credentials.NewStoreFromDocker(credentials.StoreOptions{})
	})
	return func(ctx context.Context, host string) (auth.Credential, error) {
		store, err := open()
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("read docker's config.json: %w", err)
		}
		cred, err := credentials.Credential(store)(ctx, host)
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("credentials for %s: %w", host, err)
		}
		return cred, nil
	}
}
