//! A real enclave image booted in QEMU's machine `nitro-enclave`, with its vsock as unix sockets.
//!
//! vhost-device-vsock speaks Firecracker's convention: the host connects to one socket and names the port; what the
//! guest connects to (CID 2, port P) is a socket the host listens on, its name ending in `_P`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Context, Error, Finished, Result, Running, checkout, short_dir, wait_for};

/// vsock port of the enclave's service.
const SERVICE: u32 = 5000;
/// What the enclave writes to its console when it listens.
const UP: &str = "ready port=";
/// Context id of the guest. Every machine has a host program of its own, so they need not differ.
const GUEST_CID: u32 = 4;
/// Until the first answer. Emulated on an idle machine it takes two seconds.
const BOOT: Duration = Duration::from_secs(90);
/// Until the host program listens.
const HOST: Duration = Duration::from_secs(10);
/// Until a memory dump is written.
const DUMP: Duration = Duration::from_secs(60);

/// The programs a machine needs, found or built by tests/image-tools.sh.
#[derive(Clone, Debug)]
pub struct MachineTools {
    qemu: PathBuf,
    vsock: PathBuf,
}

impl MachineTools {
    /// Finds them; builds what is missing, which takes minutes the first time.
    ///
    /// # Errors
    /// When they can be neither found nor built.
    pub fn find() -> Result<Self> {
        let tool = |name| {
            let mut command = Command::new(checkout().join("tests/image-tools.sh"));
            let done = Finished::of(command.arg(name))?.success("tests/image-tools.sh")?;
            let text = done.text();
            let path = text.lines().last().unwrap_or_default();
            Ok(PathBuf::from(path))
        };
        Ok(Self {
            qemu: tool("qemu")?,
            vsock: tool("vsock")?,
        })
    }
}

/// What a machine is to be like.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// Memory in mebibytes.
    pub memory_mib: u32,
    /// Role of the parent instance (ARN), measured into PCR3.
    pub parent_role: Option<String>,
    /// Id of the parent instance, measured into PCR4.
    pub parent_id: Option<String>,
}

/// A booted image, ended when dropped.
pub struct EnclaveMachine {
    directory: TempDir,
    qemu: Running,
    _vsock: Running,
    options: MachineOptions,
    started: Instant,
}

impl EnclaveMachine {
    /// Boots `image` (an EIF) and returns at once; see [`EnclaveMachine::first_answer`].
    ///
    /// # Errors
    /// When a program does not start.
    pub fn boot(tools: &MachineTools, image: &Path, options: &MachineOptions) -> Result<Self> {
        let directory = short_dir()?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let mut host = Command::new(&tools.vsock);
        host.arg("--vm").arg(format!(
            "guest-cid={GUEST_CID},uds-path={},socket={}",
            at("vm.vsock"),
            at("vhost.sock")
        ));
        let log = directory.path().join("vsock.log");
        let mut vsock = Running::start("vhost-device-vsock", &mut host, &log)?;
        let socket = directory.path().join("vhost.sock");
        vsock.wait_until("listen", HOST, |_| socket.exists())?;

        let mut machine = "nitro-enclave,vsock=c,id=nodeseal-enclave".to_owned();
        let measured = [
            ("parent-role", &options.parent_role),
            ("parent-id", &options.parent_id),
        ];
        for (name, value) in measured {
            if let Some(value) = value {
                // QEMU's options are separated by commas, of which two stand for one.
                machine.push_str(&format!(",{name}={}", value.replace(',', ",,")));
            }
        }
        let mut qemu = Command::new(&tools.qemu);
        qemu.args(["-L", "/usr/share/qemu", "-L", "/usr/share/seabios"])
            .args(["-M", &machine, "-accel", "tcg", "-cpu", "max"])
            .args(["-m", &format!("{}M", options.memory_mib)])
            .args(["-display", "none", "-no-reboot", "-monitor", "none"])
            .args(["-serial", &format!("file:{}", at("console"))])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", at("qmp"))])
            .args([
                "-chardev",
                &format!("socket,id=c,path={}", at("vhost.sock")),
            ])
            .arg("-kernel")
            .arg(image);
        let started = Instant::now();
        let qemu = Running::start("qemu", &mut qemu, &directory.path().join("qemu.log"))?;
        Ok(Self {
            directory,
            qemu,
            _vsock: vsock,
            options: options.clone(),
            started,
        })
    }

