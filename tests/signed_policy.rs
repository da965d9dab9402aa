//! An update without sealing again: deploy/sign-policy.py approves a state of the TPM, by other code than nodeseal's.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use nodeseal_harness::{Agent, Finished, Swtpm, TpmProcess, checkout, python, short_dir};

const PCRS: [u8; 3] = [7, 11, 12];
const SECRET: &str = "the password";

/// Runs openssl in `directory`.
fn openssl(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    let done = Finished::of(command.current_dir(directory).args(arguments)).unwrap();
    done.success("openssl").unwrap();
}

/// Approves what the PCRs are now, for a reference, as policies/NAME.json.
fn approve(directory: &Path, swtpm: &Swtpm, reference: &str, name: &str) {
    let values = PCRS.map(|pcr| swtpm.read_pcr(pcr).unwrap()).concat();
    fs::write(directory.join("values"), values).unwrap();
    let mut sign = Command::new(python().unwrap());
    sign.arg(checkout().join("deploy/sign-policy.py"))
        .args(["key.pem", reference, "sha256:7,11,12", "values"])
        .current_dir(directory);
    let signed = Finished::of(&mut sign).unwrap();
    let signed = signed.success("sign-policy.py").unwrap();
    fs::create_dir_all(directory.join("policies")).unwrap();
    let policy = directory.join("policies").join(format!("{name}.json"));
    fs::write(policy, signed.stdout).unwrap();
}

#[test]
fn a_state_that_the_offline_key_approves_opens_what_was_sealed_before_it() {
    let directory = short_dir().unwrap();
    let directory = directory.path();
    openssl(
        directory,
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "key.pem",
        ],
    );
    let public = directory.join("public.pem").display().to_string();
    openssl(
        directory,
        &["ec", "-in", "key.pem", "-pubout", "-out", &public],
    );

    let swtpm = Swtpm::new().unwrap();
    let settings = format!("[signer]\npublic_key = {public:?}\nreference = \"nodeseal/policy/a\"");
    let mut tpm = TpmProcess::configured(&swtpm.tcti(), &settings).unwrap();
    tpm.enroll().unwrap().success("enroll").unwrap();
    tpm.serve().unwrap();
    let agent = Agent::init(directory, "node-1", &tpm.address()).unwrap();
    agent
        .replace("#policies = \"policies\"", "policies = \"policies\"")
        .unwrap();
    let file = directory.join("password");
    fs::write(&file, SECRET).unwrap();
    approve(directory, &swtpm, "nodeseal/policy/a", "old");
    let sealed = agent.run(["seal".as_ref(), file.as_os_str()]).unwrap();
    sealed.success("seal").unwrap();

    let opened = || agent.run(["open", "--stdout", "password"]).unwrap();
    assert_eq!(opened().success("open").unwrap().text(), SECRET);
    // The update. What was signed for another purpose does not approve it.
    swtpm.extend_pcr(11).unwrap();
    let refused = || {
        let report = agent.json(["open", "--check", "password"]).unwrap();
        (report.0, report.1["error"]["code"].clone())
    };
    assert_eq!(refused(), (3, "tpm-policy-not-approved".into()));
    approve(directory, &swtpm, "nodeseal/policy/b", "new");
    assert_eq!(refused(), (3, "tpm-policy-not-approved".into()));
    approve(directory, &swtpm, "nodeseal/policy/a", "new");
    assert_eq!(opened().success("open").unwrap().text(), SECRET);
    // The old state is still approved, until its policy is taken away.
    swtpm.reboot().unwrap();
    assert_eq!(opened().success("open").unwrap().text(), SECRET);
    fs::remove_file(directory.join("policies/old.json")).unwrap();
    assert_eq!(refused(), (3, "tpm-policy-not-approved".into()));
}
