//! What agent and launcher tell each other over the launcher's standard input: file descriptors one way, a failure to
//! start the node the other way.
//!
//! File descriptors travel as messages (unix(7), SCM_RIGHTS) rather than by inheritance, so that the launcher, which
//! starts with nothing else open, can put each at the number the node is promised.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// File descriptors in one message; the kernel takes at most 253 (SCM_MAX_FD).
const PER_MESSAGE: usize = 64;
/// Longest message of the launcher, in bytes.
const LONGEST_FAILURE: usize = 4096;

/// Both ends: the agent's, and the one that becomes the launcher's standard input.
///
/// # Errors
/// When the kernel has no sockets left.
pub fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends file descriptors.
///
/// # Errors
/// When the other side is gone.
pub fn send(channel: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    for some in descriptors.chunks(PER_MESSAGE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(some));
        // NOSIGNAL: a launcher that is gone is an error here, not a SIGPIPE.
        sendmsg(
            &channel,
            &[IoSlice::new(b"f")],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
    }
    Ok(())
}

/// Receives `count` file descriptors.
///
/// # Errors
/// When the other side ends before, or sends something else.
pub fn receive(channel: impl AsFd, count: usize) -> std::io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(
            &channel,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let before = received.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                received.extend(descriptors);
            }
        }
        if received.len() == before {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(received)
}

/// Tells the agent why the node cannot be started.
///
/// # Errors
/// When the agent is gone.
pub fn send_failure(channel: impl AsFd, why: &str) -> std::io::Result<()> {
    let end = why.floor_char_boundary(LONGEST_FAILURE);
    let text = why.get(..end).unwrap_or_default();
    rustix::net::send(channel, text.as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits until the launcher has become the node (none), or says why it cannot.
///
/// # Errors
/// When the kernel fails.
pub fn receive_failure(channel: impl AsFd) -> std::io::Result<Option<String>> {
    let mut buffer = vec![0; LONGEST_FAILURE];
    let (length, _) = rustix::net::recv(channel, &mut buffer[..], RecvFlags::empty())?;
    buffer.truncate(length);
    Ok((length > 0).then(|| String::from_utf8_lossy(&buffer).into_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn many_file_descriptors_arrive_in_order() {
        let (ours, theirs) = pair().unwrap();
        let files: Vec<File> = (0..150)
            .map(|number| {
                let mut file = tempfile::tempfile().unwrap();
                write!(file, "{number}").unwrap();
                file
            })
            .collect();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        send(&ours, &borrowed).unwrap();
        for (number, descriptor) in receive(&theirs, 150).unwrap().into_iter().enumerate() {
            let mut file = File::from(descriptor);
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn an_agent_that_ends_early_is_an_error_and_a_launcher_that_becomes_the_node_is_none() {
        let (ours, theirs) = pair().unwrap();
        drop(ours);
        let error = receive(&theirs, 1).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        assert_eq!(receive_failure(&ours).unwrap(), None);
    }

    #[test]
    fn a_failure_arrives_as_it_was_told() {
        let (ours, theirs) = pair().unwrap();
        send_failure(&theirs, "no such file").unwrap();
        let told = receive_failure(&ours).unwrap();
        assert_eq!(told.as_deref(), Some("no such file"));
    }
}
