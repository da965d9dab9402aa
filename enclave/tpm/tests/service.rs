//! The real program: enrolled, started, spoken to over its socket, stopped.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "service/memory.rs"]
mod memory;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nodeseal_harness::{Finished, Handles, Running, Swtpm, short_dir};
use nodeseal_wire::frame::{read_frame, write_frame};
use nodeseal_wire::header::{KeyType, Release};
use nodeseal_wire::lock::LockSpec;
use nodeseal_wire::message::{
    BlobRef, Context, DataKeySource, KeyAbout, NewKey, OpenRequest, Outcome, PROTOCOL, Reply,
    Request, SealRequest, Status, WaySpec,
};
use tokio::net::UnixStream;

const SOON: Duration = Duration::from_secs(30);
const KEY: &[u8] = b"the node's private key, 32 bytes";

/// A directory with a configuration for one TPM.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new(swtpm: &Swtpm, extra: &str) -> Self {
        let site = Self {
            directory: short_dir().unwrap(),
        };
        site.configure(swtpm, extra);
        site
    }

    fn configure(&self, swtpm: &Swtpm, extra: &str) {
        let uid = rustix::process::geteuid().as_raw();
        // Root of a container may not lock everything; what the environment allows is in the tests of the sandbox.
        let text = format!(
            "tpm = \"{}\"\nenrolment = \"enrolment.json\"\nsocket = \"tpm.sock\"\nlock_memory = {}\n{}\n{extra}\n",
            swtpm.tcti(),
            uid == 0,
            if extra.contains("allowed_uids") {
                String::new()
            } else {
                format!("allowed_uids = [{uid}]")
            },
        );
        fs::write(self.path("nodeseal-tpm.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodeseal-tpm"));
        command
            .arg(name)
            .arg("--config")
            .arg(self.path("nodeseal-tpm.toml"));
        command
    }

    fn enroll(&self) -> Finished {
        Finished::of(&mut self.command("enroll")).unwrap()
    }

    fn serve(&self) -> Running {
        let log = self.path("log");
        // What an earlier life said is not this one's.
        let _ = fs::remove_file(&log);
        let mut running = Running::start("nodeseal-tpm", &mut self.command("serve"), &log).unwrap();
        running
            .wait_until("be ready", SOON, |running| {
                running.output().contains("ready")
            })
            .unwrap();
        running
    }

    async fn connect(&self) -> Client {
        let mut client = Client(UnixStream::connect(self.path("tpm.sock")).await.unwrap());
        let hello = Request::Hello {
            protocol: PROTOCOL,
            software: "test".to_owned(),
        };
        let (reply, _) = client.ask(&hello, &[]).await;
        assert!(matches!(reply, Reply::Hello { .. }), "{reply:?}");
        client
    }
}

struct Client(UnixStream);

impl Client {
    async fn ask(&mut self, request: &Request, payload: &[u8]) -> (Reply, Vec<u8>) {
        write_frame(&mut self.0, &request.encode(), payload)
            .await
            .unwrap();
        let frame = read_frame(&mut self.0).await.unwrap().unwrap();
        let reply = Reply::decode(&frame.message).unwrap();
        (reply, frame.payload.expose().to_vec())
    }

    async fn seal(&mut self) -> Vec<u8> {
        self.seal_key(KEY).await
    }

