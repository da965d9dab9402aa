"""What people do to a KMS key with the AWS SDK for Python, for the demo, tests and benchmarks.

usage: kms_key.py ENDPOINT CA REGION ACTION ARGUMENTS…     credentials from the environment, as boto3 finds them

create POLICY.json                 prints the key's ARN
put-policy ARN POLICY.json
disable ARN / enable ARN / schedule-deletion ARN
decrypt ARN CIPHERTEXT NODE DATA-KEY-ID     plain Decrypt, no attestation; prints "refused CODE" or "decrypted"
"""

import sys

import boto3
from botocore.exceptions import ClientError


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def decrypt(kms, arn, ciphertext, node, data_key):
    context = {
        "nodeseal:node": node,
        "nodeseal:data-key": data_key,
        "nodeseal:version": "1",
    }
    try:
        kms.decrypt(CiphertextBlob=bytes.fromhex(ciphertext), KeyId=arn, EncryptionContext=context)
        print("decrypted")
    except ClientError as error:
        print("refused", error.response["Error"]["Code"])


def main():
    endpoint, authority, region, action, *arguments = sys.argv[1:]
    kms = boto3.client("kms", endpoint_url=endpoint, verify=authority, region_name=region)
    if action == "create":
        made = kms.create_key(Policy=read(arguments[0]), Description="nodeseal demo")
        print(made["KeyMetadata"]["Arn"])
    elif action == "put-policy":
        kms.put_key_policy(KeyId=arguments[0], PolicyName="default", Policy=read(arguments[1]))
    elif action == "disable":
        kms.disable_key(KeyId=arguments[0])
    elif action == "enable":
        kms.enable_key(KeyId=arguments[0])
    elif action == "schedule-deletion":
        kms.schedule_key_deletion(KeyId=arguments[0], PendingWindowInDays=7)
    elif action == "decrypt":
        decrypt(kms, *arguments)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
