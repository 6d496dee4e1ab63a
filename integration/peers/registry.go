package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// Registry is Debian's docker-registry on a free loopback port, without users.
type Registry struct {
	Address string // host:port
	server  *exec.Cmd
	log     *os.File
}

const registryConfig = `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: '127.0.0.1:0'}
`

// StartRegistry starts a registry with everything below dir and waits until it
// listens. Close stops it.
func StartRegistry(ctx context.Context, dir string) (*Registry, error) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return nil, fmt.Errorf("docker-registry: %w", ErrMissing)
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(registryConfig, filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r := &Registry{server: exec.Command(program, "serve", config)}
	if r.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	r.server.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r.server.Stdout, r.server.Stderr = r.log, r.log
	if err := r.server.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("docker-registry: %w", err), r.log.Close())
	}
	if err := r.wait(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// wait finds the port in what the registry logs.
func (r *Registry) wait(ctx context.Context) error {
	listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		text, err := os.ReadFile(r.log.Name())
		if err != nil {
			return err
		}
		if m := listening.FindSubmatch(text); m != nil {
			r.Address = string(m[1])
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("docker-registry does not listen: %w", ErrMissing)
}

// Close stops the registry.
func (r *Registry) Close() error {
	err := r.server.Process.Kill()
	_ = r.server.Wait() // it was killed
	return errors.Join(err, r.log.Close())
}
