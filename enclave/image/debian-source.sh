#!/bin/sh
# Fetches the upstream tarball of a Debian source package and checks it against a checksum of ours.
#
#   debian-source.sh PACKAGE VERSION FILE SHA256 DIRECTORY     leaves DIRECTORY/FILE
#
# By apt, with sources and lists of its own: the system's stay as they are, and Ubuntu gets the same bytes as Debian.
# The mirror is the system's own where that is Debian, else what debootstrap names; NODESEAL_DEBIAN_MIRROR overrides.
# What counts is the checksum, so the archive's signatures are not asked for and its keys need not be installed.
set -eu
package=$1 version=$2 file=$3 sum=$4 into=$5

fail() {
    echo "debian-source: $*" >&2
    exit 1
}

fits() { [ "$(sha256sum "$into/$file" | cut -d ' ' -f 1)" = "$sum" ]; }

mkdir -p "$into"
if [ -e "$into/$file" ]; then
    fits && exit 0
    rm -f "$into/$file"
fi

mirror=${NODESEAL_DEBIAN_MIRROR:-}
[ -n "$mirror" ] ||
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(SITE)' | sed -n 's,^Debian \(.*/debian\)$,\1,p' | head -n 1)
[ -n "$mirror" ] ||
    mirror=$(sed -n 's,^default_mirror \(.*/debian\)$,\1,p' /usr/share/debootstrap/scripts/sid 2>/dev/null || true)
[ -n "$mirror" ] ||
    fail "no Debian mirror is known here: set NODESEAL_DEBIAN_MIRROR=http://HOST/debian, or install debootstrap"

own=$into/.apt
trap 'rm -rf "$own"' EXIT
mkdir -p "$own/lists/partial" "$own/archives/partial"
{
    echo "deb-src [trusted=yes] $mirror trixie main"
    echo "deb-src [trusted=yes] $mirror-security trixie-security main"
} >"$own/sources.list"
set -- -qq -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=/nonexistent \
    -o Dir::State::lists="$own/lists" -o Dir::Cache="$own" -o APT::Sandbox::User="$(id -un)" \
    -o APT::Get::List-Cleanup=0 -o Acquire::Retries=3
said=$(apt-get "$@" update 2>&1) || fail "apt-get update from $mirror: $said"
said=$(cd "$into" && apt-get "$@" source --download-only --tar-only "$package=$version" 2>&1) || {
    rm -f "$into/$file"
    fail "Debian no longer offers $package $version at $mirror: get $file from Debian's snapshot archive, put it into
$into, and run this again; its checksum (SHA-256) has to be $sum.
apt-get: $said"
}
[ -e "$into/$file" ] || fail "apt-get fetched no $file of $package $version"
fits || {
    found=$(sha256sum "$into/$file" | cut -d ' ' -f 1)
    rm -f "$into/$file"
    fail "$file: SHA-256 expected $sum, found $found: removed it"
}
