#!/bin/sh
# A machine for the unit: systemd as the first process of namespaces of its own, in a copy of / that is gone afterwards.
#
#   machine.sh DEPLOY PROGRAMS OUT    what inside.sh says is in OUT/said; status 77 where the kernel gives no such thing
set -eu
deploy=$1 programs=$2 out=$3
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
if [ "${4:-}" != inside ]; then
    unshare --mount --pid --fork --ipc --uts --cgroup --net true 2>/dev/null || exit 77
    # systemd's poweroff ends the first process of a namespace by a signal.
    timeout 100 unshare --mount --pid --fork --ipc --uts --cgroup --net \
        sh "$0" "$deploy" "$programs" "$out" inside >"$out/console" 2>&1 || true
    test -e "$out/said" || { cat "$out/console" >&2; exit 77; }
    exit 0
fi

mount --make-rprivate /
mount -t tmpfs tmpfs "$out/fs"
mkdir "$out/fs/upper" "$out/fs/work" "$out/fs/machine"
machine=$out/fs/machine
mount -t overlay overlay -o "lowerdir=/,upperdir=$out/fs/upper,workdir=$out/fs/work" "$machine"
mount -t proc proc "$machine/proc"
mount -t sysfs sysfs "$machine/sys"
mount -t cgroup2 cgroup2 "$machine/sys/fs/cgroup"
mount -t tmpfs tmpfs "$machine/run"
mount -t tmpfs tmpfs "$machine/tmp"
mount --rbind /dev "$machine/dev"
mkdir "$machine/run/out"
mount --bind "$out" "$machine/run/out"

cp "$programs/nodeseal" "$programs/nodeseal-tpm" "$machine/usr/bin/"
units=$machine/etc/systemd/system
mkdir -p "$machine/etc/nodeseal" "$units/nodeseal-tpm.service.d" "$machine/usr/lib/sysusers.d"
cp "$deploy/nodeseal-tpm.sysusers" "$machine/usr/lib/sysusers.d/nodeseal-tpm.conf"
cp "$deploy/nodeseal-tpm.service" "$deploy/nodeseal-tpm.socket" "$units/"
sed 's/^tpm = .*/tpm = "swtpm:host=127.0.0.1,port=2321"/' "$deploy/nodeseal-tpm.toml" >"$machine/etc/nodeseal/nodeseal-tpm.toml"
# Where this machine itself may not lock more, neither may a service on it.
(ulimit -H -l unlimited) 2>/dev/null ||
    sed -i 's/^lock_memory = true/lock_memory = false/' "$machine/etc/nodeseal/nodeseal-tpm.toml"
# As on a machine of Azure, with another of the kernel's files that only root reads in the place of the event log.
sed 's|/sys/[^ ]*|/proc/1/environ|' "$deploy/nodeseal-tpm-azure.conf" >"$units/nodeseal-tpm.service.d/azure.conf"
cat >>"$machine/etc/nodeseal/nodeseal-tpm.toml" <<'TOML'
[azure]
allowed_keys = ["https://demo.vault.azure.net/keys/node"]
[azure.release]
attestation_services = ["https://sharedweu.weu.attest.azure.net"]
event_log = "/run/nodeseal-tpm.event-log"
TOML
# A software TPM is reached over loopback, a real one by its device without any network.
cat >"$units/nodeseal-tpm.service.d/software-tpm.conf" <<'UNIT'
[Service]
PrivateNetwork=no
IPAddressAllow=localhost
RestrictAddressFamilies=AF_UNIX AF_INET
StandardError=append:/run/service.log
UNIT
cp "$here/inside.sh" "$machine/usr/bin/inside.sh"
cat >"$units/inside.service" <<'UNIT'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /usr/bin/inside.sh
ExecStopPost=/bin/systemctl --force --force poweroff
StandardOutput=append:/run/out/saying
StandardError=append:/run/out/saying
UNIT
printf '[Unit]\nRequires=inside.service\nAllowIsolate=yes\n' >"$units/inside.target"
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$machine" /lib/systemd/systemd --system --unit=inside.target --log-target=console --show-status=no
