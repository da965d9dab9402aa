"""What an officer does to a Key Vault key with the Azure SDK for Python, for the demo and the tests.

usage: vault_key.py READY.json ACTION ARGUMENTS…     READY.json has the ready lines of key-vault and entra

create NAME POLICY.json            prints the version; a key that can be exported under this release policy
enable NAME VERSION / disable NAME VERSION
rotate NAME                        prints the new version
assign PRINCIPAL ROLE / revoke PRINCIPAL ROLE      at the admin door; roles are the control plane's in Azure
fault SERVICE JSON                 at the admin door of "vault" or "attestation"
limit JSON, clock SECONDS          at the vault's admin door: what it takes in a time, how far its clock is ahead
get NAME                           prints the vault's answer about a key, as `az rest` does
"""

import http.client
import json
import sys

from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential
from azure.keyvault.keys import KeyClient, KeyReleasePolicy


def door(service, method, path, body):
    connection = http.client.HTTPConnection(service["admin"].removeprefix("http://"), timeout=10)
    connection.request(method, path, json.dumps(body))
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, (answer.status, text)


def client(ready):
    app = ready["entra"]["identities"]["apps"][0]
    credential = ClientSecretCredential(
        tenant_id=ready["entra"]["tenant"],
        client_id=app["client_id"],
        client_secret=app["secret"],
        authority=ready["entra"]["endpoint"],
        disable_instance_discovery=True,
        connection_verify=ready["entra"]["ca"],
    )
    return KeyClient(
        vault_url=ready["vault"]["endpoint"],
        credential=credential,
        verify_challenge_resource=False,
        connection_verify=ready["vault"]["ca"],
    )


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        ready = json.load(file)
    action, arguments = sys.argv[2], sys.argv[3:]
    if action == "create":
        with open(arguments[1], "rb") as file:
            policy = KeyReleasePolicy(file.read(), immutable=True)
        key = client(ready).create_rsa_key(
            arguments[0],
            size=2048,
            hardware_protected=True,
            exportable=True,
            release_policy=policy,
            key_operations=["decrypt", "unwrapKey"],
        )
        print(key.properties.version)
    elif action in ("enable", "disable"):
        client(ready).update_key_properties(arguments[0], arguments[1], enabled=action == "enable")
    elif action == "rotate":
        print(client(ready).rotate_key(arguments[0]).properties.version)
    elif action in ("assign", "revoke"):
        body = {"principal": arguments[0], "role": arguments[1], "scope": "/"}
        door(ready["vault"], "POST" if action == "assign" else "DELETE", "/roles", body)
    elif action == "fault":
        door(ready[arguments[0]], "POST", "/faults", json.loads(arguments[1]))
    elif action == "limit":
        door(ready["vault"], "PUT", "/limit", json.loads(arguments[0]))
    elif action == "clock":
        door(ready["vault"], "PUT", "/clock", {"offset_seconds": int(arguments[0])})
    elif action == "get":
        request = HttpRequest("GET", f"keys/{arguments[0]}?api-version=7.4")
        print(client(ready).send_request(request).text())
    else:
        sys.exit(__doc__)


main()
