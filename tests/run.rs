//! `nodeseal run`: real programs as the node, keys opened by a real nodeseal-tpm on a software TPM.
//!
//! Some need root: to change the node's user, and to look into another process.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nodeseal_harness::{
    Agent, Finished, Running, Swtpm, TpmProcess, memory_scan, short_dir, wait_for,
};
use rustix::process::Signal;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
/// A key that is found in memory only where it was put.
const SECRET: &[u8] = b"9d4f-the-validator's-password-e1b7";

/// A node's directory with sealed keys, and what opens them.
struct Place {
    directory: TempDir,
    agent: Agent,
    _tpm: TpmProcess,
    _swtpm: Swtpm,
}

impl Place {
    /// Seals `keys` (name and content), configured by `config`.
    fn new(keys: &[(&str, &[u8])], config: &str) -> Self {
        let swtpm = Swtpm::new().unwrap();
        let tpm = TpmProcess::start(&swtpm.tcti()).unwrap();
        let directory = short_dir().unwrap();
        // The node may be another user.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let agent = Agent::init(directory.path(), "node-1", &tpm.address()).unwrap();
        for (name, content) in keys {
            let file = directory.path().join("plain");
            fs::write(&file, content).unwrap();
            let file = file.to_str().unwrap();
            let sealed = agent
                .run(["seal", "--name", name, "--shred", file])
                .unwrap();
            sealed.success("seal").unwrap();
        }
        let place = Self {
            directory,
            agent,
            _tpm: tpm,
            _swtpm: swtpm,
        };
        let config = config.replace("@DIR@", place.path("").to_str().unwrap());
        place.agent.configure(&config).unwrap();
        place
    }

    /// One key `password`, delivered as `config` says.
    fn with_password(config: &str) -> Self {
        let config = format!("[[key]]\nname = \"password\"\n{config}");
        Self::new(&[("password", SECRET)], &config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, node: &[&str]) -> Command {
        let mut command = self.agent.command([&["run", "--"], node].concat()).unwrap();
        command.current_dir(self.directory.path());
        command
    }

    /// Runs `node` under the agent to its end.
    fn run(&self, node: &[&str]) -> Finished {
        Finished::of(&mut self.command(node)).unwrap()
    }

    /// Runs a shell script as the node, with `{password}` as `$1`.
    fn script(&self, script: &str) -> Finished {
        self.run(&["sh", "-c", script, "sh", "{password}"])
    }

    /// Starts a shell script as the node and waits until it has written "ready".
    fn start(&self, script: &str) -> Running {
        let mut command = self.command(&["sh", "-c", script, "sh", "{password}"]);
        let mut running = Running::start("nodeseal", &mut command, &self.path("log")).unwrap();
        running
            .wait_until("be ready", SOON, |node| node.output().contains("ready"))
            .unwrap();
        running
    }
}

fn needs_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    !root
}

#[test]
fn a_memfd_has_the_key_can_be_read_again_and_changed_by_nobody() {
    let place = Place::with_password("");
    let done =
        place.script("cat $1 $1; stat -L -c %a $1; (echo x > $1) 2>/dev/null || echo refused");
    // Root is not stopped by the mode, but by the seals.
    let expected = format!("{0}{0}400\nrefused\n", text(SECRET));
    assert_eq!(
        (done.code, done.text(), done.stderr.as_str()),
        (0, expected, "")
    );
}

#[test]
fn the_node_inherits_nothing_open_but_its_keys() {
    let place = Place::with_password("");
    let directly = Finished::of(Command::new("ls").arg("/proc/self/fd")).unwrap();
    let as_node = place.run(&["ls", "/proc/self/fd"]);
    let count = |listed: &Finished| listed.text().lines().count();
    assert_eq!(count(&as_node), count(&directly) + 1);
}

#[test]
fn a_memfd_can_be_promised_a_number_which_must_be_free() {
    let place = Place::new(
        &[("password", SECRET), ("other", b"other")],
        "[[key]]\nname = \"other\"\n[[key]]\nname = \"password\"\nfd = 9\n",
    );
    let done = place.run(&[
        "sh",
        "-c",
        "echo $1 $2; cat <&9",
        "sh",
        "{password}",
        "{other}",
    ]);
    let expected = format!("/proc/self/fd/9 /proc/self/fd/3\n{}", text(SECRET));
    assert_eq!(done.text(), expected);
    let mut shell = Command::new("sh");
    let agent = place.command(&["true"]);
    shell.args(["-c", "exec 9</dev/null; exec \"$@\"", "sh"]);
    shell.arg(agent.get_program()).args(agent.get_args());
    let done = Finished::of(&mut shell).unwrap();
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            126,
            "error: cannot start true: key \"password\" should be at file descriptor 9, which is in use\n"
        )
    );
}

