//! A trusted side in the test's own process, whose locks lie open: for tests of the agent, where no TPM matters.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../enclave/core/tests/support/open_locks.rs"]
mod open_locks;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nodeseal_core::keyring::Keyring;
use nodeseal_core::service::{About, Limits, TrustedSide};
use open_locks::OpenLocks;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

/// A node's directory, and a trusted side for it.
pub struct Bench {
    directory: TempDir,
    locks: Arc<OpenLocks>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    /// Starts the trusted side and writes a configuration for node "v1".
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("ns-")
            .tempdir_in("/tmp")
            .unwrap();
        let socket = directory.path().join("side.sock");
        let locks = Arc::new(OpenLocks::default());
        let keyring = Keyring::new(vec![locks.clone()]);
        let about = About {
            provider: "test",
            software: "test 1".to_owned(),
            facts: Vec::new(),
            live: Vec::new,
            attester: None,
        };
        let side = TrustedSide::new(keyring, about, Limits::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
        let served = std::thread::spawn(move || {
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(side.clone().serve(stream));
                }
            });
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        let bench = Self {
            directory,
            locks,
            stop: Some(stop),
            served: Some(served),
        };
        let address = format!("unix:{}", socket.display());
        bench.succeeds(&["init", "--node", "v1", "--trusted", &address]);
        bench
    }

    /// How often a lock was opened.
    pub fn locks_opened(&self) -> u32 {
        self.locks.asked.load(Ordering::Relaxed)
    }

    /// A path in the node's directory.
    pub fn path(&self, within: &str) -> PathBuf {
        self.directory.path().join(within)
    }

    /// Writes a file in the node's directory.
    pub fn write(&self, within: &str, content: impl AsRef<[u8]>) {
        let path = self.path(within);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// `nodeseal ARGUMENTS` in the node's directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodeseal"));
        command.current_dir(self.directory.path()).args(arguments);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it; it must succeed. Its standard output.
    pub fn succeeds(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        output.stdout
    }

    /// Runs it with `--json`; the exit status and the document.
    pub fn json(&self, arguments: &[&str]) -> (i32, serde_json::Value) {
        let output = self.run(&[arguments, &["--json"]].concat());
        let document = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), document)
    }

    /// Runs it; it must fail. Exit status, and standard error without the hint.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        let message = said.split("\nhint: ").next().unwrap_or_default();
        (output.status.code().unwrap(), message.trim_end().to_owned())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.served.take().map(std::thread::JoinHandle::join);
    }
}

/// Names of the files in a directory, hidden ones too, sorted; none where it is missing.
pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}
