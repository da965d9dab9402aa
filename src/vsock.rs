//! vsock (vsock(7)) between the agent and an enclave, real or through the unix sockets that stand for it.
//!
//! Firecracker and vhost-device-vsock have one unix socket for connections to the machine (`CONNECT PORT`), and expect
//! another one, `PATH_PORT`, for connections from it to a port of its host.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::config::Address;

/// Any port that is free (linux/vm_sockets.h, `VMADDR_PORT_ANY`).
const VMADDR_PORT_ANY: u32 = u32::MAX;
/// How often another port is tried where one is taken.
const TRIES: u32 = 16;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where connections arrive that an enclave makes to its parent, or a process to us.
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// vsock, for the enclave of this context id alone.
    Vsock(VsockListener, u32),
}

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// When none can be accepted just now.
    pub async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Vsock(listener, cid) => loop {
                let (stream, peer) = listener.accept().await?;
                // Another enclave of this parent has its own agent.
                if peer.cid() == *cid {
                    return Ok(Box::new(stream));
                }
            },
        }
    }
}

/// A port of the parent that the enclave can connect to.
pub struct ParentPort {
    /// Its number.
    pub port: u32,
    /// Connections to it.
    pub listener: Listener,
    /// What has to go with it.
    pub socket: Removed,
}

impl ParentPort {
    /// Listens for the enclave at `trusted`, on `port` or on any that is free; none where the trusted side is no
    /// enclave.
    ///
    /// # Errors
    /// With the place, when the system does not let us.
    pub fn bind(trusted: &Address, port: Option<u32>) -> Result<Option<Self>, (String, io::Error)> {
        match trusted {
            Address::Unix(_) => Ok(None),
            Address::Vsock { cid, .. } => {
                let asked = port.unwrap_or(VMADDR_PORT_ANY);
                let place = |error| match port {
                    Some(port) => (format!("vsock port {port}"), error),
                    None => ("any vsock port".to_owned(), error),
                };
                let listener =
                    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, asked)).map_err(place)?;
                let port = listener.local_addr().map_err(place)?.port();
                Ok(Some(Self {
                    port,
                    listener: Listener::Vsock(listener, *cid),
                    socket: Removed::default(),
                }))
            }
            Address::Hybrid { path, .. } => hybrid(path, port).map(Some),
        }
    }
}

fn hybrid(machine: &Path, port: Option<u32>) -> Result<ParentPort, (String, io::Error)> {
    let mut tries = TRIES;
    loop {
        let number = port.unwrap_or_else(any_port);
        let mut socket = machine.as_os_str().to_owned();
        socket.push(format!("_{number}"));
        let socket = PathBuf::from(socket);
        match bind_unix(&socket) {
            Ok(listener) => {
                return Ok(ParentPort {
                    port: number,
                    listener: Listener::Unix(listener),
                    socket: Removed(vec![socket]),
                });
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse && port.is_none() && tries > 0 => {
                tries -= 1;
            }
            Err(error) => return Err((socket.display().to_string(), error)),
        }
    }
}

/// A number nobody else is likely to have, of those no service is assigned to.
fn any_port() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the port is taken at the second try, and binding says so.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    0x4000_0000 | (u32::from_be_bytes(bytes) >> 2)
}

/// Listens at `path`, replacing a socket nobody listens on any more; whoever reaches the path may connect.
///
/// # Errors
/// When somebody does, or the path cannot be used.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::net::UnixStream as Probe;
    if Probe::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o666)) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(listener)
}

/// Paths that are removed when this is dropped: files and directories, in this order.
#[derive(Default)]
pub struct Removed(pub Vec<PathBuf>);

impl Drop for Removed {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing can be done about a failure; the names are in nobody's way.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

/// Longest answer to `CONNECT`, in bytes: "OK " and a port number.
const MAX_CONNECT_ANSWER: usize = 32;

/// Asks the machine's unix socket for a port of it; what it answered where that is no yes.
///
/// # Errors
/// When the connection fails.
pub async fn ask_for_port(stream: &mut UnixStream, port: u32) -> io::Result<Result<(), String>> {
    use tokio::io::AsyncWriteExt;
    let ask = format!("CONNECT {port}\n");
    stream.write_all(ask.as_bytes()).await?;
    let answer = read_line(stream).await?;
    // Firecracker answers "OK <port on the host's side>\n" (docs/vsock.md), or closes.
    if answer.starts_with("OK ") && answer.ends_with('\n') {
        return Ok(Ok(()));
    }
    Ok(Err(answer))
}

/// Reads byte by byte up to a newline: what follows it belongs to the other side's frames.
pub(crate) async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    while line.len() < MAX_CONNECT_ANSWER && line.last() != Some(&b'\n') {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        line.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn machine(directory: &tempfile::TempDir) -> (PathBuf, Address) {
        let path = directory.path().join("vm.vsock");
        let address = Address::Hybrid {
            path: path.clone(),
            port: 5000,
        };
        (path, address)
    }

    #[tokio::test]
    async fn a_port_of_the_parent_is_a_socket_beside_the_machines_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let (path, address) = machine(&directory);
        let bound = ParentPort::bind(&address, Some(5002)).unwrap().unwrap();
        let socket = PathBuf::from(format!("{}_5002", path.display()));
        let mut enclave = UnixStream::connect(&socket).await.unwrap();
        enclave.write_all(b"hello").await.unwrap();
        drop(enclave);
        let mut heard = String::new();
        let mut stream = bound.listener.accept().await.unwrap();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
        drop(bound);
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn free_ports_differ_and_a_stale_socket_is_replaced_but_not_one_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let (path, address) = machine(&directory);
        let one = ParentPort::bind(&address, None).unwrap().unwrap();
        let other = ParentPort::bind(&address, None).unwrap().unwrap();
        assert_ne!(one.port, other.port);
        let taken = ParentPort::bind(&address, Some(one.port)).err().unwrap();
        assert_eq!(taken.1.kind(), ErrorKind::AddrInUse);
        assert_eq!(taken.0, format!("{}_{}", path.display(), one.port));
        let stale = format!("{}_7", path.display());
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert!(Path::new(&stale).exists());
        assert_eq!(
            ParentPort::bind(&address, Some(7)).unwrap().unwrap().port,
            7
        );
    }

    #[tokio::test]
    async fn a_trusted_side_that_is_a_process_has_no_ports() {
        let address = Address::Unix("/run/tpm.sock".into());
        assert!(ParentPort::bind(&address, Some(1)).unwrap().is_none());
    }
}
