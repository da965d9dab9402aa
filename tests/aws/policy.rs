//! Key policies: written, read live, compared.

use std::fs;

use nodeseal_harness::Finished;

use crate::world::World;

#[test]
fn the_policy_nodeseal_wrote_is_clean_live_and_the_default_one_is_not() {
    let world = World::new();
    let release = world.cloud.path("key-release.toml").display().to_string();
    let live = |arguments: &[&str]| {
        let mut command = world.agent(arguments);
        command
            .envs(world.cloud.kms.administrator().iter().cloned())
            .env(
                "AWS_ENDPOINT_URL_KMS",
                world.cloud.kms.told("endpoint").unwrap(),
            )
            .env("SSL_CERT_FILE", world.cloud.kms.told("ca").unwrap());
        Finished::of(&mut command).unwrap()
    };
    let done = live(&["policy", "aws", "lint", &world.key]);
    assert_eq!(done.code, 0, "{}{}", done.text(), done.stderr);
    let done = live(&["policy", "aws", "diff", &release, &world.key]);
    assert_eq!(
        (done.code, done.text().as_str()),
        (0, "the same\n"),
        "{}",
        done.stderr
    );

    let default = "{\"Version\":\"2012-10-17\",\"Id\":\"key-default-1\",\"Statement\":[{\"Sid\":\"Enable IAM User Permissions\",\
         \"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::111122223333:root\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}";
    fs::write(world.at("default.json"), default).unwrap();
    let default = world.at("default.json").display().to_string();
    let (code, report) = world
        .agent
        .json(["policy", "aws", "lint", &default])
        .unwrap();
    assert_eq!((code, &report["clean"]), (1, &false.into()));
    let findings = report["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding["code"] == "account-root"),
        "{report}"
    );
    let done = world
        .agent
        .run(["policy", "aws", "diff", &release, &default])
        .unwrap();
    assert_eq!(done.code, 1);
    assert!(done.text().contains("+ statement"), "{}", done.text());
    let missing = world.at("missing.json").display().to_string();
    assert_eq!(
        world
            .agent
            .run(["policy", "aws", "lint", &missing])
            .unwrap()
            .code,
        2
    );
    assert_eq!(
        live(&["policy", "aws", "lint", "arn:aws:kms:eu-west-1:1:key/none"]).code,
        2
    );
}
