//! The connection against peers that do right and wrong.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use nodeseal_wire::frame::read_frame;
use nodeseal_wire::message::{Batch, Class, Context, OpenRequest, Outcome};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::*;
use crate::supplies::Supplies;

/// Nothing but the defaults.
fn supplies() -> Supplies {
    let config = "node = 'n'\n[trusted]\naddress = 'unix:/nowhere'\n";
    Supplies::new(Context::default(), &toml::from_str(config).unwrap())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

fn trusted(address: String) -> Trusted {
    let text = format!("address = {address:?}\nconnect_timeout = \"500ms\"\ntimeout = \"500ms\"");
    toml::from_str(&text).unwrap()
}

/// What a peer answers to a request: message and payload.
type Answer = (Vec<u8>, Vec<u8>);

/// A peer that says hello and then answers by `answer` until that has no more to say.
struct Peer {
    directory: TempDir,
}

impl Peer {
    fn new(mut answer: impl FnMut(Request, &[u8]) -> Option<Answer> + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while let Ok(Some(frame)) = read_frame(&mut stream).await {
                let request = Request::decode(&frame.message).unwrap();
                let Some((message, payload)) = answer(request, frame.payload.expose()) else {
                    return;
                };
                write_frame(&mut stream, &message, &payload).await.unwrap();
            }
        });
        Self { directory }
    }

    fn polite(mut answer: impl FnMut(Request, &[u8]) -> Option<Answer> + Send + 'static) -> Self {
        Self::new(move |request, payload| match request {
            Request::Hello { .. } => Some((hello(PROTOCOL), Vec::new())),
            request => answer(request, payload),
        })
    }

    fn trusted(&self) -> Trusted {
        trusted(format!(
            "unix:{}",
            self.directory.path().join("s").display()
        ))
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.trusted()).await.unwrap()
    }
}

fn hello(protocol: u64) -> Vec<u8> {
    let software = "peer 1".to_owned();
    Reply::Hello { protocol, software }.encode()
}

async fn refused(trusted: &Trusted) -> ClientError {
    Connection::open(trusted).await.err().unwrap()
}

#[test]
fn a_trusted_side_that_is_not_there_is_named() {
    run(async {
        let error = refused(&trusted("unix:/nowhere/s".to_owned())).await;
        assert_eq!(
            error.to_string(),
            "cannot reach the trusted side at unix:/nowhere/s: No such file or directory (os error 2)"
        );
    });
}

#[test]
fn another_protocol_is_refused_by_its_number() {
    run(async {
        let peer = Peer::new(|_, _| Some((hello(9), Vec::new())));
        let error = refused(&peer.trusted()).await;
        assert!(
            matches!(error, ClientError::Protocol { found: 9, .. }),
            "{error}"
        );
    });
}

#[test]
fn a_peer_that_closes_garbles_or_says_nothing_is_told_apart() {
    run(async {
        let peer = Peer::polite(|_, _| None);
        let error = peer
            .connect()
            .await
            .request(&Request::Status, &[])
            .await
            .err()
            .unwrap();
        assert!(matches!(error, ClientError::Ended), "{error}");

        let peer = Peer::polite(|_, _| Some((vec![0xff], Vec::new())));
        let error = peer
            .connect()
            .await
            .request(&Request::Status, &[])
            .await
            .err()
            .unwrap();
        assert!(matches!(error, ClientError::Malformed(_)), "{error}");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _silent = UnixListener::bind(&path).unwrap();
        let error = refused(&trusted(format!("unix:{}", path.display()))).await;
        assert_eq!(
            error.to_string(),
            "the trusted side did not reply within 0.5 s"
        );
    });
}

/// A virtual machine's socket that answers `answer` to `CONNECT` and then is a peer that says hello.
async fn hybrid(answer: &'static str) -> Result<Connection, ClientError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(
            crate::vsock::read_line(&mut stream).await.unwrap(),
            "CONNECT 5000\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        if let Ok(Some(_)) = read_frame(&mut stream).await {
            write_frame(&mut stream, &hello(PROTOCOL), &[])
                .await
                .unwrap();
        }
    });
    Connection::open(&trusted(format!("hybrid:{}:5000", path.display()))).await
}

#[test]
fn the_way_into_a_virtual_machine_is_asked_for_and_checked() {
    run(async {
        assert_eq!(hybrid("OK 1073741824\n").await.unwrap().software, "peer 1");
        for wrong in ["NO\n", "OK", "OK 1073741824 and so on, without an end"] {
            let error = hybrid(wrong).await.err().unwrap();
            let told = matches!(
                error,
                ClientError::NotConnected { .. } | ClientError::Timeout { .. }
            );
            assert!(told, "{wrong:?}: {error}");
        }
    });
}

/// Outcome of each file by its number, and of each request how many blobs it had and whether more were to come.
type Echoed = (BTreeMap<usize, Result<usize, String>>, Vec<(usize, bool)>);

