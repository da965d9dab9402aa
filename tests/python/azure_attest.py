"""tpm2-tools, requests, PyJWT and cryptography in a virtual machine's place: attestation, and a key released for it.

usage: azure_attest.py CASE BENCH.json     runs one case; simulators/tests/azure_attestation.rs starts the simulators
"""

import base64
import hashlib
import http.client
import json
import os
import struct
import subprocess
import sys
import tempfile

import jwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PCRS = "sha256:0,1,2,3,4,5,6,7"
AK = "0x81000003"


def b64(data):
    return base64.b64encode(data).decode()


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unurl(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Machine:
    """A virtual machine with a vTPM, worked with tpm2-tools."""

    def __init__(self, vtpm):
        self.vtpm = vtpm
        self.directory = tempfile.mkdtemp()

    def file(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.file(name), "rb") as file:
            return file.read()

    def run(self, *command):
        environment = dict(os.environ, TPM2TOOLS_TCTI=self.vtpm["tcti"])
        # Without a resource manager what is loaded stays loaded; a policy session is there from one command to another.
        kinds = {"tpm2_flushcontext": "", "tpm2_policypcr": "", "tpm2_rsadecrypt": "t"}.get(command[0], "tls")
        for kind in kinds:
            subprocess.run(["tpm2_flushcontext", f"-{kind}"], capture_output=True, env=environment)
        done = subprocess.run(command, capture_output=True, env=environment, cwd=self.directory)
        assert done.returncode == 0, (command, done.stderr.decode())
        return done.stdout

    def nv(self, index):
        return self.run("tpm2_nvread", "-C", "o", index)

    def ephemeral(self):
        """The key tokens and released keys are encrypted to, bound to the PCRs as they are."""
        self.run("tpm2_createpolicy", "--policy-pcr", "-l", PCRS, "-L", "pcr.policy")
        attributes = "decrypt|fixedtpm|fixedparent|sensitivedataorigin|noda"
        self.run(
            "tpm2_createprimary", "-C", "n", "-G", "rsa2048:null:null", "-g", "sha256", "-a", attributes,
            "-L", "pcr.policy", "-c", "enc.ctx",
        )  # fmt: skip
        self.run("tpm2_readpublic", "-c", "enc.ctx", "-f", "tss", "-o", "enc.pub")
        self.run(
            "tpm2_certify", "-c", "enc.ctx", "-C", AK, "-g", "sha256",
            "-o", "certify.msg", "-s", "certify.sig", "-f", "plain",
        )  # fmt: skip

    def decrypt(self, ciphertext, scheme):
        with open(self.file("cipher"), "wb") as file:
            file.write(ciphertext)
        self.run("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
        self.run("tpm2_policypcr", "-S", "session.ctx", "-l", PCRS)
        try:
            return self.run(
                "tpm2_rsadecrypt", "-c", "enc.ctx", "-p", "session:session.ctx", "-s", scheme, "cipher"
            )
        finally:
            self.run("tpm2_flushcontext", "session.ctx")

    def evidence(self, nonce, **changes):
        """What the guest attestation client sends."""
        self.ephemeral()
        self.run("tpm2_readpublic", "-c", AK, "-f", "tss", "-o", "ak.pub")
        self.run(
            "tpm2_quote", "-c", AK, "-l", PCRS, "-g", "sha256", "-m", "quote.msg", "-s", "quote.sig", "-f", "plain"
        )
        self.run("tpm2_pcrread", PCRS, "-o", "pcrs")
        values = self.read("pcrs")
        with open(self.vtpm["event_log"], "rb") as file:
            log = file.read()
        info = {
            "AttestationProtocolVersion": "2.0",
            "OSType": b64(b"Linux"),
            "OSDistro": b64(b"Debian"),
            "OSVersionMajor": "12",
            "OSVersionMinor": "0",
            "OSBuild": b64(b"NotApplication"),
            "TcgLogs": b64(log),
            "ClientPayload": {"nonce": b64(nonce)},
            "TpmInfo": {
                "AikCert": b64(self.certificate()),
                "AikPub": b64(self.read("ak.pub")),
                "PcrQuote": b64(self.read("quote.msg")),
                "PcrSignature": b64(self.read("quote.sig")),
                "EncKeyPub": b64(self.read("enc.pub")),
                "EncKeyCertifyInfo": b64(self.read("certify.msg")),
                "EncKeyCertifyInfoSignature": b64(self.read("certify.sig")),
                "PcrSet": list(range(8)),
                "PCRs": [{"Index": i, "Digest": b64(values[32 * i : 32 * i + 32])} for i in range(8)],
            },
            "IsolationInfo": self.isolation(),
        }
        for place, value in changes.items():
            holder = info if place in info else info["TpmInfo"]
            holder[place] = value
        return info

    def certificate(self):
        padded = self.nv("0x01C101D0")
        assert len(padded) == 4096, len(padded)
        (length,) = struct.unpack(">H", padded[2:4])
        return padded[: 4 + length]

    def isolation(self):
        if self.vtpm.get("kind") == "trusted-launch":
            return {"Type": "TrustedLaunch"}
        hardware, claims = self.report()
        with open(self.vtpm["amd_certification"]) as file:
            chip = json.load(file)
        chain = chip["vcekCert"] + chip["certificateChain"]
        proof = {"SnpReport": url(hardware), "VcekCertChain": b64(chain.encode())}
        evidence = {"Proof": b64(json.dumps(proof).encode()), "RunTimeData": b64(claims)}
        return {"Type": "SevSnp", "Evidence": evidence}

    def report(self):
        """The processor's report and the claims it binds."""
        report = self.nv("0x01400001")
        assert len(report) == 2600 and report[:4] == b"HCLA", report[:4]
        (size,) = struct.unpack("<I", report[0x4D0:0x4D4])
        return report[0x20:0x4C0], report[0x4D4 : 0x4D4 + size]


class Bench:
    def __init__(self, path):
        with open(path) as file:
            self.data = json.load(file)
        self.service = self.data["attestation"]
        self.machine = Machine(self.data["vtpm"])

    def attest(self, info, status=200):
        answer = requests.post(
            f"{self.service['endpoint']}/attest/AzureGuest?api-version=2020-10-01",
            json={"AttestationInfo": url(json.dumps(info).encode())},
            verify=self.service["ca"],
            timeout=30,
        )
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json()["token"] if status == 200 else answer.json()["error"]["message"]

    def open(self, envelope, machine=None):
        """The token in an envelope, opened in the TPM."""
        envelope = json.loads(unurl(envelope))
        assert envelope["EncryptionParams"]["KeySizeInBits"] == 256, envelope["EncryptionParams"]
        inner = (machine or self.machine).decrypt(base64.b64decode(envelope["EncryptedInnerKey"]), "rsaes")
        sealed = base64.b64decode(envelope["Jwt"]) + base64.b64decode(envelope["AuthenticationData"])
        nonce = base64.b64decode(envelope["EncryptionParams"]["Iv"])
        return AESGCM(inner).decrypt(nonce, sealed, b"Transport Key").decode()

    def verify(self, token):
        """The claims, by PyJWT under the keys the service publishes."""
        get = lambda address: requests.get(address, verify=self.service["ca"], timeout=30).json()
        document = get(f"{self.service['endpoint']}/.well-known/openid-configuration")
        keys = jwt.PyJWKSet.from_dict(get(f"{self.service['endpoint']}/certs"))
        assert document["issuer"] == self.service["issuer"], document
        key = keys[jwt.get_unverified_header(token)["kid"]]
        certificate = x509.load_der_x509_certificate(
            base64.b64decode(get(document["jwks_uri"].replace(self.service["issuer"], self.service["endpoint"]))["keys"][0]["x5c"][0])
        )
        assert certificate.public_key().public_numbers() == key.key.public_numbers()
        return jwt.decode(token, key.key, algorithms=["RS256"], issuer=self.service["issuer"])

    def token(self, nonce=b"n" * 32, **changes):
        return self.open(self.attest(self.machine.evidence(nonce, **changes)))

    def admin(self, service, method, resource, body):
        address = self.data[service]["admin"].removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request(method, resource, json.dumps(body))
        assert connection.getresponse().status == 200

    def fault(self, service, **fault):
        self.admin(service, "POST", "/faults", fault)

    def vault(self, method, resource, body, status=200):
        entra, vault = self.data["entra"], self.data["vault"]
        app = entra["identities"]["apps"][0]
        form = {
            "grant_type": "client_credentials",
            "client_id": app["client_id"],
            "client_secret": app["secret"],
            "scope": "https://vault.azure.net/.default",
        }
        got = requests.post(
            f"{entra['endpoint']}/{entra['tenant']}/oauth2/v2.0/token", data=form, verify=entra["ca"], timeout=30
        )
        answer = requests.request(
            method,
            f"{vault['endpoint']}{resource}?api-version=2025-07-01",
            json=body,
            headers={"Authorization": f"Bearer {got.json()['access_token']}"},
            verify=vault["ca"],
            timeout=30,
        )
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json()

    def key(self, name, **claims):
        """A key released to machines with these claims."""
        wanted = [{"claim": claim.replace("__", "."), "equals": value} for claim, value in claims.items()]
        policy = {"version": "1.0.0", "anyOf": [{"authority": self.service["issuer"], "allOf": wanted}]}
        body = {
            "kty": "RSA-HSM",
            "attributes": {"exportable": True},
            "release_policy": {"data": url(json.dumps(policy).encode()), "immutable": True},
        }
        return self.vault("POST", f"/keys/{name}/create", body)["key"]


def a_confidential_vm_gets_a_token_that_says_what_it_is(bench):
    claims = bench.verify(bench.token())
    assert claims["x-ms-attestation-type"] == "azurevm" and claims["secureboot"] is True, claims
    assert claims["x-ms-runtime"]["client-payload"]["nonce"] == b64(b"n" * 32), claims["x-ms-runtime"]
    assert claims["x-ms-azurevm-vmid"] == bench.data["vtpm"]["vm_id"], claims
    tee = claims["x-ms-isolation-tee"]
    assert tee["x-ms-compliance-status"] == "azure-compliant-cvm" and tee["x-ms-sevsnpvm-is-debuggable"] is False
    assert tee["x-ms-runtime"]["vm-configuration"]["vmUniqueId"] == bench.data["vtpm"]["vm_id"], tee
    (key,) = claims["x-ms-runtime"]["keys"]
    public = bench.machine.read("enc.pub")
    assert key["kid"] == "TpmEphemeralEncryptionKey" and unurl(key["n"]) == public[-256:], key


def a_trusted_launch_vm_s_token_has_no_processor_in_it(bench):
    claims = bench.verify(bench.token())
    assert "x-ms-isolation-tee" not in claims and claims["x-ms-attestation-type"] == "azurevm", claims
    try:
        bench.machine.nv("0x01400001")
    except AssertionError as error:
        assert "0x18b" in str(error).lower(), error
    else:
        raise AssertionError("there is a report")


def user_data_comes_with_the_next_report(bench):
    machine = bench.machine
    _, before = machine.report()
    assert json.loads(before)["user-data"] == "00" * 64
    with open(machine.file("data"), "wb") as file:
        file.write(b"\x5a" * 64)
    machine.run("tpm2_nvdefine", "-C", "o", "0x01400002", "-s", "64", "-a", "ownerread|ownerwrite")
    machine.run("tpm2_nvwrite", "-C", "o", "0x01400002", "-i", "data")
    hardware, claims = machine.report()
    assert json.loads(claims)["user-data"] == "5A" * 64, claims
    assert hardware[0x50:0x70] == hashlib.sha256(claims).digest(), "report data"
    chip = x509.load_pem_x509_certificate(json.load(open(bench.data["vtpm"]["amd_certification"]))["vcekCert"].encode())
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    r, s = (int.from_bytes(hardware[at : at + 72], "little") for at in (0x2A0, 0x2E8))
    chip.public_key().verify(utils.encode_dss_signature(r, s), hardware[:0x2A0], ec.ECDSA(hashes.SHA384()))


def evidence_that_does_not_hold_is_refused(bench):
    good = bench.machine.evidence(b"n" * 32)
    bench.attest(good)

    def refused(expected, change):
        other = json.loads(json.dumps(good))
        change(other)
        message = bench.attest(other, 400)
        assert expected in message, (expected, message)

    def flip(holder, name, at=-1):
        data = bytearray(base64.b64decode(holder[name]))
        data[at] ^= 1
        holder[name] = b64(bytes(data))

    tpm = lambda info: info["TpmInfo"]
    refused("PcrSignature: not made with AikPub", lambda info: flip(tpm(info), "PcrSignature"))
    refused("PcrSignature: not made with AikPub", lambda info: flip(tpm(info), "PcrQuote"))
    refused("PcrQuote: not over the PCRs given", lambda info: flip(tpm(info)["PCRs"][4], "Digest"))
    refused("AikCert: the certificates lead to no root", lambda info: flip(tpm(info), "AikCert"))
    refused("AikPub", lambda info: flip(tpm(info), "AikPub"))
    refused("EncKeyCertifyInfo: not about EncKeyPub", lambda info: flip(tpm(info), "EncKeyPub"))
    refused("EncKeyCertifyInfoSignature", lambda info: flip(tpm(info), "EncKeyCertifyInfoSignature"))
    refused("PcrSet", lambda info: tpm(info).update(PcrSet=[0, 1, 2]))
    refused("does not replay to the quoted value of PCR 4", lambda info: flip(info, "TcgLogs", -12))
    refused("RunTimeData: not what the report binds", lambda info: flip(info["IsolationInfo"]["Evidence"], "RunTimeData"))
    refused("IsolationInfo", lambda info: info.update(IsolationInfo={"Type": "SevSnp"}))
    refused("unknown field", lambda info: info.update(Extra=1))

    def other_report(info):
        evidence = info["IsolationInfo"]["Evidence"]
        proof = json.loads(base64.b64decode(evidence["Proof"]))
        report = bytearray(unurl(proof["SnpReport"]))
        report[0x0A] ^= 8  # the bit DEBUG
        proof["SnpReport"] = url(bytes(report))
        evidence["Proof"] = b64(json.dumps(proof).encode())

    refused("SEV-SNP report: the signature was not made with the VCEK", other_report)


def pcrs_that_changed_since_the_boot_are_refused_and_open_nothing(bench):
    envelope = bench.attest(bench.machine.evidence(b"n" * 32))
    bench.open(envelope)
    bench.machine.run("tpm2_pcrextend", "4:sha256=" + "5a" * 32)
    try:
        bench.open(envelope)
    except AssertionError as error:
        assert "tpm2_rsadecrypt" in str(error), error
    else:
        raise AssertionError("the ephemeral key is not bound to the PCRs")
    message = bench.attest(bench.machine.evidence(b"n" * 32), 400)
    assert "does not replay to the quoted value of PCR 4" in message, message


def a_machine_booted_otherwise_says_so(bench):
    claims = bench.verify(bench.token())
    assert claims["secureboot"] is False, claims
    assert claims["x-ms-isolation-tee"]["x-ms-sevsnpvm-is-debuggable"] is True, claims


def a_key_is_released_to_the_machine_its_policy_names(bench):
    vm = bench.data["vtpm"]["vm_id"]
    path = "x-ms-isolation-tee__x-ms-runtime__vm-configuration__vmUniqueId"
    key = bench.key("kek", **{path: vm, "secureboot": "true"})
    token = bench.token()
    resource = "/keys/" + key["kid"].split("/keys/")[1] + "/release"
    body = {"target": token, "enc": "RSA_AES_KEY_WRAP_256", "nonce": "nonce-1"}
    jws = bench.vault("POST", resource, body)["value"]
    header = jwt.get_unverified_header(jws)
    chain = [x509.load_der_x509_certificate(base64.b64decode(der)) for der in header["x5c"]]
    for certificate, issuer in zip(chain, chain[1:] + chain[-1:]):
        certificate.verify_directly_issued_by(issuer)
    with open(bench.data["vault"]["ca"], "rb") as file:
        assert x509.load_pem_x509_certificate(file.read()) == chain[-1]
    payload = jwt.decode(jws, chain[0].public_key(), algorithms=["RS256"])
    assert payload["request"]["kid"] == key["kid"] and payload["request"]["nonce"] == "nonce-1", payload["request"]
    released = payload["response"]["key"]["key"]
    wrapped = json.loads(unurl(released["key_hsm"]))
    assert wrapped["header"] == {
        "kid": "TpmEphemeralEncryptionKey",
        "alg": "dir",
        "enc": "RSA_AES_KEY_WRAP_256",
    }, wrapped["header"]
    ciphertext = unurl(wrapped["ciphertext"])
    aes = bench.machine.decrypt(ciphertext[:256], "oaep")
    private = keywrap.aes_key_unwrap_with_padding(aes, ciphertext[256:])
    private = serialization.load_der_private_key(private, None)
    assert private.public_key().public_numbers().n == int.from_bytes(unurl(key["n"]), "big")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = bench.vault(
        "POST", resource.replace("/release", "/wrapkey"), {"alg": "RSA-OAEP-256", "value": url(b"dek")}
    )
    assert private.decrypt(unurl(wrapped["value"]), oaep) == b"dek"
    records = audit(bench)
    (record,) = [record for record in records if record["operationName"] == "KeyRelease"]
    assert record["properties"]["httpStatusCode"] == 200, record


def audit(bench):
    with open(bench.data["vault"]["audit"]) as file:
        return [json.loads(line) for line in file]


def a_key_is_not_released_to_others(bench):
    path = "x-ms-isolation-tee__x-ms-runtime__vm-configuration__vmUniqueId"
    mismatch = "Target environment attestation does not meet key release policy requirements."
    invalid = "Target environment attestation statement cannot be verified."
    token = bench.token()

    def refused(name, token, expected):
        answer = bench.vault("POST", f"/keys/{name}/release", {"target": token}, 403)
        assert answer["error"]["innererror"]["code"] == "AccessDenied", answer
        assert answer["error"]["message"] == expected, answer

    bench.key("other-vm", **{path: "00000000-0000-4000-8000-000000000000"})
    refused("other-vm", token, mismatch)
    bench.key("no-secure-boot", secureboot="false")
    refused("no-secure-boot", token, mismatch)
    bench.key("ours", secureboot="true")
    head, body, signature = token.split(".")
    forged = json.loads(unurl(body)) | {"secureboot": True, "x": 1}
    refused("ours", f"{head}.{url(json.dumps(forged).encode())}.{signature}", invalid)
    for fault in ("foreign-token", "expired-token", "other-issuer"):
        bench.fault("attestation", fault=fault)
        refused("ours", bench.token(), invalid)
    bench.vault("POST", "/keys/ours/release", {"target": token})


def envelopes_are_forged_as_ordered(bench):
    first = bench.attest(bench.machine.evidence(b"1" * 32))
    bench.fault("attestation", fault="replay-envelope")
    assert bench.attest(bench.machine.evidence(b"2" * 32)) == first
    bench.fault("attestation", fault="garbled-envelope")
    try:
        bench.token()
    except Exception as error:
        assert "InvalidTag" in repr(error), error
    else:
        raise AssertionError("not garbled")
    bench.fault("attestation", fault="other-nonce")
    claims = bench.verify(bench.token())
    assert claims["x-ms-runtime"]["client-payload"]["nonce"] == b64(bytes(32)), claims["x-ms-runtime"]


def released_keys_are_forged_as_ordered(bench):
    key = bench.key("kek", secureboot="true")
    bench.admin("vault", "PUT", "/limit", {"count": 100, "milliseconds": 10_000})
    token = bench.token()
    resource = "/keys/" + key["kid"].split("/keys/")[1] + "/release"
    body = {"target": token, "enc": "RSA_AES_KEY_WRAP_256", "nonce": "nonce-1"}

    def release(fault=None):
        if fault:
            bench.fault("vault", fault=fault, operation="KeyRelease")
        return bench.vault("POST", resource, body)["value"]

    def signer(jws):
        chain = [base64.b64decode(der) for der in jwt.get_unverified_header(jws)["x5c"]]
        return x509.load_der_x509_certificate(chain[0]).public_key(), chain

    def payload(jws):
        return jwt.decode(jws, signer(jws)[0], algorithms=["RS256"])

    def private(jws):
        wrapped = json.loads(unurl(payload(jws)["response"]["key"]["key"]["key_hsm"]))
        ciphertext = unurl(wrapped["ciphertext"])
        aes = bench.machine.decrypt(ciphertext[:256], "oaep")
        der = keywrap.aes_key_unwrap_with_padding(aes, ciphertext[256:])
        return serialization.load_der_private_key(der, None).public_key().public_numbers().n

    good = release()
    modulus = int.from_bytes(unurl(key["n"]), "big")
    assert private(good) == modulus
    assert release("replay-release") == good
    foreign = release("foreign-jws")
    assert payload(foreign)["request"]["kid"] == key["kid"] and signer(foreign)[1][-1] != signer(good)[1][-1]
    forged = release("forged-jws")
    assert signer(forged)[1] == signer(good)[1]
    try:
        payload(forged)
    except jwt.InvalidSignatureError:
        pass
    else:
        raise AssertionError("the forgery verifies")
    other = payload(release("other-key-id"))
    assert other["request"]["kid"] == other["response"]["key"]["key"]["kid"] != key["kid"], other["request"]
    assert payload(release("other-nonce"))["request"]["nonce"] == "another"
    assert "nonce" not in payload(release("no-nonce"))["request"]
    assert payload(release("other-enc"))["request"]["enc"] == "CKM_RSA_AES_KEY_WRAP"
    assert private(release("other-private-key")) != modulus
    for fault, kind in (("garbled-key", keywrap.InvalidUnwrap), ("foreign-recipient", AssertionError)):
        try:
            private(release(fault))
        except kind:
            continue
        raise AssertionError(fault)
    assert private(release()) == modulus


if __name__ == "__main__":
    globals()[sys.argv[1]](Bench(sys.argv[2]))
