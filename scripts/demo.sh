#!/usr/bin/env bash
# The whole journey of an image, with real output: a root filesystem goes in,
# is mounted, changed from inside, committed, run, built on, saved, pushed, pulled
# and loaded elsewhere, and is still the same image. Needs root; `make demo` installs what
# it uses. Everything lies in a scratch folder that is removed at the end.
#
#   DEMO_ROOT=debian|busybox   which root filesystem (default: Debian if a
#                              mirror answers, else busybox)
set -euo pipefail

[ "$(id -u)" -eq 0 ] || {
	echo "the demo mounts and runs containers: please run it as root (sudo make demo)" >&2
	exit 1
}
scratch=$(mktemp -d)
export UNIO_ROOT=$scratch/store UNIO_RUNROOT=$scratch/run
registry_pid=

clean_up() {
	awk -v d="$scratch/" 'index($2, d) == 1 { print $2 }' /proc/mounts | tac | while read -r point; do
		unio umount "$point" >/dev/null 2>&1 || umount -l "$point" || true
	done
	[ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
	rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# try shows a command the way a user would type it, then runs it.
try() {
	local word line=
	for word in "$@"; do
		case $word in
		*[!A-Za-z0-9_./:=@-]*) line+=" '$word'" ;;
		*) line+=" $word" ;;
		esac
	done
	printf '$%s\n' "${line//"$scratch/"/}"
	"$@"
}

mirror() {
	local release
	release=$(sed -n 's/^VERSION_CODENAME="\{0,1\}\([a-z]*\).*/\1/p' /etc/os-release)
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk -v r="$release" '$1 == r && $2 == "main" { print r, $3; exit }'
}

# debian_root leaves a tar of a Debian root in the cache the tests share, and
# a package to install into it.
debian_root() {
	local cache=${UNIO_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unio-test} release url
	root=$cache/debian-minbase.tar
	deb=$cache/hello.deb
	mkdir -p "$cache"
	if [ ! -e "$root" ]; then
		read -r release url < <(mirror) || return 1
		echo "debootstrap $release from $url (once; about a minute)"
		debootstrap --variant=minbase "$release" "$scratch/debian" "$url" >"$scratch/debootstrap.log" 2>&1 || return 1
		rm -f "$scratch"/debian/var/cache/apt/archives/*.deb
		tar --create --file "$root.new" --directory "$scratch/debian" --numeric-owner \
			--xattrs '--xattrs-include=*' --format=posix --sparse --one-file-system .
		mv "$root.new" "$root"
		rm -rf "$scratch/debian"
	fi
	if [ ! -e "$deb" ]; then
		(cd "$scratch" && apt-get -qq download hello >/dev/null 2>&1) || return 1
		mv "$scratch"/hello_*.deb "$deb"
	fi
	change='dpkg -i /root/hello.deb && rm /root/hello.deb && hello && rm -rf /usr/share/man && echo demo > /etc/hostname'
}

busybox_root() {
	local dir=$scratch/busybox name
	mkdir -p "$dir"/{bin,etc,root,tmp,proc,sys,dev,usr/share/doc}
	cp "$(command -v busybox)" "$dir/bin/busybox"
	for name in $("$dir/bin/busybox" --list); do
		[ "$name" = busybox ] || ln -s busybox "$dir/bin/$name"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$dir/etc/passwd"
	echo 'welcome' >"$dir/etc/motd"
	echo 'about this system' >"$dir/usr/share/doc/about"
	root=$scratch/busybox.tar
	deb=
	tar --create --file "$root" --directory "$dir" --numeric-owner .
	change='echo hello from inside; uname -m; mkdir -p /srv/www; echo "<h1>It works</h1>" > /srv/www/index.html; rm -r /usr/share/doc; echo demo > /etc/hostname'
}

start_registry() {
	mkdir "$scratch/registry"
	cat >"$scratch/registry.yml" <<-END
		version: 0.1
		log: {level: info}
		storage: {filesystem: {rootdirectory: $scratch/registry}, delete: {enabled: true}}
		http: {addr: 127.0.0.1:0}
	END
	OTEL_TRACES_EXPORTER=none docker-registry serve "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 &
	registry_pid=$!
	for _ in $(seq 100); do
		address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$scratch/registry.log" | head -n 1)
		[ -z "$address" ] || return 0
		sleep 0.1
	done
	cat "$scratch/registry.log" >&2
	return 1
}

step "A root filesystem"
case ${DEMO_ROOT:-auto} in
busybox) busybox_root ;;
debian) debian_root ;;
auto) debian_root || { echo "no Debian mirror answers: busybox will do" && busybox_root; } ;;
*)
	echo "DEMO_ROOT must be debian or busybox" >&2
	exit 2
	;;
esac
ls -sh "$root"

step "Import it as an image"
try unio version
try unio import "$root" demo/base:1
try unio images

step "Mount a writable container over it"
mkdir "$scratch/web"
try unio mount --name web demo/base:1 "$scratch/web"
try unio mount
try ls "$scratch/web"

step "Change it from inside"
[ -z "$deb" ] || cp "$deb" "$scratch/web/root/hello.deb"
try unio chroot web /bin/sh -ec "$change"

step "What changed"
unio diff web >"$scratch/diff"
echo '$ unio diff web'
head -n 12 "$scratch/diff"
echo "($(wc -l <"$scratch/diff") lines in all)"

step "Commit it as a new layer"
try unio commit -m 'changed from inside' -c 'ENV STAGE=demo' web demo/web:1
try unio history demo/web:1
try unio umount web

step "Run it, and build on it"
# shellcheck disable=SC2016 # the container's variable
try unio run --rm demo/web:1 /bin/sh -c 'echo "this is stage $STAGE"'
mkdir "$scratch/site"
echo '<h1>Built, too</h1>' >"$scratch/site/page.html"
cat >"$scratch/site/Dockerfile" <<'END'
FROM demo/web:1
COPY page.html /srv/www/
RUN wc -c </srv/www/page.html >/srv/www/size
CMD ["cat", "/srv/www/page.html", "/srv/www/size"]
END
try unio build -t demo/site:1 "$scratch/site"
try unio run --rm demo/site:1

step "Save it to a file"
try unio save -o "$scratch/web.tar" demo/web:1
ls -sh "$scratch/web.tar"

step "Push it to a registry, pull it back"
start_registry
try unio tag demo/web:1 "$address/demo/web:1"
try unio push "$address/demo/web:1"
id=$(unio inspect -f '{{.Id}}' demo/web:1)
echo "a second store, empty:"
export UNIO_ROOT=$scratch/second
try unio pull "$address/demo/web:1"
pulled=$(unio inspect -f '{{.Id}}' "$address/demo/web:1")

step "Load the file into a third store"
export UNIO_ROOT=$scratch/third
try unio load -i "$scratch/web.tar"
loaded=$(unio inspect -f '{{.Id}}' demo/web:1)

step "The same image everywhere"
printf 'committed %s\npulled    %s\nloaded    %s\n' "$id" "$pulled" "$loaded"
[ "$id" = "$pulled" ] && [ "$id" = "$loaded" ]
try unio fsck
