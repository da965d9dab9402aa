//! Requests of one connection answered.
//!
//! The same for every trusted side; what differs is the [`Keyring`] it is given and the stream it listens on. Every
//! wait is bounded, so a client that stalls costs one task and its own connection.

mod clients;
mod held;
mod open;
mod release;
mod seal;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nodeseal_memory::Secret;
use nodeseal_wire::frame::{Frame, FrameError, read_frame_into, write_frame};
use nodeseal_wire::message::{Class, Fact, PROTOCOL, Refusal, Reply, Request, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::evidence::{AttestationRequest, Attester};
use crate::keyring::Keyring;
use crate::refusal::refuse;
use held::HeldKeys;

pub use clients::accept_clients;
pub use release::Releases;

/// How long the trusted side waits, and for how much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the next request on an open connection, whole.
    pub idle: Duration,
    /// For the client to take a reply.
    pub write: Duration,
    /// For one request to be answered, locks included.
    pub request: Duration,
    /// What may happen to keys.
    pub releases: Releases,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            request: Duration::from_secs(120),
            releases: Releases::ALL,
        }
    }
}

/// What a trusted side says of itself.
pub struct About {
    /// "tpm", "nitro-enclave".
    pub provider: &'static str,
    /// Name and version.
    pub software: String,
    /// Protections in force.
    pub facts: Vec<Fact>,
    /// Figures of the moment, told after the protections.
    pub live: fn() -> Vec<Fact>,
    /// What proves what it runs, where there is such a thing.
    pub attester: Option<Arc<dyn Attester>>,
}

/// One trusted side: everything its connections share.
pub struct TrustedSide {
    keyring: Keyring,
    about: About,
    limits: Limits,
    connections: Mutex<Vec<Weak<HeldKeys>>>,
    opened: AtomicU64,
    refused: AtomicU64,
}

/// Bytes beside a reply.
enum Payload {
    None,
    Public(Vec<u8>),
    Keys(Secret),
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Public(bytes) => bytes,
            Self::Keys(keys) => keys.expose(),
        }
    }

    /// Locked memory for the next request's payload, wiped now.
    fn emptied(self) -> Option<Secret> {
        match self {
            Self::None | Self::Public(_) => None,
            Self::Keys(keys) => Some(keys.emptied()),
        }
    }
}

/// Why a connection ended before its client ended it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The stream, or what came over it.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The client waited too long.
    #[error("no {what} within {} s", after.as_secs())]
    TooSlow {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The client does not speak the protocol.
    #[error("{0}")]
    Protocol(String),
}

impl TrustedSide {
    /// A trusted side with these key services.
    #[must_use]
    pub fn new(keyring: Keyring, about: About, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            keyring,
            about,
            limits,
            connections: Mutex::default(),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Wipes every data key held for any connection.
    pub fn lock(&self) {
        for held in self.held() {
            held.clear();
        }
    }

    /// Answers the requests of one client until it goes.
    ///
    /// # Errors
    /// When the client breaks the protocol, stalls, or its stream fails. Its data keys are wiped in any case.
    pub async fn serve<S>(self: Arc<Self>, mut stream: S) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let held = self.register();
        self.greet(&mut stream).await?;
        let mut spare = None;
        while let Some(frame) = self.receive(&mut stream, spare.take()).await? {
            let (reply, payload) = match Request::decode(&frame.message) {
                Ok(request) => self.answer(&held, request, frame.payload).await,
                Err(error) => {
                    let refusal = refuse(Class::Misuse, "bad-request", error.to_string());
                    self.send(&mut stream, &Reply::Refused(refusal), &Payload::None)
                        .await?;
                    return Err(ConnectionError::Protocol(error.to_string()));
                }
            };
            self.send(&mut stream, &reply, &payload).await?;
            spare = payload.emptied();
        }
        Ok(())
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
    ) -> Result<(), ConnectionError> {
        let Some(frame) = self.receive(stream, None).await? else {
            return Ok(());
        };
        let problem = match Request::decode(&frame.message) {
            Ok(Request::Hello { protocol, .. }) if protocol == PROTOCOL => {
                let reply = Reply::Hello {
                    protocol: PROTOCOL,
                    software: self.about.software.clone(),
                };
                return self.send(stream, &reply, &Payload::None).await;
            }
            Ok(Request::Hello { protocol, software }) => format!(
                "the agent ({software}) speaks protocol {protocol}, this trusted side {PROTOCOL}; \
                 install the same release on both sides"
            ),
            Ok(_) => "the first request must be Hello".to_owned(),
            Err(error) => error.to_string(),
        };
        let refusal = refuse(Class::Misuse, "bad-hello", problem.clone());
        self.send(stream, &Reply::Refused(refusal), &Payload::None)
            .await?;
        Err(ConnectionError::Protocol(problem))
    }