#[test]
fn a_file_is_seen_by_the_node_only() {
    let place = Place::with_password("deliver = \"file\"\npath = \"run/keys/password\"\n");
    let mut node = place.start("cat $1; echo; echo ready; while ! test -e go; do sleep 0.01; done");
    assert!(node.output().contains(&text(SECRET)));
    assert!(!place.path("run/keys/password").exists());
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(node.wait(SOON).unwrap().code(), Some(0));
    assert!(!place.path("run").exists());
}

#[test]
fn a_file_is_read_only_in_memory_and_its_directory_vanishes_with_the_agent() {
    let place = Place::with_password("deliver = \"file\"\npath = \"run/keys/password\"\n");
    let done = place.script("echo $1; cat $1; stat -c ' %a' $1; rm -f $1 2>&1; stat -f -c %T $1");
    let file = place.path("run/keys/password");
    let (file, secret) = (file.display(), text(SECRET));
    let expected =
        format!("{file}\n{secret} 400\nrm: cannot remove '{file}': Read-only file system\n");
    let rest = done.text();
    let kind = rest.strip_prefix(&expected);
    assert!(matches!(kind, Some("tmpfs\n" | "ramfs\n")), "{rest}");
    assert!(!place.path("run").exists());
}

#[test]
fn a_directory_that_is_in_use_is_neither_hidden_nor_removed() {
    let place = Place::with_password("deliver = \"file\"\npath = \"data/password\"\n");
    fs::create_dir(place.path("data")).unwrap();
    assert_eq!(place.script("cat $1").text(), text(SECRET));
    assert!(place.path("data").exists());
    fs::write(place.path("data/chain"), "").unwrap();
    let done = place.script("cat $1");
    assert_eq!(done.code, 1);
    let expected = format!(
        "error: {} is not empty: keys delivered as files need a directory of their own\n",
        place.path("data").display()
    );
    assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
}

#[test]
fn standard_input_carries_the_key_and_then_ends() {
    let place = Place::with_password("deliver = \"stdin\"\n");
    let done = place.script("cat; echo; cat; echo $1");
    assert_eq!(done.text(), format!("{}\n/proc/self/fd/0\n", text(SECRET)));
}

#[test]
fn a_node_that_does_not_want_its_standard_input_runs_all_the_same() {
    let place = Place::new(
        &[("password", &[7; 300_000])],
        "[[key]]\nname = \"password\"\ndeliver = \"stdin\"\n",
    );
    let done = place.script("exec <&-; echo ran");
    assert_eq!((done.code, done.text().as_str()), (0, "ran\n"));
}

#[test]
fn without_a_key_for_it_standard_input_is_the_agents() {
    let place = Place::with_password("");
    let mut agent = place.command(&["cat"]);
    let input = place.path("input");
    fs::write(&input, "typed").unwrap();
    agent.stdin(fs::File::open(input).unwrap());
    assert_eq!(Finished::of(&mut agent).unwrap().text(), "typed");
}

#[test]
fn several_keys_come_by_their_own_ways_in_their_own_forms() {
    let key = "01".repeat(31) + "fe";
    let place = Place::new(
        &[("opaque", SECRET), ("in/file", b"in a file")],
        "[[key]]\nname = \"opaque\"\n[[key]]\nname = \"in/file\"\ndeliver = \"file\"\npath = \"keys.d/f\"\n\
         [[key]]\nname = \"nodekey\"\ntype = \"secp256k1\"\nencoding = \"hex\"\ndeliver = \"stdin\"\n",
    );
    let file = place.path("nodekey");
    fs::write(&file, &key).unwrap();
    let sealed = place.agent.run(["seal", file.to_str().unwrap()]).unwrap();
    sealed.success("seal").unwrap();
    let done = place.run(&["cat", "{opaque}", "{in/file}", "{nodekey}"]);
    assert_eq!(done.text(), format!("{}in a file{key}", text(SECRET)));
}

