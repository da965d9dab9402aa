//! The module behind a unix socket, since a socket cannot stand in for the ioctl.
//!
//! Each direction: `u32 BE length ‖ CBOR`. A client that sends more than the device takes is answered InputTooLarge
//! and heard on; one that claims more than [`MAX_FRAME`] is dropped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::NsmSimulator;

/// Most bytes of a request (NSM_REQUEST_MAX_SIZE).
pub const MAX_REQUEST: usize = 0x1000;
/// Most bytes of a response (NSM_RESPONSE_MAX_SIZE).
pub const MAX_RESPONSE: usize = 0x3000;
/// Most bytes read to say that they are too many.
const MAX_FRAME: usize = 0x1_0000;
/// How long a client may take for one request it has begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket failed.
#[derive(Debug, thiserror::Error)]
#[error("the NSM socket failed: {0}")]
pub struct ServeError(#[from] io::Error);

/// Answers every client of `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve(listener: UnixListener, nsm: Arc<NsmSimulator>) -> Result<(), ServeError> {
    let mut clients = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let nsm = nsm.clone();
        clients.spawn(async move {
            if let Err(error) = client(stream, &nsm).await {
                tracing::debug!(%error, "an NSM client is gone");
            }
        });
        while clients.try_join_next().is_some() {}
    }
}

async fn client(mut stream: UnixStream, nsm: &NsmSimulator) -> io::Result<()> {
    loop {
        let mut prefix = [0; 4];
        match stream.read_exact(&mut prefix).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        };
        let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame too large",
            ));
        }
        let mut request = vec![0; length];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut request)).await??;
        let response = nsm.call(&request);
        let length = u32::try_from(response.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&response).await?;
    }
}
