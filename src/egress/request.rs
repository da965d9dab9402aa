//! The one request a client makes: `CONNECT HOST:PORT HTTP/1.1` and headers nobody reads.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::hosts::Target;

/// Most bytes of request line and headers.
const MAX_HEAD: usize = 8192;

/// The request cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client is gone.
    #[error("the client ended before its request")]
    Ended,
    /// It is longer than any sensible one.
    #[error("more than {MAX_HEAD} bytes of headers")]
    TooLarge,
    /// Another method.
    #[error("only CONNECT is served")]
    Method,
    /// No host and port, or no HTTP/1.
    #[error("the request is not CONNECT HOST:PORT HTTP/1.1")]
    Form,
}

impl RequestError {
    /// HTTP status of the answer.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Ended | Self::Form => 400,
            Self::Method => 405,
            Self::TooLarge => 431,
        }
    }
}

/// Reads the request: the target, and the bytes that came after the headers, which are the tunnel's first.
///
/// # Errors
/// See [`RequestError`]. The caller bounds the time.
pub async fn read_request(
    client: &mut (impl AsyncRead + Unpin),
) -> Result<(Target, Vec<u8>), RequestError> {
    let mut bytes = Vec::with_capacity(512);
    let end = loop {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(end) = end {
            break end;
        }
        if bytes.len() >= MAX_HEAD {
            return Err(RequestError::TooLarge);
        }
        let mut part = [0; 1024];
        match client.read(&mut part).await {
            Ok(0) | Err(_) => return Err(RequestError::Ended),
            Ok(count) => bytes.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    };
    let early = bytes.split_off(end.saturating_add(4));
    parse(&bytes).map(|target| (target, early))
}

fn parse(head: &[u8]) -> Result<Target, RequestError> {
    let text = std::str::from_utf8(head).map_err(|_| RequestError::Form)?;
    let line = text.split("\r\n").next().unwrap_or_default();
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("CONNECT"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) => {
            Target::parse(target).ok_or(RequestError::Form)
        }
        (Some(method), Some(_), Some(_), None) if method != "CONNECT" => Err(RequestError::Method),
        _ => Err(RequestError::Form),
    }
}