#[test]
fn the_node_runs_as_the_configured_user_who_alone_can_read_the_keys() {
    if needs_root() {
        return;
    }
    let place = Place::new(
        &[("password", SECRET), ("file", SECRET)],
        "[run]\nuser = \"daemon\"\ngroups = [\"daemon\", \"nogroup\"]\n[[key]]\nname = \"password\"\n\
         [[key]]\nname = \"file\"\ndeliver = \"file\"\npath = \"keys.d/f\"\n",
    );
    let done = place.run(&[
        "sh",
        "-c",
        "id -u; id -g; id -G; grep -c ^CapEff:.0*$ /proc/self/status; cat $1 $2; stat -L -c ' %u %a' $1 $2",
        "sh",
        "{password}",
        "{file}",
    ]);
    let secret = text(SECRET);
    let expected = format!("1\n1\n1 65534\n1\n{secret}{secret} 1 400\n 1 400\n");
    assert_eq!(done.text(), expected);
}

#[test]
fn exit_status_and_death_by_signal_pass_through() {
    let place = Place::with_password("");
    assert_eq!(place.run(&["sh", "-c", "exit 42"]).code, 42);
    assert_eq!(place.run(&["sh", "-c", "kill -9 $$"]).code, 137);
    let done = place.run(&["/nowhere/geth"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            127,
            "error: cannot start /nowhere/geth: No such file or directory (os error 2)\n"
        )
    );
    let done = place.run(&["/etc/passwd"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            126,
            "error: cannot start /etc/passwd: Permission denied (os error 13)\n"
        )
    );
}

#[test]
fn signals_reach_the_node() {
    let place = Place::with_password("");
    let names = ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "TERM"];
    let traps: Vec<String> = names
        .iter()
        .map(|n| format!("trap 'echo got {n};' {n}"))
        .collect();
    let script = format!(
        "{}; trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.01; done",
        traps.join("; ")
    );
    let mut agent = place.start(&script);
    for (name, signal) in names.into_iter().zip([
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::WINCH,
        Signal::TERM,
    ]) {
        agent.signal(signal).unwrap();
        let got = format!("got {name}\n");
        wait_for(&got, SOON, || {
            Ok(agent.output().contains(&got).then_some(()))
        })
        .unwrap();
    }
    assert_eq!(agent.wait(SOON).unwrap().code(), Some(7));
}

#[test]
fn a_killed_agent_takes_the_node_and_everything_it_made_with_it() {
    let place = Place::new(
        &[("password", SECRET), ("file", SECRET)],
        "[[key]]\nname = \"password\"\n[[key]]\nname = \"file\"\ndeliver = \"file\"\npath = \"keys.d/f\"\n",
    );
    let mut agent = place.start(
        "trap 'echo got TERM; exit 0' TERM; echo pid $$; echo ready; while :; do sleep 0.01; done",
    );
    let output = agent.output();
    let node = output.split_whitespace().nth(1).unwrap().to_owned();
    let mounts = |pid: &str| fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap_or_default();
    let directory = place.path("keys.d");
    let directory = directory.to_str().unwrap();
    assert!(mounts(&node).contains(directory));
    assert!(!mounts("self").contains(directory));
    agent.kill();
    wait_for("the node to end", SOON, || {
        Ok((!Path::new(&format!("/proc/{node}")).exists()).then_some(()))
    })
    .unwrap();
    assert!(agent.output().contains("got TERM"));
    assert!(!mounts("self").contains(directory));
    assert!(!place.path("keys.d/f").exists());
}

