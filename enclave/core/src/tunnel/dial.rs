//! How the agent's proxy is reached from this trusted side.

use std::fmt::Debug;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::lock::BoxFuture;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection being made.
pub type Dialled = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// How the agent's proxy is reached. Where there is anything to be reached, the agent does not get to say.
pub trait Dial: Debug + Send + Sync {
    /// The forms of address it takes, for messages.
    fn forms(&self) -> &'static str;

    /// Connects to `address`; none where it is of no such form. The caller bounds the time.
    fn dial(&self, address: &str) -> Option<Dialled>;
}

/// Sockets of the system: `unix:/PATH` and `tcp:HOST:PORT`.
#[derive(Debug)]
pub struct Sockets;

impl Dial for Sockets {
    fn forms(&self) -> &'static str {
        "unix:/PATH or tcp:HOST:PORT"
    }

    fn dial(&self, address: &str) -> Option<Dialled> {
        match address.split_once(':')? {
            ("unix", path) if path.starts_with('/') => {
                let path = path.to_owned();
                Some(Box::pin(async move {
                    Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>)
                }))
            }
            ("tcp", to) if to.contains(':') => {
                let to = to.to_owned();
                Some(Box::pin(async move {
                    let stream = TcpStream::connect(to).await?;
                    stream.set_nodelay(true)?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                }))
            }
            _ => None,
        }
    }
}