    /// Boots `image` and waits for the first answer on vsock.
    ///
    /// # Errors
    /// When it ends first, with what it wrote to its console, or does not answer in time.
    pub fn ready(tools: &MachineTools, image: &Path, options: &MachineOptions) -> Result<Self> {
        let mut machine = Self::boot(tools, image, options)?;
        machine.first_answer()?;
        Ok(machine)
    }

    /// Waits until the enclave's service takes a connection: the time since QEMU was started.
    ///
    /// # Errors
    /// As [`EnclaveMachine::ready`].
    pub fn first_answer(&mut self) -> Result<Duration> {
        let socket = self.vsock_path();
        let said = |machine: &Self| format!("{}\n{}", machine.console(), machine.qemu.output());
        let answered = wait_for("the enclave's first answer", BOOT, || {
            if let Some(status) = self.qemu.ended()? {
                let said = said(self);
                return Err(Error::new(format!("the enclave ended ({status}):\n{said}")));
            }
            // vhost-device-vsock loses connections that are asked for before the guest's driver is there, and
            // sometimes all later ones with them.
            let up = self.console().contains(UP) && takes_connection(&socket);
            Ok(up.then(|| self.started.elapsed()))
        });
        answered.map_err(|error| Error::new(format!("{error}\n{}", said(self))))
    }

    /// Waits until the machine has ended by itself.
    ///
    /// # Errors
    /// When it is still running after `deadline`.
    pub fn ended_within(&mut self, deadline: Duration) -> Result<()> {
        self.qemu.wait(deadline).map(drop)
    }

    /// Address of the enclave's service, as the agent's configuration has it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("hybrid:{}:{SERVICE}", self.vsock_path().display())
    }

    /// The socket a host connects to; what the guest connects to is this with `_PORT` behind it.
    #[must_use]
    pub fn vsock_path(&self) -> PathBuf {
        self.directory.path().join("vm.vsock")
    }

    /// Everything written to the serial console so far.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.directory.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Process id of QEMU.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.qemu.pid()
    }

    /// All of the guest's memory, by QEMU's monitor.
    ///
    /// # Errors
    /// When the monitor refuses.
    pub fn memory(&self) -> Result<Vec<u8>> {
        let file = self.directory.path().join("memory");
        let mut monitor = Monitor::connect(&self.directory.path().join("qmp"))?;
        monitor.ask(&json!({"execute": "stop"}))?;
        let bytes = u64::from(self.options.memory_mib) << 20;
        let arguments = json!({"val": 0, "size": bytes, "filename": file});
        monitor.ask(&json!({"execute": "pmemsave", "arguments": arguments}))?;
        monitor.ask(&json!({"execute": "cont"}))?;
        let memory = fs::read(&file).context(file.display());
        let _ = fs::remove_file(&file);
        memory
    }

    /// Ends it at once, as when the host loses power.
    pub fn kill(mut self) {
        self.qemu.kill();
    }
}

/// Whether somebody in the guest takes a connection to the service.
fn takes_connection(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(format!("CONNECT {SERVICE}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(64)).read_line(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("OK "))
}

/// QEMU's monitor (docs/interop/qmp-spec.rst).
struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context(socket.display())?;
        stream
            .set_read_timeout(Some(DUMP))
            .context("QEMU's monitor")?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.answer()?;
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Sends a command and waits for its end.
    fn ask(&mut self, command: &Value) -> Result<()> {
        let sent = writeln!(self.stream.get_mut(), "{command}");
        sent.context("QEMU's monitor")?;
        loop {
            let answer = self.answer()?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            // What is left are events.
            if answer.get("error").is_some() {
                return Err(Error::new(format!("QEMU's monitor: {command}: {answer}")));
            }
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("QEMU's monitor")?;
        serde_json::from_str(&line)
            .map_err(|error| Error::new(format!("QEMU's monitor: {error}: {line}")))
    }
}
