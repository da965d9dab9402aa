"""Opens sealed blobs with no code of nodeseal, by docs/format.md alone.

usage: open_blob.py VECTORS.json     checks every vector; prints a line each and `ok`
"""

import hashlib
import json
import re
import sys

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def hkdf(salt, ikm, info):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(ikm)


def canonical(item):
    return cbor2.dumps(item, canonical=True)


def data_key(header, way, secrets):
    """The data key, by one way and the secrets of its locks in order."""
    info = b"nodeseal/v1/way" + hashlib.sha256(canonical(way[2])).digest()
    kek = hkdf(header[9], b"".join(secrets), info)
    aad = canonical(["nodeseal/v1/way", way[1], header[1], header[9]])
    return AESGCM(kek).decrypt(way[3][:12], way[3][12:], aad)


def open_content(blob, header, key):
    content_key = hkdf(header[8], key, b"nodeseal/v1/content")
    aad = canonical(["nodeseal", 1, blob[2]])
    return AESGCM(content_key).decrypt(blob[3], blob[4], aad)


def public_key(key_type, key):
    """The public half, for the types this library has; None for the others."""
    curve = {"secp256k1": ec.SECP256K1(), "p256": ec.SECP256R1()}.get(key_type)
    if curve:
        public = ec.derive_private_key(int.from_bytes(key, "big"), curve).public_key()
        return public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    return None


def text(item, longest):
    return isinstance(item, str) and 1 <= len(item) <= longest


def octets(item, shortest, longest):
    return isinstance(item, bytes) and shortest <= len(item) <= longest


def known_lock(lock):
    """Whether a lock is as docs/format.md has its kind."""
    key_id = re.compile(r"https://[a-z0-9.-]+/keys/[A-Za-z0-9-]+/[A-Za-z0-9]+")
    service = re.compile(r"https://[a-z0-9.-]+")
    match lock:
        case {1: "tpm", 2: name, 3: "sha256" | "sha384", 4: pcrs, 5: signer, 6: public, 7: private}:
            return (
                len(lock) == 7
                and octets(name, 34, 34)
                and pcrs == sorted(set(pcrs))
                and all(0 <= pcr < 24 for pcr in pcrs)
                and (signer is None or octets(signer[0], 1, 1024) and octets(signer[1], 0, 64))
                and octets(public, 1, 1024)
                and octets(private, 1, 1024)
            )
        case {1: "aws-kms", 2: key, 3: bool(), 4: ciphertext}:
            return len(lock) == 4 and text(key, 2048) and octets(ciphertext, 1, 6144)
        case {1: "azure-unwrap", 2: key, 3: ciphertext}:
            return len(lock) == 3 and text(key, 2048) and key_id.fullmatch(key) and octets(ciphertext, 256, 512)
        case {1: "azure-release", 2: key, 3: attestation, 4: ciphertext}:
            return (
                len(lock) == 4
                and text(key, 2048)
                and key_id.fullmatch(key)
                and service.fullmatch(attestation)
                and octets(ciphertext, 256, 512)
            )
    return False


def attested(way):
    """Whether no lock that opens for an identity alone stands without a TPM."""
    kinds = [lock[1] for lock in way[2]]
    bare = "azure-unwrap" in kinds or any(lock[1] == "aws-kms" and not lock[3] for lock in way[2])
    return not bare or "tpm" in kinds


def check(vector):
    raw = bytes.fromhex(vector["blob"])
    blob = cbor2.loads(raw)
    assert canonical(blob) == raw, "not the deterministic encoding"
    assert blob[:2] == ["nodeseal", 1], blob[:2]
    header = cbor2.loads(blob[2])
    assert canonical(header) == blob[2], "not the deterministic encoding"
    assert len(header[10]) == len(vector["lock_secrets"])
    for way, secrets in zip(header[10], vector["lock_secrets"]):
        assert len(way[2]) == len(secrets), "another number of locks"
        assert all(known_lock(lock) for lock in way[2]), way[2]
        assert attested(way), "a lock for an identity without a TPM"
        key = data_key(header, way, [bytes.fromhex(secret) for secret in secrets])
        assert key.hex() == vector["data_key"], f"way {way[1]}: another data key"
        assert open_content(blob, header, key).hex() == vector["key"], f"way {way[1]}: another content"
    public = public_key(header[3], bytes.fromhex(vector["key"]))
    assert public is None or public == header[4], "another public key"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    assert vectors, "no vectors"
    for vector in vectors:
        check(vector)
        print("opened:", vector["title"])
    print("ok")


if __name__ == "__main__":
    main()
