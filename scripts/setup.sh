#!/bin/sh
# Bring what slipway needs into this folder: uv into .tools/, Python packages into .venv/.
#
#   sh scripts/setup.sh demo   what training, bundling and serving churn needs
#   sh scripts/setup.sh dev    everything in requirements.lock (tests, linters, every extra)
#   sh scripts/setup.sh uv     only uv; prints its path
#
# It asks nothing, needs no root and writes only here and in uv's cache; only in a bare container image, as root, it
# installs python3-venv by apt. Every package is checked against the hashes in requirements.lock.
# Index: UV_DEFAULT_INDEX, UV_INDEX_URL, PIP_INDEX_URL or pip's own configuration.
# It does not install the programs that tests call: that is scripts/system-packages.sh.
set -eu
exec 3>&2 # our words reach the person also where a command's output goes to a log
cd "$(dirname "$0")/.."
profile=${1:-demo}

say() { printf 'setup: %s\n' "$*" >&3; }

stop() { # stop MESSAGE HINT
    printf 'setup: %s\nhint: %s\n' "$1" "$2" >&2
    exit 3 # docs of exit codes: 3 = environment or network
}

fingerprint() { # the folder is part of it: an environment holds absolute paths and does not survive a move
    { pwd; cat scripts/setup.sh requirements.lock pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml loadtests/pyproject.toml platform/pyproject.toml tools/pyproject.toml; } |
        if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

is_recent_uv() { # 0.9 is the first whose pip interface knows every flag used here
    "$1" --version 2>/dev/null | awk '{ split($2, v, "."); ok = v[1] > 0 || v[2] >= 9 } END { exit !ok }'
}

use_configured_index() { # uv does not read pip's configuration; a company's mirror usually stands only there
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
        [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
    fi
    [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
}

use_writable_folders() { # a read-only HOME (some CI containers): uv's cache and Pythons live here instead
    if [ -z "${HOME:-}" ] || ! [ -w "$HOME" ]; then
        export UV_CACHE_DIR="${UV_CACHE_DIR:-$PWD/.tools/cache}"
        export UV_PYTHON_INSTALL_DIR="${UV_PYTHON_INSTALL_DIR:-$PWD/.tools/python}"
    fi
}

# The lock pins uv itself, so pip checks its hash. A way is tried only where the one before it does not exist:
# a way that exists and fails (wrong hash, no network) stops, so nothing unverified slips in behind it.
install_uv() {
    version=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
    use_configured_index
    mkdir -p .tools
    sed -n '/^uv==/,/^ *# via/p' requirements.lock | grep -v '# via' | sed '$s/ *\\$//' >.tools/uv.txt
    say "uv is not installed here: putting uv $version into .tools/ (about 25 MB)"
    if install_uv_by "$version" >.tools/setup.log 2>&1; then return; fi
    tail -n 3 .tools/setup.log >&2
    stop "uv could not be installed (log: .tools/setup.log)" "check the network, or set UV_DEFAULT_INDEX to your mirror, \
or install one of python3-venv, pip, pipx, curl, or uv 0.9 or newer yourself; then run this again"
}

install_uv_by() { # install_uv_by VERSION; sets `uv`
    if python3 -m venv --clear .tools/uv; then
        uv=.tools/uv/bin/uv
        .tools/uv/bin/python -m pip install -q --require-hashes -r .tools/uv.txt
    elif python3 -m pip --version; then
        uv=.tools/uv-pip/bin/uv
        python3 -m pip install -q --require-hashes --target .tools/uv-pip -r .tools/uv.txt
    elif pipx --version; then
        uv=.tools/bin/uv
        PIPX_HOME="$PWD/.tools/pipx" PIPX_BIN_DIR="$PWD/.tools/bin" pipx install "uv==$1"
    elif command -v curl; then # Astral's installer; it checks the hash of what it fetches
        uv=.tools/bin/uv
        curl -LsSf "https://astral.sh/uv/$1/install.sh" -o .tools/uv-install.sh &&
            UV_INSTALL_DIR="$PWD/.tools/bin" UV_NO_MODIFY_PATH=1 sh .tools/uv-install.sh
    elif [ "$(id -u)" = 0 ] && command -v apt-get; then # a bare container image: not even venv
        say "no venv, pip, pipx or curl here: installing python3-venv by apt"
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3-venv &&
            install_uv_by "$1"
    else
        return 1
    fi
}

find_uv() {
    for uv in "$(command -v uv || true)" .tools/uv/bin/uv .tools/uv-pip/bin/uv .tools/bin/uv; do
        if [ -n "$uv" ] && is_recent_uv "$uv"; then return; fi
    done
    install_uv
}

make_environment() {
    use_configured_index
    if .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then return; fi
    # Not the newest Python at any price: below 3.15 every package of the lock has a ready-made wheel.
    "$uv" venv -q --clear --python "${UV_PYTHON:->=3.11,<3.15}" .venv ||
        stop "no Python 3.11 or newer was found, and uv could not download one" \
            "install Python 3.11+ (Debian: apt install python3), or set UV_PYTHON to one, and run this again"
    say "Python $(.venv/bin/python -c 'import platform; print(platform.python_version())') in .venv/"
}

install_packages() {
    quiet=-q
    if [ -t 2 ]; then quiet=; fi # on a terminal uv shows its progress
    set -- --build-constraint requirements.lock
    for folder in libs/*/ loadtests/; do set -- "$@" -e "$folder"; done
    if [ "$profile" = dev ]; then # the whole lock, nothing else: what is not in it goes
        for folder in services/*/ platform/ tools/; do set -- "$@" -e "$folder"; done
        set -- "$@" --exact --no-deps --requirements requirements.lock
    else
        set -- "$@" -e services/churn --group services/churn/pyproject.toml:train --constraints requirements.lock
    fi
    say "installing the $profile profile into .venv/"
    started=$(date +%s)
    "$uv" pip install $quiet --python .venv/bin/python "$@" ||
        stop "the $profile packages could not be installed (the lines above say why)" \
            "no network: set UV_DEFAULT_INDEX to a mirror you reach; disk full: $(df -h . | awk 'END { print $4 }') free here"
    say "ready after $(($(date +%s) - started)) s"
}

case $profile in
demo | dev | uv) ;;
*) printf 'setup: unknown profile %s\nhint: sh scripts/setup.sh demo|dev|uv\n' "$profile" >&2 && exit 2 ;;
esac
stamp=.venv/.slipway-setup
if [ "$profile" != uv ]; then
    now=$(fingerprint)
    was=$(cat "$stamp" 2>/dev/null || true)
    if [ -x .venv/bin/python ]; then # a link to a Python that is gone is not executable
        case $was in "$profile $now" | "dev $now") exit 0 ;; esac
    fi
fi
use_writable_folders
find_uv
if [ "$profile" = uv ]; then
    case $uv in /*) ;; *) uv=$PWD/$uv ;; esac
    printf '%s\n' "$uv"
    exit 0
fi
make_environment
rm -f "$stamp"
install_packages
printf '%s %s\n' "$profile" "$now" >"$stamp"
