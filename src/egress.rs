//! The way out for the trusted side: an HTTP CONNECT proxy (RFC 9110 §9.3.6), to allowed hosts only, on a unix socket
//! or a vsock port.
//!
//! It resolves names and moves bytes. TLS ends in the trusted side, so nothing here can read or answer.

mod hosts;
mod request;
mod settings;
mod tunnel;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nodeseal_attestation::hex;
use rustix::rand::GetRandomFlags;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub use hosts::{Hosts, Target};
pub use settings::EgressSettings;

use crate::config::Address;
use crate::vsock::{Listener, ParentPort, Removed, bind_unix};
use request::{RequestError, read_request};

/// Longest a client may take to say where it wants to go.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Tunnels at once: far above what one trusted side opens.
const MAX_TUNNELS: usize = 1024;

/// The proxy cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("egress proxy: cannot {step} {place}: {source}")]
pub struct EgressError {
    step: &'static str,
    place: String,
    source: std::io::Error,
}

/// A running proxy. Dropping it ends every tunnel and removes the socket.
pub struct Proxy {
    address: String,
    rules: Arc<Rules>,
    accepting: JoinHandle<()>,
    _socket: Removed,
}

/// What every tunnel needs.
struct Rules {
    hosts: RwLock<Hosts>,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

impl Rules {
    fn destination(&self, target: &Target) -> Option<Target> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.destination(target)
    }
}

impl Proxy {
    /// Starts to accept, on the runtime this is called in, where the trusted side at `trusted` can connect to.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(
        settings: &EgressSettings,
        trusted: &Address,
        hosts: Hosts,
    ) -> Result<Self, EgressError> {
        let (address, listener, socket) = way_out(settings, trusted)?;
        let rules = Arc::new(Rules {
            hosts: RwLock::new(hosts),
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
        });
        Ok(Self {
            address,
            accepting: tokio::spawn(accept(listener, Arc::clone(&rules))),
            rules,
            _socket: socket,
        })
    }

    /// Allows these hosts from now on, instead of those before.
    pub fn allow(&self, hosts: Hosts) {
        *self
            .rules
            .hosts
            .write()
            .unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Its address, as requests name it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A place for the proxy: its address, connections to it, what has to go with it.
///
/// For an enclave a port of its parent that is free. For a process a unix socket whose name is random in a directory
/// that cannot be listed: who is told the name may connect, whatever user the trusted side runs as.
fn way_out(
    settings: &EgressSettings,
    trusted: &Address,
) -> Result<(String, Listener, Removed), EgressError> {
    let failed = |(place, source)| EgressError {
        step: "listen at",
        place,
        source,
    };
    if let Some(at) = ParentPort::bind(trusted, None).map_err(failed)? {
        return Ok((format!("vsock:{}", at.port), at.listener, at.socket));
    }
    let directory = make_directory(&settings.parent())?;
    let socket = directory.join(format!("{}.sock", random_name(&directory)?));
    let address = format!("unix:{}", socket.display());
    let removed = Removed(vec![socket.clone(), directory]);
    let bound =
        bind_unix(&socket).map_err(|error| failed((socket.display().to_string(), error)))?;
    Ok((address, Listener::Unix(bound), removed))
}

fn make_directory(parent: &Path) -> Result<PathBuf, EgressError> {
    let path = parent.join(format!("nodeseal-egress-{}", random_name(parent)?));
    match fs::DirBuilder::new().mode(0o711).create(&path) {
        // The umask may have taken away what others need to get through.
        Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(0o711)),
        Err(error) => Err(error),
    }
    .map_err(|source| EgressError {
        step: "create the directory",
        place: path.display().to_string(),
        source,
    })?;
    Ok(path)
}

/// A name of 128 random bits in `directory`: from the kernel, since AWS-LC first takes 60 ms to gather entropy.
fn random_name(directory: &Path) -> Result<String, EgressError> {
    let mut bytes = [0; 16];
    // Whole, and without a signal in between, up to 256 bytes (getrandom(2)).
    match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(_) => Ok(hex::encode(&bytes)),
        Err(error) => Err(EgressError {
            step: "make up a name in",
            place: directory.display().to_string(),
            source: error.into(),
        }),
    }
}

