//! A blob opened as each kind of identity, by the vendor's credentials; and each refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nodeseal_harness::{Agent, Azure};
use serde_json::{Value, json};

use crate::world::{Refused, UNWRAP, World, open, opens};

fn text<'v>(identity: &'v Value, field: &str) -> &'v str {
    identity[field].as_str().unwrap()
}

/// `[[azure]]` of a managed identity; `which` names a user-assigned one.
fn managed(which: &str) -> String {
    format!("[[azure]]\nidentity = \"managed\"\n{which}")
}

impl World {
    /// The password sealed by the system-assigned identity, which has its role.
    fn sealed() -> (Self, Agent) {
        let world = Self::new();
        let agent = world.agent("system", UNWRAP, &managed(""));
        world.seal(&agent);
        (world, agent)
    }

    fn file(&self, name: &str) -> String {
        self.azure.path(name).display().to_string()
    }

    fn tenant(&self) -> &str {
        self.vm.entra.told("tenant").unwrap()
    }

    /// `[[azure]]` of an application with a secret.
    fn secret(&self, client_id: &str, secret: &str) -> String {
        fs::write(self.azure.path("secret.txt"), format!("{secret}\n")).unwrap();
        format!(
            "[[azure]]\nidentity = \"client-secret\"\ntenant = {:?}\nclient_id = {client_id:?}\nsecret_file = {:?}\n",
            self.tenant(),
            self.file("secret.txt"),
        )
    }

    /// `[[azure]]` of an application with a certificate; its key is in the same file.
    fn certificate(&self, file: &str) -> String {
        let app = self.vm.identity("apps", 1).unwrap();
        let file = self.file(file);
        format!(
            "[[azure]]\nidentity = \"client-certificate\"\ntenant = {:?}\nclient_id = {:?}\n\
             certificate_file = {file:?}\nprivate_key_file = {file:?}\n",
            self.tenant(),
            text(app, "client_id"),
        )
    }

    /// `[[azure]]` of a workload with this token of its platform.
    fn workload(&self, token: &str) -> String {
        let app = self.vm.identity("apps", 2).unwrap();
        format!(
            "[[azure]]\nidentity = \"workload\"\ntenant = {:?}\nclient_id = {:?}\ntoken_file = {:?}\n",
            self.tenant(),
            text(app, "client_id"),
            self.file(token),
        )
    }

    /// A token for the vault, and when it ends, by the machine's endpoint of `entra`.
    fn token(&self, entra: &nodeseal_harness::Simulator) -> (String, u64) {
        use std::io::{Read, Write};
        let address = entra.told("imds").unwrap().replace("http://", "");
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nMetadata: true\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        let until = text(&body, "expires_on").parse().unwrap();
        (text(&body, "access_token").to_owned(), until)
    }
}

