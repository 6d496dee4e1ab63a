#!/usr/bin/env bash
# Runs the tests of what an ordinary user can do. Started by root, they run
# unio as the user nobody.
set -euo pipefail
cd "$(dirname "$0")/.."
UNIO_TEST_REQUIRE=all exec "$PWD/scripts/go" test -count=1 -v -run '^TestRootless' ./integration
