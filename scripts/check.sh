#!/bin/sh
# Everything that is judged without running the product: lock, lint, format, types, boundaries, declared imports.
# All steps run, so one call shows all that is wrong. Each line: step, seconds, and its output when it failed.
set -u
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
failed=
out=$(mktemp)
trap 'rm -f "$out"' EXIT

step() { # step NAME COMMAND...
    name=$1 && shift
    started=$(date +%s)
    if "$@" >"$out" 2>&1; then verdict=ok; else verdict=FAILED failed="$failed $name"; fi
    printf 'check: %-10s %-6s %3d s\n' "$name" "$verdict" $(($(date +%s) - started))
    if [ "$verdict" = FAILED ]; then cat "$out"; fi
}

step lock python scripts/check_lock.py
step lint ruff check --quiet .
step format ruff format --check --quiet .
step types python scripts/check_types.py
step imports lint-imports
step isolated python scripts/check_isolated.py
[ -z "$failed" ] || { printf 'check: failed:%s\n' "$failed" && exit 1; }
