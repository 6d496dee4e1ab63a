#!/usr/bin/env bash
# Runs every fuzz target of the tree for a short while:  scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
go=$PWD/scripts/go
time=${1:-10s}

grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -r -n 1 dirname | sort -u | while read -r folder; do
	grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$folder"/*_test.go | sed 's/^func //' | sort -u | while read -r target; do
		echo "== $folder $target"
		"$go" test "$folder" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x </dev/null
	done
done
