//! What must fail: other software, a debug enclave, no enclave at all, a revoked key, a policy one digit off, a changed
//! context; then what is on record.

use std::fs;

use nodeseal_harness::clique::{hex, unhex};
use nodeseal_harness::{Agent, Cloud, Context, Error, Result, Table};
use serde_json::Value;

use crate::act1_setup::text;
use crate::act2_setup::{Enclaved, lint};

/// The key policy an account's keys have when nobody writes one.
const DEFAULT_POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [{"Sid": "Enable IAM User Permissions",
"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}]}"#;

/// Tries everything that must be refused, and at the end that the genuine still opens.
pub fn play(table: &mut Table, world: &Enclaved) -> Result<()> {
    let cloud = &world.cloud;
    for (what, name, platform) in [
        (
            "an enclave with another measurement",
            "other",
            &["--image", "changed"][..],
        ),
        (
            "the same image as a debug enclave",
            "debug",
            &["--image", "nodeseal", "--debug"][..],
        ),
    ] {
        table.step(what, || {
            let _enclave = cloud.enclave(name, platform)?;
            world
                .agent_on(name)?
                .refused("nodekey", 3, "kms-access-denied")
        })?;
    }
    table.step("no enclave: boto3, with the instance's credentials", || {
        no_enclave(world)
    })?;
    table.step("the key disabled by its owner", || {
        cloud.kms.administrate(&["disable", &world.key])?;
        let outcome = world.agent.refused("nodekey", 3, "kms-key-disabled");
        cloud.kms.administrate(&["enable", &world.key])?;
        outcome
    })?;
    table.step("a policy whose PCR0 is one digit off", || {
        let genuine = world.enclave.pcr0()?;
        let (start, last) = genuine.split_at(genuine.len().saturating_sub(1));
        cloud.write_policy(
            "off",
            &format!("{start}{}", if last == "0" { 1 } else { 0 }),
        )?;
        put_policy(world, "off-policy.json")?;
        let outcome = world.agent.refused("nodekey", 3, "kms-access-denied");
        put_policy(world, "key-policy.json")?;
        outcome
    })?;
    table.step("a changed encryption context", || changed_context(world))?;
    table.step("the genuine blob in the genuine enclave", || {
        let check = world.agent.run(["open", "--check", "nodekey"])?;
        check.success("nodeseal open")?;
        Ok(((), "opens".to_owned()))
    })?;
    table.step("lint of the policy that was written", || {
        lint(cloud, "key-policy.json", 0)
    })?;
    table.step("lint of the default key policy", || {
        let path = cloud.path("default-policy.json");
        fs::write(&path, DEFAULT_POLICY).context(path.display())?;
        lint(cloud, "default-policy.json", 1)
    })?;
    table.step("the trail lists every attempt", || on_record(world))?;
    table.step("nodeseal audit verify", || {
        world
            .agent
            .run(["audit", "verify"])?
            .success("audit verify")?;
        Ok(((), "chain and head hold".to_owned()))
    })
}

fn put_policy(world: &Enclaved, name: &str) -> Result<()> {
    let path = world.cloud.path(name).display().to_string();
    world
        .cloud
        .kms
        .administrate(&["put-policy", &world.key, &path])
        .map(drop)
}

/// What the blob of the node's key says of its data key and its lock.
fn inspected(agent: &Agent) -> Result<Value> {
    let blob = agent.blob("nodekey");
    let (_, report) = agent.json(["inspect".as_ref(), blob.as_os_str()])?;
    let found = report.pointer("/blobs/0").cloned();
    found.ok_or_else(|| Error::new(format!("no blob in {report}")))
}

/// The ciphertext for KMS lies open in the blob; the instance's own credentials must not be enough for it.
fn no_enclave(world: &Enclaved) -> Result<((), String)> {
    let about = inspected(&world.agent)?;
    let ciphertext = about
        .pointer("/ways/0/locks/0/ciphertext")
        .and_then(Value::as_str);
    let ciphertext = ciphertext.ok_or_else(|| Error::new(format!("no ciphertext in {about}")))?;
    let data_key = text(&about, "data_key")?;
    let decrypt = ["decrypt", &world.key, ciphertext, Cloud::NODE, &data_key];
    let said = world.cloud.kms.boto3(&world.cloud.instance, &decrypt)?;
    if said != "refused AccessDeniedException" {
        return Err(Error::new(format!("boto3 said: {said}")));
    }
    Ok(((), "refused: AccessDeniedException".to_owned()))
}

/// The data key's id is part of the encryption context; in the header it can be changed by anyone with the file.
fn changed_context(world: &Enclaved) -> Result<((), String)> {
    let id = unhex(&text(&inspected(&world.agent)?, "data_key")?)?;
    let blob = world.agent.blob("nodekey");
    let genuine = fs::read(&blob).context(blob.display())?;
    let at = memchr::memmem::find(&genuine, &id);
    let at = at.ok_or_else(|| Error::new(format!("no {} in the blob", hex(&id))))?;
    let mut changed = genuine.clone();
    if let Some(byte) = changed.get_mut(at) {
        *byte ^= 1;
    }
    fs::write(&blob, &changed).context(blob.display())?;
    let outcome = world.agent.refused("nodekey", 4, "kms-ciphertext-invalid");
    fs::write(&blob, &genuine).context(blob.display())?;
    outcome
}

/// Every refusal above is a record with its error, every success names the image, and where the policy said no there is
/// no recipient data, as AWS does it.
fn on_record(world: &Enclaved) -> Result<((), String)> {
    let trail = world.cloud.kms.trail()?;
    let decrypts = trail
        .iter()
        .filter(|record| record.get("eventName").and_then(Value::as_str) == Some("Decrypt"));
    let (denied, allowed): (Vec<_>, Vec<_>) =
        decrypts.partition(|record| record.get("errorCode").is_some());
    let image = "/additionalEventData/recipient/attestationDocumentEnclaveImageDigest";
    let named = allowed.iter().all(|record| record.pointer(image).is_some());
    let by_policy =
        |record: &&&Value| record.get("errorCode").and_then(Value::as_str) == Some("AccessDenied");
    let mut by_policy = denied.iter().filter(by_policy);
    let silent = by_policy.all(|record| record.pointer(image).is_none());
    // Another image, a debug enclave, boto3, the disabled key, the policy one digit off, the changed context.
    if denied.len() < 6 || allowed.is_empty() || !named || !silent {
        return Err(Error::new(format!(
            "{} refused and {} allowed: {trail:#?}",
            denied.len(),
            allowed.len()
        )));
    }
    Ok((
        (),
        format!("{} allowed, {} refused", allowed.len(), denied.len()),
    ))
}
