"""boto3, botocore and OpenSSL against the simulated AWS KMS, NSM and IMDS.

usage: aws_kms.py CASE BENCH.json     runs one case; simulators/tests/boto3.rs starts the simulators
"""

import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

import boto3
import cbor2
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, SSLError
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CONTEXT = {"node": "validator-1", "version": "1"}


class Bench:
    """What the caller started, and clients for it."""

    def __init__(self, path):
        with open(path) as file:
            self.data = json.load(file)

    def client(self, who="admin", attempts=1, **changes):
        credential = dict(self.data["credentials"][who])
        settings = {
            "region_name": self.data["region"],
            "endpoint_url": self.data["endpoint"],
            "verify": self.data["ca"],
            "aws_access_key_id": credential["AccessKeyId"],
            "aws_secret_access_key": credential["SecretAccessKey"],
            "aws_session_token": credential.get("SessionToken"),
            "config": Config(
                retries={"total_max_attempts": attempts, "mode": "standard"},
                connect_timeout=5,
                read_timeout=changes.pop("read_timeout", 20),
            ),
        }
        settings.update(changes)
        return boto3.client("kms", **settings)

    def admin(self, method, path, body=None):
        """One request to the admin endpoint."""
        address = self.data["admin"].removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, (answer.status, text)
        return text

    def fault(self, **fault):
        self.admin("POST", "/faults", fault)

    def trail(self):
        return [json.loads(line) for line in self.admin("GET", "/trail").splitlines()]

    def new_key(self, policy=None):
        """A key of the administrator's, with `policy`'s statements added to the default one's place if given."""
        arguments = {} if policy is None else {"Policy": json.dumps(policy)}
        return self.client().create_key(**arguments)["KeyMetadata"]["Arn"]

    def document(self, module, public_key):
        """An attestation document of the simulated module `module`."""
        request = {"Attestation": {"user_data": None, "nonce": None, "public_key": public_key}}
        return nsm(self.data["modules"][module], request)["Attestation"]["document"]

    def attested_policy(self, image, context=CONTEXT):
        """Administration for the administrator; use only for the measured image, by the role, in the context."""
        account = self.data["account"]
        conditions = {"kms:RecipientAttestation:ImageSha384": image}
        conditions |= {f"kms:EncryptionContext:{key}": value for key, value in context.items()}
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "Administration",
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{account}:user/admin"},
                    "Action": ["kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:DescribeKey", "kms:DisableKey"],
                    "Resource": "*",
                },
                {
                    "Sid": "AttestedUse",
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{account}:role/node"},
                    "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                    "Resource": "*",
                    "Condition": {"StringEqualsIgnoreCase": conditions},
                },
            ],
        }


