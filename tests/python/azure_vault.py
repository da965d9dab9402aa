"""azure-keyvault-keys and azure-identity against the simulated Key Vault and Entra.

usage: azure_vault.py CASE BENCH.json     runs one case; simulators/tests/azure_sdk.rs starts the simulators
"""

import base64
import http.client
import json
import os
import sys
import time

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.core.pipeline.policies import RetryPolicy
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.keyvault.keys import ApiVersion, JsonWebKey, KeyClient, KeyReleasePolicy, KeyType
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

OAEP_256 = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
POLICY = {
    "version": "1.0.0",
    "anyOf": [
        {
            "authority": "https://sharedweu.weu.attest.azure.net",
            "allOf": [{"claim": "secureboot", "equals": "true"}],
        }
    ],
}


class Bench:
    """What the caller started, and clients for it."""

    def __init__(self, path):
        with open(path) as file:
            self.data = json.load(file)
        self.vault = self.data["vault"]
        self.entra = self.data["entra"]
        self.app = self.entra["identities"]["apps"][0]

    def secret(self, secret=None, client_id=None, **changes):
        settings = {
            "tenant_id": self.entra["tenant"],
            "client_id": client_id or self.app["client_id"],
            "client_secret": secret or self.app["secret"],
            **self.identity(),
        }
        settings.update(changes)
        return ClientSecretCredential(**settings)

    def identity(self):
        """What every credential needs to be sent to the simulator."""
        return {
            "authority": self.entra["endpoint"],
            "disable_instance_discovery": True,
            "connection_verify": self.entra["ca"],
            "retry_total": 0,
        }

    def keys(self, credential=None, **changes):
        settings = {
            "vault_url": self.vault["endpoint"],
            "credential": credential or self.secret(),
            "verify_challenge_resource": False,
            "connection_verify": self.vault["ca"],
            "retry_total": 0,
        }
        settings.update(changes)
        return KeyClient(**settings)

    def crypto(self, key, credential=None):
        return CryptographyClient(
            key,
            credential or self.secret(),
            verify_challenge_resource=False,
            connection_verify=self.vault["ca"],
            retry_total=0,
        )

    def admin(self, method, path, body=None):
        """One request to the vault's admin door."""
        address = self.vault["admin"].removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, (answer.status, text)
        return text

    def fault(self, **fault):
        self.admin("POST", "/faults", fault)

    def audit(self):
        return [json.loads(line) for line in self.admin("GET", "/audit").splitlines()]

    def assign(self, principal, role, scope="/"):
        self.admin("POST", "/roles", {"principal": principal, "role": role, "scope": scope})


def refused(status, inner, call, *arguments, kind=HttpResponseError, **members):
    """The refusal of a call, whose status and inner code must be these."""
    try:
        answer = call(*arguments, **members)
    except kind as error:
        found = json.loads(error.response.text())["error"]
        found_inner = found.get("innererror", {}).get("code")
        assert (error.status_code, found_inner) == (status, inner), (error.status_code, found)
        return error
    raise AssertionError(f"expected {status} {inner}, was answered {answer}")


def keys_are_created_read_updated_and_listed(bench):
    keys = bench.keys()
    made = keys.create_rsa_key("node", size=2048, hardware_protected=True, tags={"chain": "main"})
    assert made.key_type == KeyType.rsa_hsm and made.id.startswith(bench.vault["endpoint"] + "/keys/node/"), made.id
    assert len(made.key.n) == 256 and made.key.e == b"\x01\x00\x01", made.key
    again = keys.create_rsa_key("node", size=3072)
    assert keys.get_key("node").id == again.id and len(again.key.n) == 384
    first = keys.get_key("node", made.properties.version)
    assert first.id == made.id and first.properties.tags == {"chain": "main"}, first.properties.tags
    assert abs(first.properties.created_on.timestamp() - time.time()) < 60
    versions = sorted(version.id for version in keys.list_properties_of_key_versions("node"))
    assert versions == sorted([made.id, again.id]), versions
    assert [key.name for key in keys.list_properties_of_keys()] == ["node"]
    changed = keys.update_key_properties("node", made.properties.version, enabled=False, tags={"a": "b"})
    assert changed.properties.enabled is False and changed.properties.tags == {"a": "b"}
    assert keys.get_key("node").properties.enabled is True
    rotated = keys.rotate_key("node")
    assert rotated.id not in (made.id, again.id) and len(rotated.key.n) == 384
    error = refused(404, None, keys.get_key, "other", kind=ResourceNotFoundError)
    assert error.error.code == "KeyNotFound", error.error.code
    refused(400, None, keys.create_ec_key, "curve")


