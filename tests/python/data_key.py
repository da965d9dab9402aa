"""The data key of a blob, for tests that look for it in memory: lock secret by plain Decrypt, then docs/format.md.

usage: data_key.py ENDPOINT CA REGION BLOB     credentials from the environment, of somebody the key's policy lets
                                               decrypt without attestation; prints the data key in hexadecimal
"""

import sys

import boto3
import cbor2

from open_blob import data_key


def main():
    endpoint, authority, region, path = sys.argv[1:]
    with open(path, "rb") as file:
        header = cbor2.loads(cbor2.loads(file.read())[2])
    kms = boto3.client("kms", endpoint_url=endpoint, verify=authority, region_name=region)
    way = header[10][0]
    context = {
        "nodeseal:node": header[1],
        "nodeseal:data-key": header[9].hex(),
        "nodeseal:version": "1",
    }
    secrets = []
    for lock in way[2]:
        assert lock[1] == "aws-kms", lock[1]
        answer = kms.decrypt(CiphertextBlob=lock[4], KeyId=lock[2], EncryptionContext=context)
        secrets.append(answer["Plaintext"])
    print(data_key(header, way, secrets).hex())


if __name__ == "__main__":
    main()
