//! The way to the parent: context id and port (vsock(7)).

use std::io;

use nodeseal_core::tunnel::{Dial, Dialled, Stream};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

/// Connects. The caller bounds the time.
///
/// # Errors
/// When nobody listens there.
pub async fn connect(cid: u32, port: u32) -> io::Result<VsockStream> {
    VsockStream::connect(VsockAddr::new(cid, port)).await
}

/// Listens on `port`, for the parent and whoever else can reach the enclave, which is nobody.
///
/// # Errors
/// When the port is taken, or there is no vsock device.
pub fn listen(port: u32) -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
}

/// The agent's proxy: `vsock:PORT`, a port of the parent. Where the parent is, the agent does not get to say.
#[derive(Debug)]
pub struct Parent {
    /// Its context id.
    pub cid: u32,
}

impl Dial for Parent {
    fn forms(&self) -> &'static str {
        "vsock:PORT"
    }

    fn dial(&self, address: &str) -> Option<Dialled> {
        let port = address.strip_prefix("vsock:")?.parse().ok()?;
        let cid = self.cid;
        Some(Box::pin(async move {
            Ok(Box::new(connect(cid, port).await?) as Box<dyn Stream>)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_names_a_port_of_the_parent_and_nothing_else() {
        let parent = Parent { cid: 3 };
        assert!(parent.dial("vsock:5001").is_some());
        for other in [
            "vsock:",
            "vsock:x",
            "vsock:16:5001",
            "unix:/a",
            "tcp:a:1",
            "5001",
        ] {
            assert!(parent.dial(other).is_none(), "{other}");
        }
    }
}
