//! The way to key services: TLS that ends here, through an HTTP CONNECT proxy the agent offers.
//!
//! In reading order:
//! - [`dial`]: how the agent's proxy is reached.
//! - [`egress`]: the way out: HTTP CONNECT.
//! - [`http`]: one HTTP request over it; nothing is read without a bound.
//! - [`tls`]: whom to trust, and the time.
//! - [`fault`]: whatever goes wrong, before it becomes a refusal.
//! - [`pause`]: how long to wait before trying again.

pub mod dial;
pub mod egress;
pub mod fault;
pub mod http;
pub mod pause;
pub mod tls;

pub use dial::{Dial, Dialled, Sockets, Stream};
pub use egress::{Egress, EgressError, printable};
pub use fault::{Codes, Fault};
pub use http::{ConnectError, Connected, Tunnel, authority_of};
pub use tls::{Clock, Roots, TlsError};
