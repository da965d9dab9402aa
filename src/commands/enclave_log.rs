//! `enclave-log`: what an enclave logs, on standard output, for a journal or a person.

use std::io::Write;

use nodeseal_wire::message::Class;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::App;
use crate::cli::EnclaveLogArgs;
use crate::failure::Failure;
use crate::report::Report;
use crate::vsock::ParentPort;

/// Longest line taken, in bytes; the enclave's are shorter.
const MAX_LINE: u64 = 4096;
/// Lines between the enclave and standard output.
const WAITING: usize = 64;

/// Listens where the enclave sends its log, and prints every line, until stopped by SIGINT or SIGTERM.
///
/// # Errors
/// When there is no enclave, nothing to listen on, or standard output is gone.
pub fn run(app: &App, args: &EnclaveLogArgs) -> Result<Report, Failure> {
    let address = app.config()?.trusted.address;
    app.wait_for(async {
        let failed = |place: &str, error: &std::io::Error| {
            let text = format!("cannot listen for the enclave's log at {place}: {error}");
            Failure::new(Class::Unavailable, "enclave-log", text)
        };
        let bound = ParentPort::bind(&address, Some(args.port));
        let port = bound.map_err(|(place, error)| failed(&place, &error))?.ok_or_else(|| {
            Failure::usage(format!(
                "the trusted side at {address} is no enclave: it logs to its own standard error (the journal)"
            ))
        })?;
        let stop = |kind| signal(kind).map_err(|error| failed("all", &error));
        let (mut interrupt, mut end) = (stop(SignalKind::interrupt())?, stop(SignalKind::terminate())?);
        let (sender, mut lines) = mpsc::channel(WAITING);
        let accepting = async {
            loop {
                match port.listener.accept().await {
                    Ok(stream) => drop(tokio::spawn(take(stream, sender.clone()))),
                    Err(error) => return failed("all", &error),
                }
            }
        };
        let printing = async {
            while let Some(line) = lines.recv().await {
                let mut out = std::io::stdout().lock();
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            failure = accepting => Err(failure),
            () = printing => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = end.recv() => Ok(()),
        }
    })?;
    Ok(Report::silent())
}

/// Takes the lines of one connection: each bounded, and nothing in it that a terminal would obey.
async fn take(stream: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(MAX_LINE);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end().replace(char::is_control, " ");
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_harmless() {
        let (sender, mut lines) = mpsc::channel(WAITING);
        let text = format!("one\n\x1b[2Jtwo\r\n{}\nlast", "x".repeat(5000));
        take(text.as_bytes(), sender).await;
        let mut found = Vec::new();
        while let Some(line) = lines.recv().await {
            found.push(line);
        }
        let long = |length| "x".repeat(length);
        assert_eq!(found, ["one", " [2Jtwo", &long(4096), &long(904), "last"]);
    }
}