def what_is_wrapped_is_unwrapped_by_the_vault_and_by_other_code(bench):
    keys = bench.keys()
    own = rsa.generate_private_key(65537, 2048)
    numbers = own.private_numbers()
    number = lambda value: value.to_bytes((value.bit_length() + 7) // 8, "big")
    jwk = JsonWebKey(
        kty="RSA",
        key_ops=["wrapKey", "unwrapKey", "encrypt", "decrypt"],
        n=number(numbers.public_numbers.n),
        e=number(numbers.public_numbers.e),
        d=number(numbers.d),
        p=number(numbers.p),
        q=number(numbers.q),
        dp=number(numbers.dmp1),
        dq=number(numbers.dmq1),
        qi=number(numbers.iqmp),
    )
    key = keys.import_key("imported", jwk, hardware_protected=True)
    assert key.key_type == KeyType.rsa_hsm
    secret = os.urandom(32)
    # The SDK wraps with the public key here, the vault unwraps; by its id alone, the vault does both.
    for client in (bench.crypto(key), bench.crypto(key.id)):
        for algorithm in (KeyWrapAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa_oaep, KeyWrapAlgorithm.rsa1_5):
            wrapped = client.wrap_key(algorithm, secret)
            opened = client.unwrap_key(algorithm, wrapped.encrypted_key)
            assert opened.key == secret and opened.key_id == key.id, opened.key_id
        sealed = client.encrypt(EncryptionAlgorithm.rsa_oaep_256, secret)
        assert client.decrypt(EncryptionAlgorithm.rsa_oaep_256, sealed.ciphertext).plaintext == secret
    # Another implementation on the private key opens what the vault wrapped, and the other way round.
    wrapped = request(bench, "POST", f"{path(key.id)}/wrapkey", {"alg": "RSA-OAEP-256", "value": b64(secret)})
    assert own.decrypt(unb64(wrapped["value"]), OAEP_256) == secret
    elsewhere = own.public_key().encrypt(secret, OAEP_256)
    client = bench.crypto(key.id)
    assert client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, elsewhere).key == secret
    broken = bytes([elsewhere[0] ^ 1]) + elsewhere[1:]
    refused(400, None, client.unwrap_key, KeyWrapAlgorithm.rsa_oaep_256, broken)
    long = request(bench, "POST", f"{path(key.id)}/wrapkey", {"alg": "RSA-OAEP-256", "value": b64(b"x" * 191)}, 400)
    assert long["error"]["code"] == "BadParameter", long
    odd = request(bench, "POST", f"{path(key.id)}/wrapkey", {"alg": "A256KW", "value": b64(secret)}, 400)
    assert "A256KW" in odd["error"]["message"], odd


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def path(key_id):
    return "/keys/" + key_id.split("/keys/")[1]


def request(bench, method, resource, body, status=200, version="2025-07-01"):
    """One request with a token, past the SDK."""
    import requests

    token = bench.secret().get_token("https://vault.azure.net/.default").token
    answer = requests.request(
        method,
        f"{bench.vault['endpoint']}{resource}?api-version={version}",
        json=body,
        headers={"Authorization": f"Bearer {token}", "x-ms-client-request-id": "case-1"},
        verify=bench.vault["ca"],
        timeout=20,
    )
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["x-ms-client-request-id"] == "case-1" and answer.headers["x-ms-request-id"]
    return answer.json()


def a_disabled_version_opens_nothing_and_wraps_still(bench):
    keys = bench.keys()
    key = keys.create_rsa_key("kek", hardware_protected=True)
    client = bench.crypto(key.id)
    wrapped = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"secret").encrypted_key
    keys.update_key_properties("kek", key.properties.version, enabled=False)
    call = {"alg": "RSA-OAEP-256", "value": b64(wrapped)}
    for operation in ("unwrapkey", "decrypt"):
        found = request(bench, "POST", f"{path(key.id)}/{operation}", call, 403)
        assert found["error"]["code"] == "Forbidden" and found["error"]["innererror"]["code"] == "KeyDisabled", found
    request(bench, "POST", f"{path(key.id)}/wrapkey", {"alg": "RSA-OAEP-256", "value": b64(b"other")})
    keys.update_key_properties("kek", key.properties.version, enabled=True)
    assert bench.crypto(key.id).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == b"secret"


