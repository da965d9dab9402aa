//! Frames: a CBOR message, and beside it the bytes it speaks of.
//!
//! `u32 BE length of the message ‖ u32 BE length of the payload ‖ message ‖ payload`. Keys and blobs travel in the
//! payload, which is read straight into locked memory and can be worked on in place; no codec ever copies them.

use nodeseal_memory::{LockMemoryError, Secret};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Most bytes of message and payload together.
pub const MAX_FRAME: usize = 4 << 20;
/// Bytes of the two lengths in front.
const PREFIX: usize = 8;

/// One frame.
pub struct Frame {
    /// Encoded request or reply.
    pub message: Vec<u8>,
    /// The bytes it speaks of.
    pub payload: Secret,
}

/// Why no frame came or went.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The stream ended within a frame.
    #[error("the connection ended within a frame")]
    Ended,
    /// The frame is larger than both sides allow.
    #[error("a frame of {found} bytes, where at most {MAX_FRAME} are allowed")]
    TooLarge {
        /// Bytes of message and payload.
        found: u64,
    },
    /// No locked memory for the payload.
    #[error(transparent)]
    Memory(#[from] LockMemoryError),
}

/// Reads one frame; none when the stream ends before it.
///
/// Memory is taken as bytes arrive, not as lengths are claimed. The caller bounds the time.
///
/// # Errors
/// See [`FrameError`].
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Frame>, FrameError> {
    read_frame_into(stream, None).await
}

/// Reads one frame, its payload into the memory of `spare` if that is large enough.
///
/// # Errors
/// As [`read_frame`].
pub async fn read_frame_into(
    stream: &mut (impl AsyncRead + Unpin),
    spare: Option<Secret>,
) -> Result<Option<Frame>, FrameError> {
    let mut prefix = [0; PREFIX];
    let mut have = 0;
    while have < PREFIX {
        let rest = prefix.get_mut(have..).unwrap_or_default();
        match stream.read(rest).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(FrameError::Ended),
            read => have += read,
        }
    }
    let [a, b, c, d, e, f, g, h] = prefix;
    let message_length = u32::from_be_bytes([a, b, c, d]);
    let payload_length = u32::from_be_bytes([e, f, g, h]);
    let found = u64::from(message_length) + u64::from(payload_length);
    if found > MAX_FRAME as u64 {
        return Err(FrameError::TooLarge { found });
    }
    let mut message = Vec::new();
    let read = stream
        .take(u64::from(message_length))
        .read_to_end(&mut message)
        .await?;
    if read as u64 != u64::from(message_length) {
        return Err(FrameError::Ended);
    }
    let mut payload = match spare {
        Some(spare) => spare.reused(payload_length as usize)?,
        None => Secret::zeroed(payload_length as usize)?,
    };
    match stream.read_exact(payload.expose_mut()).await {
        Ok(_) => Ok(Some(Frame { message, payload })),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(FrameError::Ended),
        Err(error) => Err(error.into()),
    }
}

/// Writes one frame.
///
/// # Errors
/// See [`FrameError`]; nothing is written of a frame that is too large.
pub async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
    payload: &[u8],
) -> Result<(), FrameError> {
    let found = (message.len() as u64).saturating_add(payload.len() as u64);
    let (Ok(message_length), Ok(payload_length), true) = (
        u32::try_from(message.len()),
        u32::try_from(payload.len()),
        found <= MAX_FRAME as u64,
    ) else {
        return Err(FrameError::TooLarge { found });
    };
    let mut head = Vec::with_capacity(PREFIX + message.len());
    head.extend_from_slice(&message_length.to_be_bytes());
    head.extend_from_slice(&payload_length.to_be_bytes());
    head.extend_from_slice(message);
    stream.write_all(&head).await?;
    stream.write_all(payload).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn written(message: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        run(write_frame(&mut bytes, message, payload)).unwrap();
        bytes
    }

    #[test]
    fn a_frame_arrives_as_it_was_sent_and_the_end_of_the_stream_is_no_error() {
        let bytes = written(b"message", b"payload");
        run(async {
            let mut stream = &bytes[..];
            let frame = read_frame(&mut stream).await.unwrap().unwrap();
            assert_eq!(frame.message, b"message");
            assert_eq!(frame.payload.expose(), b"payload");
            assert!(read_frame(&mut stream).await.unwrap().is_none());
        });
    }

    #[test]
    fn a_payload_in_used_memory_has_nothing_of_what_was_there() {
        let bytes = written(b"m", b"new");
        run(async {
            for length in [0, 2, 10_000] {
                let spare = Secret::copy_of(&vec![7; length]).unwrap();
                let frame = read_frame_into(&mut &bytes[..], Some(spare)).await;
                let payload = frame.unwrap().unwrap().payload;
                assert_eq!(payload.expose(), b"new", "{length}");
            }
        });
    }

    #[test]
    fn every_truncation_of_a_frame_is_an_error() {
        let bytes = written(b"message", b"payload");
        for end in 1..bytes.len() {
            let error = run(read_frame(&mut &bytes[..end])).err().unwrap();
            assert!(matches!(error, FrameError::Ended), "{end}: {error}");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_claim_and_never_sent() {
        let claim = [0xff; PREFIX];
        let error = run(read_frame(&mut &claim[..])).err().unwrap();
        assert_eq!(
            error.to_string(),
            "a frame of 8589934590 bytes, where at most 4194304 are allowed"
        );
        let mut sent = Vec::new();
        let error = run(write_frame(&mut sent, &vec![0; MAX_FRAME], b"1")).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { found } if found == 4_194_305));
        assert!(sent.is_empty());
    }
}
