//! A parent that is not the agent: what it can do to the line, and what lies in the enclave's memory.
//!
//! It is tests/python/parent.py: it speaks the enclave's protocol itself and owns the way from the guest to KMS.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nodeseal_harness::clique::unhex;
use nodeseal_harness::{
    Cloud, Context, EnclaveMachine, Error, Finished, Result, Simulator, Table, checkout, python,
};
use serde_json::Value;

use crate::setup::{World, configured};

/// vsock port of the enclave's service.
const SERVICE: &str = "5000";
/// Another node of the same operator; its name is as long as [`Cloud::NODE`].
const OTHER_NODE: &str = "validator-2";
/// A key policy under which anybody may do anything: what is refused then is refused by something else.
const ANYBODY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Sid": "Anybody", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}]}"#;

/// Tries what a parent can do, and then that an honest one still opens.
pub fn play(table: &mut Table, world: &World) -> Result<()> {
    let parent = Parent {
        world,
        blob: world.agent.blob("nodekey"),
    };
    let sent = table.step("an honest parent by other code opens", || {
        let answer = parent.answer(&["open"])?;
        key(&answer)?;
        let sent = answer.get("sent").and_then(Value::as_u64);
        let sent = sent.ok_or_else(|| Error::new("nothing came from KMS"))?;
        Ok((sent, format!("{sent} bytes from KMS")))
    })?;
    table.step("KMS answered for with another's certificate", || {
        let state = world.cloud.path("stranger").display().to_string();
        let log = world.cloud.path("stranger.log");
        let arguments = ["--state", &state, "--region", Cloud::REGION];
        let stranger = Simulator::start("aws-kms", arguments, &log)?;
        let address = stranger.told("endpoint")?.trim_start_matches("https://");
        parent.refused(&["stranger", address], "tls-certificate")
    })?;
    for (what, bytes) in [
        ("at once", 0),
        ("in the handshake", sent / 5),
        ("in the answer", sent - 40),
    ] {
        table.step(&format!("the line cut {what}"), || {
            parent.refused(&["cut", &bytes.to_string()], "kms-connection")
        })?;
    }
    for (what, place, code) in [
        ("handshake", sent / 5, "tls-failed"),
        ("answer", sent - 200, "kms-connection"),
    ] {
        table.step(&format!("a bit flipped in the {what}"), || {
            parent.refused(&["flip", &place.to_string()], code)
        })?;
    }
    table.step("what KMS sends held back for 20 s", || {
        parent.refused(&["delay", "20"], "kms-timeout")
    })?;
    table.step("what KMS sent before, replayed", || {
        let answers = parent.answers(&["replay"])?;
        key(answers.first().unwrap_or(&Value::Null))?;
        refusal(answers.get(1).unwrap_or(&Value::Null), "tls-failed")
    })?;
    let data_key = with_any_policy(world, || {
        swapped(table, world)?;
        data_key(world, &parent.blob)
    })?;
    memory(table, world, &parent, &data_key)?;
    table.step("the honest parent again", || parent.opens())
}

/// Lets anybody use the KMS key while `work` runs.
fn with_any_policy<T>(world: &World, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let put = |path: &Path| {
        let path = path.display().to_string();
        world
            .cloud
            .kms
            .administrate(&["put-policy", &world.key, &path])
    };
    let path = world.cloud.path("anybody-policy.json");
    fs::write(&path, ANYBODY).context(path.display())?;
    put(&path)?;
    let done = work();
    put(&world.cloud.path("genuine-policy.json"))?;
    done
}

/// The blob of another node, whose key the same KMS key and the same image may open.
fn swapped(table: &mut Table, world: &World) -> Result<()> {
    let machine = world.machine()?;
    let other = configured(
        &world.cloud,
        OTHER_NODE,
        OTHER_NODE,
        &machine.address(),
        &world.key,
    )?;
    let generate = ["generate", "--name", "nodekey", "--type", "secp256k1"];
    other.run(generate)?.success("nodeseal generate")?;
    let blob = other.blob("nodekey");
    table.step("another node's blob in the place of this one's", || {
        let blob = blob.clone();
        Parent { world, blob }.refused(&["open"], "wrong-node")
    })?;
    table.step("the same, with this node's name written into it", || {
        let bytes = fs::read(&blob).context(blob.display())?;
        let bytes = renamed(&bytes, OTHER_NODE, Cloud::NODE)?;
        let blob = world.cloud.path("renamed.sealed");
        fs::write(&blob, bytes).context(blob.display())?;
        // The node is in the EncryptionContext, which is KMS's associated data.
        Parent { world, blob }.refused(&["open"], "kms-ciphertext-invalid")
    })
}

/// Bytes in which `from` stands once, with `to` in its place.
fn renamed(bytes: &[u8], from: &str, to: &str) -> Result<Vec<u8>> {
    let places: Vec<_> = memchr::memmem::find_iter(bytes, from).collect();
    let [place] = places[..] else {
        return Err(Error::new(format!("{from} stands {} times", places.len())));
    };
    let mut bytes = bytes.to_vec();
    bytes.splice(place..place + from.len(), to.bytes());
    Ok(bytes)
}

