//! A simulated KMS and security module as processes, a CONNECT proxy, and a key whose policy names one image.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use nodeseal_attestation::policy::ReleasePolicy;
use nodeseal_attestation::policy::aws::key_policy;
use nodeseal_core::aws::{AwsKms, AwsKmsConfig, CONTEXT_NODE};
use nodeseal_core::tunnel::Roots;
use nodeseal_harness::{Finished, Running, program, short_dir};
use nodeseal_wire::message::{AwsCredentials, Context};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::direct::Direct;
use super::module::Module;

const READY: Duration = Duration::from_secs(60);
const ADMINISTRATOR: &str = "arn:aws:iam::111122223333:user/administrator";
const RUNTIME_ROLE: &str = "arn:aws:iam::111122223333:role/validator";
const RUNTIME: &str = "arn:aws:sts::111122223333:assumed-role/validator/i-0123456789abcdef0";
/// The node every test opens for.
pub const NODE: &str = "validator-7";

pub struct World {
    directory: TempDir,
    _kms: Running,
    ready: Value,
    modules: Vec<Running>,
    /// ARN of the key that only the image "good" may use.
    pub key: String,
    /// KMS as the key's administrator sees it.
    pub administrator: aws_sdk_kms::Client,
}

impl World {
    /// Starts everything; answers to recipients have this shape.
    pub async fn start(shape: &str) -> Self {
        let directory = short_dir().unwrap();
        let at = directory.path();
        let mut command = simulator("aws-kms");
        command.arg("--state").arg(at.join("kms"));
        command.args(["--cms", shape, "--listen", "127.0.0.1:0"]);
        let (kms, ready) = start("aws-kms", &mut command, at);
        let mut world = Self {
            administrator: administrator(&ready),
            directory,
            _kms: kms,
            ready,
            modules: Vec::new(),
            key: String::new(),
        };
        let (_, module) = world.module("good", &["--image", "good"]);
        world.key = world.new_key(&module).await;
        world.proxy();
        world
    }

    /// A security module that boots with these arguments, and what it measured.
    pub fn module(&mut self, name: &str, arguments: &[&str]) -> (Module, Value) {
        let at = self.directory.path();
        let socket = at.join(format!("{name}.nsm"));
        let mut command = simulator("nsm");
        command.arg("--socket").arg(&socket);
        command.arg("--root").arg(at.join("kms")).args(arguments);
        let (running, ready) = start(name, &mut command, at);
        self.modules.push(running);
        (Module { socket }, ready["measurements"].clone())
    }

    /// A key under a policy that was written for these measurements and [`NODE`].
    pub async fn new_key(&self, measurements: &Value) -> String {
        let release = format!(
            r#"
            version = 1
            encryption_context = {{ "{CONTEXT_NODE}" = "{NODE}" }}
            [principals]
            runtime = ["{RUNTIME_ROLE}"]
            administrators = ["{ADMINISTRATOR}"]
            [[generation]]
            name = "first"
            provider = "nitro-enclave"
            pcrs = {{ 0 = {} }}
            "#,
            measurements["PCR0"]
        );
        let policy = key_policy(&ReleasePolicy::parse(&release).unwrap()).unwrap();
        let made = self
            .administrator
            .create_key()
            .policy(policy.to_json())
            .send();
        made.await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    /// Moves bytes for the trusted side, whatever host it names, to the simulator.
    fn proxy(&self) {
        let listener = UnixListener::bind(self.directory.path().join("egress.sock")).unwrap();
        let to = authority(&self.ready).to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Whoever hangs up is gone.
                tokio::spawn(tunnel(client, to.clone()));
            }
        });
    }

    /// A trusted side that proves itself by `module`.
    pub fn trusted(&self, module: Module, change: impl FnOnce(&mut AwsKmsConfig)) -> AwsKms {
        let authority = std::fs::read(self.ready["ca"].as_str().unwrap()).unwrap();
        let mut config = AwsKmsConfig {
            roots: Roots::Pem(authority),
            recipient_keys: 1,
            attempt: Duration::from_secs(30),
            deadline: Duration::from_secs(60),
            ..AwsKmsConfig::default()
        };
        change(&mut config);
        AwsKms::new(config, Some(Arc::new(module))).unwrap()
    }

    /// What the agent passes along: credentials that last so many seconds.
    pub fn request(&self, lifetime: u64) -> Context {
        let made = credential(
            &self.ready,
            &["--principal", RUNTIME, "--lifetime", &lifetime.to_string()],
        );
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Context {
            aws: Some(AwsCredentials {
                access_key_id: text("AccessKeyId"),
                secret_access_key: text("SecretAccessKey"),
                session_token: Some(text("SessionToken")),
                expires: None,
            }),
            egress: Some(format!(
                "unix:{}/egress.sock",
                self.directory.path().display()
            )),
            ..Context::default()
        }
    }

    /// Orders a fault of the simulator, as JSON.
    pub async fn order(&self, fault: &str) {
        let address = self.ready["admin"].as_str().unwrap();
        let address = address
            .trim_start_matches("http://")
            .trim_start_matches("tcp:");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /faults HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{fault}",
            fault.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

async fn tunnel(mut client: UnixStream, to: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let mut server = TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn simulator(command: &str) -> Command {
    let mut simulator = Command::new(program("nodeseal-sim").unwrap());
    simulator.arg(command);
    simulator
}

/// Starts a simulator; it prints one line of JSON when it is ready.
fn start(name: &str, command: &mut Command, at: &Path) -> (Running, Value) {
    let log = at.join(format!("{name}.log"));
    let mut running = Running::start(name, command, &log).unwrap();
    let json = |running: &Running| {
        let output = running.output();
        let mut lines = output.lines().filter(|line| line.starts_with('{'));
        lines.find_map(|line| serde_json::from_str::<Value>(line).ok())
    };
    running
        .wait_until("be ready", READY, |running| json(running).is_some())
        .unwrap();
    let ready = json(&running).unwrap();
    (running, ready)
}

fn authority(ready: &Value) -> &str {
    let endpoint = ready["endpoint"].as_str().unwrap();
    endpoint.trim_start_matches("https://")
}

fn credential(ready: &Value, arguments: &[&str]) -> Value {
    let mut command = simulator("credential");
    command
        .arg("--credentials")
        .arg(ready["credentials"].as_str().unwrap());
    let made = Finished::of(command.args(arguments)).unwrap();
    serde_json::from_str(&made.success("credential").unwrap().text()).unwrap()
}

fn administrator(ready: &Value) -> aws_sdk_kms::Client {
    let made = credential(ready, &["--principal", ADMINISTRATOR, "--administrator"]);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let credentials = Credentials::new(
        text("AccessKeyId"),
        text("SecretAccessKey"),
        None,
        None,
        "test",
    );
    let authority_pem = std::fs::read(ready["ca"].as_str().unwrap()).unwrap();
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .endpoint_url(format!("https://{}", authority(ready)))
        .http_client(Direct::new(&authority_pem))
        .build();
    aws_sdk_kms::Client::from_conf(config)
}