def a_deleted_key_can_be_recovered_until_it_is_purged(bench):
    keys = bench.keys()
    key = keys.create_rsa_key("gone")
    deleted = keys.begin_delete_key("gone").result()
    assert deleted.recovery_id.endswith("/deletedkeys/gone") and deleted.scheduled_purge_date > deleted.deleted_date
    refused(404, None, keys.get_key, "gone", kind=ResourceNotFoundError)
    refused(409, "ObjectIsDeletedButRecoverable", keys.create_rsa_key, "gone", kind=ResourceExistsError)
    assert [one.name for one in keys.list_deleted_keys()] == ["gone"]
    assert keys.begin_recover_deleted_key("gone").result().id == key.id
    assert keys.get_key("gone").id == key.id
    keys.begin_delete_key("gone").result()
    keys.purge_deleted_key("gone")
    refused(404, None, keys.get_deleted_key, "gone", kind=ResourceNotFoundError)
    assert keys.create_rsa_key("gone").id != key.id


def release_policies_are_kept_as_the_vault_keeps_them(bench):
    keys = bench.keys()
    policy = KeyReleasePolicy(json.dumps(POLICY).encode(), immutable=True)
    error = refused(400, None, keys.create_rsa_key, "a", hardware_protected=True, exportable=True)
    assert "AKV.SKR.1004" in str(error), error
    error = refused(400, None, keys.create_rsa_key, "a", hardware_protected=True, release_policy=policy)
    assert "AKV.SKR.1005" in str(error), error
    error = refused(400, None, keys.create_rsa_key, "a", exportable=True, release_policy=policy)
    assert "AKV.SKR.1006" in str(error), error
    key = keys.create_rsa_key("a", hardware_protected=True, exportable=True, release_policy=policy)
    kept = key.properties.release_policy
    assert key.properties.exportable and kept.immutable and json.loads(kept.encoded_policy) == POLICY, kept
    other = KeyReleasePolicy(json.dumps({**POLICY, "anyOf": POLICY["anyOf"] * 2}).encode())
    error = refused(400, None, keys.update_key_properties, "a", release_policy=other)
    assert "AKV.SKR.1020" in str(error), error
    error = refused(400, None, keys.update_key_properties, "a", key.properties.version, release_policy=policy)
    assert "AKV.SKR.1016" in str(error), error
    garbage = KeyReleasePolicy(b'{"version": "1.0.0"}')
    refused(400, None, keys.create_rsa_key, "b", hardware_protected=True, exportable=True, release_policy=garbage)


def a_release_without_a_good_token_is_refused(bench):
    keys = bench.keys()
    policy = KeyReleasePolicy(json.dumps(POLICY).encode())
    keys.create_rsa_key("kek", hardware_protected=True, exportable=True, release_policy=policy)
    keys.create_rsa_key("plain", hardware_protected=True)
    header, claims = b64(b'{"alg":"RS256","kid":"x"}'), b64(b'{"iss":"https://sharedweu.weu.attest.azure.net"}')
    unreachable = f"{header}.{claims}.AAAA"
    foreign = f"{header}.{b64(json.dumps({'iss': 'https://evil.example'}).encode())}.AAAA"
    for token in ("", "x.y.z", foreign):
        error = refused(403, "AccessDenied", keys.release_key, "kek", token or "-")
        assert "Target environment attestation statement cannot be verified." in str(error), error
    # Nobody listens there.
    error = refused(400, None, keys.release_key, "kek", unreachable)
    assert "AKV.SKR.1012" in str(error), error
    refused(400, None, keys.release_key, "plain", unreachable)
    request(bench, "POST", "/keys/kek/release", {"target": "x", "enc": "ROT13"}, 400)


def releases_are_throttled_and_say_when_to_come_again(bench):
    keys = bench.keys()
    policy = KeyReleasePolicy(json.dumps(POLICY).encode())
    keys.create_rsa_key("kek", hardware_protected=True, exportable=True, release_policy=policy)
    for _ in range(9):
        refused(403, "AccessDenied", keys.release_key, "kek", "x.y.z")
    error = refused(429, None, keys.release_key, "kek", "x.y.z")
    assert 1 <= int(error.response.headers["Retry-After"]) <= 10, error.response.headers
    assert keys.get_key("kek").name == "kek"
    bench.admin("PUT", "/limit", {"count": 1000, "milliseconds": 10_000})
    refused(403, "AccessDenied", keys.release_key, "kek", "x.y.z")
    # Other operations have a budget of their own, which longer keys use up sooner.
    keys.create_rsa_key("long", size=4096, hardware_protected=True)
    bench.admin("PUT", "/limit", {"count": 1000, "others": 10, "milliseconds": 60_000})
    refused(429, None, lambda: [keys.get_key("long") for _ in range(2)])
    bench.admin("PUT", "/limit", {"count": 1000, "milliseconds": 10_000})
    # The SDK's own retries ride out what passes.
    bench.fault(fault="throttle", retry_after=1, times=2, operation="KeyGet")
    patient = bench.keys(retry_policy=RetryPolicy(retry_total=3))
    assert patient.get_key("kek").name == "kek"


