#!/bin/sh
# From a service's folder to a signed bundle in a registry that is no worse than what it replaces: build, verify, image,
# attest, scan, sign, push, compare under load. Prints what to deploy. The first no ends it: before it is pushed nothing
# is pushed, and after that nothing is printed.
#
#   sh scripts/release.sh services/churn registry.example.com/team/churn
#
#   SLIPWAY_KEY=FILE        who signs: a private key, or the address of a key service with SLIPWAY_PUBLIC=FILE
#   SLIPWAY_OSV=DATA        what is known to be vulnerable: OSV data in a folder, a zip or at a URL
#   SLIPWAY_BASE=IMAGE      base of the images, by digest; without it `[runtime.image] base` of slipway.toml
#   SLIPWAY_STABLE=PLACE    what it would replace, in a registry; without it nothing is compared, and that is said
#   SLIPWAY_EVIDENCE=FOLDER where the evidence and its report go   [default: gate]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
PATH="$root/.venv/bin:$PATH"

if [ $# -ne 2 ] || [ -z "${SLIPWAY_KEY:-}" ] || [ -z "${SLIPWAY_OSV:-}" ]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
folder=$1 destination=$2
set -- --key "$SLIPWAY_KEY" ${SLIPWAY_PUBLIC:+--public "$SLIPWAY_PUBLIC"} # "$@" is who signs from here on

step() { printf 'release: %s\n' "$*" >&2; }

step "building $folder"
bundle=$(slipway bundle build "$folder")
step "verifying $bundle"
slipway bundle verify "$bundle" >/dev/null
step "making its images"
slipway bundle image "$bundle" ${SLIPWAY_BASE:+--base "$SLIPWAY_BASE"} >/dev/null
step "attesting what it is made of, and by whom"
slipway bundle attest "$bundle" "$@" >/dev/null
step "looking for known vulnerabilities"
slipway bundle scan "$bundle" --osv "$SLIPWAY_OSV" "$@" >/dev/null
step "signing and pushing it"
slipway bundle sign "$bundle" "$@" >/dev/null
pushed=$(slipway bundle push "$bundle" "$destination")
if [ -z "${SLIPWAY_STABLE:-}" ]; then
    step "not compared with anything: SLIPWAY_STABLE does not say what it would replace"
else
    step "comparing it with $SLIPWAY_STABLE"
    stable=$(slipway bundle pull "$SLIPWAY_STABLE")
    plan=$folder/gate.toml
    [ -e "$plan" ] || plan=
    python "$root/scripts/gate_bundles.py" "$stable" "$bundle" --out "${SLIPWAY_EVIDENCE:-gate}" \
        ${plan:+--plan "$plan"} "$@" >&2
    step "pushing the evidence"
    pushed=$(slipway bundle push "$bundle" "$destination")
fi
printf '%s\n' "$pushed"
