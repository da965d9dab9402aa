#!/bin/sh
# Builds the enclave image a second time, in another directory, as another user, with another home, time zone and
# language, and compares it byte for byte with the one `make image` left.
#
#   tests/image-reproducible.sh CONFIG DIRECTORY     DIRECTORY has the first build
#
# Only the kernel is taken from the cache, and crates are copied rather than fetched; everything else is built anew.
set -eu
root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd -P)
config=$(realpath "$1")
first=$(realpath "$2")
cache=${XDG_CACHE_HOME:-$HOME/.cache}
home=${CARGO_HOME:-$HOME/.cargo}

second=$(mktemp -d /tmp/ns-image.XXXXXX)
trap 'rm -rf "$second"' EXIT
mkdir -p "$second/elsewhere" "$second/cargo/registry" "$second/out"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T -) |
    tar -xf - -C "$second/elsewhere"
cp -R "$config" "$second/config"
cp -R "$home/registry/cache" "$home/registry/index" "$second/cargo/registry/"
for settings in config config.toml; do
    [ ! -e "$home/$settings" ] || cp "$home/$settings" "$second/cargo/"
done

# As nobody, but able to read where Rust is: it may be in root's home.
other=
if [ "$(id -u)" = 0 ]; then
    chown -R nobody "$second"
    read_all=+dac_read_search
    # The last makes access(2), by which gcc looks for its linker, heed that ability.
    other="setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=$read_all --ambient-caps=$read_all
        --securebits=+no_setuid_fixup"
fi
log=$second/log
# shellcheck disable=SC2086 # words
(cd "$second/elsewhere" && umask 027 && $other env -i \
    PATH="$(rustc --print sysroot)/bin:/usr/local/bin:/usr/bin:/bin" HOME="$second" CARGO_HOME="$second/cargo" \
    XDG_CACHE_HOME="$cache" TZ=Pacific/Auckland LC_ALL=C.UTF-8 CARGO_NET_OFFLINE=true \
    RUSTC_WRAPPER= SIGNING_KEY= enclave/image/build.sh "$second/config" "$second/out") >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    echo "image-reproducible: the second build failed" >&2
    exit 1
}
for file in nodeseal.eif measurements.json; do
    cmp "$first/$file" "$second/out/$file" || {
        echo "image-reproducible: $file differs between two builds of one source" >&2
        [ -z "${KEEP:-}" ] || cp -R "$second/out" "$KEEP"
        exit 1
    }
done
echo "image-reproducible: two builds, one image: $(sha256sum "$first/nodeseal.eif" | cut -c 1-64)"
