//! The sockets of the interposer: two listeners, a thread for each connection.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::record::code_of;
use super::rule::flip;
use super::{Action, AttackerKey, Exchange, HEADER, Record, Rule};

/// Largest command or answer let through. TPMs have 4096 (TPM_PT_MAX_COMMAND_SIZE); this leaves room for odd ones.
const LARGEST: usize = 1 << 16;

/// Where pairs of free ports are looked for: below the range the kernel takes for outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

/// A running interposer; its ports close when it is dropped.
pub struct Interposer {
    port: u16,
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    tpm: SocketAddr,
    line: Mutex<Line>,
    /// Called after each exchange, for a log that is written as it happens.
    watch: Box<dyn Fn(&Exchange) + Send + Sync>,
    attacker: AttackerKey,
    stopping: AtomicBool,
    /// Second handles of the streams in use, to end them when the interposer is dropped.
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

#[derive(Default)]
struct Line {
    record: Record,
    rules: Vec<(Rule, usize)>,
    /// First successful answer to each command code, kept when the record is emptied.
    first: BTreeMap<u32, Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interposer {
    /// Stands in front of the TPM on `tpm_port` (control on the next) of this host, on a free pair of ports.
    ///
    /// # Errors
    /// When no pair of ports is free.
    pub fn start(tpm_port: u16) -> io::Result<Self> {
        let tpm = SocketAddr::from((Ipv4Addr::LOCALHOST, tpm_port));
        let start = std::process::id().wrapping_add(u32::from(tpm_port)) * 2;
        let span = u32::from(PORTS.end - PORTS.start);
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for offset in (0..span).step_by(2) {
            let at = u16::try_from((start + offset) % span).unwrap_or(0);
            match Self::start_on(PORTS.start + at, tpm, |_| ()) {
                Ok(interposer) => return Ok(interposer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Stands in front of the TPM at `tpm`, on `port` and the next; `watch` sees each exchange as it ends.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn start_on(
        port: u16,
        tpm: SocketAddr,
        watch: impl Fn(&Exchange) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let next = |port: u16| port.checked_add(1).ok_or(io::ErrorKind::InvalidInput);
        let data = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, next(port)?))?;
        next(tpm.port())?;
        let shared = Arc::new(Shared {
            tpm,
            line: Mutex::default(),
            watch: Box::new(watch),
            attacker: AttackerKey::generate().map_err(io::Error::other)?,
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let listeners = vec![
            listen(data, shared.clone(), serve_data),
            listen(control, shared.clone(), serve_control),
        ];
        Ok(Self {
            port,
            shared,
            listeners,
        })
    }

    /// Data port; control is the next one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCTI string that leads through it.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// What it does from now on; counting of commands starts anew.
    pub fn set_rules(&self, rules: impl IntoIterator<Item = Rule>) {
        lock(&self.shared.line).rules = rules.into_iter().map(|rule| (rule, 0)).collect();
    }

    /// A copy of the record.
    #[must_use]
    pub fn record(&self) -> Record {
        lock(&self.shared.line).record.clone()
    }

    /// The record, which is empty afterwards.
    #[must_use]
    pub fn take_record(&self) -> Record {
        std::mem::take(&mut lock(&self.shared.line).record)
    }

    /// The key [`Action::SwapKey`] puts in place.
    #[must_use]
    pub fn attacker(&self) -> &AttackerKey {
        &self.shared.attacker
    }
}

impl Drop for Interposer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the two accepts.
        for port in [self.port, self.port.saturating_add(1)] {
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        }
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts until the interposer stops; each connection gets a thread.
fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    serve: fn(&Shared, TcpStream) -> io::Result<()>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if shared.stopping.load(Ordering::SeqCst) {
                return;
            }
            let shared = shared.clone();
            // An error ends the connection, which is all either side can be told.
            thread::spawn(move || serve(&shared, stream));
        }
    })
}

impl Shared {
    /// Connects to the TPM's port number `offset` from its first.
    fn dial(&self, offset: u16) -> io::Result<Kept<'_>> {
        let mut address = self.tpm;
        address.set_port(address.port().saturating_add(offset));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        self.keep(stream)
    }

    fn keep(&self, stream: TcpStream) -> io::Result<Kept<'_>> {
        stream.set_nodelay(true)?;
        let second = stream.try_clone()?;
        let mut open = lock(&self.open);
        let id = open.last_key_value().map_or(0, |(last, _)| last + 1);
        open.insert(id, second);
        Ok(Kept {
            stream,
            id,
            shared: self,
        })
    }

