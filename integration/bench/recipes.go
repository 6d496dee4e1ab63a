package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"unio/integration/debian"
	"unio/integration/peers"
)

// The steps of the realistic image after the Debian root of its first layer.
// Each is done twice, over overlayfs and over unio: one makes the folders of
// layers for the other unions, one unio's image.
var debianSteps = []string{packagesStep, changesStep, largeStep}

// getPackages downloads packages and all they need that is not in the root.
const getPackages = `
mkdir -p "$debs" && cd "$debs"
apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $packages |
	grep '^[a-z0-9]' | sort -u >wanted
awk '/^Package:/ { print $2 }' "$root/var/lib/dpkg/status" | sort -u >there
comm -23 wanted there >missing
xargs -r apt-get -qq download <missing
`

const (
	packagesStep = `
for deb in "$debs"/*.deb; do
	[ ! -e "$deb" ] || dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink
done
[ -z "$packages" ] || chroot . /usr/bin/python3 -m compileall -q /usr/lib/python3* >/dev/null 2>&1 || true
mkdir -p opt/packages && touch -d @1700000000 opt/packages/done`

	// whiteouts, opaque folders, overrides; then what workloads write to
	changesStep = `
rm -rf usr/share/doc usr/share/man usr/share/locale
for dir in etc/apt usr/share/bash-completion; do
	rm -rf $dir && mkdir -p $dir && echo new >$dir/only
done
find usr/include/linux -name '*.h' | sort | sed -n 1,300p | while read -r h; do echo "/* changed */" >>"$h"; done
chmod 700 srv/ && chown 5:6 media
mkdir -p srv/many srv/thousand srv/repo
for d in $(seq $hundred); do mkdir srv/many/$d; for i in $(seq 100); do echo "$d $i" >srv/many/$d/$i; done; done
for i in $(seq $((hundred * 10))); do echo $i >srv/thousand/$i; done
cp -r usr/include/linux usr/include/asm-generic srv/repo/
for part in mpl fusion asio; do [ ! -d usr/include/boost/$part ] || cp -r usr/include/boost/$part srv/repo/; done
for h in assert ctype errno math signal stdio stdlib string time unistd sys/types sys/stat sys/socket netinet/in pthread; do
	echo "#include <$h.h>"
done >srv/headers.c
echo 'int main(void) { return puts("hello") < 0; }' >>srv/headers.c
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_DATE=@1700000000 GIT_COMMITTER_DATE=@1700000000
cd srv/repo && git init -q && git add . && git -c user.name=b -c user.email=b@localhost -c gc.auto=0 commit -qm files`

	largeStep = `cp --sparse=never "$large" srv/large`
)

// debian is the realistic image: a root by debootstrap, packages, changes,
// a large file. Its tags in the store count the layers: bench:3 has no large
// file.
func (s *stage) debian(ctx context.Context) (*picture, error) {
	d := &debianRecipe{stage: s, packages: "python3 libboost-dev", hundred: s.scale(100) * 2, large: 1 << 30}
	if s.tiny {
		d.packages, d.large = "", 16<<20
		for _, pattern := range []string{
			"./var/lib/apt/lists/*", "*lto*", "*san.so*", "*.a", "./usr/share/locale", "*/share/perl", "*-linux-gnu/perl", "*/git-core/*", "*/zoneinfo", "./usr/share/doc",
			"./usr/share/man", "./var/lib/dpkg/info", "*/libperl*", "*/bin/perl*", "*gprofng*", "*/bin/*-ld.gold", "*/bin/*-dwp", "*/bin/scalar", "*/bin/git-shell",
		} {
			d.leave = append(d.leave, "--exclude="+pattern)
		}
	} else {
		d.hundred = 100
	}
	text := fmt.Sprint(strings.Join(debianSteps, "\n"), getPackages, d.packages, d.hundred, d.large, d.leave)
	return s.picture(ctx, recipe{name: "debian", text: text, layers: 1 + len(debianSteps), flat: true, probe: "etc/passwd", make: d.make})
}

type debianRecipe struct {
	stage    *stage
	dir      string
	packages string
	hundred  int      // folders of a hundred files
	large    int      // bytes
	leave    []string // options of tar that leave out what the smoke test does not need
}

