//! nodeseal on a software TPM beside systemd-creds and clevis on the same one, and beside its own floor.
//!
//! Each round runs every contender once, so that a machine that slows down slows all of them down.
#![allow(missing_docs)]

mod report;
mod tpm_library;
mod tpm_parts;
#[path = "../enclave/tpm/tests/tss/mod.rs"]
mod tss;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nodeseal_core::crypto::{Cipher, random_key};
use nodeseal_harness::{
    Agent, Context, Error, Finished, Result, Swtpm, TpmProcess, program, short_dir,
};
use nodeseal_sim::interposer::{Action, Exchange, Interposer, Rule, When, code};
use report::{Report, median, ms, ratio, timed};

const ROUNDS: usize = 21;
const BATCH_ROUNDS: usize = 7;
const KEYS: usize = 10_000;
/// Size of a geth keystore file.
const KEY_LENGTH: usize = 491;

fn main() -> Result<()> {
    let mut report = Report::default();
    let swtpm = Swtpm::distinct()?;
    let directory = short_dir()?;
    // systemd-creds leaves out of its policy what was never measured.
    for pcr in PCRS {
        swtpm.extend_pcr(pcr)?;
    }
    let tpm = TpmProcess::start(&swtpm.tcti())?;
    let agent = Agent::init(directory.path(), "bench", &tpm.address())?;
    agent
        .run(["generate", "--name", "nodekey", "--type", "secp256k1"])?
        .success("generate")?;
    let floor = single_key(&mut report, &swtpm, &tpm, &agent)?;
    batch(&mut report, &swtpm, &agent, floor)?;
    at_rest(&mut report, tpm)?;
    report.write()
}

/// The same node behind an interposer that counts and times each TPM command.
struct Watched {
    line: Interposer,
    agent: Agent,
    _tpm: TpmProcess,
    directory: tempfile::TempDir,
}

impl Watched {
    fn new(swtpm: &Swtpm) -> Result<Self> {
        let line = Interposer::start(swtpm.port()).context("interposer")?;
        let tpm = TpmProcess::start(&line.tcti())?;
        let directory = short_dir()?;
        let agent = Agent::init(directory.path(), "bench", &tpm.address())?;
        Ok(Self {
            line,
            agent,
            _tpm: tpm,
            directory,
        })
    }

    /// Gives its agent the blob of another's key.
    fn take_blob(&self, from: &Agent, name: &str) -> Result<()> {
        fs::create_dir_all(self.directory.path().join("keys")).context("keys")?;
        fs::copy(from.blob(name), self.agent.blob(name)).context("blob")?;
        Ok(())
    }

    /// Opens one key: the TPM's commands up to the last that opening needs.
    fn open(&self) -> Result<Vec<Exchange>> {
        drop(self.line.take_record());
        open(&self.agent)?;
        let record = self.line.take_record();
        let until = record
            .exchanges
            .iter()
            .rposition(|e| Some(e.code()) == code("FlushContext"));
        let mut of_opening = record.exchanges;
        of_opening.truncate(until.map_or(0, |last| last + 1));
        Ok(of_opening)
    }
}

fn open(agent: &Agent) -> Result<()> {
    run(&mut agent.command(["open", "nodekey", "--stdout"])?)
}

/// One key, whole processes. Gives what the TPM commands of one opening take.
fn single_key(
    report: &mut Report,
    swtpm: &Swtpm,
    tpm: &TpmProcess,
    agent: &Agent,
) -> Result<Duration> {
    let secret = agent.directory().join("secret");
    fs::write(&secret, [7; 32]).context("secret")?;
    let creds = Creds::seal(swtpm, &secret, agent.directory())?;
    let clevis = Clevis::seal(swtpm, agent.directory())?;
    let watched = Watched::new(swtpm)?;
    watched.take_blob(agent, "nodekey")?;
    let mut parts = tpm_parts::Parts::new(swtpm, tpm, agent)?;

    let (mut ours, mut theirs, mut clevises, mut floors) = (vec![], vec![], vec![], vec![]);
    let mut commands = 0;
    for round in 0..=ROUNDS {
        let our_time = timed(|| open(agent))?.0;
        let creds_time = timed(|| creds.open())?.0;
        flush(swtpm)?;
        let clevis_time = timed(|| clevis.open())?.0;
        flush(swtpm)?;
        let exchanges = watched.open()?;
        // The first round warms caches.
        if round > 0 {
            ours.push(our_time);
            theirs.push(creds_time);
            clevises.push(clevis_time);
            commands = exchanges.len();
            floors.push(exchanges.iter().map(|exchange| exchange.took).sum());
            parts.measure(swtpm.port(), &exchanges)?;
            flush(swtpm)?;
        }
    }
    let (ours, floor) = (median(ours), median(floors));
    let (theirs, clevises) = (median(theirs), median(clevises));
    println!("one key, whole processes, median of {ROUNDS} rounds:");
    report.figure("open_ms", ms(ours), "nodeseal open");
    report.figure("systemd_creds_ms", ms(theirs), "systemd-creds decrypt");
    report.figure("clevis_ms", ms(clevises), "clevis decrypt");
    report.figure(
        "tpm_floor_ms",
        ms(floor),
        "what the TPM takes for the commands of one opening, at its socket",
    );
    report.figure("tpm_commands_per_open", commands as f64, "at most 10");
    report.figure("open_vs_systemd_creds", ratio(ours, theirs), "below 1");
    report.figure("open_vs_clevis", ratio(ours, clevises), "below 0.2");
    report.figure(
        "open_vs_tpm_floor",
        ratio(ours, floor),
        "wanted: at most 1.3",
    );
    parts.report(report, ours, floor);
    hardware(report, &watched)?;
    Ok(floor)
}