async fn accept(listener: Listener, rules: Arc<Rules>) {
    let free = Arc::new(Semaphore::new(MAX_TUNNELS));
    // Tunnels end with this task.
    let mut tunnels = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = tunnels.join_next(), if !tunnels.is_empty() => {}
            accepted = listener.accept() => {
                let Ok(mut client) = accepted else {
                    // No file descriptors left, most likely: give tunnels time to end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let rules = Arc::clone(&rules);
                match Arc::clone(&free).try_acquire_owned() {
                    Ok(permit) => tunnels.spawn(async move {
                        serve(&mut client, &rules).await;
                        drop(permit);
                    }),
                    Err(_) => tunnels.spawn(async move {
                        refuse(&mut client, 503, "", "too many tunnels").await;
                    }),
                };
            }
        }
    }
}

/// One client, from its request to the end of its tunnel.
async fn serve(client: &mut (impl AsyncRead + AsyncWrite + Unpin), rules: &Rules) {
    let (target, early) = match timeout(REQUEST_DEADLINE, read_request(client)).await {
        Ok(Ok(request)) => request,
        Ok(Err(RequestError::Ended)) => return,
        Ok(Err(error)) => return refuse(client, error.status(), "", &error.to_string()).await,
        Err(_) => return refuse(client, 408, "", "no request came in time").await,
    };
    let Some(destination) = rules.destination(&target) else {
        let why = format!("{target} is not an allowed host (see [egress] in the configuration)");
        return refuse(client, 403, "", &why).await;
    };
    let mut server = match connect(&destination, rules.connect_timeout).await {
        Ok(server) => server,
        Err(Unreached { error, source }) => {
            let status = match source.kind() {
                ErrorKind::TimedOut => 504,
                _ => 502,
            };
            let more = format!("Proxy-Status: nodeseal; error={error}\r\n");
            let why = format!("{target} cannot be reached: {source}");
            return refuse(client, status, &more, &why).await;
        }
    };
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if client.write_all(established).await.is_ok() && server.write_all(&early).await.is_ok() {
        tunnel::run(client, &mut server, rules.idle_timeout).await;
    }
}

/// Why a host was not reached.
struct Unreached {
    /// The kind of error, as the header Proxy-Status has it (RFC 9209 §2.3).
    error: &'static str,
    source: std::io::Error,
}

impl Unreached {
    fn timed_out() -> Self {
        std::io::Error::new(ErrorKind::TimedOut, "no answer in time").into()
    }
}

impl From<std::io::Error> for Unreached {
    fn from(source: std::io::Error) -> Self {
        let error = match source.kind() {
            ErrorKind::TimedOut => "connection_timeout",
            ErrorKind::ConnectionRefused => "connection_refused",
            _ => "destination_unavailable",
        };
        Self { error, source }
    }
}

/// Tries each address of the host in turn, each with its share of the time.
async fn connect(destination: &Target, limit: Duration) -> Result<TcpStream, Unreached> {
    let deadline = Instant::now() + limit;
    let host = (destination.host.as_str(), destination.port);
    let name = |source| Unreached {
        error: "dns_error",
        source,
    };
    let resolved = timeout_at(deadline, lookup_host(host)).await;
    let resolved = resolved.map_err(|_| Unreached {
        error: "dns_timeout",
        ..Unreached::timed_out()
    })?;
    let addresses: Vec<_> = resolved.map_err(name)?.collect();
    let mut last = name(std::io::Error::new(
        ErrorKind::NotFound,
        "the name has no addresses",
    ));
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting = u32::try_from(addresses.len().saturating_sub(tried)).unwrap_or(u32::MAX);
        match timeout(left / waiting.max(1), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Handshakes are small messages in turn.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error.into(),
            Err(_) => last = Unreached::timed_out(),
        }
    }
    Err(last)
}

/// Answers with an error, `headers` and what it is about. A client that is gone does not need it.
async fn refuse(client: &mut (impl AsyncWrite + Unpin), status: u16, headers: &str, why: &str) {
    let reason = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Bad Gateway",
    };
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status} {reason}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{why}\n"
    );
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}

#[cfg(test)]
mod tests;
