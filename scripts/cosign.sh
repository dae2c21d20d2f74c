#!/bin/sh
# Build .tools/cosign-verify, which asks cosign's own code about our signatures (tools/cosign); `make e2e` uses it.
# About two minutes the first time, a second afterwards. Without a Go of that version it says so, and the test skips.
set -eu
cd "$(dirname "$0")/../tools/cosign"
go=$(command -v go || { test -x /usr/local/go/bin/go && echo /usr/local/go/bin/go; } || true)
if [ -z "$go" ]; then
    echo "cosign: no Go here; tests that need cosign's verification will skip" >&2
    exit 0
fi
GOFLAGS=-mod=readonly "$go" build -buildvcs=false -o ../../.tools/cosign-verify . ||
    echo "cosign: could not be built; tests that need it will skip" >&2
