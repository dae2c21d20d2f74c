#!/bin/sh
# Put the secrets of a release job where the other scripts look for them: the key into a file that only its owner can
# read, the registry's password where skopeo and slipway find it. On a laptop both are there already, and this is not needed.
#
#   SLIPWAY_KEY=FILE         where the key goes; scripts/release.sh takes the same variable
#   SLIPWAY_KEY_PEM=TEXT     the private key
#   REGISTRY=HOST/TEAM  REGISTRY_USER=NAME  REGISTRY_PASSWORD=TEXT
set -eu
for name in SLIPWAY_KEY SLIPWAY_KEY_PEM REGISTRY REGISTRY_USER REGISTRY_PASSWORD; do
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then
        echo "release: $name is not set" >&2
        exit 2
    fi
done
umask 077
printf '%s\n' "$SLIPWAY_KEY_PEM" >"$SLIPWAY_KEY"
printf '%s' "$REGISTRY_PASSWORD" | skopeo login --username "$REGISTRY_USER" --password-stdin "${REGISTRY%%/*}" >&2