def roles_are_asked_for_each_action(bench):
    keys = bench.keys()
    key = keys.create_rsa_key("kek", hardware_protected=True)
    other = keys.create_rsa_key("other", hardware_protected=True)
    identity = bench.entra["identities"]["managed"][0]
    node = managed(bench)
    error = refused(403, "ForbiddenByRbac", bench.keys(node).get_key, "kek")
    assert identity["object_id"] in str(error) and "keys/read" in str(error), error
    bench.assign(identity["object_id"], "Key Vault Crypto Service Encryption User", "/keys/kek")
    assert bench.keys(node).get_key("kek").id == key.id
    client = bench.crypto(key.id, node)
    wrapped = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"secret").encrypted_key
    assert client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == b"secret"
    refused(403, "ForbiddenByRbac", bench.keys(node).release_key, "kek", "x.y.z")
    refused(403, "ForbiddenByRbac", bench.keys(node).create_rsa_key, "kek")
    refused(403, "ForbiddenByRbac", bench.keys(node).get_key, "other")
    assert other.name == "other"
    bench.admin(
        "DELETE",
        "/roles",
        {
            "principal": identity["object_id"],
            "role": "Key Vault Crypto Service Encryption User",
            "scope": "/keys/kek",
        },
    )
    refused(403, "ForbiddenByRbac", bench.keys(node).get_key, "kek")


def managed(bench, **which):
    """The machine's identity, by App Service's endpoint: instance metadata's address is fixed in the SDK."""
    os.environ["IDENTITY_ENDPOINT"] = bench.entra["identity_endpoint"]
    os.environ["IDENTITY_HEADER"] = bench.entra["identity_header"]
    return ManagedIdentityCredential(**which)


def claims(token):
    return json.loads(unb64(token.split(".")[1]))