    async fn seal_key(&mut self, key: &[u8]) -> Vec<u8> {
        let request = Request::Seal(SealRequest {
            node: "node-1".to_owned(),
            created: 7,
            data_key: DataKeySource::New(vec![WaySpec {
                label: "tpm".to_owned(),
                locks: vec![LockSpec::Tpm],
            }]),
            keys: vec![NewKey::Given {
                about: KeyAbout {
                    name: "nodekey".to_owned(),
                    key_type: KeyType::Opaque,
                    release: Release::Deliver,
                },
                length: u32::try_from(key.len()).unwrap(),
            }],
            context: Context::default(),
        });
        match self.ask(&request, key).await {
            (Reply::Sealed(batch), blob) => {
                assert!(matches!(batch.outcomes[..], [Outcome::Delivered(_)]));
                blob
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    async fn open(&mut self, blob: &[u8]) -> Result<Vec<u8>, String> {
        let request = Request::Open(OpenRequest {
            node: "node-1".to_owned(),
            blobs: vec![BlobRef {
                name: Some("nodekey".to_owned()),
                length: u32::try_from(blob.len()).unwrap(),
            }],
            more: false,
            context: Context::default(),
        });
        match self.ask(&request, blob).await {
            (Reply::Opened(batch), key) => match &batch.outcomes[..] {
                [Outcome::Delivered(_)] => Ok(key),
                [Outcome::Refused(refusal)] => Err(refusal.code.clone()),
                other => panic!("{other:?}"),
            },
            (other, _) => panic!("{other:?}"),
        }
    }

    async fn status(&mut self) -> Status {
        match self.ask(&Request::Status, &[]).await {
            (Reply::Status(status), _) => status,
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_key_sealed_over_the_socket_opens_until_the_pcrs_change() {
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "");
    site.enroll().success("enrolling").unwrap();
    let mut service = site.serve();
    let mut client = site.connect().await;
    let blob = client.seal().await;
    assert!(!blob.windows(KEY.len()).any(|window| window == KEY));
    assert_eq!(client.open(&blob).await.unwrap(), KEY);
    assert_eq!(site.connect().await.open(&blob).await.unwrap(), KEY);
    assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);

    swtpm.extend_pcr(7).unwrap();
    let refused = site.connect().await.open(&blob).await;
    assert_eq!(refused.unwrap_err(), "tpm-pcr-mismatch");

    let ended = service.stop(SOON).unwrap();
    assert!(ended.success(), "{ended}: {}", service.output());
    assert!(!site.path("tpm.sock").exists());
    // A second life opens what the first sealed, once the PCRs are as they were.
    swtpm.reboot().unwrap();
    let _service = site.serve();
    assert_eq!(site.connect().await.open(&blob).await.unwrap(), KEY);
}

#[tokio::test]
async fn what_is_in_force_is_what_the_kernel_says_and_what_status_reports() {
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "socket_mode = \"0600\"");
    site.enroll().success("enrolling").unwrap();
    let service = site.serve();
    let facts = site.connect().await.status().await.facts;
    let fact = |name: &str| {
        let found = facts.iter().find(|fact| fact.name == name);
        found.map(|fact| fact.value.clone()).unwrap_or_default()
    };
    assert_eq!(fact("core-dumps"), "off");
    assert!(fact("system-calls").contains("seccomp"));
    assert!(fact("network").starts_with("loopback only"));
    assert_eq!(fact("tpm-pcrs"), "sha256:7,11,12");

    for task in fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("CapInh:"), "0000000000000000");
        // At most CAP_IPC_LOCK (bit 14), for memory that stays locked.
        let capabilities = u64::from_str_radix(&field("CapPrm:"), 16).unwrap();
        assert_eq!(capabilities & !(1 << 14), 0, "{status}");
        if rustix::process::geteuid().is_root() {
            assert_eq!(field("CapBnd:"), "0000000000000000");
            assert_ne!(field("VmLck:"), "0 kB");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    assert_eq!(core.unwrap().split_whitespace().nth(4), Some("0"));
    // Files in /proc of a process that is not dumpable belong to root, whoever runs it.
    let mode = fs::metadata(site.path("tpm.sock")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_client_whose_uid_is_not_allowed_is_turned_away_with_the_reason() {
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "allowed_uids = [4242]");
    site.enroll().success("enrolling").unwrap();
    let _service = site.serve();
    let mut stream = UnixStream::connect(site.path("tpm.sock")).await.unwrap();
    let frame = read_frame(&mut stream).await.unwrap().unwrap();
    match Reply::decode(&frame.message).unwrap() {
        Reply::Refused(refusal) => assert_eq!(refusal.code, "uid-not-allowed"),
        other => panic!("{other:?}"),
    }
    assert!(read_frame(&mut stream).await.unwrap().is_none());
}

#[tokio::test]
async fn started_as_root_it_becomes_the_configured_account() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "user = \"65534\"\ngroup = \"65533\"");
    // The account must reach the directory of its record and socket.
    fs::set_permissions(site.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    site.enroll().success("enrolling").unwrap();
    let service = site.serve();
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65533\t65533\t65533\t65533",
        "Groups:\t65533 ",
    ] {
        assert!(
            status.lines().any(|found| found == line),
            "{line}: {status}"
        );
    }
    let mut client = site.connect().await;
    let blob = client.seal().await;
    assert_eq!(client.open(&blob).await.unwrap(), KEY);
}

#[test]
fn a_tpm_that_is_not_the_enrolled_one_ends_the_start_with_a_status_of_its_own() {
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "");
    site.enroll().success("enrolling").unwrap();
    let start = || Finished::of(&mut site.command("serve")).unwrap();

    let other = Swtpm::distinct().unwrap();
    site.configure(&other, "");
    let ended = start();
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("a different TPM"), "{}", ended.stderr);

    site.configure(&swtpm, "");
    swtpm.clear().unwrap();
    let ended = start();
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("was cleared"), "{}", ended.stderr);

    let again = site.enroll();
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("--replace"), "{}", again.stderr);
    let replaced = Finished::of(site.command("enroll").arg("--replace")).unwrap();
    replaced.success("enrolling anew").unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let mut swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "");
    let ended = Finished::of(&mut site.command("serve")).unwrap();
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("run `nodeseal-tpm enroll` first"),
        "{}",
        ended.stderr
    );
    site.enroll().success("enrolling").unwrap();
    swtpm.kill();
    let ended = Finished::of(&mut site.command("serve")).unwrap();
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("cannot reach the TPM at swtpm:"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_second_service_on_the_same_socket_is_refused_and_a_stale_socket_is_not() {
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "");
    site.enroll().success("enrolling").unwrap();
    let mut first = site.serve();
    let second = Finished::of(&mut site.command("serve")).unwrap();
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("another process listens there"),
        "{}",
        second.stderr
    );
    first.kill();
    assert!(site.path("tpm.sock").exists(), "left by SIGKILL");
    drop(first);
    let _third = site.serve();
    site.connect().await;
}

#[tokio::test]
async fn a_socket_of_the_service_manager_is_taken_over() {
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "");
    site.enroll().success("enrolling").unwrap();
    let socket = site.path("activated.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // A shell puts the socket where systemd puts it, descriptor 3, and says for whom it is.
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg("exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --config \"$1\"")
        .arg(env!("CARGO_BIN_EXE_nodeseal-tpm"))
        .arg(site.path("nodeseal-tpm.toml"))
        .stdin(listener.as_fd().try_clone_to_owned().unwrap())
        .stdout(std::process::Stdio::null())
        .stderr(fs::File::create(site.path("log")).unwrap())
        .process_group(0);
    let mut child = command.spawn().unwrap();
    let client = async {
        let mut client = Client(UnixStream::connect(&socket).await.unwrap());
        let hello = Request::Hello {
            protocol: PROTOCOL,
            software: "test".to_owned(),
        };
        client.ask(&hello, &[]).await.0
    };
    let reply = tokio::time::timeout(SOON, client).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let log = fs::read_to_string(site.path("log")).unwrap();
    assert!(matches!(reply, Ok(Reply::Hello { .. })), "{reply:?}: {log}");
    assert!(!site.path("tpm.sock").exists());
}
