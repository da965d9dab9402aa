#!/bin/sh
# Builds the enclave image: kernel, the static program as init, the configuration.
#
#   build.sh CONFIG DIRECTORY     leaves DIRECTORY/nodeseal.eif, measurements.json and toolchain.txt
#
# CONFIG is the enclave's configuration, a file or a directory of it and the files it names (docs/nitro.md). With
# SIGNING_KEY and SIGNING_CERTIFICATE in the environment (PEM files) the image is signed. The same sources, toolchain
# and configuration give the same bytes in whatever directory, by whomever and whenever (docs/reproduce.md):
# tests/image-reproducible.sh checks it.
set -eu
root=$(CDPATH='' cd "$(dirname "$0")/../.." && pwd -P)
config=$1
mkdir -p "$2"
out=$(CDPATH='' cd "$2" && pwd -P)
cargo=${CARGO:-cargo}
target=x86_64-unknown-linux-gnu

fail() {
    echo "image: $*" >&2
    exit 1
}

[ "$(uname -m)" = x86_64 ] || fail "images are built on x86_64 so far, this is $(uname -m)"
[ -e "$config" ] || fail "no configuration at $config: give one as CONFIG=PATH (docs/nitro.md)"

kernel=$("$root/enclave/image/kernel/build.sh" | tail -n 1)

# Paths of this machine must not get into the program. Cargo leaves these flags out of the names of symbols.
cd "$root"
"$cargo" fetch --locked --quiet --target "$target"
sysroot=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
home=${CARGO_HOME:-$HOME/.cargo}
build=$out/build
rust="-Ctarget-feature=+crt-static"
c="-g0"
# remap FROM TO: in what rustc writes, and in what the C compiler does.
remap() {
    rust=$(printf '%s\037--remap-path-prefix=%s=%s' "$rust" "$1" "$2")
    c="$c -ffile-prefix-map=$1=$2"
}
remap "$root" /nodeseal
remap "$build" /build
remap "$sysroot/lib/rustlib/src/rust" "/rustc/$commit"
remap "$sysroot" /rust
remap "$home" /cargo
# The name of this directory tells which mirror the sources came from.
for sources in "$home"/registry/src/*/; do
    remap "${sources%/}" /cargo/registry
done

# With the variables of the caller these flags would not be the only ones.
env -u RUSTFLAGS -u CFLAGS -u CPPFLAGS -u TARGET_CFLAGS -u HOST_CFLAGS RUSTC_WRAPPER= CARGO_ENCODED_RUSTFLAGS="$rust" \
    CFLAGS_x86_64_unknown_linux_gnu="$c" CARGO_INCREMENTAL=0 \
    "$cargo" build --locked --profile image --package nodeseal-nitro --target "$target" --target-dir "$build"
"$cargo" build --locked --package nodeseal-image
tool=${CARGO_TARGET_DIR:-$root/target}/debug/nodeseal-image

set --
if [ -n "${SIGNING_KEY:-}${SIGNING_CERTIFICATE:-}" ]; then
    set -- --signing-key "${SIGNING_KEY:-}" --signing-certificate "${SIGNING_CERTIFICATE:-}"
fi
init=$build/$target/image/nodeseal-nitro
# An enclave that cannot read its configuration ends at once, and nobody sees why.
[ -d "$config" ] && main=$config/nodeseal-enclave.toml || main=$config
"$init" --check "$main" || fail "the configuration would not do, see above"
"$tool" build --kernel "$kernel" --init "$init" --config "$config" --output "$out/nodeseal.eif" \
    --measurements "$out/measurements.json" "$@"

# Who wants to arrive at the same measurements needs the same of each of these.
{
    echo "nodeseal   $(git -C "$root" describe --always --dirty 2>/dev/null || echo "no git")"
    rustc -vV | sed -n 's/^\(release\|commit-hash\|LLVM version\): */rustc      \1 /p'
    sed 's/^/kernel cc  /' "$(dirname "$kernel")/toolchain"
    echo "cc         $(cc --version | head -n 1)"
    if command -v dpkg-query >/dev/null; then
        dpkg-query --show --showformat='package    ${Package} ${Version}\n' gcc-12 gcc-13 binutils libc6-dev 2>/dev/null |
            grep -v ' $' || true
    fi
    (cd "$(dirname "$kernel")" && sha256sum bzImage config) | sed 's/^/sha256     /'
    (cd "$(dirname "$init")" && sha256sum nodeseal-nitro) | sed 's/^/sha256     /'
    (cd "$out" && sha256sum nodeseal.eif) | sed 's/^/sha256     /'
} >"$out/toolchain.txt"
echo "image: $out/nodeseal.eif, $(stat -c %s "$out/nodeseal.eif") bytes" >&2