/// Opens `count` files of these lengths, some of which may be missing, at a peer that gives each blob back as its key.
fn open_at_echo(count: usize, directory: &Path, length: impl Fn(usize) -> Option<usize>) -> Echoed {
    let source = |number: usize| {
        let path = directory.join(format!("{number}"));
        if let Some(length) = length(number) {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
        }
        BlobSource {
            path,
            name: Some(format!("key-{number}")),
        }
    };
    let sources: Vec<_> = (0..count).map(source).collect();
    let (told, requests) = std::sync::mpsc::channel();
    let mut outcomes = BTreeMap::new();
    run(async {
        let peer = Peer::polite(move |request, payload| {
            let Request::Open(OpenRequest { blobs, more, .. }) = request else {
                return None;
            };
            told.send((blobs.len(), more)).unwrap();
            assert!(blobs.iter().all(|blob| blob.name.is_some()));
            let outcomes = blobs
                .iter()
                .map(|blob| Outcome::Delivered(blob.length))
                .collect();
            let batch = Batch {
                outcomes,
                data_keys: Vec::new(),
            };
            Some((Reply::Opened(batch).encode(), payload.to_vec()))
        });
        let mut connection = peer.connect().await;
        open_blobs(
            &mut connection,
            "v1",
            supplies(),
            sources,
            |index, opened| {
                let outcome = match opened {
                    Ok(opened) => {
                        assert_eq!(opened.blob, opened.key);
                        Ok(opened.key.len())
                    }
                    Err(refusal) => Err(refusal.code),
                };
                assert_eq!(outcomes.insert(index, outcome), None, "told once");
                Ok::<_, ClientError>(())
            },
        )
        .await
        .unwrap();
    });
    (outcomes, requests.iter().collect())
}

#[test]
fn every_blob_of_a_batch_is_told_once_and_the_last_request_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for count in [0, 1, 9, 10, 40, 2000, 2500] {
        let length = |number| (number % 10 != 9).then_some(100 + number * 3);
        let (outcomes, requests) = open_at_echo(count, directory.path(), length);
        assert_eq!(outcomes.len(), count);
        for (number, outcome) in outcomes {
            let expected = length(number).ok_or_else(|| "unreadable".to_owned());
            assert_eq!(outcome, expected, "{number}");
        }
        let last = |(_, more): &(usize, bool)| !*more;
        let lasts = requests.iter().filter(|request| last(request)).count();
        assert_eq!(lasts, usize::from(count > 0));
        assert!(requests.last().is_none_or(last));
        assert!(count < 2000 || requests.len() > 4, "{}", requests.len());
    }
}

#[test]
fn a_batch_whose_last_files_cannot_be_read_is_ended_by_a_request_without_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let length = |number| (number < 2).then_some(300 << 10);
    let (outcomes, requests) = open_at_echo(3, directory.path(), length);
    assert_eq!(outcomes[&1], Ok(300 << 10));
    assert_eq!(outcomes[&2], Err("unreadable".to_owned()));
    assert_eq!(requests, [(2, true), (0, false)]);
}

#[test]
fn a_batch_of_several_requests_begins_with_a_small_one() {
    let directory = tempfile::tempdir().unwrap();
    let (_, requests) = open_at_echo(2500, directory.path(), |_| Some(300));
    // Of two readers, so that it need not be the very first.
    assert!(
        requests.iter().any(|(blobs, _)| *blobs == 64),
        "{requests:?}"
    );
}

#[test]
fn a_reply_that_does_not_add_up_ends_the_batch() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a"), "blob").unwrap();
    let refusal = Refusal {
        class: Class::Denied,
        code: "no".into(),
        message: "no".into(),
    };
    for (outcomes, payload) in [
        (vec![], ""),
        (vec![Outcome::Delivered(5)], "four"),
        (vec![Outcome::Delivered(3)], "four"),
        (vec![Outcome::Held], ""),
        (vec![Outcome::Refused(refusal), Outcome::Delivered(0)], ""),
    ] {
        let batch = Batch {
            outcomes,
            data_keys: Vec::new(),
        };
        let reply = Reply::Opened(batch).encode();
        let error = run(async {
            let peer = Peer::polite(move |_, _| Some((reply.clone(), payload.into())));
            let source = BlobSource {
                path: directory.path().join("a"),
                name: None,
            };
            let mut connection = peer.connect().await;
            let sources = vec![source];
            open_blobs(&mut connection, "v1", supplies(), sources, |_, _| {
                Ok::<_, ClientError>(())
            })
            .await
            .unwrap_err()
        });
        assert!(matches!(error, ClientError::Unexpected { .. }), "{error}");
    }
}

#[test]
fn what_the_caller_says_no_to_ends_the_batch() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a"), "blob").unwrap();
    let error = run(async {
        let batch = Batch {
            outcomes: vec![Outcome::Delivered(0)],
            data_keys: Vec::new(),
        };
        let reply = Reply::Opened(batch).encode();
        let peer = Peer::polite(move |_, _| Some((reply.clone(), Vec::new())));
        let source = BlobSource {
            path: directory.path().join("a"),
            name: None,
        };
        let mut connection = peer.connect().await;
        open_blobs(&mut connection, "v1", supplies(), vec![source], |_, _| {
            Err(ClientError::Ended)
        })
        .await
        .unwrap_err()
    });
    assert!(matches!(error, ClientError::Ended), "{error}");
}
