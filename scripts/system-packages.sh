#!/bin/sh
# Install the programs that some tests call and Python cannot bring: other people's readers of our formats,
# a browser, load and trace tools. On Debian or Ubuntu as root (or with password-free sudo) it installs them by
# apt; elsewhere it prints what is missing, and the tests that need it skip and say so. Never fails the run.
#
#   SLIPWAY_SYSTEM_PACKAGES=no   look, but install nothing
set -eu
cd "$(dirname "$0")/.."
unpacked=.tools/system # these are unpacked here: their Debian packages would start servers on fixed ports
servers="prometheus prometheus-alertmanager docker-registry"
PATH="$PWD/$unpacked/usr/bin:$PATH"

templates=usr/share/prometheus/alertmanager # Debian's alertmanager reads its templates there, wherever it is unpacked
as_root=
if [ "$(id -u)" != 0 ]; then as_root="sudo -n"; fi

say() { printf 'system packages: %s\n' "$*" >&2; }

place_templates() {
    if [ "${SLIPWAY_SYSTEM_PACKAGES:-yes}" != no ] && [ -d "$unpacked/$templates" ] && ! [ -d "/$templates" ]; then
        $as_root mkdir -p "/${templates%/*}" && $as_root cp -r "$unpacked/$templates" "/${templates%/*}" ||
            say "no permission to write /$templates; tests that start alertmanager will fail"
    fi
}

missing=
for pair in skopeo:skopeo umoci:umoci wrk:wrk strace:strace chromium:chromium faketime:faketime prometheus:promtool \
    prometheus-alertmanager:amtool docker-registry:docker-registry runc:runc mmdebstrap:mmdebstrap nftables:nft iproute2:ip; do
    program=${pair#*:}
    command -v "$program" >/dev/null 2>&1 || missing="$missing ${pair%:*}"
done
missing=${missing# }
[ -n "$missing" ] || { place_templates && exit 0; }

if [ "${SLIPWAY_SYSTEM_PACKAGES:-yes}" = no ] || ! command -v apt-get >/dev/null 2>&1 || ! ${as_root:-true} true 2>/dev/null; then
    say "not installed: $missing; tests that need them will skip"
    if command -v brew >/dev/null 2>&1; then say "hint: brew install skopeo wrk prometheus alertmanager"; fi
    if command -v apt-get >/dev/null 2>&1; then say "hint: sudo apt-get install $missing"; fi
    exit 0
fi

say "installing by apt: $missing (log: .tools/apt.log)"
mkdir -p "$unpacked"
export DEBIAN_FRONTEND=noninteractive
{
    $as_root apt-get update -q || true # an old list may still do
    for package in $missing; do        # one by one: a name that a release lacks must not hold up the others
        case " $servers " in
        *" $package "*) (cd .tools && apt-get download -q "$package" && dpkg-deb -x "$package"_*.deb system && rm "$package"_*.deb) ;;
        *) $as_root apt-get install -q -y --no-install-recommends "$package" ;;
        esac || failed="${failed:-} $package"
    done
} >.tools/apt.log 2>&1
place_templates
[ -z "${failed:-}" ] || say "could not be installed:$failed; tests that need them will skip"
