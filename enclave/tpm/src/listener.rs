//! The unix socket: bound by us, or inherited from systemd.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nodeseal_memory::inherited_descriptor;
use rustix::process::umask;

use crate::config::{Account, Config};

/// First file descriptor systemd hands over (sd_listen_fds(3)).
const LISTEN_FDS_START: i32 = 3;

/// There is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error("{path}: another process listens there already", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else than a socket is there.
    #[error("{path} exists and is not a socket; it is left alone", path = path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}", path = path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: Error,
    },
    /// What systemd handed over is not one listening unix stream socket.
    #[error("the socket systemd handed over cannot be used: {0}")]
    Inherited(String),
}

/// A socket to accept clients from.
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    /// Its path, if it is ours to remove.
    pub ours: Option<PathBuf>,
}

impl Listener {
    /// systemd's socket if there is one (`LISTEN_FDS`), else one bound as configured.
    ///
    /// # Errors
    /// When neither can be had.
    pub fn open(config: &Config) -> Result<Self, ListenError> {
        if let Some(socket) = inherited()? {
            return Ok(Self { socket, ours: None });
        }
        let path = config.socket.clone();
        clear_stale(&path)?;
        let socket =
            bind(&path, config.socket_mode, config.account.as_ref()).map_err(|source| {
                ListenError::Bind {
                    path: path.clone(),
                    source,
                }
            })?;
        Ok(Self {
            socket,
            ours: Some(path),
        })
    }
}

fn inherited() -> Result<Option<UnixListener>, ListenError> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let for_us = number("LISTEN_PID").is_some_and(|pid| pid == std::process::id());
    match number("LISTEN_FDS").filter(|_| for_us) {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(more) => {
            return Err(ListenError::Inherited(format!("{more} sockets, not one")));
        }
    }
    let failed = |errno: rustix::io::Errno| ListenError::Inherited(errno.to_string());
    let socket = inherited_descriptor(LISTEN_FDS_START).map_err(failed)?;
    let listens = rustix::net::sockopt::socket_acceptconn(&socket).map_err(failed)?;
    let family = rustix::net::sockopt::socket_domain(&socket).map_err(failed)?;
    if !listens || family != rustix::net::AddressFamily::UNIX {
        return Err(ListenError::Inherited(
            "it is not a listening unix socket (ListenStream= with a path)".to_owned(),
        ));
    }
    let socket = UnixListener::from(socket);
    socket
        .set_nonblocking(true)
        .map_err(|error| ListenError::Inherited(error.to_string()))?;
    Ok(Some(socket))
}

/// Removes a socket nobody listens on, and nothing else.
fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(about) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !about.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse {
            path: path.to_owned(),
        });
    }
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(ListenError::Bind {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn bind(path: &Path, mode: u32, owner: Option<&Account>) -> Result<UnixListener, Error> {
    // Nobody else can connect until owner and mode are right.
    let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let socket = bound?;
    if let Some(owner) = owner
        && rustix::process::geteuid().is_root()
    {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
