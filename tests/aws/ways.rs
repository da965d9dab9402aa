//! Several ways to a key, and ways with several locks.

use std::fs;

use nodeseal_harness::{Agent, Cloud, Kms, Swtpm, TpmProcess};
use serde_json::{Value, json};

use crate::world::{SECRET, World};

/// Code of the refusal of each way that failed, as an audit record or a report has them.
fn failed(data_key: &Value) -> Vec<(&str, &str)> {
    // The log leaves out what is empty.
    let failed = data_key["failed"].as_array().into_iter().flatten();
    let each = failed.map(|way| {
        let refusal = way.get("refusal").unwrap_or(&way["error"]);
        (
            way["way"].as_str().unwrap(),
            refusal["code"].as_str().unwrap(),
        )
    });
    each.collect()
}

/// Adds a way by a key of the same policy in another region; KMS there, and the key.
pub fn another_region(world: &World) -> (Kms, String) {
    let second = world.cloud.region("us-east-1").unwrap();
    let key = second
        .create_key(&world.cloud.path("key-policy.json"))
        .unwrap();
    let more = format!(
        "\"kms.us-east-1.amazonaws.com:443\" = {:?}\n\
         [[way]]\nlabel = \"us\"\nlocks = [{{ kind = \"aws-kms\", key = {key:?}, attested = true }}]\n",
        second.address().unwrap()
    );
    world.agent.configure(&more).unwrap();
    (second, key)
}

#[test]
fn a_second_region_opens_when_the_first_denies_or_is_gone_and_the_log_says_so() {
    let mut world = World::with_enclave(&["--attempt=5", "--deadline=15"]);
    let (_second, key) = another_region(&world);
    world.seal();

    let opened = |world: &World| {
        let (status, report) = world.json_as_node(&["open", "--check", "password"]);
        assert_eq!(status, 0, "{report}");
        // A check is one record as well.
        let record = world.last_record();
        let (told, logged) = (&report["data_keys"][0], &record["data-keys"][0]);
        assert_eq!(told["way"], logged["way"]);
        assert_eq!(failed(told), failed(logged));
        let key = logged["facts"].as_array().unwrap().iter();
        let mut key = key.filter(|fact| fact["name"] == "kms-key");
        let key = key.next().unwrap()["value"].as_str().unwrap().to_owned();
        let failed = failed(logged).into_iter();
        let failed: Vec<_> = failed.map(|(way, code)| format!("{way}: {code}")).collect();
        (logged["way"].as_str().unwrap().to_owned(), key, failed)
    };
    let first = ("kms".to_owned(), world.key.clone(), vec![]);
    assert_eq!(opened(&world), first);

    let other = world.cloud.write_policy("other", &"ab".repeat(48)).unwrap();
    let other = other.display().to_string();
    let put = ["put-policy", &world.key, &other];
    world.cloud.kms.administrate(&put).unwrap();
    let denied = vec!["kms: kms-access-denied".to_owned()];
    assert_eq!(opened(&world), ("us".to_owned(), key.clone(), denied));

    world.cloud.kms.kill();
    let gone = vec!["kms: connection-refused".to_owned()];
    assert_eq!(opened(&world), ("us".to_owned(), key, gone));
}

/// A key policy that asks for no attestation, for the role and node of the cloud.
fn unattested_policy() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:user/kms-admin"},
                "Action": ["kms:PutKeyPolicy", "kms:DisableKey", "kms:EnableKey"],
                "Resource": "*",
            },
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:role/validator"},
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": "*",
                "Condition": {"StringEquals": {"kms:EncryptionContext:nodeseal:node": Cloud::NODE}},
            },
        ],
    })
}

/// The agent of a node on a machine with a TPM, whose only way has a lock of the TPM and one of KMS.
pub struct TpmAndKms {
    pub cloud: Cloud,
    pub key: String,
    pub swtpm: Swtpm,
    pub agent: Agent,
    _tpm: TpmProcess,
}

impl TpmAndKms {
    /// The locks are in this order.
    pub fn start(kinds: [&str; 2]) -> Self {
        let cloud = Cloud::start().unwrap();
        let policy = cloud.path("policy.json");
        fs::write(&policy, unattested_policy().to_string()).unwrap();
        let key = cloud.kms.create_key(&policy).unwrap();
        let swtpm = Swtpm::new().unwrap();
        let settings = format!(
            "[aws_kms]\nallowed_keys = [{key:?}]\nroots = {:?}",
            cloud.kms.told("ca").unwrap()
        );
        let mut tpm = TpmProcess::configured(&swtpm.tcti(), &settings).unwrap();
        tpm.enroll().unwrap().success("enroll").unwrap();
        tpm.serve().unwrap();
        let directory = cloud.path("node");
        fs::create_dir(&directory).unwrap();
        let mut agent = Agent::init(&directory, Cloud::NODE, &tpm.address()).unwrap();
        let locks = kinds.map(|kind| match kind {
            "tpm" => "{ kind = \"tpm\" }".to_owned(),
            _ => format!("{{ kind = {kind:?}, key = {key:?}, attested = false }}"),
        });
        let both = locks.join(", ");
        agent.replace("{ kind = \"tpm\" }", &both).unwrap();
        agent
            .configure(&cloud.egress(&[&cloud.kms]).unwrap())
            .unwrap();
        agent.set_environment(cloud.instance.clone());
        Self {
            cloud,
            key,
            swtpm,
            agent,
            _tpm: tpm,
        }
    }

    /// Seals the password.
    pub fn seal(&self) {
        let file = self.agent.directory().join("password");
        fs::write(&file, SECRET).unwrap();
        let sealed = self.agent.run(["seal".as_ref(), file.as_os_str()]).unwrap();
        sealed.success("seal").unwrap();
    }

    /// Exit status of opening the password, and the code of the refusal.
    pub fn opened(&self) -> (i32, Value) {
        let (status, report) = self.agent.json(["open", "--check", "password"]).unwrap();
        (status, report["error"]["code"].clone())
    }
}

#[test]
fn a_way_of_tpm_and_kms_opens_only_if_both_do() {
    let world = TpmAndKms::start(["tpm", "aws-kms"]);
    world.seal();
    let opened = world.agent.run(["open", "--stdout", "password"]).unwrap();
    assert_eq!(opened.success("open").unwrap().text(), SECRET);
    let log = fs::read_to_string(world.agent.directory().join("audit.jsonl")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["data-keys"][0]["locks"], json!(["tpm", "aws-kms"]));

    let kms = &world.cloud.kms;
    // The owner of the KMS key says no, whatever the TPM says.
    kms.administrate(&["disable", &world.key]).unwrap();
    assert_eq!(world.opened(), (3, "kms-key-disabled".into()));
    kms.administrate(&["enable", &world.key]).unwrap();
    // The TPM says no, and KMS is not even asked.
    let asked = || kms.trail().unwrap().len();
    let before = asked();
    world.swtpm.extend_pcr(11).unwrap();
    assert_eq!(world.opened(), (3, "tpm-pcr-mismatch".into()));
    assert_eq!(asked(), before);
}
