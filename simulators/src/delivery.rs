//! How an answer is delivered: whole, late, slow, endless, cut off, or not at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde::{Deserialize, Serialize};
use tokio::time::Sleep;

/// Between two pieces of an endless body; each piece is [`FILLER`].
const ENDLESS_PAUSE: Duration = Duration::from_millis(1);
static FILLER: [u8; 4096] = [b' '; 4096];

/// Why a client must refuse a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongCertificate {
    /// Right names, an authority nobody trusts.
    OtherAuthority,
    /// The right authority, another name.
    OtherName,
    /// The right authority and names, expired a day ago.
    Expired,
}

/// When a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropMoment {
    /// Before the TLS handshake.
    Accept,
    /// After the request was read, before any answer. The operation has been carried out.
    Answer,
    /// In the middle of the answer's body.
    Body,
}

/// How an answer reaches its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    #[default]
    AtOnce,
    /// This many milliseconds late.
    Late(u64),
    /// This many milliseconds between two bytes.
    Slow(u64),
    Endless,
    /// Another body, that is no JSON, with status 200.
    Garbage,
    /// The connection ends before the answer.
    Dropped,
    /// The connection ends in the middle of it.
    CutOff,
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    rest: Bytes,
    pace: Pace,
}

enum Pace {
    AtOnce,
    ByteByByte {
        pause: Duration,
        sleep: Pin<Box<Sleep>>,
    },
    Endless {
        sleep: Pin<Box<Sleep>>,
    },
    /// Half of it, then the connection breaks.
    CutOff {
        halfway: bool,
    },
}

impl AnswerBody {
    /// `bytes`, delivered as told.
    pub(crate) fn new(bytes: Bytes, delivery: Delivery) -> Self {
        let pace = match delivery {
            Delivery::Slow(milliseconds) => {
                let pause = Duration::from_millis(milliseconds);
                let sleep = Box::pin(tokio::time::sleep(pause));
                Pace::ByteByByte { pause, sleep }
            }
            Delivery::Endless => Pace::Endless {
                sleep: Box::pin(tokio::time::sleep(ENDLESS_PAUSE)),
            },
            Delivery::CutOff => Pace::CutOff { halfway: false },
            _ => Pace::AtOnce,
        };
        Self { rest: bytes, pace }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let piece = match &mut this.pace {
            Pace::AtOnce => std::mem::take(&mut this.rest),
            Pace::ByteByByte { pause, sleep } => {
                if this.rest.is_empty() {
                    return Poll::Ready(None);
                }
                ready!(sleep.as_mut().poll(context));
                sleep.set(tokio::time::sleep(*pause));
                this.rest.split_to(1)
            }
            Pace::Endless { sleep } => {
                if this.rest.is_empty() {
                    ready!(sleep.as_mut().poll(context));
                    sleep.set(tokio::time::sleep(ENDLESS_PAUSE));
                    Bytes::from_static(&FILLER)
                } else {
                    std::mem::take(&mut this.rest)
                }
            }
            Pace::CutOff { halfway } => {
                if *halfway {
                    let broken = io::Error::new(io::ErrorKind::ConnectionAborted, "cut off");
                    return Poll::Ready(Some(Err(broken)));
                }
                *halfway = true;
                this.rest.split_to(this.rest.len() / 2)
            }
        };
        if piece.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match self.pace {
            Pace::Endless { .. } => SizeHint::default(),
            _ => SizeHint::with_exact(self.rest.len() as u64),
        }
    }
}