/// The data key of a blob, computed by other code from what KMS decrypts for anybody just now.
fn data_key(world: &World, blob: &Path) -> Result<Vec<u8>> {
    let kms = &world.cloud.kms;
    let mut command = Command::new(python()?);
    command
        .arg(checkout().join("tests/python/data_key.py"))
        .args([kms.told("endpoint")?, kms.told("ca")?, Cloud::REGION])
        .arg(blob)
        .envs(world.cloud.instance.iter().cloned());
    unhex(
        Finished::of(&mut command)?
            .success("data_key.py")?
            .text()
            .trim(),
    )
}

/// Looks for the key and its data key in the guest's memory: while the data key is held, and after `Lock`.
fn memory(table: &mut Table, world: &World, parent: &Parent<'_>, data_key: &[u8]) -> Result<()> {
    let machine = world.machine()?;
    let mut holding = Holding::start(parent)?;
    let node_key = key(&holding.answer()?)?;
    let hex: String = node_key.iter().map(|byte| format!("{byte:02x}")).collect();
    let copies = |machine: &EnclaveMachine| {
        let memory = machine.memory()?;
        let count = |secret: &[u8]| memchr::memmem::find_iter(&memory, secret).count();
        Ok::<_, Error>([count(data_key), count(&node_key), count(hex.as_bytes())])
    };
    table.step(
        "a dump of the guest while the data key is held",
        || match copies(machine)? {
            [0, ..] => Err(Error::new("the data key is not found where it must be")),
            [found, ..] => Ok(((), format!("data key found {found} times"))),
        },
    )?;
    table.step("a dump after nodeseal lock", || {
        world.agent.run(["lock"])?.success("nodeseal lock")?;
        match copies(machine)? {
            [0, 0, 0] => Ok(((), "neither data key nor key".to_owned())),
            found => Err(Error::new(format!(
                "copies of data key, key, key in hexadecimal: {found:?}"
            ))),
        }
    })?;
    holding.end()
}

/// parent.py that keeps a connection with an open data key.
struct Holding(Child);

impl Holding {
    fn start(parent: &Parent<'_>) -> Result<Self> {
        let mut command = parent.command(&["hold"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("parent.py")?))
    }

    fn answer(&mut self) -> Result<Value> {
        let output = self.0.stdout.as_mut();
        let output = output.ok_or_else(|| Error::new("parent.py has no output"))?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("parent.py")?;
        json(&line)
    }

    fn end(mut self) -> Result<()> {
        if let Some(mut input) = self.0.stdin.take() {
            input.write_all(b"\n").context("parent.py")?;
        }
        self.0.wait().map(drop).context("parent.py")
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        // Where it has ended, there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What parent.py is told.
struct Parent<'w> {
    world: &'w World,
    blob: PathBuf,
}

impl Parent<'_> {
    fn command(&self, action: &[&str]) -> Result<Command> {
        let cloud = &self.world.cloud;
        let mut command = Command::new(python()?);
        command
            .arg(checkout().join("tests/python/parent.py"))
            .arg(self.world.machine()?.vsock_path())
            .args([SERVICE, Cloud::NODE, "nodekey"])
            .arg(&self.blob)
            .arg(cloud.kms.address()?)
            .args(action)
            .envs(cloud.instance.iter().cloned());
        Ok(command)
    }

    fn answers(&self, action: &[&str]) -> Result<Vec<Value>> {
        let done = Finished::of(&mut self.command(action)?)?.success("parent.py")?;
        done.text().lines().map(json).collect()
    }

    fn answer(&self, action: &[&str]) -> Result<Value> {
        Ok(self
            .answers(action)?
            .into_iter()
            .next()
            .unwrap_or(Value::Null))
    }

    fn opens(&self) -> Result<((), String)> {
        key(&self.answer(&["open"])?)?;
        Ok(((), "opens".to_owned()))
    }

    fn refused(&self, action: &[&str], code: &str) -> Result<((), String)> {
        refusal(&self.answer(action)?, code)
    }
}

fn json(line: &str) -> Result<Value> {
    serde_json::from_str(line).map_err(|error| Error::new(format!("parent.py: {error}: {line}")))
}

/// The key in an answer.
fn key(answer: &Value) -> Result<Vec<u8>> {
    let key = answer.get("key").and_then(Value::as_str);
    unhex(key.ok_or_else(|| Error::new(format!("no key: {answer}")))?)
}

/// Expects a refusal by this code.
fn refusal(answer: &Value, code: &str) -> Result<((), String)> {
    match answer.get("code").and_then(Value::as_str) {
        Some(found) if found == code => Ok(((), format!("refused: {code}"))),
        _ => Err(Error::new(format!("expected {code}, found {answer}"))),
    }
}