def identities_are_told_apart(bench):
    scope = "https://vault.azure.net/.default"
    system, first, second = bench.entra["identities"]["managed"]
    for which, expected in (
        ({}, system),
        ({"client_id": first["client_id"]}, first),
        ({"identity_config": {"resource_id": second["resource_id"]}}, second),
    ):
        token = managed(bench, **which).get_token(scope)
        found = claims(token.token)
        assert (found["oid"], found["appid"]) == (expected["object_id"], expected["client_id"]), found
        assert found["aud"] == "https://vault.azure.net" and abs(token.expires_on - found["exp"]) < 2
    # Instance metadata's own shape.
    address = bench.entra["imds"].removeprefix("http://")

    def metadata(query, headers):
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", f"/metadata/identity/oauth2/token?{query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    query = "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
    status, body = metadata(query, {"Metadata": "true"})
    assert status == 200 and claims(body["access_token"])["oid"] == system["object_id"], body
    assert body["resource"] == "https://vault.azure.net" and int(body["expires_on"]) > time.time()
    status, body = metadata(f"{query}&object_id={first['object_id']}", {"Metadata": "true"})
    assert claims(body["access_token"])["oid"] == first["object_id"], body
    for query, headers in (
        (query, {}),
        (query, {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}),
        (f"{query}&client_id=nobody", {"Metadata": "true"}),
        ("api-version=2018-02-01", {"Metadata": "true"}),
    ):
        status, body = metadata(query, headers)
        assert status == 400 and body["error"] == "invalid_request", (status, body)


def applications_prove_themselves_by_secret_certificate_or_another_issuer(bench):
    scope = "https://vault.azure.net/.default"
    found = claims(bench.secret().get_token(scope).token)
    assert found["oid"] == bench.app["object_id"], found
    for wrong in ({"secret": "guess"}, {"client_id": "00000000-0000-0000-0000-000000000001"}, {"tenant_id": "other"}):
        try:
            bench.secret(**wrong).get_token(scope)
        except ClientAuthenticationError as error:
            assert "AADSTS" in str(error) or "authority configuration" in str(error), error
        else:
            raise AssertionError(wrong)
    certified, federated = bench.entra["identities"]["apps"][1:3]
    credential = CertificateCredential(
        bench.entra["tenant"], certified["client_id"], certificate_path=bench.data["certificate"], **bench.identity()
    )
    assert claims(credential.get_token(scope).token)["oid"] == certified["object_id"]
    credential = CertificateCredential(
        bench.entra["tenant"], bench.app["client_id"], certificate_path=bench.data["certificate"], **bench.identity()
    )
    try:
        credential.get_token(scope)
    except ClientAuthenticationError as error:
        assert "AADSTS700027" in str(error), error
    else:
        raise AssertionError("an unregistered certificate was taken")
    workload = lambda file: WorkloadIdentityCredential(
        tenant_id=bench.entra["tenant"],
        client_id=federated["client_id"],
        token_file_path=file,
        **bench.identity(),
    )
    good, bad = bench.data["federated"], bench.data["federated_other"]
    assert claims(workload(good).get_token(scope).token)["oid"] == federated["object_id"]
    try:
        workload(bad).get_token(scope)
    except ClientAuthenticationError as error:
        assert "AADSTS700213" in str(error), error
    else:
        raise AssertionError("another subject was taken")


def registration(directory):
    """Before the simulators start: identities with a certificate and a federated credential, and what proves them."""

    def key_and_certificate(name):
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        import datetime

        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(key, hashes.SHA256())
        )
        return key, certificate.public_bytes(serialization.Encoding.PEM).decode()

    def write(name, text):
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)

    key, certificate = key_and_certificate("app")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    write("app.pem", private + certificate)
    stranger, certificate_of_stranger = key_and_certificate("stranger")
    private = stranger.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    write("stranger.pem", private + certificate_of_stranger)
    cluster, _ = key_and_certificate("cluster")
    public = cluster.public_key().public_numbers()

    def token(key=cluster, **changes):
        head = b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "cluster-1"}).encode())
        now = int(time.time())
        body = {
            "iss": "https://cluster.example",
            "sub": "system:serviceaccount:nodes:validator",
            "aud": ["api://AzureADTokenExchange"],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            **changes,
        }
        signed = f"{head}.{b64(json.dumps(body).encode())}"
        return f"{signed}.{b64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    write("federated.jwt", token())
    write("federated-other.jwt", token(sub="system:serviceaccount:nodes:other"))
    write("federated-issuer.jwt", token(iss="https://other.example"))
    write("federated-audience.jwt", token(aud=["https://kubernetes.default.svc"]))
    write("federated-expired.jwt", token(exp=int(time.time()) - 600))
    write("federated-forged.jwt", token(key=stranger))
    app = lambda number: {
        "client_id": f"00000000-0000-4000-8000-0000000000a{number}",
        "object_id": f"00000000-0000-4000-8000-0000000000b{number}",
    }
    user = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    jwk = {
        "kty": "RSA",
        "kid": "cluster-1",
        "n": b64(public.n.to_bytes(256, "big")),
        "e": "AQAB",
    }
    record = {
        "issuer": "https://cluster.example",
        "subject": "system:serviceaccount:nodes:validator",
        "keys": {"keys": [jwk]},
    }
    identities = {
        "apps": [
            {**app(0), "secret": "a secret"},
            {**app(1), "certificate": certificate},
            {**app(2), "federated": [record]},
        ],
        "managed": [app(3), {**app(4), "resource_id": f"{user}/one"}, {**app(5), "resource_id": f"{user}/two"}],
    }
    write("identities.json", json.dumps(identities))


def every_call_is_in_the_audit_log(bench):
    keys = bench.keys()
    key = keys.create_rsa_key("kek", hardware_protected=True)
    client = bench.crypto(key.id)
    wrapped = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"secret").encrypted_key
    client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)
    request(bench, "POST", f"{path(key.id)}/unwrapkey", {"alg": "RSA-OAEP-256", "value": b64(wrapped)})
    refused(404, None, keys.get_key, "none", kind=ResourceNotFoundError)
    records = bench.audit()
    names = [record["operationName"] for record in records]
    assert names[0] == "Authentication" and records[0]["properties"]["httpStatusCode"] == 401, records[0]
    assert [n for n in names if n != "Authentication"] == [
        "KeyCreate",
        "KeyGet",
        "KeyUnwrap",
        "KeyUnwrap",
        "KeyGet",
    ], names
    last = [record for record in records if record["operationName"] == "KeyUnwrap"][-1]
    assert last["category"] == "AuditEvent" and last["correlationId"] == "case-1", last
    assert last["identity"]["claim"]["oid"] == bench.app["object_id"] and last["callerIpAddress"] == "127.0.0.1"
    assert last["properties"]["httpStatusCode"] == 200 and "unwrapkey" in last["properties"]["requestUri"]
    assert records[-1]["properties"]["httpStatusCode"] == 404, records[-1]
    assert b64(b"secret") not in bench.admin("GET", "/audit")


