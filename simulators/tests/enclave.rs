//! A simulated enclave that seals and opens by the simulated KMS, spoken to as the agent does.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use nodeseal_attestation::nitro::{Anchor, DebugEnclaves, Document};
use nodeseal_attestation::time::Timestamp;
use nodeseal_harness::{Finished, Simulator, checkout, program, python, short_dir};
use nodeseal_wire::frame::{read_frame, write_frame};
use nodeseal_wire::header::{KeyType, Release};
use nodeseal_wire::lock::LockSpec;
use nodeseal_wire::message::{
    AwsCredentials, BlobRef, Class, Context, DataKeySource, KeyAbout, NewKey, OpenRequest, Outcome,
    PROTOCOL, Reply, Request, SealRequest, WaySpec,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};

const ACCOUNT: &str = "111122223333";
const NODE: &str = "validator-1";
const SECRET: &[u8] = b"the node's key, 32 bytes of it..";

struct World {
    directory: tempfile::TempDir,
    kms: Simulator,
    /// ARN of a key for the image "good" alone.
    key: String,
}

fn good() -> Vec<String> {
    vec!["--image".to_owned(), "good".to_owned()]
}

impl World {
    /// A KMS, a way out to it, and a key whose policy names an enclave's measurements.
    fn start() -> Self {
        let directory = short_dir().unwrap();
        let state = directory.path().join("kms");
        let arguments = ["--state", state.to_str().unwrap()];
        let kms = Simulator::start("aws-kms", arguments, &directory.path().join("log")).unwrap();
        let mut world = Self {
            directory,
            kms,
            key: String::new(),
        };
        world.egress();
        let enclave = world.enclave("unix:measured", &good());
        world.key = world.new_key(&enclave.ready()["measurements"]);
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An enclave; `listen` is its address with a relative path.
    fn enclave(&self, listen: &str, arguments: &[String]) -> Simulator {
        let (kind, path) = listen.split_once(':').unwrap();
        let mut all = vec![
            format!("--listen={kind}:{}", self.at(path).display()),
            format!("--root={}", self.at("kms").display()),
            format!("--kms-ca={}", self.kms.told("ca").unwrap()),
            "--deadline=60".to_owned(),
            "--attempt=30".to_owned(),
        ];
        all.extend_from_slice(arguments);
        Simulator::start("enclave", all, &self.at("log")).unwrap()
    }

    /// Moves bytes to KMS, whatever host is asked for.
    fn egress(&self) {
        let listener = UnixListener::bind(self.at("egress")).unwrap();
        let to = self.kms.told("endpoint").unwrap();
        let to = to.strip_prefix("https://").unwrap().to_owned();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    let mut server = TcpStream::connect(to).await.unwrap();
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    // Whoever hangs up is gone.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    }

    /// Made with boto3: the policy serves the role in the measured image, for this node.
    fn new_key(&self, measurements: &Value) -> String {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/admin")},
                    "Action": ["kms:PutKeyPolicy", "kms:GetKeyPolicy"],
                    "Resource": "*",
                },
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:role/node")},
                    "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                    "Resource": "*",
                    "Condition": {"StringEqualsIgnoreCase": {
                        "kms:RecipientAttestation:PCR0": measurements["PCR0"],
                        "kms:EncryptionContext:nodeseal:node": NODE,
                    }},
                },
            ],
        });
        let admin = format!("arn:aws:iam::{ACCOUNT}:user/admin");
        let credential = credential(self.directory.path(), &admin, "--administrator");
        let mut command = Command::new(python().unwrap());
        command
            .args(["-c", "import boto3, sys; print(boto3.client('kms', endpoint_url=sys.argv[1], verify=sys.argv[2], region_name='us-east-1').create_key(Policy=sys.argv[3])['KeyMetadata']['Arn'])"])
            .args([self.kms.told("endpoint").unwrap(), self.kms.told("ca").unwrap()])
            .arg(policy.to_string())
            .env("AWS_ACCESS_KEY_ID", credential["AccessKeyId"].as_str().unwrap())
            .env("AWS_SECRET_ACCESS_KEY", credential["SecretAccessKey"].as_str().unwrap())
            .current_dir(checkout());
        let made = Finished::of(&mut command).unwrap();
        made.success("create_key").unwrap().text().trim().to_owned()
    }

    fn context(&self) -> Context {
        let role = format!("arn:aws:sts::{ACCOUNT}:assumed-role/node/session");
        let made = credential(self.directory.path(), &role, "--lifetime=3600");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Context {
            aws: Some(AwsCredentials {
                access_key_id: text("AccessKeyId"),
                secret_access_key: text("SecretAccessKey"),
                session_token: Some(text("SessionToken")),
                expires: None,
            }),
            egress: Some(format!("unix:{}", self.at("egress").display())),
            ..Context::default()
        }
    }

    async fn seal(&self, client: &mut Client) -> Vec<u8> {
        let lock = LockSpec::AwsKms {
            key: self.key.clone(),
            attested: true,
        };
        let request = Request::Seal(SealRequest {
            node: NODE.to_owned(),
            created: 1_700_000_000,
            data_key: DataKeySource::New(vec![WaySpec {
                label: "kms".to_owned(),
                locks: vec![lock],
            }]),
            keys: vec![NewKey::Given {
                about: KeyAbout {
                    name: "node-key".to_owned(),
                    key_type: KeyType::Opaque,
                    release: Release::Deliver,
                },
                length: u32::try_from(SECRET.len()).unwrap(),
            }],
            context: self.context(),
        });
        let (reply, blob) = client.ask(&request, SECRET).await;
        match reply {
            Reply::Sealed(batch) => assert!(
                matches!(batch.outcomes.as_slice(), [Outcome::Delivered(_)]),
                "{batch:?}"
            ),
            other => panic!("{other:?}"),
        }
        blob
    }

    async fn open(&self, client: &mut Client, blob: &[u8]) -> (Outcome, Vec<u8>) {
        let request = Request::Open(OpenRequest {
            node: NODE.to_owned(),
            blobs: vec![BlobRef {
                name: None,
                length: u32::try_from(blob.len()).unwrap(),
            }],
            more: false,
            context: self.context(),
        });
        match client.ask(&request, blob).await {
            (Reply::Opened(mut batch), keys) => (batch.outcomes.remove(0), keys),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Class and code of the refusal to open `blob`.
    async fn refusal(&self, listen: &str, arguments: &[String], blob: &[u8]) -> (Class, String) {
        let _enclave = self.enclave(listen, arguments);
        let path = self.at(listen.split_once(':').unwrap().1);
        let mut client = Client::hello(UnixStream::connect(path).await.unwrap()).await;
        match self.open(&mut client, blob).await {
            (Outcome::Refused(refusal), _) => (refusal.class, refusal.code),
            (other, _) => panic!("{other:?}"),
        }
    }
}

fn credential(directory: &Path, principal: &str, more: &str) -> Value {
    let mut command = Command::new(program("nodeseal-sim").unwrap());
    command
        .args([
            "credential",
            "--principal",
            principal,
            more,
            "--credentials",
        ])
        .arg(directory.join("kms/credentials"));
    let done = Finished::of(&mut command).unwrap();
    serde_json::from_str(&done.success("credential").unwrap().text()).unwrap()
}

struct Client(UnixStream);

impl Client {
    async fn hello(stream: UnixStream) -> Self {
        let mut client = Self(stream);
        let request = Request::Hello {
            protocol: PROTOCOL,
            software: "test".to_owned(),
        };
        let (reply, _) = client.ask(&request, &[]).await;
        assert!(matches!(reply, Reply::Hello { .. }), "{reply:?}");
        client
    }

    async fn ask(&mut self, request: &Request, payload: &[u8]) -> (Reply, Vec<u8>) {
        write_frame(&mut self.0, &request.encode(), payload)
            .await
            .unwrap();
        let frame = read_frame(&mut self.0).await.unwrap().unwrap();
        let payload = frame.payload.expose().to_vec();
        (Reply::decode(&frame.message).unwrap(), payload)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_enclave_proves_what_it_was_told_it_is() {
    let directory = short_dir().unwrap();
    let socket = directory.path().join("vsock");
    let root = directory.path().join("root");
    let listen = format!("--listen=hybrid:{}:5000", socket.display());
    let arguments = [listen, format!("--root={}", root.display())];
    let log = directory.path().join("log");
    let enclave = Simulator::start("enclave", arguments, &log).unwrap();

    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"CONNECT 5000\n").await.unwrap();
    let mut answer = [0; 14];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"OK 1073741824\n");
    let mut client = Client::hello(stream).await;
    let nonce = b"a nonce of the agent".to_vec();
    let request = Request::Evidence {
        nonce: nonce.clone(),
    };
    let (reply, document) = client.ask(&request, &[]).await;
    assert!(
        matches!(&reply, Reply::Evidence { kind } if kind == "nitro-enclave"),
        "{reply:?}"
    );

    let pem = std::fs::read_to_string(root.join("nitro-root.pem")).unwrap();
    let anchor = Anchor::from_pem(&pem).unwrap();
    let document = Document::parse(&document).unwrap();
    let at = Timestamp::from_milliseconds(document.timestamp().milliseconds());
    let verified = document.verify(at, &anchor, DebugEnclaves::Refuse).unwrap();
    assert_eq!(verified.document().nonce(), Some(&nonce[..]));
    let pcr0 = nodeseal_attestation::hex::encode(verified.document().pcr(0).unwrap());
    assert_eq!(enclave.ready()["measurements"]["PCR0"], pcr0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_enclave_sealed_only_the_same_image_opens() {
    let world = World::start();
    let enclave = world.enclave("unix:first", &good());
    let mut client = Client::hello(UnixStream::connect(world.at("first")).await.unwrap()).await;
    let blob = world.seal(&mut client).await;
    drop((client, enclave));

    let _enclave = world.enclave("unix:second", &good());
    let mut client = Client::hello(UnixStream::connect(world.at("second")).await.unwrap()).await;
    let (outcome, keys) = world.open(&mut client, &blob).await;
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    assert_eq!(keys, SECRET);

    let denied = (Class::Denied, "kms-access-denied".to_owned());
    let other = ["--image".to_owned(), "bad".to_owned()];
    assert_eq!(world.refusal("unix:bad", &other, &blob).await, denied);
    let debug = [good(), vec!["--debug".to_owned()]].concat();
    assert_eq!(world.refusal("unix:debug", &debug, &blob).await, denied);
}
