#!/usr/bin/env python3
"""Approves a state of a TPM's PCRs with an offline key, for blobs sealed under [signer] (docs/tpm.md).

usage: sign-policy.py KEY.pem REFERENCE PCRS VALUES > policies/NAME.json

KEY.pem     ECDSA P-256 private key, whose public half is [signer] public_key
REFERENCE   [signer] reference
PCRS        as in tpm2_pcrread: sha256:7,11,12
VALUES      their values in that state: tpm2_pcrread sha256:7,11,12 -o VALUES

Needs the package cryptography (Debian: python3-cryptography).
"""

import hashlib
import json
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

TPM_CC_POLICY_PCR = 0x17F
# TPM_ALG_ID and length of a bank.
BANKS = {"sha256": (0x000B, 32), "sha384": (0x000C, 48)}


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    key_file, reference, selection, values_file = sys.argv[1:]
    bank, _, listed = selection.partition(":")
    if bank not in BANKS:
        sys.exit(f"sign-policy.py: {selection}: the bank is neither sha256 nor sha384")
    algorithm, length = BANKS[bank]
    pcrs = [int(pcr) for pcr in listed.split(",")]
    if pcrs != sorted(set(pcrs)) or not all(0 <= pcr <= 23 for pcr in pcrs):
        sys.exit(f"sign-policy.py: {selection}: not an ascending list of PCRs from 0 to 23")
    with open(values_file, "rb") as file:
        values = file.read()
    if len(values) != length * len(pcrs):
        sys.exit(
            f"sign-policy.py: {values_file}: expected {len(pcrs)} values of {length} bytes, found {len(values)} bytes"
        )
    with open(key_file, "rb") as file:
        key = serialization.load_pem_private_key(file.read(), None)

    # TPML_PCR_SELECTION: one bank, three bytes of bit mask.
    mask = sum(1 << pcr for pcr in pcrs).to_bytes(3, "little")
    chosen = (1).to_bytes(4, "big") + algorithm.to_bytes(2, "big") + b"\x03" + mask
    # TPM2_PolicyPCR on a fresh session (TPM 2.0 part 3, 23.7).
    extended = bytes(32) + TPM_CC_POLICY_PCR.to_bytes(4, "big") + chosen + hashlib.sha256(values).digest()
    approved = hashlib.sha256(extended).digest()
    # What TPM2_PolicyAuthorize wants signed (part 3, 23.16).
    r, s = utils.decode_dss_signature(key.sign(approved + reference.encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    print(json.dumps({"bank": bank, "pcrs": pcrs, "approved": approved.hex(), "signature": signature.hex()}))


if __name__ == "__main__":
    main()