def nsm(path, request):
    """One request to a simulated NSM on a unix socket."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(path)
        body = cbor2.dumps(request)
        stream.sendall(struct.pack(">I", len(body)) + body)
        with stream.makefile("rb") as answer:
            (length,) = struct.unpack(">I", answer.read(4))
            return cbor2.loads(answer.read(length))


def pcr(path, index):
    return nsm(path, {"DescribePCR": {"index": index}})["DescribePCR"]["data"].hex()


class Recipient:
    """An RSA key and a document that carries it, as an enclave would make them."""

    def __init__(self, bench, module="enclave"):
        self.key = rsa.generate_private_key(65537, 2048)
        public = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.spki = public
        document = bench.document(module, public)
        self.members = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}

    def open(self, cms):
        """Opens a CiphertextForRecipient with OpenSSL."""
        with tempfile.TemporaryDirectory() as directory:
            key, envelope = os.path.join(directory, "key.pem"), os.path.join(directory, "cms.der")
            with open(key, "wb") as file:
                file.write(
                    self.key.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                )
            with open(envelope, "wb") as file:
                file.write(cms)
            command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", envelope, "-inkey", key, "-binary"]
            done = subprocess.run(command, capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
            return done.stdout


def refused(code, call, *arguments, **members):
    """The refusal of a call, whose code must be `code`."""
    try:
        answer = call(*arguments, **members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (code, error)
        return error.response
    raise AssertionError(f"expected {code}, was answered {answer}")


def keys_are_created_described_and_listed(bench):
    kms = bench.client()
    arns = [kms.create_key(Description=f"key {n}")["KeyMetadata"]["Arn"] for n in range(5)]
    described = kms.describe_key(KeyId=arns[0])["KeyMetadata"]
    assert described["Arn"] == arns[0] and described["Description"] == "key 0", described
    assert described["KeyState"] == "Enabled" and described["Enabled"], described
    assert abs(described["CreationDate"].timestamp() - time.time()) < 60, described
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    listed = [key["KeyArn"] for page in pages for key in page["Keys"]]
    assert sorted(listed) == sorted(arns), listed
    kms.create_alias(AliasName="alias/node", TargetKeyId=arns[1])
    assert kms.describe_key(KeyId="alias/node")["KeyMetadata"]["Arn"] == arns[1]
    (alias,) = kms.list_aliases()["Aliases"]
    assert alias["AliasName"] == "alias/node" and arns[1].endswith(alias["TargetKeyId"]), alias
    refused("AlreadyExistsException", kms.create_alias, AliasName="alias/node", TargetKeyId=arns[0])
    refused("NotFoundException", kms.describe_key, KeyId="alias/other")
    refused("NotFoundException", kms.describe_key, KeyId=arns[0].replace(bench.data["region"], "xx-west-9"))
    refused("UnsupportedOperationException", kms.create_key, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    refused("UnsupportedOperationException", kms.generate_mac, KeyId=arns[0], MacAlgorithm="HMAC_SHA_256", Message=b"x")


def what_is_encrypted_is_decrypted(bench):
    kms, arn = bench.client(), bench.new_key()
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"a secret", EncryptionContext=CONTEXT)
    assert sealed["KeyId"] == arn, sealed
    for named in ({}, {"KeyId": arn}, {"KeyId": arn.split("/")[1]}):
        opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=CONTEXT, **named)
        assert opened["Plaintext"] == b"a secret" and opened["KeyId"] == arn, opened
        assert opened["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT", opened
    for wanted, length in (({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 77}, 77)):
        made = kms.generate_data_key(KeyId=arn, **wanted)
        assert len(made["Plaintext"]) == length and made["KeyId"] == arn, made
        assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    blind = kms.generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256")
    assert "Plaintext" not in blind
    assert len(kms.decrypt(CiphertextBlob=blind["CiphertextBlob"])["Plaintext"]) == 32
    assert len(kms.generate_random(NumberOfBytes=1024)["Plaintext"]) == 1024
    other = bench.new_key()
    moved = kms.re_encrypt(
        CiphertextBlob=sealed["CiphertextBlob"], SourceEncryptionContext=CONTEXT, DestinationKeyId=other
    )
    assert moved["SourceKeyId"] == arn and moved["KeyId"] == other, moved
    assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"])["Plaintext"] == b"a secret"
    refused("ValidationException", kms.generate_data_key, KeyId=arn)
    refused("ValidationException", kms.generate_data_key, KeyId=arn, KeySpec="AES_256", NumberOfBytes=32)
    refused("ValidationException", kms.encrypt, KeyId=arn, Plaintext=b"x" * 4097)
    refused("DryRunOperationException", kms.encrypt, KeyId=arn, Plaintext=b"x", DryRun=True)
    refused("InvalidGrantTokenException", kms.encrypt, KeyId=arn, Plaintext=b"x", GrantTokens=["token"])


def another_context_key_or_byte_is_refused(bench):
    kms, arn, other = bench.client(), bench.new_key(), bench.new_key()
    blob = kms.encrypt(KeyId=arn, Plaintext=b"a secret", EncryptionContext=CONTEXT)["CiphertextBlob"]
    for context in ({}, {"node": "validator-1"}, CONTEXT | {"more": "x"}, CONTEXT | {"node": "Validator-1"}):
        refusal = refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context)
        assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 400, refusal
    for at in (0, len(blob) // 2, len(blob) - 1):
        changed = bytearray(blob)
        changed[at] ^= 1
        refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=bytes(changed), EncryptionContext=CONTEXT)
    refused("IncorrectKeyException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)
    head = blob[:1] + b"0" * 36
    unknown = head + hashlib.sha256(head).digest()[:4] + blob[41:]
    refused("AccessDeniedException", kms.decrypt, CiphertextBlob=unknown, EncryptionContext=CONTEXT)


def a_disabled_or_dying_key_does_nothing(bench):
    kms, arn = bench.client(), bench.new_key()
    blob = kms.encrypt(KeyId=arn, Plaintext=b"a secret")["CiphertextBlob"]
    kms.disable_key(KeyId=arn)
    assert kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"
    refusal = refused("DisabledException", kms.decrypt, CiphertextBlob=blob)
    assert refusal["Error"]["Message"] == f"{arn} is disabled.", refusal
    refused("DisabledException", kms.generate_data_key, KeyId=arn, KeySpec="AES_256")
    kms.enable_key(KeyId=arn)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"a secret"
    refused("ValidationException", kms.schedule_key_deletion, KeyId=arn, PendingWindowInDays=6)
    dying = kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert dying["KeyState"] == "PendingDeletion" and dying["KeyId"] == arn, dying
    refusal = refused("KMSInvalidStateException", kms.decrypt, CiphertextBlob=blob)
    assert refusal["Error"]["Message"] == f"{arn} is pending deletion.", refusal
    refused("KMSInvalidStateException", kms.enable_key, KeyId=arn)
    kms.cancel_key_deletion(KeyId=arn)
    refused("DisabledException", kms.decrypt, CiphertextBlob=blob)
    kms.enable_key(KeyId=arn)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"a secret"


def a_policy_is_kept_as_it_was_put_and_never_locks_out(bench):
    kms, arn = bench.client(), bench.new_key()
    first = json.loads(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])
    assert first["Statement"][0]["Principal"]["AWS"].endswith(":root"), first
    assert kms.list_key_policies(KeyId=arn)["PolicyNames"] == ["default"]
    text = json.dumps(bench.attested_policy("00" * 48), indent=3)
    kms.put_key_policy(KeyId=arn, PolicyName="default", Policy=text)
    assert kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"] == text
    locked = bench.attested_policy("00" * 48)
    del locked["Statement"][0]
    malformed = "MalformedPolicyDocumentException"
    refusal = refused(malformed, kms.put_key_policy, KeyId=arn, Policy=json.dumps(locked))
    expected = "The new key policy will not allow you to update the key policy in the future."
    assert refusal["Error"]["Message"] == expected, refusal
    refused(malformed, kms.create_key, Policy=json.dumps(locked))
    refused(malformed, kms.put_key_policy, KeyId=arn, Policy="{}")
    assert kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"] == text
    refused("AccessDeniedException", kms.encrypt, KeyId=arn, Plaintext=b"not in the policy")
    kms.put_key_policy(KeyId=arn, Policy=json.dumps(locked), BypassPolicyLockoutSafetyCheck=True)
    refusal = refused("AccessDeniedException", kms.get_key_policy, KeyId=arn)
    assert refusal["Error"]["Message"] == (
        f"User: arn:aws:iam::{bench.data['account']}:user/admin is not authorized to perform: kms:GetKeyPolicy"
        f" on resource: {arn} because no resource-based policy allows the kms:GetKeyPolicy action"
    ), refusal


def only_the_measured_enclave_gets_the_secret(bench):
    modules = bench.data["modules"]
    arn = bench.new_key(bench.attested_policy(pcr(modules["enclave"], 0)))
    node = bench.client("node")
    members = {"KeyId": arn, "EncryptionContext": CONTEXT}
    denied = "AccessDeniedException"

    # Nobody without a document: neither the role nor the administrator.
    refusal = refused(denied, node.generate_data_key, KeySpec="AES_256", **members)
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 400, refusal
    refused(denied, bench.client().generate_data_key, KeySpec="AES_256", **members)

    enclave = Recipient(bench)
    made = node.generate_data_key(KeySpec="AES_256", Recipient=enclave.members, **members)
    assert not made.get("Plaintext") and "KeyMaterialId" not in made and made["KeyId"] == arn, made.keys()
    secret = enclave.open(made["CiphertextForRecipient"])
    assert len(secret) == 32 and len(made["CiphertextForRecipient"]) == 493
    assert hashlib.sha256(enclave.spki).digest() in made["CiphertextForRecipient"]

    decrypt = {"CiphertextBlob": made["CiphertextBlob"], **members}
    for shape in ("chunked", "primitive", "many-chunks"):
        bench.admin("PUT", "/cms", {"shape": shape})
        opened = node.decrypt(Recipient=enclave.members, **decrypt)
        assert not opened.get("Plaintext"), opened
        assert enclave.open(opened["CiphertextForRecipient"]) == secret, shape
    bench.admin("PUT", "/cms", {"shape": "chunked"})

    refused(denied, node.decrypt, **decrypt)
    refused(denied, node.decrypt, Recipient=Recipient(bench, "debug").members, **decrypt)
    refused(denied, node.decrypt, Recipient=Recipient(bench, "other").members, **decrypt)
    refused(denied, bench.client().decrypt, Recipient=enclave.members, **decrypt)
    tampered = decrypt | {"EncryptionContext": CONTEXT | {"node": "validator-2"}}
    refused(denied, node.decrypt, Recipient=enclave.members, **tampered)
    changed = bytearray(enclave.members["AttestationDocument"])
    changed[-1] ^= 1
    flipped = enclave.members | {"AttestationDocument": bytes(changed)}
    refused("ValidationException", node.decrypt, Recipient=flipped, **decrypt)
    foreign = Recipient(bench, "foreign")
    refused("ValidationException", node.decrypt, Recipient=foreign.members, **decrypt)
    bench.admin("PUT", "/clock", {"offset_seconds": 4 * 3600})
    refused("InvalidSignatureException", node.decrypt, Recipient=enclave.members, **decrypt)
    bench.admin("PUT", "/clock", {"offset_seconds": 0})
    refused("ValidationException", node.encrypt, Plaintext=b"x" * 5000, **members)

    # The zero measurement has no special meaning to KMS: a policy that names it serves debug enclaves.
    bench.client().put_key_policy(KeyId=arn, Policy=json.dumps(bench.attested_policy("00" * 48)))
    debug = Recipient(bench, "debug")
    opened = node.decrypt(Recipient=debug.members, **decrypt)
    assert debug.open(opened["CiphertextForRecipient"]) == secret
    refused(denied, node.decrypt, Recipient=enclave.members, **decrypt)


def the_trail_lists_every_attempt(bench):
    modules = bench.data["modules"]
    arn = bench.new_key(bench.attested_policy(pcr(modules["enclave"], 0)))
    node, enclave = bench.client("node"), Recipient(bench)
    members = {"KeyId": arn, "EncryptionContext": CONTEXT, "KeySpec": "AES_256"}
    made = node.generate_data_key(Recipient=enclave.members, **members)
    refusal = refused("AccessDeniedException", node.generate_data_key, **members)
    wrong = bench.client(aws_secret_access_key="wrong")
    refused("InvalidSignatureException", wrong.generate_random, NumberOfBytes=1)
    created, allowed, denied, unsigned = bench.trail()[-4:]
    assert created["eventName"] == "CreateKey" and not created["readOnly"], created
    assert created["responseElements"]["keyMetadata"]["Arn"] == arn, created
    assert allowed["requestID"] == made["ResponseMetadata"]["RequestId"], allowed
    assert allowed["requestParameters"] == {
        "keyId": arn,
        "encryptionContext": CONTEXT,
        "keySpec": "AES_256",
    }, allowed
    recipient = allowed["additionalEventData"]["recipient"]
    digest = base64.b64decode(recipient["attestationDocumentEnclaveImageDigest"]).hex()
    assert digest == pcr(modules["enclave"], 0), recipient
    for index in (1, 2, 3, 4, 8):
        value = base64.b64decode(recipient[f"attestationDocumentEnclavePCR{index}"]).hex()
        assert value == pcr(modules["enclave"], index), (index, recipient)
    assert "-enc" in recipient["attestationDocumentModuleId"], recipient
    assert allowed["userIdentity"]["type"] == "AssumedRole" and "errorCode" not in allowed, allowed
    assert denied["errorCode"] == "AccessDenied" and "additionalEventData" not in denied, denied
    assert denied["errorMessage"] == refusal["Error"]["Message"], denied
    assert denied["requestID"] == refusal["ResponseMetadata"]["RequestId"], denied
    assert unsigned["errorCode"] == "InvalidSignatureException", unsigned
    assert unsigned["userIdentity"]["type"] == "Unknown", unsigned
    secrets = json.dumps([made["CiphertextBlob"].hex(), base64.b64encode(made["CiphertextBlob"]).decode()])
    assert all(secret not in bench.admin("GET", "/trail") for secret in json.loads(secrets))


def signatures_tokens_and_times_are_checked(bench):
    def random(**changes):
        return bench.client(**changes).generate_random

    random()(NumberOfBytes=1)
    refused("InvalidSignatureException", random(aws_secret_access_key="wrong"), NumberOfBytes=1)
    refused("UnrecognizedClientException", random(aws_access_key_id="AKIAIOSFODNN7EXAMPLE"), NumberOfBytes=1)
    refused("InvalidSignatureException", random(region_name="xx-west-9"), NumberOfBytes=1)
    node = bench.data["credentials"]["node"]
    refused(
        "UnrecognizedClientException",
        bench.client("node", aws_session_token="wrong").describe_key,
        KeyId="1234",
    )
    assert node["SessionToken"]
    refused("ExpiredTokenException", random(who="expired"), NumberOfBytes=1)
    for offset, text in ((-400, "Signature not yet current"), (400, "Signature expired")):
        bench.admin("PUT", "/clock", {"offset_seconds": offset})
        refusal = refused("InvalidSignatureException", random(), NumberOfBytes=1)
        assert refusal["Error"]["Message"].startswith(text), refusal
    bench.admin("PUT", "/clock", {"offset_seconds": 0})
    refusal = refused("AccessDeniedException", random(who="node"), NumberOfBytes=1)
    account = bench.data["account"]
    assert refusal["Error"]["Message"] == (
        f"User: arn:aws:sts::{account}:assumed-role/node/session is not authorized to perform: kms:GenerateRandom"
        " on resource: * because no identity-based policy allows the kms:GenerateRandom action"
    ), refusal


def instance_credentials_work_until_they_expire(bench):
    os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = bench.data["imds"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        os.environ.pop(name, None)
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/dev/null"
    session = boto3.Session(region_name=bench.data["region"])
    credentials = session.get_credentials()
    assert credentials.method == "iam-role", credentials.method
    settings = {"endpoint_url": bench.data["endpoint"], "verify": bench.data["ca"]}
    kms = session.client("kms", config=Config(retries={"total_max_attempts": 1}), **settings)
    kms.generate_random(NumberOfBytes=1)
    frozen = credentials.get_frozen_credentials()
    bench.admin("PUT", "/clock", {"offset_seconds": 200})
    kept = bench.client(
        aws_access_key_id=frozen.access_key,
        aws_secret_access_key=frozen.secret_key,
        aws_session_token=frozen.token,
    )
    refused("ExpiredTokenException", kept.generate_random, NumberOfBytes=1)


def faults_come_as_ordered(bench):
    kms, arn = bench.client(), bench.new_key()
    random = kms.generate_random
    bench.fault(fault="throttle", times=2, operation="GenerateRandom")
    assert kms.describe_key(KeyId=arn)
    refusal = refused("ThrottlingException", random, NumberOfBytes=1)
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 400, refusal
    refused("ThrottlingException", random, NumberOfBytes=1)
    random(NumberOfBytes=1)
    bench.fault(fault="throttle", times=2)
    assert bench.client(attempts=3).generate_random(NumberOfBytes=1)["ResponseMetadata"]["RetryAttempts"] == 2
    bench.fault(fault="error")
    refusal = refused("KMSInternalException", random, NumberOfBytes=1)
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 500, refusal
    bench.fault(fault="error", status=503, code="DependencyTimeoutException", message="later")
    refused("DependencyTimeoutException", random, NumberOfBytes=1)
    impatient = bench.client(read_timeout=1).generate_random
    for fault in ({"fault": "delay", "milliseconds": 60_000}, {"fault": "slow-body", "milliseconds": 60_000}):
        bench.fault(**fault)
        failed(ReadTimeoutError, impatient)
    for when in ("accept", "answer", "body"):
        bench.fault(fault="drop", when=when)
        failed((ConnectionClosedError, EndpointConnectionError, SSLError), bench.client().generate_random)
    for which in ("other-authority", "other-name", "expired"):
        bench.fault(fault="wrong-certificate", which=which)
        error = failed(SSLError, bench.client().generate_random)
        reason = "doesn't match 'other.example.invalid'" if which == "other-name" else "CERTIFICATE_VERIFY_FAILED"
        assert reason in str(error), error
    bench.fault(fault="garbage")
    # botocore takes a body that is no JSON for an answer without members.
    assert "Plaintext" not in random(NumberOfBytes=1)
    bench.fault(fault="wrong-key-id")
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"x")
    assert sealed["KeyId"] != arn and sealed["KeyId"].split("/")[0] == arn.split("/")[0], sealed
    bench.fault(fault="throttle", times=0)
    assert json.loads(bench.admin("GET", "/faults")) == [{"fault": "throttle", "times": 0}]
    bench.admin("DELETE", "/faults")
    random(NumberOfBytes=1)


def failed(kinds, call):
    try:
        answer = call(NumberOfBytes=1)
    except kinds as error:
        return error
    raise AssertionError(f"expected a failure, was answered {answer}")


def answers_to_a_recipient_are_forged_as_ordered(bench):
    arn = bench.new_key(bench.attested_policy(pcr(bench.data["modules"]["enclave"], 0)))
    node, enclave = bench.client("node"), Recipient(bench)
    members = {"KeyId": arn, "EncryptionContext": CONTEXT}
    made = node.generate_data_key(KeySpec="AES_256", Recipient=enclave.members, **members)
    secret = enclave.open(made["CiphertextForRecipient"])
    second = Recipient(bench)

    def answer(**fault):
        bench.fault(**fault)
        blob = made["CiphertextBlob"]
        return node.decrypt(CiphertextBlob=blob, Recipient=second.members, **members)

    replayed = answer(fault="replay-cms")["CiphertextForRecipient"]
    assert replayed == made["CiphertextForRecipient"]
    foreign = answer(fault="foreign-cms")["CiphertextForRecipient"]
    assert hashlib.sha256(second.spki).digest() not in foreign
    other = answer(fault="other-secret")["CiphertextForRecipient"]
    assert len(second.open(other)) == 32 and second.open(other) != secret
    garbled = answer(fault="garbled-cms")["CiphertextForRecipient"]
    assert hashlib.sha256(second.spki).digest() in garbled and len(garbled) == 493
    beside = answer(fault="plaintext")
    assert beside["Plaintext"] == secret and second.open(beside["CiphertextForRecipient"]) == secret
    instead = answer(fault="plaintext", which="instead")
    assert instead["Plaintext"] == secret and "CiphertextForRecipient" not in instead
    empty = answer(fault="plaintext", which="empty")
    assert empty["Plaintext"] == b"" and second.open(empty["CiphertextForRecipient"]) == secret
    last = node.decrypt(CiphertextBlob=made["CiphertextBlob"], Recipient=second.members, **members)
    assert "Plaintext" not in last and second.open(last["CiphertextForRecipient"]) == secret


def seals_for_the_next_start(bench):
    kms, arn = bench.client(), bench.new_key()
    blob = kms.encrypt(KeyId=arn, Plaintext=b"a secret", EncryptionContext=CONTEXT)["CiphertextBlob"]
    kms.create_alias(AliasName="alias/kept", TargetKeyId=arn)
    with open(bench.data["keep"], "w") as file:
        json.dump({"arn": arn, "blob": blob.hex()}, file)


def opens_what_was_sealed_before_the_restart(bench):
    with open(bench.data["keep"]) as file:
        kept = json.load(file)
    blob = bytes.fromhex(kept["blob"])
    opened = bench.client().decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId="alias/kept")
    assert opened["Plaintext"] == b"a secret" and opened["KeyId"] == kept["arn"], opened


if __name__ == "__main__":
    globals()[sys.argv[1]](Bench(sys.argv[2]))
