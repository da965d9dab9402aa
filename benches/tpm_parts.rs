//! Where the time of one opening goes, part by part, and what any client of the TPM would pay for the same commands.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nodeseal_harness::{Agent, Context, Error, Result, Swtpm, TpmProcess};
use nodeseal_sim::interposer::Exchange;
use nodeseal_wire::frame::{read_frame, write_frame};
use nodeseal_wire::message::{BlobRef, OpenRequest, PROTOCOL, Reply, Request};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::report::{Report, median, ms, ratio, timed};
use crate::tpm_library::Library;
use crate::{open, run};

/// Times of each part, one per round.
pub struct Parts {
    blob: Vec<u8>,
    socket: PathBuf,
    /// The same node with its audit log in memory.
    unlogged: Agent,
    _memory: TempDir,
    processes: Vec<Duration>,
    /// A program that does nothing.
    nothings: Vec<Duration>,
    requests: Vec<Duration>,
    without_disk: Vec<Duration>,
    replays: Vec<Duration>,
    library: Library,
    by_library: Vec<Duration>,
}

impl Parts {
    /// Of the key "nodekey" of `agent`, whose trusted side is `tpm`.
    pub fn new(swtpm: &Swtpm, tpm: &TpmProcess, agent: &Agent) -> Result<Self> {
        let memory = tempfile::tempdir_in("/dev/shm").context("/dev/shm")?;
        let unlogged = Agent::init(memory.path(), "bench", &tpm.address())?;
        let blob = fs::read(agent.blob("nodekey")).context("blob")?;
        fs::create_dir_all(memory.path().join("keys")).context("keys")?;
        fs::write(unlogged.blob("nodekey"), &blob).context("blob")?;
        Ok(Self {
            blob,
            socket: tpm.socket(),
            unlogged,
            _memory: memory,
            processes: Vec::new(),
            nothings: Vec::new(),
            requests: Vec::new(),
            without_disk: Vec::new(),
            replays: Vec::new(),
            library: Library::seal(swtpm)?,
            by_library: Vec::new(),
        })
    }

    /// One round; `commands` are those of one opening, to be sent once more.
    pub fn measure(&mut self, port: u16, commands: &[Exchange]) -> Result<()> {
        let process = timed(|| run(Agent::bare()?.arg("--version")))?.0;
        let without_disk = timed(|| open(&self.unlogged))?.0;
        self.processes.push(process);
        let nothing = timed(|| run(&mut Command::new("true")))?.0;
        self.nothings.push(nothing);
        self.without_disk.push(without_disk);
        self.requests.push(self.request()?);
        self.replays.push(replay(port, commands)?);
        self.by_library.push(self.library.unseal()?);
        Ok(())
    }

    /// From a request on the trusted side's socket to its reply, without any process of ours around it.
    fn request(&self) -> Result<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")?;
        let failed = |error: &dyn std::fmt::Display| Error::new(format!("request: {error}"));
        runtime.block_on(async {
            let mut stream = UnixStream::connect(&self.socket).await.context("socket")?;
            let hello = Request::Hello {
                protocol: PROTOCOL,
                software: "benchmark".to_owned(),
            };
            let open = Request::Open(OpenRequest {
                node: "bench".to_owned(),
                blobs: vec![BlobRef {
                    name: Some("nodekey".to_owned()),
                    length: u32::try_from(self.blob.len()).unwrap_or(u32::MAX),
                }],
                more: false,
                context: nodeseal_wire::message::Context::default(),
            });
            let mut took = Duration::ZERO;
            for (request, payload) in [(hello, &[][..]), (open, &self.blob)] {
                let start = Instant::now();
                write_frame(&mut stream, &request.encode(), payload)
                    .await
                    .map_err(|error| failed(&error))?;
                let frame = read_frame(&mut stream)
                    .await
                    .map_err(|error| failed(&error))?
                    .ok_or_else(|| failed(&"no reply"))?;
                took = start.elapsed();
                if let Ok(Reply::Refused(refusal)) = Reply::decode(&frame.message) {
                    return Err(failed(&refusal.message));
                }
            }
            Ok(took)
        })
    }

    /// Prints where `whole` goes; `floor` of it is the TPM's.
    pub fn report(self, report: &mut Report, whole: Duration, floor: Duration) {
        let (process, request) = (median(self.processes), median(self.requests));
        let disk = whole.saturating_sub(median(self.without_disk));
        let side = request.saturating_sub(floor);
        let rest = [process, request, disk]
            .iter()
            .fold(whole, |left, part| left.saturating_sub(*part));
        println!("where an opening's time goes:");
        for (name, time, meaning) in [
            (
                "open_part_tpm_ms",
                floor,
                "the TPM's commands, at its socket",
            ),
            (
                "open_part_trusted_side_ms",
                side,
                "nodeseal-tpm besides: sessions, blob, frames",
            ),
            (
                "open_part_process_ms",
                process,
                "a process starts and ends (nodeseal --version)",
            ),
            (
                "open_part_disk_ms",
                disk,
                "the audit record is on disk before the key is out",
            ),
            (
                "open_part_agent_ms",
                rest,
                "the agent besides: configuration, blob, connection",
            ),
        ] {
            report.figure(name, ms(time), meaning);
        }
        let client = median(self.replays);
        report.figure(
            "tpm_client_floor_ms",
            ms(client),
            "the same commands from a bare client, a connection each as tpm2-tss makes",
        );
        report.figure(
            "open_vs_tpm_client_floor",
            ratio(whole, client),
            "whole process against a client that is there already",
        );
        let nothing = median(self.nothings);
        report.figure("true_ms", ms(nothing), "a program that does nothing (true)");
        report.figure(
            "least_vs_tpm_floor",
            ratio(nothing.saturating_add(floor), floor),
            "that, and the TPM: no command can be below",
        );
        let library = median(self.by_library);
        report.figure(
            "tpm_library_ms",
            ms(library),
            "the same unseal by tss-esapi, connected already",
        );
        report.figure(
            "open_vs_tpm_library",
            ratio(whole, library),
            "whole process against the calls of the TPM's usual library",
        );
        report.figure(
            "open_vs_process_and_tpm",
            ratio(whole, process.saturating_add(floor)),
            "at most 1.3 by the reading that a process must start and the TPM must work",
        );
    }
}

/// Sends the commands as they were recorded, each on a connection of its own. The last answer differs, since the
/// session's nonces do: the TPM finds the HMAC of TPM2_Unseal wrong after the same work.
fn replay(port: u16, commands: &[Exchange]) -> Result<Duration> {
    let mut took = Duration::ZERO;
    for exchange in commands {
        let start = Instant::now();
        let mut tpm = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("TPM")?;
        tpm.write_all(&exchange.command).context("command")?;
        let mut answer = [0; 4096];
        if tpm.read(&mut answer).context("answer")? < 10 {
            return Err(Error::new("the TPM's answer is cut short"));
        }
        took += start.elapsed();
    }
    Ok(took)
}
