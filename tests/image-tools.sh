#!/bin/sh
# Finds or builds what an enclave image is booted with here. Each prints the path of the program, last.
#
#   tests/image-tools.sh qemu      QEMU with the machine nitro-enclave (9.2 or newer, built with libcbor)
#   tests/image-tools.sh vsock     vhost-device-vsock: the guest's AF_VSOCK as unix sockets
#
# What is built stays in a cache outside the checkout, by version. Debian's own QEMU lacks the machine: it is built
# without libcbor. `tests/setup.sh image` installs the packages both need.
set -eu
root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nodeseal
jobs=$(nproc)

qemu_version=10.0.13
qemu_package="qemu 1:10.0.13+ds-0+deb13u1 qemu_10.0.13+ds.orig.tar.xz"
qemu_sum=6a0888e806c2ffc0c5f0733e974f9aea55491950d3c47c98669c8b236dde59ae
vsock_version=0.3.0

say() { echo "image-tools: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

# step LOG COMMAND...: its output goes to the log, of which the end is shown when it fails.
step() {
    log=$1
    shift
    nice "$@" >>"$log" 2>&1 || fail "$1 failed, the end of $log:
$(tail -n 30 "$log")"
}

has_machine() { "$1" -M help 2>/dev/null | grep -q '^nitro-enclave '; }

qemu() {
    for program in "${NODESEAL_QEMU:-}" "$(command -v qemu-system-x86_64 || true)"; do
        if [ -n "$program" ] && has_machine "$program"; then
            echo "$program"
            return
        fi
    done
    at=$cache/qemu-$qemu_version
    program=$at/qemu-system-x86_64
    if ! [ -x "$program" ]; then
        say "building QEMU $qemu_version with the machine nitro-enclave, once, into $at (some minutes)"
        rm -rf "$at.new"
        mkdir -p "$at.new/source" "$cache/sources"
        # shellcheck disable=SC2086 # three words
        "$root/enclave/image/debian-source.sh" $qemu_package "$qemu_sum" "$cache/sources"
        log=$at.new/build.log
        step "$log" tar -xJf "$cache/sources/${qemu_package##* }" -C "$at.new/source" --strip-components=1
        # Debian's tarball leaves out firmware that nothing here uses; the build only wants the files to be there.
        for blob in $(sed -n "s/^ *'\(edk2-.*\.fd\)',$/\1/p" "$at.new/source/pc-bios/meson.build"); do
            [ -e "$at.new/source/pc-bios/$blob.bz2" ] || : | bzip2 >"$at.new/source/pc-bios/$blob.bz2"
        done
        echo CONFIG_NITRO_ENCLAVE=y >"$at.new/source/configs/devices/x86_64-softmmu/nodeseal.mak"
        step "$log" python3 -m venv "$at.new/venv"
        step "$log" "$at.new/venv/bin/pip" install --quiet meson==1.5.0 pycotap==1.3.1 setuptools==75.8.0 wheel==0.45.1
        mkdir "$at.new/build"
        (
            cd "$at.new/build"
            step "$log" ../source/configure --python="$at.new/venv/bin/python3" --disable-download \
                --disable-install-blobs --disable-docs --target-list=x86_64-softmmu --without-default-features \
                --without-default-devices --with-devices-x86_64=nodeseal --enable-tcg --enable-kvm --enable-gnutls \
                --enable-vhost-user --enable-libcbor --enable-fdt=system --disable-debug-info
            step "$log" ninja -j "$jobs" qemu-system-x86_64
        )
        has_machine "$at.new/build/qemu-system-x86_64" || fail "built, but without the machine nitro-enclave: $log"
        mkdir -p "$at"
        strip -o "$at/new" "$at.new/build/qemu-system-x86_64"
        mv "$at/new" "$program"
        rm -rf "$at.new"
    fi
    echo "$program"
}

vsock() {
    at=$cache/vhost-device-vsock-$vsock_version
    program=$at/bin/vhost-device-vsock
    if ! [ -x "$program" ]; then
        say "building vhost-device-vsock $vsock_version, once, into $at (some minutes)"
        mkdir -p "$at"
        # Optimising it would only cost time.
        step "$at/build.log" env CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
            CARGO_TARGET_DIR="$at/target" cargo install --quiet --locked --root "$at" \
            "vhost-device-vsock@$vsock_version"
        rm -rf "$at/target"
    fi
    echo "$program"
}

case ${1:-} in
    qemu | vsock) "$1" ;;
    *) fail "usage: $0 qemu|vsock" ;;
esac