#[test]
fn no_key_is_in_the_supervisors_memory_after_the_last_delivery() {
    if needs_root() {
        return;
    }
    let mut large = vec![b'.'; 200_000];
    large[150_000..150_000 + SECRET.len()].copy_from_slice(SECRET);
    let place = Place::new(
        &[("password", &large), ("memfd", &large), ("file", &large)],
        "[[key]]\nname = \"password\"\ndeliver = \"stdin\"\n[[key]]\nname = \"memfd\"\n\
         [[key]]\nname = \"file\"\ndeliver = \"file\"\npath = \"keys.d/f\"\n",
    );
    let agent = place.start(
        "echo ready; while ! test -e go; do sleep 0.01; done; cat > all; while :; do sleep 0.01; done",
    );
    // Until the node reads, its standard input cannot be written to the end: the agent must have the rest.
    assert!(memory_scan(agent.pid(), SECRET).unwrap() > 0);
    let all = place.path("all");
    fs::write(place.path("go"), "").unwrap();
    wait_for("standard input to be read", SOON, || {
        Ok(fs::read(&all).is_ok_and(|read| read == large).then_some(()))
    })
    .unwrap();
    wait_for("the agent to forget", SOON, || {
        Ok((memory_scan(agent.pid(), SECRET)? == 0).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_key_is_never_in_arguments_or_environment() {
    if needs_root() {
        return;
    }
    let place = Place::with_password("");
    let done = place
        .script("cat /proc/$PPID/cmdline /proc/$PPID/environ /proc/$$/cmdline /proc/$$/environ");
    assert_eq!(done.code, 0);
    assert!(!done.stdout.windows(SECRET.len()).any(|seen| seen == SECRET));
    assert!(done.text().contains("/proc/self/fd/3"));
}

#[test]
fn a_node_that_misses_a_key_is_not_started_and_the_log_says_why() {
    let place = Place::new(
        &[("password", SECRET), ("other", b"other")],
        "[[key]]\nname = \"password\"\n[[key]]\nname = \"other\"\n",
    );
    let blob = place.agent.blob("other");
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    let done = place.script("touch started");
    assert_eq!(done.code, 4, "{}", done.stderr);
    assert!(
        done.stderr
            .starts_with("error: 1 of 2 keys failed, the first: other: "),
        "{}",
        done.stderr
    );
    assert!(!place.path("started").exists());

    let (code, report) = place.agent.json(["audit", "report"]).unwrap();
    assert_eq!(
        (code, &report["refusals"]["blob-authentication"]),
        (0, &1.into())
    );
    assert_eq!(report["keys"]["refused"], 1);
    let (code, verified) = place.agent.json(["audit", "verify"]).unwrap();
    assert_eq!((code, &verified["findings"]), (0, &serde_json::json!([])));
    // The log is found to be changed when it is.
    let log = place.path("audit.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("refused", "granted", 1)).unwrap();
    let (code, verified) = place.agent.json(["audit", "verify"]).unwrap();
    assert_eq!(
        (code, &verified["findings"][0]["fault"]),
        (4, &"edited".into())
    );
}

#[test]
fn a_mistake_in_the_configuration_is_named_before_anything_is_opened() {
    for (config, message) in [
        (
            "[run]\nuser = \"no-such-user\"\n[[key]]\nname = \"password\"\n",
            "no user \"no-such-user\"",
        ),
        ("", "the configuration has no [[key]] to hand over: add one"),
    ] {
        let place = Place::new(&[("password", SECRET)], config);
        let log = || fs::read(place.path("audit.jsonl")).unwrap();
        let before = log();
        let done = place.run(&["true"]);
        assert_eq!(done.code, 2);
        assert!(done.stderr.contains(message), "{}", done.stderr);
        assert_eq!(log(), before);
    }
}

#[test]
fn an_agent_started_without_standard_streams_still_works() {
    let place = Place::with_password("");
    let out = place.path("out");
    let mut agent = place.command(&[
        "sh",
        "-c",
        "cat $1 > $2",
        "sh",
        "{password}",
        out.to_str().unwrap(),
    ]);
    let status = agent
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(
        (status.code(), fs::read(out).unwrap().as_slice()),
        (Some(0), SECRET)
    );
}

#[test]
fn as_the_first_process_of_a_container_it_buries_orphans() {
    if needs_root() {
        return;
    }
    let place = Place::with_password("");
    // The orphan ends while the node runs; were it not waited for, it would stay a zombie.
    let script = "sh -c 'sleep 0.01 & echo $! > orphan'; o=$(cat orphan); \
                  while test -e /proc/$o; do sleep 0.01; done; exit 9";
    let mut container = Command::new("timeout");
    container.args(["20", "unshare", "--pid", "--fork", "--mount-proc"]);
    let agent = place.command(&["sh", "-c", script]);
    container.arg(agent.get_program()).args(agent.get_args());
    container.current_dir(place.directory.path());
    let done = Finished::of(&mut container).unwrap();
    assert_eq!((done.code, done.stderr.as_str()), (9, ""));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