/// The same with a TPM that takes its time as hardware does.
///
/// reference: an unseal took 0.2 s and more on firmware TPMs, 1.35 s and more on discrete ones (published in issue
/// reports; both are the quickest found). Six commands share that evenly here.
fn hardware(report: &mut Report, watched: &Watched) -> Result<()> {
    const HARDWARE_ROUNDS: usize = 5;
    println!("the same where the TPM is slow:");
    for (name, whole, kind) in [
        ("open_vs_firmware_tpm", 200, "firmware TPM"),
        ("open_vs_discrete_tpm", 1350, "discrete TPM"),
    ] {
        let delay = Duration::from_millis(whole / 6);
        let every = When {
            code: None,
            nth: None,
        };
        let action = Action::Delay(delay);
        watched.line.set_rules([Rule {
            when: every,
            action,
        }]);
        let (mut ours, mut floors) = (vec![], vec![]);
        for _ in 0..HARDWARE_ROUNDS {
            let (time, exchanges) = timed(|| watched.open())?;
            ours.push(time);
            floors.push(exchanges.iter().map(|one| one.took + delay).sum());
        }
        let meaning = format!("at most 1.3; {kind}, {whole} ms for its commands");
        report.figure(name, ratio(median(ours), median(floors)), &meaning);
    }
    watched.line.set_rules([]);
    Ok(())
}

/// Ten thousand keys under one data key.
fn batch(report: &mut Report, swtpm: &Swtpm, agent: &Agent, tpm_floor: Duration) -> Result<()> {
    let plain = agent.directory().join("plain");
    fs::create_dir(&plain).context("plain")?;
    for i in 0..KEYS {
        fs::write(
            plain.join(format!("key-{i:05}.json")),
            vec![b'k'; KEY_LENGTH],
        )
        .context("key")?;
    }
    let blobs = agent.directory().join("blobs");
    let seal = [
        "seal".as_ref(),
        "--all".as_ref(),
        "--to".as_ref(),
        blobs.as_os_str(),
        plain.as_os_str(),
    ];
    let (sealing, done) = timed(|| agent.run(seal))?;
    done.success("seal")?;
    let files = files_of(&blobs)?;
    if files.len() != KEYS {
        return Err(Error::new(format!("{} blobs of {KEYS} keys", files.len())));
    }
    let open = |agent: &Agent| {
        let check = ["open".as_ref(), "--check".as_ref(), blobs.as_os_str()];
        run(&mut agent.command(check)?)
    };
    let (mut ours, mut floors) = (vec![], vec![]);
    for round in 0..=BATCH_ROUNDS {
        let our_time = timed(|| open(agent))?.0;
        let floor = floor_of(&files)?;
        if round > 0 {
            ours.push(our_time);
            floors.push(floor);
        }
    }
    let watched = Watched::new(swtpm)?;
    drop(watched.line.take_record());
    open(&watched.agent)?;
    let unseal = code("Unseal").ok_or_else(|| Error::new("no code of Unseal"))?;
    let unseals = watched.line.take_record().count(unseal);

    let (ours, floor) = (median(ours), median(floors));
    println!("{KEYS} keys of {KEY_LENGTH} bytes, median of {BATCH_ROUNDS} rounds:");
    report.figure("batch_seal_ms", ms(sealing), "nodeseal seal, once");
    report.figure("batch_open_ms", ms(ours), "nodeseal open --check");
    report.figure(
        "batch_floor_ms",
        ms(floor),
        "reading the files and AES-256-GCM alone",
    );
    report.figure("unseals_per_10000_keys", unseals as f64, "1");
    let rest = ours.saturating_sub(tpm_floor);
    report.figure(
        "batch_open_vs_floor",
        ratio(rest, floor),
        "without the unseal, at most 1.25",
    );
    Ok(())
}

