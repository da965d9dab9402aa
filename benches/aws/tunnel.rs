//! An HTTP CONNECT proxy that moves bytes to KMS, whatever host is asked for: what the agent's is to an enclave.

use std::path::{Path, PathBuf};

use nodeseal_harness::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;

/// Runs until it is dropped.
pub struct Tunnel {
    /// Its socket.
    pub socket: PathBuf,
    _runtime: Runtime,
}

impl Tunnel {
    /// Starts one whose socket is in `directory`, to `target`, `HOST:PORT`.
    pub fn start(directory: &Path, target: &str) -> Result<Self> {
        let socket = directory.join("tunnel.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("runtime")?;
        let listener = {
            let _within = runtime.enter();
            UnixListener::bind(&socket).context(socket.display())?
        };
        let target = target.to_owned();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Whoever hangs up is gone.
                tokio::spawn(carry(client, target.clone()));
            }
        });
        Ok(Self {
            socket,
            _runtime: runtime,
        })
    }

    /// As requests name it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }
}

async fn carry(mut client: UnixStream, target: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
