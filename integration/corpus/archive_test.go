package corpus

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// built is an image as an archive holds it.
type built struct {
	layers []map[string]string // path → what is there
	config map[string]any
}

// readArchive reads what docker save, unio save and buildah push write.
func readArchive(r io.Reader) (*built, error) {
	files, links := map[string][]byte{}, map[string]string{}
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if hdr.Typeflag == tar.TypeSymlink {
			links[hdr.Name] = path.Join(path.Dir(hdr.Name), hdr.Linkname)
			continue
		}
		if files[hdr.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return nil, fmt.Errorf("manifest.json: %d images, %w", len(manifest), err)
	}
	b := &built{}
	var config struct {
		Config map[string]any `json:"config"`
	}
	if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	b.config = config.Config
	for _, name := range manifest[0].Layers {
		if to, ok := links[name]; ok {
			name = to
		}
		entries, err := readLayer(files[name])
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		b.layers = append(b.layers, entries)
	}
	return b, nil
}

// readLayer lists a layer. Times are not in it: docker's are those of the build.
func readLayer(data []byte) (map[string]string, error) {
	entries := map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + hdr.Name)
		if strings.HasPrefix(path.Base(name), ".wh.") {
			entries[name] = "whiteout"
			continue
		}
		if name == "/" {
			continue // only some write it
		}
		text, err := describe(hdr, tr)
		if err != nil {
			return nil, err
		}
		entries[name] = text
	}
}

func describe(hdr *tar.Header, r io.Reader) (string, error) {
	owner := fmt.Sprintf("%04o %d:%d", hdr.Mode&0o7777, hdr.Uid, hdr.Gid)
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			owner += fmt.Sprintf(" %s=%q", name, hdr.PAXRecords[key])
		}
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return "folder " + owner, nil
	case tar.TypeSymlink:
		return fmt.Sprintf("link %d:%d -> %s", hdr.Uid, hdr.Gid, hdr.Linkname), nil
	case tar.TypeLink:
		return "name of " + path.Clean("/"+hdr.Linkname), nil
	case tar.TypeReg:
		sum := sha256.New()
		n, err := io.Copy(sum, r)
		return fmt.Sprintf("file %s, %d bytes %x", owner, n, sum.Sum(nil)[:6]), err
	}
	return fmt.Sprintf("type %c %s %d,%d", hdr.Typeflag, owner, hdr.Devmajor, hdr.Devminor), nil
}

// tree merges the layers as a container would see them.
func (b *built) tree() map[string]string {
	merged := map[string]string{}
	for _, l := range b.layers {
		apply(merged, l)
	}
	return merged
}

// apply puts a layer on a tree: first what it takes away, then what it adds.
func apply(merged, l map[string]string) {
	for name, text := range l {
		dir, base := path.Split(name)
		switch {
		case text != "whiteout":
			if !strings.HasPrefix(text, "folder") {
				drop(merged, name)
			}
		case base == ".wh..wh..opq":
			drop(merged, strings.TrimSuffix(dir, "/"))
		default:
			gone := dir + strings.TrimPrefix(base, ".wh.")
			delete(merged, gone)
			drop(merged, gone)
		}
	}
	for name, text := range l {
		if text == "whiteout" {
			continue
		}
		// Another name of a file is as good as the first.
		if first, ok := strings.CutPrefix(text, "name of "); ok {
			text = l[first]
		}
		merged[name] = text
	}
}

// spelledOut is the layers with a whiteout for each name that an opaque folder
// hides: overlayfs marks a folder that was made again where unio lists what is
// gone, which is the same to all who read layers.
func (b *built) spelledOut() (list []map[string]string) {
	below := map[string]string{}
	for _, l := range b.layers {
		l = maps.Clone(l)
		for name := range maps.Clone(l) {
			if path.Base(name) == ".wh..wh..opq" {
				delete(l, name)
				spellOut(l, below, path.Dir(name))
			}
		}
		apply(below, l)
		list = append(list, l)
	}
	return list
}

func spellOut(l, below map[string]string, dir string) {
	for name := range below {
		if path.Dir(name) == dir && l[name] == "" {
			l[dir+"/.wh."+path.Base(name)] = "whiteout"
		}
	}
}

// drop removes what is below a name.
func drop(merged map[string]string, name string) {
	for other := range merged {
		if strings.HasPrefix(other, name+"/") {
			delete(merged, other)
		}
	}
}

// compareMaps tells how two listings differ.
func compareMaps(what string, ours, theirs map[string]string) (list []string) {
	names := maps.Clone(ours)
	maps.Copy(names, theirs)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if ours[name] != theirs[name] {
			list = append(list, fmt.Sprintf("%s %s: unio %q, the other %q", what, name, ours[name], theirs[name]))
		}
	}
	return list
}

// configFields are what a Dockerfile can say; the others are the builders' own.
var configFields = []string{
	"Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal", "User", "Volumes", "WorkingDir",
}

// settings are the fields of a config that count, the empty ones left out.
func (b *built) settings() map[string]string {
	out := map[string]string{}
	for _, field := range configFields {
		value := b.config[field]
		if labels, ok := value.(map[string]any); ok && field == "Labels" {
			maps.DeleteFunc(labels, func(k string, _ any) bool { return strings.HasPrefix(k, "io.buildah.") })
		}
		data, err := json.Marshal(value)
		// BuildKit writes the root as the folder of what comes from scratch.
		unset := []string{"null", `""`, "{}", "[]", `"/"`}
		if s := string(data); err == nil && !slices.Contains(unset, s) {
			out[field] = s
		}
	}
	return out
}

// differences compares what unio made with what another builder made. A part
// that is said to differ must.
func (c *dockerfileCase) differences(e engine, ours, theirs *built) []string {
	if e == buildah { // it puts what is set again at the end
		sortEnv(ours)
		sortEnv(theirs)
	}
	found := map[string][]string{
		"config": compareMaps("config", ours.settings(), theirs.settings()),
		"tree":   compareMaps("tree", ours.tree(), theirs.tree()),
	}
	if e != buildah { // it writes its layers by other rules; the tree is the same
		found["layers"] = compareLayers(full(ours.spelledOut()), full(theirs.spelledOut()))
	}
	var list []string
	for part, differ := range found {
		switch why := c.differs[e][part]; {
		case why == "":
			list = append(list, differ...)
		case len(differ) == 0:
			list = append(list, fmt.Sprintf("the %s is the same, but is said to differ: %s", part, why))
		}
	}
	return list
}

func compareLayers(ours, theirs []map[string]string) (list []string) {
	if len(ours) != len(theirs) {
		return []string{fmt.Sprintf("%d layers, the other %d", len(ours), len(theirs))}
	}
	for i := range ours {
		list = append(list, compareMaps(fmt.Sprintf("layer %d", i+1), ours[i], theirs[i])...)
	}
	return list
}

func sortEnv(b *built) {
	if env, ok := b.config["Env"].([]any); ok {
		slices.SortFunc(env, func(x, y any) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	}
}

// full leaves out layers with nothing in them, which some builders drop.
func full(layers []map[string]string) (list []map[string]string) {
	for _, l := range layers {
		if len(l) > 0 {
			list = append(list, l)
		}
	}
	return list
}
