//! The locks of Azure on the simulated cloud: a vTPM, its attestation service, a vault; and a fleet against one vault.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{enrol, locks};
use nodeseal_azure::guest::{GuestEvidence, GuestTpm};
use nodeseal_azure::{AzureConfig, AzureRelease, AzureUnwrap, Padding, ReleaseConfig, Vaults};
use nodeseal_core::lock::{BoxFuture, KeyService, LockContext};
use nodeseal_core::tunnel::Roots;
use nodeseal_core::tunnel::pause::part_of;
use nodeseal_harness::{Agent, Azure, AzureVm, Running, Simulator, TpmProcess, VmOptions, azure};
use nodeseal_memory::Secret;
use nodeseal_tpm::azure::{AzureTpm, MachineFiles};
use nodeseal_tpm::enrolment::Keep;
use nodeseal_wire::lock::{Lock, LockSpec};
use nodeseal_wire::message::{AzureContext, AzureToken, Context, Refusal};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::UnixListener;

const KEY: &str = Azure::KEY;

/// One machine in one subscription.
struct World {
    azure: Azure,
    vm: AzureVm,
}

impl World {
    fn start() -> Self {
        let mut azure = Azure::start().unwrap();
        let vm = azure.machine("vm", VmOptions::default()).unwrap();
        azure.open_vault(&vm, &[]).unwrap();
        let ids = [vm.id().unwrap()];
        azure.create_key("confidential-vm", &ids).unwrap();
        Self { azure, vm }
    }

    fn path(&self, name: &str) -> String {
        self.azure.path(name).display().to_string()
    }

    fn administrate(&self, arguments: &[&str]) {
        self.azure.administrate(arguments).unwrap();
    }