    async fn answer(
        &self,
        held: &Arc<HeldKeys>,
        request: Request,
        payload: Secret,
    ) -> (Reply, Payload) {
        let answer = async {
            match request {
                Request::Open(open) => self.open(held, open, payload).await,
                Request::Seal(seal) => self.seal(held, seal, payload).await,
                Request::Status => Ok((Reply::Status(self.status()), Payload::None)),
                Request::Lock => {
                    self.lock();
                    Ok((Reply::Locked, Payload::None))
                }
                Request::Evidence { nonce } => self.evidence(&nonce).await,
                Request::Hello { .. } => Err(refuse(
                    Class::Misuse,
                    "bad-hello",
                    "Hello is said once, at the start of a connection",
                )),
            }
        };
        let result = timeout(self.limits.request, answer)
            .await
            .unwrap_or_else(|_| {
                let seconds = self.limits.request.as_secs();
                let message = format!("the request was not answered within {seconds} s");
                Err(refuse(Class::Unavailable, "request-timeout", message))
            });
        result.unwrap_or_else(|refusal| {
            self.refused.fetch_add(1, Relaxed);
            (Reply::Refused(refusal), Payload::None)
        })
    }

    async fn evidence(&self, nonce: &[u8]) -> Result<(Reply, Payload), Refusal> {
        let Some(attester) = &self.about.attester else {
            let message = format!(
                "a {} trusted side has no attestation document to give",
                self.about.provider
            );
            return Err(refuse(Class::Misuse, "no-evidence", message));
        };
        let request = AttestationRequest {
            nonce: Some(nonce),
            ..AttestationRequest::default()
        };
        let document = attester.attest(request).await?;
        let kind = attester.kind().to_owned();
        Ok((Reply::Evidence { kind }, Payload::Public(document)))
    }

    fn status(&self) -> Status {
        let data_keys: usize = self.held().iter().map(|held| held.len()).sum();
        Status {
            provider: self.about.provider.to_owned(),
            keys_held: 0,
            data_keys_held: data_keys as u64,
            opened: self.opened.load(Relaxed),
            refused: self.refused.load(Relaxed),
            facts: [self.about.facts.clone(), (self.about.live)()].concat(),
        }
    }

    fn register(&self) -> Arc<HeldKeys> {
        let held = Arc::new(HeldKeys::default());
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&held));
        held
    }

    fn held(&self) -> Vec<Arc<HeldKeys>> {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    async fn receive(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        spare: Option<Secret>,
    ) -> Result<Option<Frame>, ConnectionError> {
        let after = self.limits.idle;
        match timeout(after, read_frame_into(stream, spare)).await {
            Ok(frame) => Ok(frame?),
            Err(_) => Err(ConnectionError::TooSlow {
                what: "whole request",
                after,
            }),
        }
    }

    async fn send(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        reply: &Reply,
        payload: &Payload,
    ) -> Result<(), ConnectionError> {
        let after = self.limits.write;
        let message = reply.encode();
        let write = write_frame(stream, &message, payload.bytes());
        match timeout(after, write).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(ConnectionError::TooSlow {
                what: "client that reads its reply",
                after,
            }),
        }
    }
}

/// Up to so many bytes of blobs, which take microseconds, work is done where it arises: handing it to another thread and
/// back would take longer.
const WORKED_ON_HERE: usize = 4 << 10;

/// Runs work on `bytes` of blobs or keys where it does not hold up other clients, and leaves no key on that thread's
/// stack.
async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let run = move || {
        let result = work();
        nodeseal_memory::wipe_stack();
        result
    };
    if bytes <= WORKED_ON_HERE {
        return Ok(run());
    }
    tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| refuse(Class::Internal, "panic", error.to_string()))
}
