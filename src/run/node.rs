//! Starting the node, and what the agent does while it runs: passes signals on, feeds standard input, waits.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nodeseal_memory::Secret;
use rustix::process::{Pid, Signal, WaitOptions, getpgrp, getpid, kill_process, wait};
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use super::identity::Identity;
use super::launch::fill_in;
use super::{RunError, channel};

/// Signals that go on to the node.
const FORWARDED: [Signal; 7] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];
/// Those a terminal sends to every process in its foreground group, so that the node has them already.
const FROM_TERMINAL: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::WINCH];

/// A key in a memfd.
pub struct Inherited {
    /// Its name.
    pub name: String,
    /// The number it is to have; none takes the next free one.
    pub number: Option<u16>,
    /// The memfd.
    pub descriptor: OwnedFd,
}

/// What the node is started with.
pub struct NodeProcess<'n> {
    /// Program and arguments.
    pub command: &'n [OsString],
    /// As whom.
    pub identity: &'n Identity,
    /// Keys in memfds.
    pub inherited: Vec<Inherited>,
    /// Names and paths of the other keys.
    pub paths: &'n [(String, String)],
    /// The key for standard input.
    pub input: Option<Secret>,
}

/// A running node.
pub struct Node {
    child: Child,
    pid: Pid,
    input: Option<Input>,
    signals: Vec<(Signal, Stream)>,
    ended: Stream,
}

/// The rest of a key on its way into the node's standard input.
struct Input {
    pipe: pipe::Sender,
    key: Secret,
    written: usize,
}

impl NodeProcess<'_> {
    /// Starts the node and waits until it is executing. Call it on the thread that stays to the end: the node is ended
    /// when that thread ends (PR_SET_PDEATHSIG(2const)).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self) -> Result<Node, RunError> {
        let prepare = RunError::starting("prepare to start the node");
        // Before the node exists, so that no signal and no end of it is missed.
        let signals = FORWARDED
            .into_iter()
            .map(|number| Ok((number, signal(SignalKind::from_raw(number.as_raw()))?)))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(&prepare)?;
        let ended = signal(SignalKind::child()).map_err(&prepare)?;
        let (channel, theirs) = channel::pair().map_err(&prepare)?;
        let mut launcher = self.launcher();
        let (reading, input) = match self.input {
            Some(key) => {
                let (reading, pipe) = input_pipe(key).map_err(&prepare)?;
                (Some(reading), Some(pipe))
            }
            None => (None, None),
        };
        let stdin = rustix::stdio::stdin();
        let mut descriptors: Vec<BorrowedFd<'_>> =
            vec![reading.as_ref().map_or(stdin, AsFd::as_fd)];
        descriptors.extend(self.inherited.iter().map(|key| key.descriptor.as_fd()));

        let child = launcher
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(RunError::starting("start the launcher of the node"))?;
        // It holds the launcher's end of the channel, whose closing is awaited below.
        drop(launcher);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| prepare(std::io::ErrorKind::InvalidData.into()))?;
        let mut node = Node {
            child,
            pid,
            input,
            signals,
            ended,
        };
        // A launcher that fails before it has them all says why on the same channel, so that is asked first.
        let sent = channel::send(&channel, &descriptors);
        let failed = channel::receive_failure(&channel).map_err(&prepare)?;
        if failed.is_some() || sent.is_err() {
            let status = node.child.wait().map_err(&prepare)?;
            return Err(RunError::NotStarted {
                program: self.command.first().cloned().unwrap_or_default(),
                why: failed.unwrap_or_else(|| format!("the launcher ended early ({status})")),
                status: exit_code(status),
            });
        }
        Ok(node)
    }

    fn launcher(&self) -> Command {
        let identity = self.identity;
        let mut launcher = Command::new("/proc/self/exe");
        launcher
            .arg("__launch")
            .arg(format!("--parent={}", getpid().as_raw_pid()))
            .arg(format!("--uid={}", identity.uid))
            .arg(format!("--gid={}", identity.gid));
        if let Some(groups) = &identity.groups {
            let list: Vec<String> = groups.iter().map(ToString::to_string).collect();
            launcher.arg(format!("--groups={}", list.join(",")));
        }
        for key in &self.inherited {
            launcher.arg(match key.number {
                Some(number) => format!("--key={}={number}", key.name),
                None => format!("--key={}", key.name),
            });
        }
        let fill = |argument: &OsString| fill_in(argument, self.paths);
        launcher
            .arg("--")
            .args(self.command.first())
            .args(self.command.iter().skip(1).map(fill));
        launcher
    }
}

impl Node {
    /// Waits for the node's end, passing on signals and the rest of standard input; the exit code a shell would give.
    ///
    /// # Errors
    /// When the kernel does not tell how the node ended.
    pub async fn supervise(mut self) -> Result<u8, RunError> {
        let lost = RunError::starting("wait for the node");
        loop {
            if let Some(status) = self.reap().map_err(&lost)? {
                return Ok(exit_code(status));
            }
            tokio::select! {
                _ = self.ended.recv() => {}
                number = next(&mut self.signals) => self.forward(number),
                () = Input::feed(&mut self.input) => self.input = None,
            }
        }
    }

    /// The node's exit status, once it has one.
    fn reap(&mut self) -> std::io::Result<Option<ExitStatus>> {
        if !getpid().is_init() {
            return self.child.try_wait();
        }
        // As the first process of a container, the agent inherits every orphan and must wait for each.
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => {
                    return Ok(Some(ExitStatus::from_raw(status.as_raw())));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn forward(&self, number: Signal) {
        if FROM_TERMINAL.contains(&number) && in_foreground() {
            return;
        }
        // An error means that the node is gone, which `reap` will find.
        let _ = kill_process(self.pid, number);
    }
}

impl Input {
    /// Writes what is left, straight from locked memory, and returns when there is nothing more to do. Never returns
    /// when there is no input, so that it can stand in a `select!`.
    async fn feed(input: &mut Option<Self>) {
        let Some(input) = input else {
            return std::future::pending().await;
        };
        loop {
            let rest = input.key.expose().get(input.written..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            match input.pipe.try_write(rest) {
                Ok(count) => input.written = input.written.saturating_add(count),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if input.pipe.ready(Interest::WRITABLE).await.is_err() {
                        return;
                    }
                }
                // The node has closed its end: it does not want the rest.
                Err(_) => return,
            }
        }
    }
}

/// A pipe with the key on its way in: the node's end and ours.
fn input_pipe(key: Secret) -> std::io::Result<(OwnedFd, Input)> {
    let (reading, writing) = std::io::pipe()?;
    let writing = File::from(OwnedFd::from(writing));
    rustix::io::ioctl_fionbio(&writing, true)?;
    let pipe = pipe::Sender::from_file(writing)?;
    let input = Input {
        pipe,
        key,
        written: 0,
    };
    Ok((reading.into(), input))
}

/// The next signal of any of them.
async fn next(signals: &mut [(Signal, Stream)]) -> Signal {
    std::future::poll_fn(|context| {
        for (number, stream) in signals.iter_mut() {
            if stream.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Whether the terminal's keys reach the agent, and so the node, which is in the same process group.
fn in_foreground() -> bool {
    let terminal = std::io::stdin();
    terminal.is_terminal()
        && rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp())
}

/// As a shell has it: the code, or 128 and the number of the signal.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|number| number.saturating_add(128)))
        .unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// The name of a program for a message.
pub(super) fn shown(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}