    /// What the metadata service answers.
    fn metadata(&self, path: &str) -> Value {
        let address = self.vm.entra.told("imds").unwrap().replace("http://", "");
        let mut stream = TcpStream::connect(&address).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nMetadata: true\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Records of the vault's audit log about this operation, each with its status.
    fn audited(&self, operation: &str) -> Vec<u64> {
        let records = self.azure.audit().unwrap();
        let of = records
            .iter()
            .filter(|record| record["operationName"] == operation);
        of.map(|record| record["properties"]["httpStatusCode"].as_u64().unwrap())
            .collect()
    }

    /// A way out that leads to the simulators, and everything else a request brings along.
    fn request(&self) -> Context {
        let egress = self.path("egress.sock");
        if !Path::new(&egress).exists() {
            let to = |simulator: &Simulator| simulator.told("address").unwrap().to_owned();
            let targets = HashMap::from([
                (
                    format!("{}:443", Azure::VAULT),
                    to(self.azure.vault().unwrap()),
                ),
                (
                    format!("{}:443", Azure::ISSUER),
                    to(self.azure.attestation()),
                ),
            ]);
            tokio::spawn(connect_proxy(UnixListener::bind(&egress).unwrap(), targets));
        }
        let token = self.metadata(
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net",
        );
        let chip = self.metadata("/metadata/THIM/amd/certification");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Context {
            azure: AzureContext {
                tokens: vec![AzureToken {
                    vault: Azure::VAULT.to_owned(),
                    token: text(&token["access_token"]),
                    expires: text(&token["expires_on"]).parse().unwrap(),
                }],
                vcek_chain: Some(format!(
                    "{}\n{}",
                    text(&chip["vcekCert"]).trim_end(),
                    text(&chip["certificateChain"])
                )),
            },
            egress: Some(format!("unix:{egress}")),
            ..Context::default()
        }
    }

    fn vaults(&self, throttle_pause: Duration) -> Arc<Vaults> {
        let config = AzureConfig {
            roots: self.roots(),
            allowed_keys: vec![KEY.to_owned()],
            deadline: Duration::from_secs(120),
            attempt: Duration::from_secs(60),
            throttle_pause,
            ..AzureConfig::default()
        };
        Vaults::new(config).unwrap()
    }

    fn roots(&self) -> Roots {
        let ca = self.azure.attestation().told("ca").unwrap();
        Roots::Pem(std::fs::read(ca).unwrap())
    }

    fn release(&self, vaults: Arc<Vaults>, tpm: Arc<dyn GuestTpm>) -> AzureRelease {
        let config = ReleaseConfig {
            attestation_services: vec![format!("https://{}", Azure::ISSUER)],
            signer_roots: self.roots(),
            ..ReleaseConfig::default()
        };
        AzureRelease::new(vaults, config, tpm)
    }

    /// The machine's own TPM, enrolled.
    async fn tpm(&self) -> AzureTpm {
        let tcti = self.vm.front.told("tcti").unwrap();
        let record = enrol(tcti, Keep::Persistent);
        let locks = locks(tcti, &record, None, &[7]).await.unwrap();
        let log = Path::new(self.vm.front.told("event_log").unwrap());
        AzureTpm::new(Arc::new(locks), MachineFiles::read(log).unwrap())
    }
}

/// HTTP CONNECT to these targets.
async fn connect_proxy(listener: UnixListener, targets: HashMap<String, String>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let targets = targets.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap();
            let mut server = tokio::net::TcpStream::connect(&targets[target])
                .await
                .unwrap();
            let established = b"HTTP/1.1 200 OK\r\n\r\n";
            client.write_all(established).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

fn context(request: &Context) -> LockContext<'_> {
    LockContext {
        node: "validator-1",
        data_key_id: &[7; 16],
        request,
    }
}

fn release_spec() -> LockSpec {
    LockSpec::AzureRelease {
        key: KEY.to_owned(),
        attestation: format!("https://{}", Azure::ISSUER),
    }
}

fn code(result: Result<nodeseal_core::lock::OpenedLock, Refusal>) -> String {
    result.err().expect("refused").code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_released_to_this_machine_and_what_is_not_as_it_must_be_is_refused_by_name() {
    let world = World::start();
    let request = world.request();
    let tpm = Arc::new(world.tpm().await);
    let fresh = || world.release(world.vaults(Duration::from_millis(50)), tpm.clone());
    let made = fresh()
        .new_secret(&release_spec(), context(&request))
        .await
        .unwrap();
    let Lock::AzureRelease(lock) = &made.lock else {
        panic!("{:?}", made.lock);
    };
    let version = lock.key.rsplit('/').next().unwrap().to_owned();
    assert_eq!(lock.key, format!("{KEY}/{version}"));
    let service = fresh();
    let opened = service.open_secret(&made.lock, context(&request)).await;
    let opened = opened.unwrap();
    assert_eq!(opened.secret.expose(), made.secret.expose());
    let fact = |name: &str| {
        let found = opened.facts.iter().find(|fact| fact.name == name);
        found.unwrap_or_else(|| panic!("{name}")).value.clone()
    };
    assert_eq!(fact("azure-key"), lock.key);
    assert_eq!(fact("azure-machine"), "a confidential VM (SEV-SNP)");
    assert_eq!(fact("azure-client-request-id").len(), 36);

    // A second lock of the same key needs no second release.
    let another = service
        .new_secret(&release_spec(), context(&request))
        .await
        .unwrap();
    let again = service.open_secret(&another.lock, context(&request)).await;
    let again = again.unwrap();
    assert_eq!(again.secret.expose(), another.secret.expose());
    let releases = world.audited("KeyRelease");
    assert_eq!(releases, [200]);

    for (fault, refusal) in [
        ("foreign-jws", "azure-release-signer"),
        ("forged-jws", "azure-release-signer"),
        ("other-key-id", "azure-release-answer"),
        ("other-nonce", "azure-release-replayed"),
        ("other-enc", "azure-release-answer"),
        ("foreign-recipient", "azure-release-recipient"),
        ("other-private-key", "azure-release-answer"),
        ("garbled-key", "azure-release-answer"),
    ] {
        // Twice: the first request of a fresh client has no token, and is the challenge's.
        let ordered = json!({ "fault": fault, "operation": "KeyRelease", "times": 2 });
        world.administrate(&["fault", "vault", &ordered.to_string()]);
        let service = fresh();
        let refused = service.open_secret(&made.lock, context(&request)).await;
        assert_eq!(code(refused), refusal, "{fault}");
    }
    for (fault, refusal) in [
        ("replay-envelope", "azure-token-other-boot"),
        ("foreign-token", "azure-token-invalid"),
        ("expired-token", "azure-token-time"),
        ("other-nonce", "azure-token-replayed"),
        ("other-key", "azure-token-other-boot"),
        ("garbled-envelope", "azure-token-other-boot"),
    ] {
        let ordered = json!({ "fault": fault, "operation": "AttestAzureGuest" });
        world.administrate(&["fault", "attestation", &ordered.to_string()]);
        let service = fresh();
        let refused = service.open_secret(&made.lock, context(&request)).await;
        let found = code(refused);
        // The same key is made again within a boot, so an envelope of this boot opens; its nonce is another request's.
        let replayed = fault == "replay-envelope" && found == "azure-token-replayed";
        assert!(found == refusal || replayed, "{fault}: {found}");
    }
    world.administrate(&["disable", "node", &version]);
    let service = fresh();
    let refused = service.open_secret(&made.lock, context(&request)).await;
    assert_eq!(code(refused), "azure-key-disabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_unwraps_with_the_version_that_wrapped_as_long_as_it_is_enabled() {
    let world = World::start();
    let request = world.request();
    let service = AzureUnwrap(world.vaults(Duration::from_millis(50)));
    let spec = LockSpec::AzureUnwrap {
        key: KEY.to_owned(),
    };
    let made = service.new_secret(&spec, context(&request)).await.unwrap();
    let opened = service.open_secret(&made.lock, context(&request)).await;
    assert_eq!(opened.unwrap().secret.expose(), made.secret.expose());
    let Lock::AzureUnwrap(lock) = &made.lock else {
        panic!("{:?}", made.lock);
    };

    // One unwrap in two seconds, and then two at once: who comes second is asked to wait, and does.
    world.administrate(&[
        "limit",
        r#"{"count": 10, "others": 1, "milliseconds": 2000}"#,
    ]);
    for _ in 0..2 {
        let opened = service.open_secret(&made.lock, context(&request)).await;
        assert_eq!(opened.unwrap().secret.expose(), made.secret.expose());
    }
    let statuses = world.audited("KeyUnwrap");
    let opened = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(opened, 3);
    assert!(statuses.contains(&429), "{statuses:?}");
    world.administrate(&["limit", r#"{"count": 10, "milliseconds": 10000}"#]);

    let mut changed = lock.clone();
    changed.ciphertext[17] ^= 1;
    let changed = Lock::AzureUnwrap(changed);
    let refused = service.open_secret(&changed, context(&request)).await;
    assert_eq!(code(refused), "azure-bad-parameter");
    let version = lock.key.rsplit('/').next().unwrap();
    world.administrate(&["disable", "node", version]);
    let refused = service.open_secret(&made.lock, context(&request)).await;
    assert_eq!(code(refused), "azure-key-disabled");
    let no_token = Context {
        egress: request.egress.clone(),
        ..Context::default()
    };
    let refused = service.open_secret(&made.lock, context(&no_token)).await;
    assert_eq!(code(refused), "azure-token-missing");
}

/// One TPM's evidence for every node of the fleet: making a key of it for each would measure the software TPM.
struct Shared {
    tpm: AzureTpm,
    evidence: GuestEvidence,
}

impl GuestTpm for Shared {
    fn evidence(&self) -> BoxFuture<'_, Result<GuestEvidence, Refusal>> {
        Box::pin(async { Ok(self.evidence.clone()) })
    }

    fn decrypt(
        &self,
        padding: Padding,
        ciphertext: Vec<u8>,
    ) -> BoxFuture<'_, Result<Secret, Refusal>> {
        self.tpm.decrypt(padding, ciphertext)
    }
}

/// A machine of its own as an operator runs it: vTPM, nodeseal-tpm, and the agent that starts the node.
struct RealNode {
    agent: Agent,
    _trusted: TpmProcess,
    _vm: AzureVm,
}

impl RealNode {
    fn install(azure: &Azure, vm: AzureVm, name: &str) -> Self {
        let trusted = azure.trusted_side(&vm, "").unwrap();
        let more = "[[key]]\nname = \"password\"\n[[azure]]\nidentity = \"managed\"";
        let agent = azure.agent(&vm, &trusted, name, &azure::release(), more);
        Self {
            agent: agent.unwrap(),
            _trusted: trusted,
            _vm: vm,
        }
    }

    fn start(&self) -> Running {
        let node = ["run", "--", "cat", "{password}"];
        let log = self.agent.directory().join("node.log");
        self.agent.start(node, &log).unwrap()
    }
}

/// Azure's ten releases in ten seconds, thirty times as fast. Most of the nodes are what a node has of its own towards
/// the vault: client, token, attempts, pauses; they share one TPM's evidence. Some are all there is: machine,
/// nodeseal-tpm and agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_nodes_start_against_one_vault_and_none_is_refused_for_good() {
    const NODES: usize = 196;
    const REAL: usize = 4;
    const PAUSE: Duration = Duration::from_millis(33);
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut azure = Azure::start().unwrap();
    let names: Vec<String> = (0..=REAL).map(|number| format!("vm-{number}")).collect();
    let mut vms: Vec<AzureVm> = names
        .iter()
        .map(|name| azure.machine(name, VmOptions::default()).unwrap())
        .collect();
    azure
        .open_vault(&vms[0], &["--limit", "10", "--limit-window", "333"])
        .unwrap();
    let ids: Vec<&str> = vms.iter().map(|vm| vm.id().unwrap()).collect();
    azure.create_key("confidential-vm", &ids).unwrap();
    let real: Vec<RealNode> = vms
        .drain(1..)
        .zip(&names)
        .map(|(vm, name)| RealNode::install(&azure, vm, &format!("{name}-node")))
        .collect();
    let world = World {
        azure,
        vm: vms.remove(0),
    };
    // Sealed once; every node has the blob.
    let first = &real[0].agent;
    let file = world.path("password");
    std::fs::write(&file, "the keystore's password").unwrap();
    first.run(["seal", &file]).unwrap().success("seal").unwrap();
    for other in &real[1..] {
        let blob = other.agent.blob("password");
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::copy(first.blob("password"), blob).unwrap();
    }
    let request = Arc::new(world.request());
    let tpm = world.tpm().await;
    let evidence = tpm.evidence().await.unwrap();
    let tpm = Arc::new(Shared { tpm, evidence });
    let maker = world.release(world.vaults(PAUSE), tpm.clone());
    let made = maker.new_secret(&release_spec(), context(&request)).await;
    let made = Arc::new(made.unwrap());

    let nodes: Vec<_> = (0..NODES)
        .map(|_| {
            let service = world.release(world.vaults(PAUSE), tpm.clone());
            let (request, made) = (request.clone(), made.clone());
            tokio::spawn(async move {
                // As the agent does: asked again while it is only busy.
                loop {
                    match service.open_secret(&made.lock, context(&request)).await {
                        Ok(opened) => {
                            assert_eq!(opened.secret.expose(), made.secret.expose());
                            return;
                        }
                        Err(refusal) if refusal.code == "azure-throttled" => {
                            tokio::time::sleep(part_of(PAUSE * 5)).await;
                        }
                        Err(refusal) => panic!("{}: {}", refusal.code, refusal.message),
                    }
                }
            })
        })
        .collect();
    let mut running: Vec<Running> = real.iter().map(RealNode::start).collect();
    for node in nodes {
        node.await.unwrap();
    }
    for node in &mut running {
        let ended = node.wait(PATIENCE).unwrap();
        assert!(ended.success(), "{}", node.output());
        assert!(
            node.output().ends_with("the keystore's password"),
            "{}",
            node.output()
        );
    }
    let statuses = world.audited("KeyRelease");
    let count = |status: u64| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(200), NODES + REAL);
    assert!(count(429) > 0, "the vault was never busy");
    assert_eq!(count(200) + count(429), statuses.len(), "{statuses:?}");
}