func (d *debianRecipe) make(ctx context.Context, dir string) error {
	d.dir = dir
	root, err := debian.Root(ctx, debian.Tools)
	if err != nil {
		return err
	}
	first := filepath.Join(dir, "lower/1")
	if err := os.Mkdir(first, 0o755); err != nil {
		return err
	}
	args := append([]string{"-xpf", root, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", first}, d.leave...)
	if _, err := peers.Run(ctx, "tar", args...); err != nil {
		return err
	}
	if root, err = d.smaller(ctx, root); err != nil {
		return err
	}
	if _, err := d.stage.unio(ctx, filepath.Join(dir, "store"), "import", "-q", root, d.tag(1)); err != nil {
		return err
	}
	if err := d.getPackages(ctx); err != nil {
		return err
	}
	for i, script := range debianSteps {
		if err := errors.Join(d.overlayStep(ctx, i+2, script), d.unioStep(ctx, i+2, script)); err != nil {
			return fmt.Errorf("layer %d: %w", i+2, err)
		}
	}
	return d.finish(ctx)
}

// smaller is the root without what the small image leaves out.
func (d *debianRecipe) smaller(ctx context.Context, root string) (string, error) {
	if len(d.leave) == 0 {
		return root, nil
	}
	path := filepath.Join(d.dir, "large") // made anew later
	_, err := peers.Run(ctx, "tar", "-C", filepath.Join(d.dir, "lower/1"), "--numeric-owner", "--format=posix", "-cf", path, ".")
	return path, err
}

func (d *debianRecipe) tag(layers int) string { return fmt.Sprintf("localhost/bench:%d", layers) }

func (d *debianRecipe) getPackages(ctx context.Context) error {
	script := getPackages
	if d.packages == "" {
		script = ""
	}
	return d.script(ctx, d.dir, script+fmt.Sprintf("\nhead -c %d /dev/urandom >\"$large\"", d.large))
}

// script runs a step's script in a folder.
func (d *debianRecipe) script(ctx context.Context, dir, script string) error {
	vars := fmt.Sprintf("debs=%q root=%q large=%q packages=%q hundred=%d\n",
		filepath.Join(d.dir, "debs"), filepath.Join(d.dir, "lower/1"), filepath.Join(d.dir, "large"), d.packages, d.hundred)
	return (&trial{}).runIn(ctx, dir, "bash", "-euo", "pipefail", "-c", vars+script)
}

// overlayStep makes the folder of a layer.
func (d *debianRecipe) overlayStep(ctx context.Context, layer int, script string) error {
	var lowers []string
	for i := layer - 1; i > 0; i-- {
		lowers = append(lowers, filepath.Join(d.dir, "lower", fmt.Sprint(i)))
	}
	at := filepath.Join(d.dir, "union")
	u, err := peers.MountOverlayWith(at, lowers, "metacopy=off,redirect_dir=off,index=off,xino=off")
	if err != nil {
		return err
	}
	err = errors.Join(d.script(ctx, u.Dir, script), u.Close())
	if err == nil {
		err = os.Rename(u.Upper, filepath.Join(d.dir, "lower", fmt.Sprint(layer)))
	}
	return errors.Join(err, os.RemoveAll(at))
}

// unioStep makes the layer of unio's image.
func (d *debianRecipe) unioStep(ctx context.Context, layer int, script string) error {
	s, store, at := d.stage, filepath.Join(d.dir, "store"), filepath.Join(d.dir, "at")
	if _, err := s.unio(ctx, store, "mount", "--name", "making", d.tag(layer-1), at); err != nil {
		return err
	}
	err := d.script(ctx, at, script)
	for _, args := range [][]string{{"commit", "-q", "making", d.tag(layer)}, {"umount", at}, {"rm", "making"}} {
		if err == nil || args[0] == "umount" {
			_, stepErr := s.unio(ctx, store, args...)
			err = errors.Join(err, stepErr)
		}
	}
	return err
}

// finish makes the flat folder and takes away what was needed on the way.
func (d *debianRecipe) finish(ctx context.Context) error {
	var lowers []string
	for i := 1 + len(debianSteps); i > 0; i-- {
		lowers = append(lowers, filepath.Join(d.dir, "lower", fmt.Sprint(i)))
	}
	at := filepath.Join(d.dir, "union")
	u, err := peers.MountOverlay(at, lowers, false)
	if err != nil {
		return err
	}
	// Git's index knows the numbers and the change times of files: nobody's are those.
	if _, err := peers.Run(ctx, "chown", "-hR", "0:0", filepath.Join(d.dir, "lower/3/srv/repo")); err != nil {
		return errors.Join(err, u.Close())
	}
	_, err = peers.Run(ctx, "cp", "-a", u.Dir, filepath.Join(d.dir, "flat"))
	if err = errors.Join(err, u.Close()); err != nil {
		return err
	}
	for _, name := range []string{"union", "at", "debs", "large"} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, name)))
	}
	return errors.Join(err, listNames(ctx, d.dir, filepath.Join(d.dir, "flat")))
}

