#!/usr/bin/env bash
# Runs every test of the tree, prints go test's lines, and then looks at what
# the run owes: with CI=true no test may have been skipped, those named in
# .ci/must-run.txt must have run, and no mount may be left behind.
set -euo pipefail
cd "$(dirname "$0")/.."
go=$PWD/scripts/go

gate=(-must .ci/must-run.txt -may-skip .ci/may-skip.txt)
if [ "${CI:-}" = true ]; then
	gate+=(-strict)
	# Those that take longest first, so that none runs alone at the end.
	if [ $# -eq 0 ]; then set -- ./integration ./unionfs ./integration/parity ./integration/posix ./...; fi
	set -- -count=1 "$@"
	export UNIO_TEST_REQUIRE=all
fi
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"$go" build -o "$tool/gate" .ci/gate/*.go
# What go vet would say, make lint has said.
"$go" test -vet=off -json -timeout 20m "${@:-./...}" | "$tool/gate" "${gate[@]}"