    /// The actions that apply to a command, in the order of the rules.
    fn actions(&self, code: u32) -> Vec<Action> {
        let mut line = lock(&self.line);
        let mut actions = Vec::new();
        for (rule, seen) in &mut line.rules {
            if rule.when.code.is_none_or(|c| c == code) {
                if rule.when.nth.is_none_or(|nth| nth == *seen) {
                    actions.push(rule.action.clone());
                }
                *seen += 1;
            }
        }
        actions
    }

    /// Passes one command on as the rules say. `answer: None` in the pair means: close the connection.
    fn exchange(
        &self,
        tpm: &mut TcpStream,
        command: Vec<u8>,
    ) -> io::Result<(Exchange, Option<Vec<u8>>)> {
        let code = code_of(&command);
        let actions = self.actions(code);
        let mut sent = command.clone();
        let mut exchange = Exchange {
            command,
            answer: None,
            forged: None,
            took: Duration::ZERO,
        };
        for action in &actions {
            match action {
                Action::DropCommand => return Ok((exchange, None)),
                Action::FlipCommand(bit) => flip(&mut sent, *bit),
                Action::Replay => exchange.forged = lock(&self.line).first.get(&code).cloned(),
                Action::Answer(bytes) => exchange.forged = Some(bytes.clone()),
                _ => {}
            }
        }
        if exchange.forged.is_none() {
            let begun = Instant::now();
            tpm.write_all(&sent)?;
            let answer = read_frame(tpm)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            exchange.took = begun.elapsed();
            if code_of(&answer) == 0 {
                lock(&self.line)
                    .first
                    .entry(code)
                    .or_insert_with(|| answer.clone());
            }
            exchange.answer = Some(answer);
        }
        let honest = exchange.answer.clone();
        let mut answer = exchange
            .forged
            .clone()
            .or(honest.clone())
            .unwrap_or_default();
        for action in &actions {
            match action {
                Action::DropAnswer => return Ok((exchange, None)),
                Action::FlipAnswer(bit) => flip(&mut answer, *bit),
                Action::SwapKey => {
                    if let Some(swapped) = self.attacker.swap(&exchange.command, &answer) {
                        answer = swapped;
                    }
                }
                Action::Delay(time) => thread::sleep(*time),
                _ => {}
            }
        }
        if honest.as_ref() != Some(&answer) {
            exchange.forged = Some(answer.clone());
        }
        Ok((exchange, Some(answer)))
    }
}

/// A stream that [`Shared::open`] knows as long as it lives, and that is shut down then.
struct Kept<'a> {
    stream: TcpStream,
    id: u64,
    shared: &'a Shared,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        lock(&self.shared.open).remove(&self.id);
    }
}

/// One connection to the data port: command, answer, and so on until the TPM stack closes it.
fn serve_data(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    let mut client = shared.keep(stream)?;
    let mut tpm = None;
    while let Some(command) = read_frame(&mut client.stream)? {
        let upstream = match &mut tpm {
            Some(upstream) => upstream,
            None => tpm.insert(shared.dial(0)?),
        };
        let (exchange, answer) = shared.exchange(&mut upstream.stream, command)?;
        (shared.watch)(&exchange);
        lock(&shared.line).record.exchanges.push(exchange);
        match answer {
            Some(answer) => client.stream.write_all(&answer)?,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// One connection to the control port: bytes both ways, recorded.
fn serve_control(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    let client = shared.keep(stream)?;
    let tpm = shared.dial(1)?;
    thread::scope(|scope| {
        scope.spawn(|| pump(shared, &client.stream, &tpm.stream));
        pump(shared, &tpm.stream, &client.stream);
    });
    Ok(())
}

fn pump(shared: &Shared, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        lock(&shared.line).record.control.extend(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Reads one command or answer: its header, and as many bytes as the header's length says.
/// `None` at the end of the stream.
pub(crate) fn read_frame(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; HEADER];
    if stream.read(frame.get_mut(..1).unwrap_or_default())? == 0 {
        return Ok(None);
    }
    stream.read_exact(frame.get_mut(1..).unwrap_or_default())?;
    let size = match frame.get(2..6) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if !(HEADER..=LARGEST).contains(&size) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a TPM frame of {size} bytes (allowed: {HEADER} to {LARGEST})"),
        ));
    }
    frame.resize(size, 0);
    stream.read_exact(frame.get_mut(HEADER..).unwrap_or_default())?;
    Ok(Some(frame))
}
