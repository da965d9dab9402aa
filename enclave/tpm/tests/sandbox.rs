//! What a process inside the sandbox cannot do any more, tried in a child process that enters it.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

use nodeseal_tpm::sandbox::{Needs, enter};
use nodeseal_tpm::tcti::Tcti;

const CHILD: &str = "NODESEAL_TEST_TCTI";

/// Runs this test once more in a process of its own, in which it enters the sandbox and prints what it may do.
fn in_sandbox(test: &str, tcti: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, tcti)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn as_child() -> Option<Tcti> {
    std::env::var(CHILD).ok().map(|tcti| tcti.parse().unwrap())
}

fn say(what: &str, result: std::io::Result<impl Sized>) {
    match result {
        Ok(_) => println!("\n{what}: allowed"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            println!("\n{what}: allowed");
        }
        Err(error) => println!("\n{what}: {:?}", error.kind()),
    }
}

fn try_everything(tcti: &Tcti, port: u16, other: u16) {
    let facts = enter(&Needs {
        tcti,
        account: None,
        lock_memory: false,
        socket: None,
    })
    .unwrap();
    for fact in facts {
        println!("\n{}: {}", fact.name, fact.value);
    }
    say(
        "connect to the TPM",
        TcpStream::connect(("127.0.0.1", port)),
    );
    say(
        "connect elsewhere",
        TcpStream::connect(("127.0.0.1", other)),
    );
    say("listen", TcpListener::bind(("127.0.0.1", 0)));
    say("send datagrams", UdpSocket::bind(("127.0.0.1", 0)));
    say("execute", Command::new("/bin/true").status());
    say("read a file", std::fs::read("/etc/passwd"));
    say("read another process", std::fs::read("/proc/1/environ"));
    say("write a file", std::fs::write("/tmp/nodeseal-sandbox", "x"));
    let signal = rustix::process::Signal::CONT;
    let this = rustix::process::getpid();
    say(
        "send a signal",
        rustix::process::kill_process(this, signal).map_err(Into::into),
    );
    say("start a thread", std::thread::Builder::new().spawn(|| ()));
    say("connect to a unix socket", unix_socket());
}

/// The path does not exist; that the socket can be made is what counts.
fn unix_socket() -> std::io::Result<()> {
    std::os::unix::net::UnixDatagram::unbound().map(drop)
}

fn lines(said: &str, expected: &[(&str, &str)]) {
    for (what, outcome) in expected {
        let line = format!("{what}: {outcome}");
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
}

const NEVER: [(&str, &str); 6] = [
    ("listen", "PermissionDenied"),
    ("send datagrams", "PermissionDenied"),
    ("execute", "PermissionDenied"),
    ("send a signal", "PermissionDenied"),
    ("start a thread", "allowed"),
    ("connect to a unix socket", "allowed"),
];
const FILES: [(&str, &str); 3] = [
    ("read a file", "PermissionDenied"),
    ("read another process", "PermissionDenied"),
    ("write a file", "PermissionDenied"),
];

#[test]
fn with_a_device_there_is_no_network_no_program_and_no_file() {
    if let Some(tcti) = as_child() {
        return try_everything(&tcti, 1, 2);
    }
    let test = "with_a_device_there_is_no_network_no_program_and_no_file";
    let said = in_sandbox(test, "device:/dev/tpmrm0");
    lines(&said, &NEVER);
    lines(
        &said,
        &[
            ("connect to the TPM", "PermissionDenied"),
            ("connect elsewhere", "PermissionDenied"),
        ],
    );
    if landlock(&said) {
        lines(&said, &FILES);
    }
}

#[test]
fn with_a_software_tpm_only_its_port_can_be_reached() {
    if let Some(tcti) = as_child() {
        let Tcti::Swtpm(at) = &tcti else {
            panic!("{tcti}")
        };
        return try_everything(&tcti, at.port, at.port - 1);
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let test = "with_a_software_tpm_only_its_port_can_be_reached";
    let said = in_sandbox(test, &format!("swtpm:host=127.0.0.1,port={port}"));
    lines(&said, &[("connect to the TPM", "allowed")]);
    lines(&said, &NEVER[2..]);
    if landlock(&said) {
        lines(&said, &FILES);
        lines(
            &said,
            &[
                ("connect elsewhere", "PermissionDenied"),
                ("listen", "PermissionDenied"),
            ],
        );
    }
}

/// Whether this kernel restricts files; ports are restricted from Linux 6.7 on.
fn landlock(said: &str) -> bool {
    let has = said.contains("(Landlock)");
    if !has {
        println!("skipped: this kernel has no Landlock, or an old one");
    }
    has && Path::new("/proc").exists()
}
