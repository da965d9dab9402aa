//! Many clients of one enclave at once, through one way out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodeseal_harness::{Cloud, Context as _, Error, Result};
use nodeseal_wire::frame::{read_frame, write_frame};
use nodeseal_wire::message::{
    AwsCredentials, BlobRef, Context, OpenRequest, Outcome, PROTOCOL, Reply, Request,
};
use tokio::net::UnixStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::failed;

/// What each of them asks for.
pub struct Client {
    enclave: PathBuf,
    egress: String,
    credentials: Vec<(String, String)>,
    blob: Vec<u8>,
}

/// How long all of them took together, and each.
pub struct Took {
    pub all: Duration,
    pub each: Vec<Duration>,
}

impl Client {
    /// Clients of the enclave at the socket `enclave`.
    pub fn new(cloud: &Cloud, enclave: &Path, egress: String, blob: &[u8]) -> Self {
        Self {
            enclave: enclave.to_owned(),
            egress,
            credentials: cloud.instance.clone(),
            blob: blob.to_owned(),
        }
    }

    /// `count` clients open the blob at the same time, all connected before.
    pub fn open_at_once(self: &Arc<Self>, count: usize) -> Result<Took> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("runtime")?;
        runtime.block_on(async {
            let ready = Arc::new(Barrier::new(count + 1));
            let mut clients = JoinSet::new();
            for _ in 0..count {
                clients.spawn(Arc::clone(self).open(Arc::clone(&ready)));
            }
            ready.wait().await;
            let start = Instant::now();
            let mut each = Vec::with_capacity(count);
            while let Some(done) = clients.join_next().await {
                each.push(done.map_err(failed)??);
            }
            Ok(Took {
                all: start.elapsed(),
                each,
            })
        })
    }

    async fn open(self: Arc<Self>, ready: Arc<Barrier>) -> Result<Duration> {
        let connected = self.connect().await;
        ready.wait().await;
        let mut stream = connected?;
        let start = Instant::now();
        let request = Request::Open(OpenRequest {
            node: Cloud::NODE.to_owned(),
            blobs: vec![BlobRef {
                name: None,
                length: u32::try_from(self.blob.len()).map_err(failed)?,
            }],
            more: false,
            context: self.context(),
        });
        match ask(&mut stream, &request, &self.blob).await? {
            Reply::Opened(batch) => match batch.outcomes.as_slice() {
                [Outcome::Delivered(_)] => Ok(start.elapsed()),
                other => Err(Error::new(format!("{other:?}"))),
            },
            other => Err(Error::new(format!("{other:?}"))),
        }
    }

    async fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.enclave).await;
        let mut stream = stream.context(self.enclave.display())?;
        let hello = Request::Hello {
            protocol: PROTOCOL,
            software: "benchmark".to_owned(),
        };
        ask(&mut stream, &hello, &[]).await?;
        Ok(stream)
    }

    fn context(&self) -> Context {
        let of = |name: &str| {
            let found = self.credentials.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| value.clone())
        };
        Context {
            aws: Some(AwsCredentials {
                access_key_id: of("AWS_ACCESS_KEY_ID").unwrap_or_default(),
                secret_access_key: of("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
                session_token: of("AWS_SESSION_TOKEN"),
                expires: None,
            }),
            egress: Some(self.egress.clone()),
            ..Context::default()
        }
    }
}

async fn ask(stream: &mut UnixStream, request: &Request, payload: &[u8]) -> Result<Reply> {
    write_frame(stream, &request.encode(), payload)
        .await
        .map_err(failed)?;
    let frame = read_frame(stream).await.map_err(failed)?;
    let frame = frame.ok_or_else(|| Error::new("the enclave ended the connection"))?;
    Reply::decode(&frame.message).map_err(failed)
}
