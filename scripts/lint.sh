#!/usr/bin/env bash
# Format, vet, staticcheck and shell syntax. Prints nothing when all is well.
set -euo pipefail
cd "$(dirname "$0")/.."
go=$PWD/scripts/go

bad=$("$go" tool gofumpt -l .)
[ -z "$bad" ] || {
	printf 'not formatted (go tool gofumpt -w):\n%s\n' "$bad"
	exit 1
}
"$go" vet ./...
"$go" vet .ci/gate/*.go
"$go" tool staticcheck ./...
for script in scripts/* .ci/run; do
	case $(head -n 1 "$script") in '#!'*bash*) bash -n "$script" ;; esac
done
if command -v shellcheck >/dev/null; then
	shellcheck scripts/*.sh scripts/go .ci/run
fi