/// Reads every file and decrypts as many bytes as its key has, one after the other.
fn floor_of(files: &[PathBuf]) -> Result<Duration> {
    let failed = |error| Error::new(format!("cipher: {error}"));
    let key = random_key().map_err(failed)?;
    let mut sealed = vec![7; KEY_LENGTH];
    let tag = Cipher::new(&key)
        .and_then(|cipher| cipher.seal([0; 12], b"", &mut sealed))
        .map_err(failed)?;
    sealed.extend_from_slice(&tag);
    let start = Instant::now();
    for file in files {
        std::hint::black_box(fs::read(file).context(file.display())?);
        let mut content = sealed.clone();
        Cipher::new(&key)
            .and_then(|cipher| cipher.open([0; 12], b"", &mut content))
            .map_err(failed)?;
    }
    Ok(start.elapsed())
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).context(directory.display())?;
    entries
        .map(|entry| Ok(entry.context("entry")?.path()))
        .collect()
}

/// What the trusted side costs while it waits.
fn at_rest(report: &mut Report, mut tpm: TpmProcess) -> Result<()> {
    tpm.stop();
    let (start, ()) = timed(|| tpm.serve())?;
    let pid = tpm
        .pid()
        .ok_or_else(|| Error::new("nodeseal-tpm has ended"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("status")?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .ok_or_else(|| Error::new("no VmRSS"))?;
    println!("nodeseal-tpm at rest:");
    report.figure(
        "tpm_start_ms",
        ms(start),
        "from exec to the first client accepted",
    );
    report.figure("tpm_rss_kib", resident, "resident memory");
    for name in ["nodeseal", "nodeseal-tpm"] {
        let bytes = fs::metadata(program(name)?).context(name)?.len();
        let figure = format!("{}_binary_bytes", name.replace('-', "_"));
        report.figure(&figure, bytes as f64, "size of the program");
    }
    Ok(())
}

/// A credential of systemd-creds, sealed to the same PCRs.
struct Creds {
    tpm: String,
    file: PathBuf,
}

/// The default policy's PCRs, as the peers write them.
const PCRS: [u8; 3] = [7, 11, 12];

fn pcrs(separator: &str) -> String {
    PCRS.map(|pcr| pcr.to_string()).join(separator)
}

impl Creds {
    fn seal(swtpm: &Swtpm, secret: &Path, directory: &Path) -> Result<Self> {
        let creds = Self {
            tpm: format!("--tpm2-device={}", swtpm.tcti()),
            file: directory.join("secret.cred"),
        };
        run(Command::new("systemd-creds")
            .args(["encrypt", "--with-key=tpm2", "--name=secret", &creds.tpm])
            .arg(format!("--tpm2-pcrs={}", pcrs("+")))
            .args([secret, &creds.file]))?;
        Ok(creds)
    }

    fn open(&self) -> Result<()> {
        run(Command::new("systemd-creds")
            .args(["decrypt", "--name=secret", &self.tpm])
            .arg(&self.file)
            .arg("-"))
    }
}

/// A secret of clevis, sealed to the same PCRs.
struct Clevis {
    tcti: String,
    file: PathBuf,
}

impl Clevis {
    fn seal(swtpm: &Swtpm, directory: &Path) -> Result<Self> {
        let clevis = Self {
            tcti: swtpm.tcti(),
            file: directory.join("secret.jwe"),
        };
        let settings = format!("{{\"pcr_bank\":\"sha256\",\"pcr_ids\":\"{}\"}}", pcrs(","));
        run(Command::new("sh")
            .arg("-c")
            .arg("printf 0123456789abcdef0123456789abcdef | clevis encrypt tpm2 \"$1\" >\"$2\"")
            .args(["sh", &settings])
            .arg(&clevis.file)
            .env("TPM2TOOLS_TCTI", &clevis.tcti))?;
        Ok(clevis)
    }

    fn open(&self) -> Result<()> {
        let file = fs::File::open(&self.file).context(self.file.display())?;
        run(Command::new("clevis")
            .arg("decrypt")
            .stdin(Stdio::from(file))
            .env("TPM2TOOLS_TCTI", &self.tcti))
    }
}

/// The peers leave sessions and keys behind, which the kernel's resource manager would remove; there is none here.
fn flush(swtpm: &Swtpm) -> Result<()> {
    for what in ["--transient-object", "--loaded-session", "--saved-session"] {
        run(Command::new("tpm2_flushcontext")
            .arg(what)
            .env("TPM2TOOLS_TCTI", swtpm.tcti()))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let what = format!("{command:?}");
    Finished::of(command)?.success(&what).map(drop)
}
