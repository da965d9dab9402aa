#!/bin/sh
# Builds the enclave's kernel and prints the path of the bzImage, last.
#
#   build.sh          builds it unless it is in the cache
#   build.sh config   besides prints the whole resulting configuration, to review it
#
# The same source, fragment, compiler and binutils give the same bytes, wherever, whenever and by whomever it is built.
# The cache (outside the checkout) is keyed by all of them. docs/reproduce.md says how to compare with a published image.
set -eu
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nodeseal

# Linux 6.12 (long-term support), as Debian 13 has it.
version=6.12.107
package="linux $version-1 linux_$version.orig.tar.xz"
sum=efc76d3c78a5d65f42724118c437d11db1c9f6309a5f024ee9a8b1978fdc6919

say() { echo "kernel: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

compiler=${CC:-gcc}
toolchain=$("$compiler" --version | head -n 1; ld --version | head -n 1)
key=$({ echo "$version $sum $toolchain"; cat "$here/fragment.config" "$here/build.sh"; } | sha256sum | cut -c 1-16)
at=$cache/kernel-$version-$key

if ! [ -e "$at/bzImage" ]; then
    say "building Linux $version for the enclave, once, into $at (some minutes)"
    # shellcheck disable=SC2086 # three words
    "$here/../debian-source.sh" $package "$sum" "$cache/sources"
    work=$(mktemp -d "$cache/kernel.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    tar -xJf "$cache/sources/${package##* }" -C "$work" --strip-components=1
    cd "$work"
    run() {
        nice make CC="$compiler" LOCALVERSION= KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_USER=nodeseal \
            KBUILD_BUILD_HOST=nodeseal KBUILD_BUILD_VERSION=1 LC_ALL=C "$@" >>build.log 2>&1 ||
            fail "make $* failed: $(tail -n 30 build.log)"
    }
    run tinyconfig
    # The last of several lines for one option counts.
    cat "$here/fragment.config" >>.config
    run olddefconfig
    grep -E '^CONFIG_|^# CONFIG_[A-Z0-9_]+ is not set$' "$here/fragment.config" | while read -r line; do
        option=${line#\# }
        option=${option%%[ =]*}
        # An option that cannot be chosen at all is as good as one that is not.
        if ! grep -qxF "$line" .config && { [ "${line#\#}" = "$line" ] || grep -q "^$option=" .config; }; then
            say "fragment.config has \"$line\", the result has \"$(grep -E "^(# )?$option[ =]" .config || true)\""
            : >mismatch
        fi
    done
    [ ! -e mismatch ] || fail "the configuration is not what fragment.config says"
    run -j "$(nproc)" bzImage
    mkdir -p "$at.new"
    cp .config "$at.new/config"
    echo "$toolchain" >"$at.new/toolchain"
    cp arch/x86/boot/bzImage "$at.new/bzImage"
    rm -rf "$at"
    mv "$at.new" "$at"
fi
[ "${1:-}" != config ] || cat "$at/config"
echo "$at/bzImage"
