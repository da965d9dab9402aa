//! Where the agent reaches the simulated enclave: a unix socket, or one in front of a vsock as Firecracker has it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nodeseal_core::tunnel::{Dial, Dialled, Sockets, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::http::bind_unix;

/// Longest `CONNECT` line: the word, a space, ten digits, the end of the line.
const MAX_CONNECT: usize = 19;
/// How long a client may take for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The port on the host's side Firecracker would have made up.
const HOST_PORT: u32 = 1_073_741_824;

/// Address of the simulated enclave, as the agent's configuration spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnclaveAddress {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `hybrid:PATH:PORT`.
    Hybrid(PathBuf, u32),
}

impl std::str::FromStr for EnclaveAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Some(Self::Unix(path.into())),
            Some(("hybrid", rest)) => rest
                .rsplit_once(':')
                .filter(|(path, _)| !path.is_empty())
                .and_then(|(path, port)| Some(Self::Hybrid(path.into(), port.parse().ok()?))),
            _ => None,
        };
        parsed.ok_or_else(|| format!("expected unix:PATH or hybrid:PATH:PORT, found {text:?}"))
    }
}

impl EnclaveAddress {
    /// How an enclave there reaches the agent's proxy.
    #[must_use]
    pub fn dial(&self) -> Arc<dyn Dial> {
        match self {
            Self::Unix(_) => Arc::new(Sockets),
            Self::Hybrid(path, _) => Arc::new(Host(path.clone())),
        }
    }
}

/// Ports of the host, which are unix sockets beside the machine's: `PATH_PORT`.
#[derive(Debug)]
struct Host(PathBuf);

impl Dial for Host {
    fn forms(&self) -> &'static str {
        "vsock:PORT"
    }

    fn dial(&self, address: &str) -> Option<Dialled> {
        let port: u32 = address.strip_prefix("vsock:")?.parse().ok()?;
        let path = format!("{}_{port}", self.0.display());
        Some(Box::pin(async move {
            Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>)
        }))
    }
}

/// A socket the agent connects to.
pub struct EnclaveListener {
    listener: UnixListener,
    port: Option<u32>,
}

impl EnclaveListener {
    /// Listens, replacing a socket nobody listens on any more.
    ///
    /// # Errors
    /// When somebody does, or the path cannot be used.
    pub fn bind(address: &EnclaveAddress) -> io::Result<Self> {
        let (path, port) = match address {
            EnclaveAddress::Unix(path) => (path, None),
            EnclaveAddress::Hybrid(path, port) => (path, Some(*port)),
        };
        Ok(Self {
            listener: bind_unix(path)?,
            port,
        })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    pub(super) fn port(&self) -> Option<u32> {
        self.port
    }
}

/// The stream once it leads to the trusted side; none if the client asked for another port or said something else.
pub(super) async fn connected(mut stream: UnixStream, port: Option<u32>) -> Option<UnixStream> {
    let Some(port) = port else {
        return Some(stream);
    };
    let line = tokio::time::timeout(PATIENCE, read_line(&mut stream)).await;
    // Firecracker closes a connection it cannot make, without a word (docs/vsock.md).
    if line.ok()?.ok()? != format!("CONNECT {port}\n").as_bytes() {
        return None;
    }
    let answer = format!("OK {HOST_PORT}\n");
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(stream)
}

/// Byte by byte: what follows the line belongs to the trusted side.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() < MAX_CONNECT && line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_those_of_the_agents_configuration() {
        let parse = |text: &str| text.parse::<EnclaveAddress>();
        assert_eq!(parse("unix:/a").unwrap(), EnclaveAddress::Unix("/a".into()));
        let hybrid = EnclaveAddress::Hybrid("/a:b".into(), 5000);
        assert_eq!(parse("hybrid:/a:b:5000").unwrap(), hybrid);
        for text in [
            "",
            "unix:",
            "/a",
            "hybrid:/a",
            "hybrid::1",
            "hybrid:/a:x",
            "tcp:a:1",
        ] {
            let expected = format!("expected unix:PATH or hybrid:PATH:PORT, found {text:?}");
            assert_eq!(parse(text), Err(expected));
        }
    }

    #[tokio::test]
    async fn only_the_enclaves_own_port_is_connected() {
        for (said, answer) in [
            ("CONNECT 5000\n", "OK 1073741824\n"),
            ("CONNECT 5001\n", ""),
            ("CONNECT 05000\n", ""),
            ("GET / HTTP/1.1\r\nHost: enclave\r\n\r\n", ""),
        ] {
            let (mut client, server) = UnixStream::pair().unwrap();
            client.write_all(said.as_bytes()).await.unwrap();
            let stream = connected(server, Some(5000)).await;
            assert_eq!(stream.is_some(), !answer.is_empty(), "{said}");
            drop(stream);
            let mut heard = String::new();
            // The system resets the connection where something was left unread.
            let _ = client.read_to_string(&mut heard).await;
            assert_eq!(heard, answer, "{said}");
        }
    }
}
