#!/bin/sh
# Build .tools/actionlint, which says what is wrong in .github/workflows (tools/actionlint); `make e2e` uses it.
# Half a minute the first time, a second afterwards. Without a Go of that version it says so, and the test skips.
set -eu
cd "$(dirname "$0")/../tools/actionlint"
go=$(command -v go || { test -x /usr/local/go/bin/go && echo /usr/local/go/bin/go; } || true)
if [ -z "$go" ]; then
    echo "actionlint: no Go here; the test that needs it will skip" >&2
    exit 0
fi
GOFLAGS=-mod=readonly "$go" build -buildvcs=false -o ../../.tools/actionlint github.com/rhysd/actionlint/cmd/actionlint ||
    echo "actionlint: could not be built; the test that needs it will skip" >&2
