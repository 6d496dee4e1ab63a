#!/usr/bin/env bash
# Runs a command and then puts the kernel's parameter for FUSE over io_uring
# back to what it was: tests of root's turn it on.
set -euo pipefail
parameter=/sys/module/fuse/parameters/enable_uring
before=$(cat "$parameter" 2>/dev/null || true)
restore() {
	if [ -n "$before" ] && [ "$before" != "$(cat "$parameter")" ]; then
		echo "$before" >"$parameter"
	fi
}
trap restore EXIT
"$@"
