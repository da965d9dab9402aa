//! What agent and trusted side say to each other, and what a sealed blob shows without being opened.
//!
//! In reading order:
//! - [`cbor`]: the strict reader and the deterministic writer everything here is made with.
//! - [`header`]: the sealed blob's header: node, name, key type, ways and locks.
//! - [`blob`]: the sealed blob around it.
//! - [`message`]: requests and replies.
//! - [`frame`]: how a message and the bytes that go with it travel on a stream.
//!
//! docs/format.md specifies blob and header for other implementations.

pub mod blob;
pub mod cbor;
pub mod frame;
pub mod header;
pub mod lock;
pub mod message;
mod message_codec;
