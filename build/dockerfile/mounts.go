package dockerfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"unio/build/place"
	"unio/build/source"
	"unio/imagestore"
)

// Mount is what a program of a RUN sees besides the image.
type Mount struct {
	Source   string // of the host; empty: a tmpfs
	Target   string // absolute, inside
	ReadOnly bool
	Size     int64 // of a tmpfs, bytes; 0: the kernel's default
}

// opened are the mounts of a RUN in use, and the variables that carry secrets.
type opened struct {
	list    []Mount
	env     []string
	release []func() error // in the order of opening
}

func (o *opened) close() error {
	var errs []error
	for i := len(o.release) - 1; i >= 0; i-- {
		errs = append(errs, o.release[i]())
	}
	return errors.Join(errs...)
}

// checkMount refuses what cannot be had, and completes what is left out.
func (r *stageRun) checkMount(m *instructions.Mount) error {
	switch {
	case m.Type == instructions.MountTypeSSH:
		return bad("RUN --mount=type=ssh is not supported: no agent is forwarded to a build")
	case m.Type == instructions.MountTypeCache && m.From != "":
		return bad("RUN --mount=type=cache with from is not supported: the cache begins empty")
	case m.Type == instructions.MountTypeSecret && m.CacheID == "":
		m.CacheID = path.Base(m.Source)
	case m.Type == instructions.MountTypeCache && m.CacheID == "":
		m.CacheID = path.Clean(m.Target)
	}
	if m.Type == instructions.MountTypeSecret && m.Target == "" && m.Env == nil {
		m.Target = "/run/secrets/" + m.CacheID
	}
	if m.Target != "" && !path.IsAbs(m.Target) {
		m.Target = path.Join("/", r.s.config.WorkingDir, m.Target)
	}
	if path.Clean(m.Target) == "/" {
		return bad("invalid mount target %q", m.Target)
	}
	return nil
}

// mountKeys are the parts of a RUN's key that its mounts make: what they say,
// and the content of what is bound. Secrets and caches count by name alone.
func (r *stageRun) mountKeys(ctx context.Context, p *program) ([]string, error) {
	var keys []string
	for _, m := range p.mounts {
		if err := r.checkMount(m); err != nil {
			return nil, err
		}
		said, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("key of a mount: %w", err)
		}
		keys = append(keys, "mount "+string(said))
		if m.Type != instructions.MountTypeBind {
			continue
		}
		content, err := r.boundKey(ctx, m)
		if err != nil {
			return nil, err
		}
		keys = append(keys, content)
	}
	if p.script != nil {
		keys = append(keys, "script "+p.script.Name+"\n"+p.script.Data)
	}
	return keys, nil
}

// boundKey tells the content of what a bind shows.
func (r *stageRun) boundKey(ctx context.Context, m *instructions.Mount) (string, error) {
	if m.From == "" {
		sum, err := r.contextCopy(m).Digest(ctx)
		return sum.String(), err
	}
	chain, err := r.chain(ctx, m.From)
	return imagestore.StateID(chain).String(), err
}

// boundDir is where a part of the context lies in the layer made of it.
const boundDir = "context"

// contextCopy is the part of the context that a bind shows.
func (r *stageRun) contextCopy(m *instructions.Mount) *place.Copy {
	src := m.Source
	if src == "" {
		src = "."
	}
	return &place.Copy{From: r.o.Context, Sources: []string{src}, Dest: "/" + boundDir + "/"}
}

// openMounts makes what the mounts of a RUN show. After an error there is
// nothing to be closed.
func (r *stageRun) openMounts(ctx context.Context, p *program) (o *opened, err error) {
	o = &opened{}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	for _, m := range p.mounts {
		switch m.Type {
		case instructions.MountTypeBind:
			err = r.openBind(ctx, o, m)
		case instructions.MountTypeCache:
			err = r.openCache(ctx, o, m)
		case instructions.MountTypeTmpfs:
			o.list = append(o.list, Mount{Target: m.Target, Size: m.SizeLimit})
		case instructions.MountTypeSecret:
			err = r.openSecret(o, m)
		}
		if err != nil {
			return o, err
		}
	}
	if p.script != nil {
		err = r.openScript(o, p.script)
	}
	return o, err
}

// openBind shows a part of a stage, an image or the context. What the program
// writes there, if it may, is thrown away.
func (r *stageRun) openBind(ctx context.Context, o *opened, m *instructions.Mount) error {
	chain, at, err := r.boundTree(ctx, m)
	if err != nil {
		return err
	}
	st, unmount, err := r.mount(chain, !m.ReadOnly)
	if err != nil {
		return err
	}
	o.release = append(o.release, func() error { return errors.Join(unmount(), st.remove()) })
	o.list = append(o.list, Mount{Source: filepath.Join(st.point, at), Target: m.Target, ReadOnly: m.ReadOnly})
	return nil
}

