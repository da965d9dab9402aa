//! The sockets of a vTPM: what a TPM stack reaches in place of the software TPM.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::Vtpm;
use super::commands::Tpm;
use super::index::Indices;
use crate::interposer::proxy::read_frame;

/// Commands that look at PCRs: before them, a TPM that was reset has its boot measured.
const LOOKS_AT_PCRS: [u32; 3] = [0x158, 0x17e, 0x17f];

/// A vTPM that listens.
pub struct Front {
    data: TcpListener,
    control: TcpListener,
    vtpm: Arc<Vtpm>,
}

impl Front {
    /// Listens on `port` for commands and on the next for control.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn bind(vtpm: Vtpm, port: u16) -> io::Result<Self> {
        let next = port.checked_add(1).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            data: TcpListener::bind((Ipv4Addr::LOCALHOST, port))?,
            control: TcpListener::bind((Ipv4Addr::LOCALHOST, next))?,
            vtpm: Arc::new(vtpm),
        })
    }

    /// Serves in threads of their own from now on.
    pub fn serve(self) {
        let vtpm = self.vtpm.clone();
        thread::spawn(move || accept(&self.data, &vtpm, serve_data));
        let vtpm = self.vtpm;
        thread::spawn(move || accept(&self.control, &vtpm, serve_control));
    }
}

fn accept(listener: &TcpListener, vtpm: &Arc<Vtpm>, serve: fn(&Vtpm, TcpStream) -> io::Result<()>) {
    while let Ok((stream, _)) = listener.accept() {
        let vtpm = vtpm.clone();
        thread::spawn(move || {
            if let Err(error) = serve(&vtpm, stream) {
                tracing::debug!(%error, "a client is gone");
            }
        });
    }
}

/// One connection: command, answer, and so on until the TPM stack closes it.
fn serve_data(vtpm: &Vtpm, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut tpm = Tpm::connect(vtpm.config.tpm)?;
    while let Some(command) = read_frame(&mut client)? {
        let code = command.get(6..10).and_then(|code| code.try_into().ok());
        let code = code.map(u32::from_be_bytes);
        if code.is_some_and(|code| LOOKS_AT_PCRS.contains(&code))
            && let Err(error) = vtpm.boot(&mut tpm)
        {
            tracing::warn!(%error, "no boot was measured");
        }
        let answer = match vtpm.indices.answer(&command) {
            Some(answer) => {
                // Where the caller has it ended by itself already, there is nothing to flush.
                if let Some(session) = Indices::ended(&command) {
                    tpm.flush(session)?;
                }
                answer
            }
            None => tpm.transact(&command)?,
        };
        vtpm.indices.done(&command, &answer);
        client.write_all(&answer)?;
    }
    Ok(())
}

/// One connection to the control port: bytes both ways.
fn serve_control(vtpm: &Vtpm, client: TcpStream) -> io::Result<()> {
    let mut address: SocketAddr = vtpm.config.tpm;
    address.set_port(address.port().saturating_add(1));
    let tpm = TcpStream::connect(address)?;
    thread::scope(|scope| {
        scope.spawn(|| pump(&client, &tpm));
        pump(&tpm, &client);
    });
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to
            .write_all(buffer.get(..count).unwrap_or_default())
            .is_err()
        {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
