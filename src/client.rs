//! A connection to the trusted side: one reply to each request, in order, each within its time.

mod open;
mod read;

use std::time::Duration;

use nodeseal_memory::Secret;
use nodeseal_wire::cbor::DecodeError;
use nodeseal_wire::frame::{FrameError, read_frame_into, write_frame};
use nodeseal_wire::message::{PROTOCOL, Refusal, Reply, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::config::{Address, Trusted};
use crate::vsock::ask_for_port;

pub use open::{BlobSource, Opened, open_blobs};

/// What the agent calls itself.
const SOFTWARE: &str = concat!("nodeseal ", env!("CARGO_PKG_VERSION"));

/// The trusted side could not be reached, or did not answer as it must.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there, or not for this user.
    #[error("cannot reach the trusted side at {address}: {source}")]
    Connect {
        /// Where it should be.
        address: Address,
        /// Why not.
        source: std::io::Error,
    },
    /// The virtual machine's socket refused the port.
    #[error("{address} does not lead to the trusted side: expected \"OK PORT\", found {found:?}")]
    NotConnected {
        /// Where it should be.
        address: Address,
        /// What was answered.
        found: String,
    },
    /// No answer came in time.
    #[error("the trusted side did not {what} within {} s", waited.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// The connection failed.
    #[error("the connection to the trusted side: {0}")]
    Frame(#[from] FrameError),
    /// The connection ended before the reply.
    #[error("the trusted side ended the connection before it replied")]
    Ended,
    /// The reply is not one.
    #[error("the trusted side's reply is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The reply is to something else, or does not add up.
    #[error("the trusted side's reply does not fit the request: expected {expected}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
    },
    /// The trusted side speaks other messages.
    #[error(
        "the trusted side ({software}) speaks protocol {found}, this program protocol {PROTOCOL}"
    )]
    Protocol {
        /// Name and version of the trusted side.
        software: String,
        /// Its protocol.
        found: u64,
    },
    /// The trusted side said no to the request as a whole.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Bytes of the trusted side.
type Incoming = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to it.
type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection that has been greeted.
pub struct Connection {
    incoming: Incoming,
    outgoing: Outgoing,
    timeout: Duration,
    /// Name and version of the trusted side.
    pub software: String,
}

impl Connection {
    /// Connects and says hello.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(trusted: &Trusted) -> Result<Self, ClientError> {
        let wait = trusted.connect_timeout;
        let connected = within(wait, "accept the connection", connect(&trusted.address));
        let (incoming, outgoing) = connected.await?;
        let mut connection = Self {
            incoming,
            outgoing,
            timeout: wait,
            software: String::new(),
        };
        let hello = Request::Hello {
            protocol: PROTOCOL,
            software: SOFTWARE.to_owned(),
        };
        match connection.request(&hello, &[]).await? {
            (Reply::Hello { protocol, software }, _) if protocol == PROTOCOL => {
                connection.software = software;
            }
            (Reply::Hello { protocol, software }, _) => {
                return Err(ClientError::Protocol {
                    software,
                    found: protocol,
                });
            }
            _ => {
                return Err(ClientError::Unexpected {
                    expected: "a hello",
                });
            }
        }
        connection.timeout = trusted.timeout;
        Ok(connection)
    }

    /// Sends one request and takes its reply: the message, and the bytes it speaks of.
    ///
    /// # Errors
    /// See [`ClientError`]; a refusal of the whole request is one.
    pub async fn request(
        &mut self,
        request: &Request,
        payload: &[u8],
    ) -> Result<(Reply, Secret), ClientError> {
        send(&mut self.outgoing, self.timeout, &request.encode(), payload).await?;
        receive(&mut self.incoming, self.timeout, None).await
    }
}

async fn connect(address: &Address) -> Result<(Incoming, Outgoing), ClientError> {
    let failed = |source| ClientError::Connect {
        address: address.clone(),
        source,
    };
    let stream = match address {
        Address::Vsock { cid, port } => {
            let connected = VsockStream::connect(VsockAddr::new(*cid, *port)).await;
            let (incoming, outgoing) = connected.map_err(failed)?.into_split();
            return Ok((Box::new(incoming), Box::new(outgoing)));
        }
        Address::Unix(path) => UnixStream::connect(path).await.map_err(failed)?,
        Address::Hybrid { path, port } => {
            let mut stream = UnixStream::connect(path).await.map_err(failed)?;
            let answer = ask_for_port(&mut stream, *port).await.map_err(failed)?;
            answer.map_err(|found| ClientError::NotConnected {
                address: address.clone(),
                found,
            })?;
            stream
        }
    };
    let (incoming, outgoing) = stream.into_split();
    Ok((Box::new(incoming), Box::new(outgoing)))
}

async fn within<T, E: Into<ClientError>>(
    wait: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, ClientError> {
    match timeout(wait, future).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(ClientError::Timeout { what, waited: wait }),
    }
}

async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    wait: Duration,
    message: &[u8],
    payload: &[u8],
) -> Result<(), ClientError> {
    within(
        wait,
        "take the request",
        write_frame(stream, message, payload),
    )
    .await
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    wait: Duration,
    spare: Option<Secret>,
) -> Result<(Reply, Secret), ClientError> {
    let frame = within(wait, "reply", read_frame_into(stream, spare)).await?;
    let frame = frame.ok_or(ClientError::Ended)?;
    match Reply::decode(&frame.message)? {
        Reply::Refused(refusal) => Err(refusal.into()),
        reply => Ok((reply, frame.payload)),
    }
}

#[cfg(test)]
mod tests;