// listNames writes the names of what is below a folder, and those of its small
// files, for clients that call something for each.
func listNames(ctx context.Context, dir, tree string) error {
	_, err := peers.Run(ctx, "sh", "-ec", `cd "$1"; find . -mindepth 1 ! -name '* *' -printf '%P\n' >"$0/names"
		find . -type f -size -256k ! -name '* *' -printf '%P\n' >"$0/files"`, dir, tree)
	return err
}

// layered is an image of 25,000 small files in 250 folders,
// shared out to so many layers that every folder has files of many.
func (s *stage) layered(ctx context.Context, layers int) (*picture, error) {
	files := s.scale(25_000)
	name := fmt.Sprintf("layers-%d", layers)
	text := fmt.Sprintf("d%%03d/f%%05d of 25,000, %d", files)
	return s.picture(ctx, recipe{name: name, text: text, layers: layers, probe: layeredName(0), make: func(ctx context.Context, dir string) error {
		tars := make([]string, layers)
		for layer := range layers {
			tars[layer] = fmt.Sprintf("%d.tar", layer+1)
			err := writeTar(filepath.Join(dir, tars[layer]), func(yield func(tarFile) bool) {
				for i := layer; i < files && yield(tarFile{name: layeredName(i), size: 64}); i += layers {
				}
			})
			if err != nil {
				return err
			}
		}
		names := make([]byte, 0, files*12)
		for i := range files {
			names = append(names, layeredName(i)+"\n"...)
		}
		return errors.Join(os.WriteFile(filepath.Join(dir, "names"), names, 0o644), s.finishLayered(ctx, dir, tars))
	}})
}

func layeredName(i int) string { return fmt.Sprintf("d%03d/f%05d", i/100, i) }

// finishLayered unpacks layers for the other unions and loads them into unio.
func (s *stage) finishLayered(ctx context.Context, dir string, tars []string) error {
	for i, name := range tars {
		lower := filepath.Join(dir, "lower", fmt.Sprint(i+1))
		if err := os.Mkdir(lower, 0o755); err != nil {
			return err
		}
		if _, err := peers.Run(ctx, "tar", "-xf", filepath.Join(dir, name), "-C", lower); err != nil {
			return err
		}
	}
	archive := filepath.Join(dir, "archive")
	if err := packArchive(ctx, dir, archive, imageRef, tars); err != nil {
		return err
	}
	if _, err := s.unio(ctx, filepath.Join(dir, "store"), "load", "-q", "-i", archive); err != nil {
		return err
	}
	for _, name := range append(tars, "archive", "config.json", "manifest.json") {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// listed is one folder "listed" of so many empty files; crowd has them in
// folders of a thousand.
func (s *stage) listed(ctx context.Context, files int) (*picture, error) {
	return s.plainPicture(ctx, "listed", files, func(i int) string { return fmt.Sprintf("listed/file-%07d.txt", i) })
}

func (s *stage) crowd(ctx context.Context, files int) (*picture, error) {
	return s.plainPicture(ctx, fmt.Sprintf("crowd-%d", files), files, func(i int) string { return fmt.Sprintf("many/%04d/file-%07d.txt", i/1000, i) })
}

// plainPicture has one layer, of empty files.
func (s *stage) plainPicture(ctx context.Context, name string, files int, path func(i int) string) (*picture, error) {
	text := fmt.Sprintf("%d like %s", files, path(files))
	return s.picture(ctx, recipe{name: name, text: text, layers: 1, flat: true, probe: path(0), make: func(ctx context.Context, dir string) error {
		err := writeTar(filepath.Join(dir, "1.tar"), func(yield func(tarFile) bool) {
			for i := 0; i < files && yield(tarFile{name: path(i)}); i++ {
			}
		})
		if err != nil {
			return err
		}
		if err := s.finishLayered(ctx, dir, []string{"1.tar"}); err != nil {
			return err
		}
		return os.Symlink("lower/1", filepath.Join(dir, "flat"))
	}})
}

// describeImages says how large the realistic image is.
func (s *stage) describeImages() string {
	p := s.pictures["debian"]
	if p == nil {
		return ""
	}
	out, err := peers.Run(context.Background(), "sh", "-c", `find "$0" | wc -l; du -sm "$0" | cut -f 1`, p.flat)
	words := strings.Fields(out)
	if err != nil || len(words) != 2 {
		return ""
	}
	return fmt.Sprintf("a Debian image of %d layers, %s files and folders, %s MiB", len(p.layers), words[0], words[1])
}
