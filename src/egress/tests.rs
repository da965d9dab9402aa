//! The proxy between real sockets.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::MetadataExt;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixStream};

use super::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A proxy that reaches `kms.test:443` at `port` of this machine.
fn proxy(port: u16, idle: Duration) -> (Proxy, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let target = |text: &str| Target::parse(text).unwrap();
    let settings = EgressSettings {
        addresses: [(target("kms.test:443"), target(&format!("127.0.0.1:{port}")))].into(),
        hosts: vec![target("no-such-host.invalid:443")],
        directory: Some(directory.path().to_owned()),
        idle_timeout: idle,
        ..EgressSettings::default()
    };
    let hosts = Hosts::new(&settings, []);
    (
        Proxy::start(&settings, &Address::Unix("/run/tpm.sock".into()), hosts).unwrap(),
        directory,
    )
}

/// Its unix socket.
fn socket(proxy: &Proxy) -> &Path {
    Path::new(proxy.address().strip_prefix("unix:").unwrap())
}

async fn dial(proxy: &Proxy) -> UnixStream {
    UnixStream::connect(socket(proxy)).await.unwrap()
}

/// Asks for `target` and gives the stream after a positive answer.
async fn tunnel_to(proxy: &Proxy, target: &str) -> UnixStream {
    let mut stream = dial(proxy).await;
    let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let expected = b"HTTP/1.1 200 Connection established\r\n\r\n";
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, expected);
    stream
}

/// Everything answered to `request`.
async fn answer_to(proxy: &Proxy, request: &[u8]) -> String {
    let mut stream = dial(proxy).await;
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    // Reset, where more was sent than was read, comes after the answer.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, _directory) = proxy(server.local_addr().unwrap().port(), LONG);
        let serving = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut asked = Vec::new();
            // Until the client's half ends; then the answer still gets through.
            stream.read_to_end(&mut asked).await.unwrap();
            asked.reverse();
            stream.write_all(&asked).await.unwrap();
        });
        let mut client = tunnel_to(&proxy, "kms.test:443").await;
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        got.reverse();
        assert!(got == sent);
        serving.await.unwrap();
    });
}

#[test]
fn bytes_sent_together_with_the_request_reach_the_server() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, _directory) = proxy(server.local_addr().unwrap().port(), LONG);
        let mut client = dial(&proxy).await;
        let together = b"CONNECT kms.test:443 HTTP/1.1\r\n\r\nhello";
        client.write_all(together).await.unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    });
}

#[test]
fn what_is_not_allowed_or_not_connect_is_refused_by_name() {
    run(async {
        let (proxy, _directory) = proxy(1, LONG);
        for (request, status, text) in [
            (
                "CONNECT example.org:443 HTTP/1.1\r\n\r\n",
                403,
                "example.org:443 is not an allowed host",
            ),
            (
                "CONNECT kms.test:80 HTTP/1.1\r\n\r\n",
                403,
                "kms.test:80 is not an allowed host",
            ),
            (
                "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n",
                403,
                "127.0.0.1:1 is not an allowed host",
            ),
            (
                "GET http://kms.test:443/ HTTP/1.1\r\n\r\n",
                405,
                "only CONNECT is served",
            ),
            (
                "CONNECT kms.test HTTP/1.1\r\n\r\n",
                400,
                "the request is not CONNECT HOST:PORT",
            ),
            (
                "CONNECT kms.test:443\r\n\r\n",
                400,
                "the request is not CONNECT HOST:PORT",
            ),
            (
                "CONNECT kms.test:443 HTTP/2\r\n\r\n",
                400,
                "the request is not CONNECT HOST:PORT",
            ),
            (
                "CONNECT kms.test:443 HTTP/1.1\r\n\r\n",
                502,
                "kms.test:443 cannot be reached: ",
            ),
            (
                "CONNECT no-such-host.invalid:443 HTTP/1.1\r\n\r\n",
                502,
                "no-such-host.invalid:443 cannot be reached: ",
            ),
        ] {
            let answer = answer_to(&proxy, request.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request:?}: {answer}"
            );
            assert!(answer.contains(text), "{request:?}: {answer}");
        }
        let endless = [b'x'; 8192];
        let answer = answer_to(&proxy, &endless).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

#[test]
fn a_silent_tunnel_ends_and_one_that_is_used_does_not() {
    run(async {
        tokio::time::pause();
        let (mut client, mut tunnel_client) = tokio::io::duplex(64);
        let (mut server, mut tunnel_server) = tokio::io::duplex(64);
        let idle = Duration::from_secs(10);
        let running = tokio::spawn(async move {
            tunnel::run(&mut tunnel_client, &mut tunnel_server, idle).await;
            Instant::now()
        });
        let start = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
        }
        let ended = running.await.unwrap() - start;
        assert_eq!(ended.as_secs(), 37);
    });
}

#[test]
fn many_tunnels_at_once_do_not_wait_for_each_other() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, _directory) = proxy(server.local_addr().unwrap().port(), LONG);
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..64 {
            clients.push(tunnel_to(&proxy, "kms.test:443").await);
            servers.push(server.accept().await.unwrap().0);
        }
        // A client that says nothing and one that is being refused are in nobody's way either.
        let _silent = dial(&proxy).await;
        // The last opened is answered first, while all others are silent.
        for (client, server) in clients.iter_mut().zip(&mut servers).rev() {
            client.write_all(b"ping").await.unwrap();
            let mut got = [0; 4];
            server.read_exact(&mut got).await.unwrap();
            server.write_all(b"pong").await.unwrap();
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"pong");
        }
    });
}

#[test]
fn the_socket_can_be_found_by_who_is_told_and_is_gone_afterwards() {
    run(async {
        let (proxy, directory) = proxy(1, LONG);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let path = socket(&proxy);
        let modes = (mode(path.parent().unwrap()), mode(path));
        assert_eq!(modes, (0o711, 0o666));
        drop(proxy);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    });
}

#[test]
fn an_enclave_is_offered_a_port_of_its_parent() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let machine = directory.path().join("vm.vsock");
        let to = Target::parse(&server.local_addr().unwrap().to_string()).unwrap();
        let settings = EgressSettings {
            addresses: [(Target::parse("kms.test:443").unwrap(), to)].into(),
            hosts: vec![Target::parse("kms.test:443").unwrap()],
            ..EgressSettings::default()
        };
        let trusted = Address::Hybrid {
            path: machine.clone(),
            port: 5000,
        };
        let proxy = Proxy::start(&settings, &trusted, Hosts::new(&settings, [])).unwrap();
        let port = proxy.address().strip_prefix("vsock:").unwrap();
        let socket = format!("{}_{port}", machine.display());
        let mut client = UnixStream::connect(&socket).await.unwrap();
        let ask = b"CONNECT kms.test:443 HTTP/1.1\r\n\r\nhello";
        client.write_all(ask).await.unwrap();
        let mut got = [0; 5];
        server
            .accept()
            .await
            .unwrap()
            .0
            .read_exact(&mut got)
            .await
            .unwrap();
        assert_eq!(&got, b"hello");
        drop(proxy);
        assert!(!Path::new(&socket).exists());
    });
}
