# What an operator does, in the machine of machine.sh. Each step is said to have gone well or not.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
step() {
    name=$1
    shift
    if "$@"; then echo "$name: ok"; else echo "$name: FAILED"; fi
}

systemd-sysusers
mkdir -p /tmp/swtpm /var/lib/nodeseal-tpm /srv/node
swtpm_setup --tpm2 --tpmstate /tmp/swtpm --createek --pcr-banks sha256 --overwrite >/dev/null
ip link set lo up
swtpm socket --tpm2 --tpmstate dir=/tmp/swtpm --server type=tcp,port=2321 --ctrl type=tcp,port=2322 \
    --flags startup-clear --daemon
cd /srv/node
step enroll nodeseal-tpm enroll --config /etc/nodeseal/nodeseal-tpm.toml
step socket systemctl start nodeseal-tpm.socket
step start systemctl start nodeseal-tpm.service
step init nodeseal init --node validator-1
step generate nodeseal generate --name key --type ed25519
step open nodeseal open key --check
step restart systemctl restart nodeseal-tpm.service
step again nodeseal open key --check
nodeseal status
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$(systemctl show -p MainPID --value nodeseal-tpm.service)/status"
step stop systemctl stop nodeseal-tpm.service nodeseal-tpm.socket
systemctl show -p Result nodeseal-tpm.service
cat /run/service.log
# Only now does the file have the name that is looked for.
mv /run/out/saying /run/out/said