def tokens_and_versions_are_checked(bench):
    import requests

    url = f"{bench.vault['endpoint']}/keys/kek?api-version=2025-07-01"
    answer = requests.get(url, verify=bench.vault["ca"], timeout=20)
    challenge = answer.headers["WWW-Authenticate"]
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "Unauthorized", answer.text
    assert challenge.startswith(f'Bearer authorization="{bench.entra["endpoint"]}/'), challenge
    assert 'resource="https://vault.azure.net"' in challenge, challenge
    other = bench.secret().get_token("https://management.azure.com/.default").token
    good = bench.secret().get_token("https://vault.azure.net/.default").token
    head, body, signature = good.split(".")
    forged = claims(good) | {"oid": "somebody-else"}
    for token in (other, f"{head}.{b64(json.dumps(forged).encode())}.{signature}", "x"):
        answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, verify=bench.vault["ca"], timeout=20)
        assert answer.status_code == 401, answer.text
    bench.admin("PUT", "/clock", {"offset_seconds": 90_000})
    answer = requests.get(url, headers={"Authorization": f"Bearer {good}"}, verify=bench.vault["ca"], timeout=20)
    assert answer.status_code == 401, answer.text
    bench.admin("PUT", "/clock", {"offset_seconds": 0})
    for version in ("", "7.2"):
        found = request(bench, "GET", "/keys/kek", None, 400, version)
        assert "api-version" in found["error"]["message"], found
    assert bench.keys(api_version=ApiVersion.V7_4).create_rsa_key("old").name == "old"


def faults_come_as_ordered(bench):
    keys = bench.keys()
    key = keys.create_rsa_key("kek", hardware_protected=True)
    client = bench.crypto(key.id)
    wrapped = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"secret").encrypted_key
    call = {"alg": "RSA-OAEP-256", "value": b64(wrapped)}
    bench.fault(fault="error", status=503, code="ServiceUnavailable", inner="X", operation="KeyUnwrap")
    found = request(bench, "POST", f"{path(key.id)}/unwrapkey", call, 503)
    assert found["error"]["innererror"]["code"] == "X", found
    bench.fault(fault="other-secret", operation="KeyUnwrap")
    found = request(bench, "POST", f"{path(key.id)}/unwrapkey", call)
    assert unb64(found["value"]) not in (b"secret", b""), found
    for fault in ({"fault": "wrong-certificate", "which": "expired"}, {"fault": "drop", "when": "answer"}):
        bench.fault(**fault)
        try:
            bench.keys().get_key("kek")
        except ServiceRequestError:
            pass
        except HttpResponseError as error:
            raise AssertionError(error)
        except Exception as error:  # A connection that ends in the middle has no type of the SDK's own.
            assert "Connection" in str(error) or "closed" in str(error), error
        else:
            raise AssertionError(fault)
    assert keys.get_key("kek").id == key.id
    address = bench.vault["admin"].removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("POST", "/faults", json.dumps({"fault": "throttel"}))
    answer = connection.getresponse()
    assert answer.status == 400 and b"throttel" in answer.read()


def makes_a_key_for_the_next_start(bench):
    key = bench.keys().create_rsa_key("kept", hardware_protected=True)
    wrapped = bench.crypto(key.id).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"kept").encrypted_key
    with open(bench.data["keep"], "w") as file:
        json.dump({"path": path(key.id), "wrapped": b64(wrapped)}, file)


def opens_what_was_wrapped_before_the_restart(bench):
    with open(bench.data["keep"]) as file:
        kept = json.load(file)
    body = {"alg": "RSA-OAEP-256", "value": kept["wrapped"]}
    opened = request(bench, "POST", f"{kept['path']}/unwrapkey", body)
    assert unb64(opened["value"]) == b"kept", opened


if __name__ == "__main__":
    case = globals()[sys.argv[1]]
    case(sys.argv[2] if case is registration else Bench(sys.argv[2]))
