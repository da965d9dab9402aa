//! Credentials of every kind, and what happens when they end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use nodeseal_harness::{Agent, Cloud, Finished, Simulator, Swtpm, TpmProcess};
use serde_json::Value;

use crate::world::{SECRET, World, expired_and_not};

#[test]
fn credentials_that_expired_are_renewed_once_and_the_batch_is_opened() {
    let world = World::sealed();
    let (old, new) = expired_and_not(&world);
    world.opens(|open| world.credential_process(open, &[&old, &new]));
    assert_eq!(world.asked(), 2);
    // Old ones again: refused then, and not asked for ever.
    fs::remove_file(world.at("asked")).unwrap();
    let mut open = world.agent(&["--json", "open", "--to", "opened", "password"]);
    world.credential_process(&mut open, &[&old]);
    let done = Finished::of(&mut open).unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (done.code, &report["error"]["code"]),
        (5, &"expired-credentials".into())
    );
    assert_eq!(world.asked(), 2);
}

#[test]
fn sealing_renews_expired_credentials_too() {
    let world = World::new();
    let (old, new) = expired_and_not(&world);
    fs::write(world.at("password"), SECRET).unwrap();
    let mut seal = world.agent(&["seal", "password"]);
    world.credential_process(&mut seal, &[&old, &new]);
    Finished::of(&mut seal).unwrap().success("seal").unwrap();
    assert_eq!(world.asked(), 2);
}

#[test]
fn an_instances_role_gives_credentials_by_its_metadata_service() {
    let world = World::sealed();
    let arguments = [
        "--credentials",
        world.cloud.kms.told("credentials").unwrap(),
        "--role",
        "validator",
    ];
    let imds = Simulator::start("imds", arguments, &world.at("imds.log")).unwrap();
    let endpoint = imds.told("endpoint").unwrap();
    let endpoint = match endpoint.starts_with("http") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    world.opens(|open| {
        open.env_remove("AWS_EC2_METADATA_DISABLED")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint);
    });
}

#[test]
fn without_credentials_the_reason_is_told_beside_the_refusal() {
    let world = World::sealed();
    let done = Finished::of(&mut world.agent(&["open", "--stdout", "password"])).unwrap();
    assert_ne!(done.code, 0);
    assert!(
        done.stderr.starts_with("warning: no AWS credentials: "),
        "{}",
        done.stderr
    );
}

#[test]
fn nobody_asks_for_credentials_where_no_lock_needs_them() {
    let world = World::new();
    let swtpm = Swtpm::new().unwrap();
    let tpm = TpmProcess::start(&swtpm.tcti()).unwrap();
    let directory = world.at("tpm-node");
    fs::create_dir(&directory).unwrap();
    let agent = Agent::init(&directory, Cloud::NODE, &tpm.address()).unwrap();
    let file = directory.join("password");
    fs::write(&file, SECRET).unwrap();
    for arguments in [
        vec!["seal", file.to_str().unwrap()],
        vec!["open", "--stdout", "password"],
    ] {
        let mut command = agent.command(arguments).unwrap();
        world.credential_process(&mut command, &[&Value::Null]);
        Finished::of(&mut command)
            .unwrap()
            .success("the command")
            .unwrap();
    }
    assert_eq!(world.asked(), 0);
}

/// A security token service that answers one AssumeRoleWithWebIdentity with `credential`, as API_AssumeRoleWithWebIdentity
/// has it; its address, and what it was asked.
fn token_service(credential: Value) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answered = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut asked = vec![0; length];
        stream.read_exact(&mut asked).unwrap();
        let text = |name: &str| credential[name].as_str().unwrap().to_owned();
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
             <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken><Expiration>{}</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
            text("AccessKeyId"),
            text("SecretAccessKey"),
            text("SessionToken"),
            text("Expiration"),
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, answered)
}

#[test]
fn a_pods_web_identity_token_gives_credentials_by_the_token_service() {
    let world = World::sealed();
    let (service, answered) = token_service(world.cloud.session(3600).unwrap());
    fs::write(world.at("token"), "the-token-of-the-pod").unwrap();
    world.opens(|open| {
        open.env("AWS_WEB_IDENTITY_TOKEN_FILE", world.at("token"))
            .env("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/validator")
            .env("AWS_ROLE_SESSION_NAME", "pod")
            .env("AWS_ENDPOINT_URL_STS", &service);
    });
    let asked = answered.join().unwrap();
    for parameter in [
        "Action=AssumeRoleWithWebIdentity",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fvalidator",
        "RoleSessionName=pod",
        "WebIdentityToken=the-token-of-the-pod",
    ] {
        assert!(asked.contains(parameter), "{asked}");
    }
}

#[test]
fn a_profile_with_keys_gives_credentials() {
    let world = World::sealed();
    let session = world.cloud.session(3600).unwrap();
    let text = |name: &str| session[name].as_str().unwrap();
    let file = format!(
        "[validator]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
        text("AccessKeyId"),
        text("SecretAccessKey"),
        text("SessionToken")
    );
    fs::write(world.at("credentials"), file).unwrap();
    world.opens(|open| {
        open.env("AWS_SHARED_CREDENTIALS_FILE", world.at("credentials"))
            .env("AWS_PROFILE", "validator");
    });
}