// boundTree is the chain of layers of a bind, and the name of what it shows
// there. All links have been followed, inside of the tree.
func (r *stageRun) boundTree(ctx context.Context, m *instructions.Mount) (chain []digest.Digest, at string, err error) {
	src := m.Source
	if m.From == "" {
		c := r.contextCopy(m)
		if _, err := c.Digest(ctx); err != nil {
			return nil, "", err
		}
		l, err := r.st.AddLayer(ctx, tarOf(ctx, c), imagestore.LayerOptions{})
		if err != nil {
			return nil, "", err
		}
		chain, src = []digest.Digest{l.DiffID}, boundDir
		if from, err := source.Resolve(r.o.Context, c.Sources[0]); err == nil {
			if e, err := r.o.Context.Lstat(from); err == nil && !e.IsDir() {
				src = path.Join(boundDir, path.Base(path.Clean("/"+c.Sources[0])))
			}
		}
	} else if chain, err = r.chain(ctx, m.From); err != nil {
		return nil, "", err
	}
	view, err := r.st.ViewOf(ctx, chain)
	if err != nil {
		return nil, "", err
	}
	defer view.Close()
	at, err = source.Resolve(source.OpenView(view), src)
	if err != nil {
		return nil, "", bad("failed to mount %s: %v", m.Source, err)
	}
	return chain, at, nil
}

// tarOf reads the layer of a copy.
func tarOf(ctx context.Context, c *place.Copy) io.Reader {
	r, w := io.Pipe()
	go func() { w.CloseWithError(c.WriteTar(ctx, nil, w)) }()
	return r
}

// file keeps what only this program may see, beside the mount points: in the
// run root, which is in memory on most machines.
func (r *stageRun) file(o *opened, name string, data []byte) (string, error) {
	_, s, err := r.mounting()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(s.points, "file-")
	if err != nil {
		return "", err
	}
	o.release = append(o.release, func() error { return os.RemoveAll(dir) })
	file := filepath.Join(dir, name)
	return file, os.WriteFile(file, data, 0o400)
}

// openScript shows a here-document that is a script of its own.
func (r *stageRun) openScript(o *opened, script *instructions.ShellInlineFile) error {
	file, err := r.file(o, "script", []byte(script.Data))
	if err == nil {
		err = os.Chmod(file, 0o755)
	}
	if err != nil {
		return fmt.Errorf("write the script: %w", err)
	}
	o.list = append(o.list, Mount{Source: file, Target: pipesDir + "/" + script.Name, ReadOnly: true})
	return nil
}

// maxSecret bounds the size of a secret, in bytes (buildkit's limit).
const maxSecret = 500 << 10

// openSecret shows a secret as a file, as a variable, or as both.
func (r *stageRun) openSecret(o *opened, m *instructions.Mount) error {
	data, err := r.o.Secrets[m.CacheID].read()
	_, known := r.o.Secrets[m.CacheID]
	switch {
	case !known && m.Required:
		return bad("secret %s: not found", m.CacheID)
	case !known:
		return nil
	case err != nil:
		return fmt.Errorf("secret %s: %w", m.CacheID, err)
	}
	if m.Env != nil {
		name := *m.Env
		if name == "" {
			name = m.CacheID
		}
		o.env = append(o.env, name+"="+string(data))
	}
	if m.Target == "" {
		return nil
	}
	file, err := r.file(o, "secret", data)
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.CacheID, err)
	}
	if err := setOwner(file, m, 0o400); err != nil {
		return fmt.Errorf("secret %s: %w", m.CacheID, err)
	}
	o.list = append(o.list, Mount{Source: file, Target: m.Target, ReadOnly: true})
	return nil
}

// read is the value of a secret.
func (s Secret) read() ([]byte, error) {
	if s.Env != "" {
		value, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("the environment has no variable %s", s.Env)
		}
		return []byte(value), nil
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(data) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes", s.File, maxSecret)
	}
	return data, err
}

// setOwner gives a file or folder the owner and mode that a mount asks for. Who
// is not root has one user only.
func setOwner(file string, m *instructions.Mount, mode os.FileMode) error {
	if m.Mode != nil {
		mode = os.FileMode(*m.Mode & 0o777)
	}
	if err := os.Chmod(file, mode); err != nil || os.Geteuid() != 0 {
		return err
	}
	uid, gid := 0, 0
	if m.UID != nil {
		uid = int(*m.UID)
	}
	if m.GID != nil {
		gid = int(*m.GID)
	}
	return os.Chown(file, uid, gid)
}
