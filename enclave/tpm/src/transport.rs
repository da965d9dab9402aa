//! One connection to the TPM: the bytes of a command out, those of its answer in.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::tcti::Tcti;

/// Longest answer taken, in bytes: TPM_PT_MAX_RESPONSE_SIZE of every TPM there is (part 2, 6.13).
const MAX_ANSWER: usize = 4096;
/// Tag, size, code (part 1, 18.5).
const HEADER: usize = 10;

/// An open device or socket.
pub(crate) enum Transport {
    /// A character device: one write is a command, one read its answer.
    Device(File),
    /// A software TPM: commands and answers follow each other, their own size says where they end.
    Socket(TcpStream),
}

impl Transport {
    /// Connects. A device that is busy (`/dev/tpm0` with somebody else on it) is an error of the system.
    pub(crate) fn open(tcti: &Tcti) -> io::Result<Self> {
        match tcti {
            Tcti::Device(path) => {
                let device = OpenOptions::new().read(true).write(true).open(path)?;
                Ok(Self::Device(device))
            }
            Tcti::Swtpm(at) => {
                let socket = TcpStream::connect(SocketAddr::from((at.host, at.port)))?;
                socket.set_nodelay(true)?;
                Ok(Self::Socket(socket))
            }
        }
    }

    /// Sends a command and waits for its answer, however long that takes: whoever calls bounds it.
    ///
    /// The answer's size is what its header says; nothing else in it has been looked at.
    pub(crate) fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Device(device) => {
                device.write_all(command)?;
                let mut answer = vec![0; MAX_ANSWER];
                let length = loop {
                    match device.read(&mut answer) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        other => break other?,
                    }
                };
                answer.truncate(length);
                match size_of(&answer) {
                    Some(size) if size == length => Ok(answer),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Self::Socket(socket) => {
                socket.write_all(command)?;
                let mut answer = vec![0; HEADER];
                socket.read_exact(&mut answer)?;
                let size = size_of(&answer)
                    .filter(|size| (HEADER..=MAX_ANSWER).contains(size))
                    .ok_or(io::ErrorKind::InvalidData)?;
                answer.resize(size, 0);
                socket.read_exact(answer.get_mut(HEADER..).unwrap_or_default())?;
                Ok(answer)
            }
        }
    }
}

/// The size in a header.
fn size_of(answer: &[u8]) -> Option<usize> {
    let size = answer.get(2..6)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(size)).ok()
}