/// A directory with a program `az` that does what the Azure CLI does with `az account get-access-token`: prints the
/// first of `answers`, then the next, the last for ever after; where one is no token, it is what `az` complains of.
fn azure_cli(directory: &Path, answers: &[Value]) {
    fs::create_dir_all(directory).unwrap();
    for (number, answer) in answers.iter().enumerate() {
        let (name, content) = match answer.as_str() {
            Some(complaint) => ("error", complaint.to_owned()),
            None => ("token", answer.to_string()),
        };
        fs::write(directory.join(format!("{name}-{}", number + 1)), content).unwrap();
    }
    let script = format!(
        "#!/bin/sh\n\
         test \"$*\" = \"account get-access-token -o json --scope https://vault.azure.net/.default\" || {{ echo \"az: $*\" >&2; exit 2; }}\n\
         cd {}\necho asked >> asked\nn=$(wc -l < asked)\ntest $n -gt {max} && n={max}\n\
         test -e token-$n && exec cat token-$n\ncat error-$n >&2\nexit 1\n",
        directory.display(),
        max = answers.len(),
    );
    let az = directory.join("az");
    fs::write(&az, script).unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What `az account get-access-token` prints.
fn cli_token((token, until): &(String, u64), tenant: &str) -> Value {
    json!({
        "accessToken": token,
        "expiresOn": "2026-11-26 12:00:00.000000",
        "expires_on": until,
        "subscription": "00000000-0000-0000-0000-000000000000",
        "tenant": tenant,
        "tokenType": "Bearer",
    })
}

/// Puts `directory` before everything else on the PATH.
fn path(command: &mut Command, directory: &Path) {
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
}

#[test]
fn a_blob_is_opened_as_each_kind_of_identity_and_the_vault_knows_who_asked() {
    let (world, system) = World::sealed();
    for (kind, number) in [("managed", 1), ("managed", 2), ("apps", 1), ("apps", 2)] {
        world.assign(kind, number);
    }
    opens(&mut open(&system));
    assert_eq!(
        world.unwrapped_for(),
        world.vm.principal("managed", 0).unwrap()
    );

    // Two user-assigned identities of one machine, each by another of its ids.
    let [first, second] = [1, 2].map(|number| world.vm.identity("managed", number).unwrap());
    let app = world.vm.identity("apps", 0).unwrap();
    let secret = world.secret(text(app, "client_id"), text(app, "secret"));
    for (name, identity, kind, number) in [
        (
            "client-id",
            managed(&format!("client_id = {:?}", text(first, "client_id"))),
            "managed",
            1,
        ),
        (
            "object-id",
            managed(&format!("object_id = {:?}", text(second, "object_id"))),
            "managed",
            2,
        ),
        ("secret", secret, "apps", 0),
        ("certificate", world.certificate("app.pem"), "apps", 1),
        ("workload", world.workload("federated.jwt"), "apps", 2),
    ] {
        let agent = world.agent(name, UNWRAP, &identity);
        opens(&mut open(&agent));
        let expected = world.vm.principal(kind, number).unwrap();
        assert_eq!(world.unwrapped_for(), expected, "{name}");
    }

    // A workload as Kubernetes configures it, and no [[azure]] at all.
    let app = world.vm.identity("apps", 2).unwrap();
    let agent = world.agent("pod", UNWRAP, "");
    let mut command = open(&agent);
    command
        .env("AZURE_CLIENT_ID", text(app, "client_id"))
        .env("AZURE_TENANT_ID", world.tenant())
        .env("AZURE_FEDERATED_TOKEN_FILE", world.file("federated.jwt"));
    opens(&mut command);
    assert_eq!(
        world.unwrapped_for(),
        world.vm.principal("apps", 2).unwrap()
    );

    // Whoever is logged in to the Azure CLI.
    let cli = world.azure.path("cli");
    azure_cli(
        &cli,
        &[cli_token(&world.token(&world.vm.entra), world.tenant())],
    );
    let agent = world.agent("developer", UNWRAP, "[[azure]]\nidentity = \"developer\"");
    let mut command = open(&agent);
    path(&mut command, &cli);
    opens(&mut command);
    assert_eq!(fs::read_to_string(cli.join("asked")).unwrap(), "asked\n");

    // Of several identities the one that names the vault is taken.
    let both = format!(
        "{}\n{}vaults = [\"{}\"]\n",
        managed(""),
        world.certificate("app.pem"),
        Azure::VAULT
    );
    let agent = world.agent("both", UNWRAP, &both);
    opens(&mut open(&agent));
    assert_eq!(
        world.unwrapped_for(),
        world.vm.principal("apps", 1).unwrap()
    );
}

/// The refusal of an agent that has no token, for this reason.
fn without_token(reason: &str) -> Refused {
    Refused {
        exit: 2,
        code: "azure-token-missing".to_owned(),
        message: "the request came without an access token for demo.vault.azure.net".to_owned(),
        warnings: format!("warning: no access token of Azure for demo.vault.azure.net: {reason}"),
    }
}

/// What the vendor's credential makes of an error of Entra's.
fn of_entra(credential: &str, error: &str, anchor: &str) -> Refused {
    let more = match anchor {
        "" => String::new(),
        anchor => format!(
            " To troubleshoot, visit https://aka.ms/azsdk/rust/identity/troubleshoot#{anchor}"
        ),
    };
    without_token(&format!(
        "{credential}Credential authentication failed. AADSTS{error} Trace ID: … Timestamp: …{more}"
    ))
}

#[test]
fn an_application_that_entra_does_not_take_is_refused_with_what_entra_says() {
    let (world, _) = World::sealed();
    let app = world.vm.identity("apps", 0).unwrap();
    let client = text(app, "client_id");
    let nobody = "00000000-0000-4000-8000-00000000dead";
    let of_secret = |error: &str| of_entra("ClientSecret", error, "client-secret");
    for (name, identity, expected) in [
        (
            "wrong-secret",
            world.secret(client, "guess"),
            of_secret(
                "7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '…'.",
            ),
        ),
        (
            "unknown-client",
            world.secret(nobody, "guess"),
            of_secret("700016: Application with identifier '…' was not found in the directory."),
        ),
        (
            "unassigned",
            managed(&format!("client_id = {nobody:?}")),
            without_token(
                "ManagedIdentityCredential authentication failed. The requested identity has not been assigned to this \
                 resource To troubleshoot, visit https://aka.ms/azsdk/rust/identity/troubleshoot#managed-id",
            ),
        ),
        (
            "resource-id-in-app-service",
            managed("resource_id = \"/subscriptions/s\""),
            without_token(
                "User-assigned resource IDs aren't supported for App Service. Use a client or object ID instead.",
            ),
        ),
    ] {
        let agent = world.agent(name, UNWRAP, &identity);
        assert_eq!(world.refused(&agent), expected, "{name}");
    }
    let agent = world.agent("stranger", UNWRAP, &world.certificate("stranger.pem"));
    let mut found = world.refused(&agent);
    // The thumbprint is another's each time.
    let (before, after) = found.warnings.split_once("used by client: '").unwrap();
    found.warnings = format!("{before}used by client: '…{}", &after[43..]);
    assert_eq!(
        found,
        of_entra(
            "ClientAssertion",
            "700027: The certificate with identifier used to sign the client assertion is not registered on application. \
             [Reason - The key was not found., Thumbprint of key used by client: '…']",
            ""
        )
    );
}

#[test]
fn a_workload_whose_token_does_not_fit_is_refused_for_what_does_not() {
    let (world, _) = World::sealed();
    let none = |number: u32, what: &str, found: &str| {
        format!(
            "{number}: No matching federated identity record found for presented assertion {what} '{found}'. Check your \
             federated identity credential Subject, Audience and Issuer against the presented assertion."
        )
    };
    for (token, error) in [
        (
            "other",
            none(700_213, "subject", "system:serviceaccount:nodes:other"),
        ),
        (
            "issuer",
            none(700_211, "issuer", "https://other.example"),
        ),
        (
            "audience",
            none(700_212, "audience", "https://kubernetes.default.svc"),
        ),
        (
            "expired",
            "700024: Client assertion is not within its valid time range.".to_owned(),
        ),
        (
            "forged",
            "50013: Assertion failed signature validation. [Reason - attestation token: the signature was not made with \
             the key it names]"
                .to_owned(),
        ),
    ] {
        let identity = world.workload(&format!("federated-{token}.jwt"));
        let agent = world.agent(token, UNWRAP, &identity);
        let expected = of_entra("WorkloadIdentity", &error, "workload");
        assert_eq!(world.refused(&agent), expected, "{token}");
    }
    let agent = world.agent("no-file", UNWRAP, &world.workload("none.jwt"));
    let reason = format!(
        "failed to read federated token from file {}: No such file or directory (os error 2)",
        world.file("none.jwt")
    );
    assert_eq!(world.refused(&agent), without_token(&reason));
}

#[test]
fn a_developer_who_is_not_logged_in_is_told_what_az_says() {
    let (world, _) = World::sealed();
    let cli = world.azure.path("cli");
    azure_cli(
        &cli,
        &[json!("ERROR: Please run 'az login' to setup account.\n")],
    );
    let agent = world.agent("developer", UNWRAP, "[[azure]]\nidentity = \"developer\"");
    let troubleshoot = "To troubleshoot, visit https://aka.ms/azsdk/rust/identity/troubleshoot";
    let no_azd = format!(
        "AzureDeveloperCliCredential authentication failed. azd not found on PATH {troubleshoot}#azd - azd not found on PATH"
    );
    for (directory, said) in [
        (cli, "ERROR: Please run 'az login' to setup account."),
        (world.azure.path("nowhere"), "az not found on PATH"),
    ] {
        let reason = format!(
            "Multiple errors were encountered while attempting to authenticate: AzureCliCredential authentication failed. \
             {said} {troubleshoot}#azure-cli - {said} {no_azd}"
        );
        let found = world.refused_with(&agent, |command| path(command, &directory));
        assert_eq!(found, without_token(&reason));
    }
}

#[test]
fn an_identity_without_the_role_is_refused_by_the_vault_as_long_as_it_has_none() {
    let (world, _) = World::sealed();
    let second = world.vm.identity("managed", 2).unwrap();
    let identity = managed(&format!("client_id = {:?}", text(second, "client_id")));
    let agent = world.agent("second", UNWRAP, &identity);
    let message = format!(
        "keys/unwrap with {}/VERSION: HTTP 403, Forbidden/ForbiddenByRbac: \"Caller is not authorized to perform action on \
         resource. If role assignments, deny assignments or role definitions were changed recently, please observe \
         propagation time. Caller: appid=…;oid=…;iss=https://sts.windows.net/{}/ Action: \
         'Microsoft.KeyVault/vaults/keys/unwrap/action' Resource: \
         '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/nodeseal/providers/microsoft.keyvault/vaults/demo/keys/node' \
         Assignment: (not found) DecisionReason: 'DeniedWithNoValidRBAC' Vault: demo;location=westeurope\" (request id …, \
         client request id …)",
        Azure::KEY,
        world.tenant(),
    );
    let expected = Refused {
        exit: 3,
        code: "azure-permission".to_owned(),
        message,
        warnings: String::new(),
    };
    assert_eq!(world.refused(&agent), expected);
    world.assign("managed", 2);
    opens(&mut open(&agent));
}

#[test]
fn a_token_that_expired_is_renewed_once() {
    let (world, _) = World::sealed();
    // Entra of the same tenant, whose tokens live a minute.
    let chip = world.vm.front.told("amd_certification").unwrap();
    let brief = world
        .azure
        .entra("brief", chip, &["--lifetime", "60"])
        .unwrap();
    let old = cli_token(&world.token(&brief), world.tenant());
    let new = cli_token(&world.token(&world.vm.entra), world.tenant());
    // Five minutes and some more are forgiven.
    world.azure.administrate(&["clock", "400"]).unwrap();
    let agent = world.agent("developer", UNWRAP, "[[azure]]\nidentity = \"developer\"");
    let cli = world.azure.path("cli");
    azure_cli(&cli, &[old.clone(), new]);
    let mut command = open(&agent);
    path(&mut command, &cli);
    opens(&mut command);
    let asked = |cli: &Path| fs::read_to_string(cli.join("asked")).unwrap();
    assert_eq!(asked(&cli), "asked\nasked\n");

    // Old ones for ever: refused, and not asked for without end.
    let cli = world.azure.path("old-cli");
    azure_cli(&cli, &[old]);
    let message = format!(
        "keys/unwrap with {}/VERSION: HTTP 401, Unauthorized: \"AKV10022: Invalid token. attestation token: valid until …, \
         which is before …; ask for a new one\" (request id …, client request id …)",
        Azure::KEY
    );
    let expected = Refused {
        exit: 5,
        code: "azure-token-refused".to_owned(),
        message,
        warnings: String::new(),
    };
    let found = world.refused_with(&agent, |command| path(command, &cli));
    assert_eq!(found, expected);
    assert_eq!(asked(&cli), "asked\nasked\n");
}
