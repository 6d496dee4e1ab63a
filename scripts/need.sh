#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that a task needs and that are
# missing:  scripts/need.sh build|demo|test|bench
# Daemons that come with a package are not started.
set -euo pipefail

build=(ca-certificates curl git openssl unzip)
demo=("${build[@]}" busybox-static debootstrap docker-registry fuse3)
test=("${demo[@]}" acl attr btrfs-progs buildah bzip2 docker.io e2fsprogs fio fuse-overlayfs gcc libc6-dev
	podman procps python3 runc skopeo sqlite3 stress-ng uidmap umoci util-linux xfsprogs xz-utils zstd)
bench=("${test[@]}" dpkg unionfs-fuse)

case ${1:-} in
build) list=("${build[@]}") ;;
demo) list=("${demo[@]}") ;;
test) list=("${test[@]}") ;;
bench) list=("${bench[@]}") ;;
*)
	echo "usage: $0 build|demo|test|bench" >&2
	exit 2
	;;
esac

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# satisfied says whether a package, or what it is wanted for, is there: a tool
# built from source is as good as Debian's.
satisfied() {
	case $1 in
	curl | git | openssl | unzip | gcc | python3) command -v "$1" >/dev/null ;;
	docker.io) command -v dockerd >/dev/null && command -v docker >/dev/null ;;
	*) installed "$1" ;;
	esac
}

missing=()
for package in "${list[@]}"; do
	satisfied "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "$0: no apt-get here; please install: ${missing[*]}" >&2
	exit 1
fi
run=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || {
		echo "$0: neither root nor sudo; please install: ${missing[*]}" >&2
		exit 1
	}
	run=(sudo)
fi

echo "$0: installing ${missing[*]}"
"${run[@]}" apt-get -qq update
# Since Debian 13 docker's client is a package of its own.
if [[ " ${missing[*]} " == *" docker.io "* ]] && apt-cache show docker-cli >/dev/null 2>&1; then
	missing+=(docker-cli)
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap '"${run[@]}" rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${run[@]}" tee $policy >/dev/null
	"${run[@]}" chmod 0755 $policy
fi
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	"${missing[@]}" >/dev/null
