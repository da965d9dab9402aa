//! The parent told that the enclave is up: one byte, sent and echoed (aws-nitro-enclaves-cli, `enclave_ready`).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// vsock port of the parent, always of CID 3, where `nitro-cli run-enclave` waits for it.
pub const PORT: u32 = 9000;
/// The byte.
const BYTE: u8 = 0xB7;
/// Longest wait; nothing else waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends the heartbeat over the stream `connect` makes, once, and says how it went. An enclave whose parent does not
/// listen (QEMU, or a parent that stopped waiting) serves all the same.
pub async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl Future<Output = io::Result<S>>,
) -> Result<(), String> {
    let beat = async {
        let mut stream = connect.await?;
        stream.write_all(&[BYTE]).await?;
        stream.read_u8().await
    };
    match timeout(PATIENCE, beat).await {
        Ok(Ok(BYTE)) => Ok(()),
        Ok(Ok(other)) => Err(format!("expected {BYTE:#04x}, found {other:#04x}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::duplex;

    #[tokio::test]
    async fn the_byte_is_sent_and_its_echo_awaited() {
        let (enclave, mut parent) = duplex(16);
        let listening = tokio::spawn(async move {
            let byte = parent.read_u8().await.unwrap();
            parent.write_u8(byte).await.unwrap();
            byte
        });
        assert_eq!(send(async { Ok(enclave) }).await, Ok(()));
        assert_eq!(listening.await.unwrap(), 0xB7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_is_absent_silent_or_strange_is_given_up() {
        let absent =
            async { Err::<tokio::io::DuplexStream, _>(io::ErrorKind::ConnectionReset.into()) };
        assert_eq!(send(absent).await, Err("connection reset".to_owned()));
        let (enclave, _silent) = duplex(16);
        let silent = send(async { Ok(enclave) }).await;
        assert_eq!(silent, Err("no answer within 10 s".to_owned()));
        let never = std::future::pending::<io::Result<tokio::io::DuplexStream>>();
        assert_eq!(send(never).await, Err("no answer within 10 s".to_owned()));
        let (enclave, mut strange) = duplex(16);
        strange.write_u8(1).await.unwrap();
        let strange = send(async { Ok(enclave) }).await;
        assert_eq!(strange, Err("expected 0xb7, found 0x01".to_owned()));
    }
}
