//! Configurations as an operator writes them.
#![allow(clippy::unwrap_used)]
use super::*;

const SMALLEST: &str = r#"
tpm = "device:/dev/tpmrm0"
enrolment = "enrolment.json"
socket = "/run/nodeseal/tpm.sock"
allowed_uids = [0]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodeseal-tpm.toml");
    std::fs::write(&path, text).unwrap();
    Config::read(&path).inspect(|config| {
        assert_eq!(config.enrolment, directory.path().join("enrolment.json"));
    })
}

fn problem(text: &str) -> String {
    let told = parse(text).unwrap_err().to_string();
    told.split_once("nodeseal-tpm.toml: ").unwrap().1.to_owned()
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!(config.seal_to.pcrs.to_string(), "sha256:7,11,12");
    assert_eq!(config.socket_mode, 0o660);
    assert_eq!(config.connections, 128);
    assert_eq!(config.tpm_timeout.as_secs(), 60);
    assert!(config.lock_memory && config.account.is_none());
    assert_eq!(config.socket, Path::new("/run/nodeseal/tpm.sock"));
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let told = problem(&format!("{SMALLEST}allow_uids = [0]\n"));
    assert!(told.contains("unknown field `allow_uids`"), "{told}");
}

#[test]
fn a_value_that_cannot_be_is_refused_with_its_field() {
    for (extra, expected) in [
        ("socket_mode = \"rw\"", "socket_mode: \"rw\" is not octal"),
        ("connections = 0", "connections, tpm_timeout_s: must be"),
        ("[pcrs]\nselect = []", "pcrs: select is empty"),
        ("[pcrs]\nselect = [7, 7]", "pcrs: select [7, 7] is not"),
        ("[pcrs]\nselect = [24]", "pcrs: select [24] is not"),
        ("[pcrs]\nbank = \"sha1\"", "pcrs: bank \"sha1\" is neither"),
        ("group = \"tss\"", "group: needs a user too"),
        ("user = \"no such user\"", "user: there is no user"),
    ] {
        let told = problem(&format!("{SMALLEST}{extra}\n"));
        assert!(told.starts_with(expected), "{extra}: {told}");
    }
}

#[test]
fn a_tcti_the_library_would_misread_is_refused() {
    let told = problem(&SMALLEST.replace("device:/dev/tpmrm0", "swtpm:path=/x"));
    assert!(told.starts_with("tpm: TCTI \"swtpm:path=/x\""), "{told}");
}

#[test]
fn the_example_in_deploy_is_a_configuration() {
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/nodeseal-tpm.toml"
    );
    // The example's account is made by deploy/nodeseal-tpm.sysusers, not here.
    let text = read_text(Path::new(example)).unwrap();
    let text = text.replace("\nuser = \"nodeseal-tpm\"", "\nuser = \"root\"");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodeseal-tpm.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!(config.seal_to.pcrs.to_string(), "sha256:7,11,12");
}
