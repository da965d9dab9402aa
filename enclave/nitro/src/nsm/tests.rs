//! Requests and answers in the module's own bytes, with a simulated module at the other end.
#![allow(clippy::unwrap_used)]

use nodeseal_attestation::nitro::Claims;
use nodeseal_sim::nsm::{MapEncoding, Measurements, NsmConfig, NsmSimulator};
use nodeseal_sim::pki::NitroRoot;
use nodeseal_sim::time::{Clock, Timestamp};

use super::*;

/// What the driver does, with the simulator instead of the ioctl.
struct Bytes(NsmSimulator);

impl Nsm for Bytes {
    fn call(&self, request: Request) -> Response {
        let request = minicbor_serde::to_vec(&request).unwrap();
        minicbor_serde::from_slice(&self.0.call(&request)).unwrap()
    }
}

/// A module that answers everything with `0`.
struct Always(fn() -> Response);

impl Nsm for Always {
    fn call(&self, _: Request) -> Response {
        (self.0)()
    }
}

const NOW: Timestamp = Timestamp(1_767_472_867_000);

fn module() -> Arc<dyn Nsm> {
    let config = NsmConfig {
        root: NitroRoot::generate(NOW).unwrap(),
        region: "eu-central-1".to_owned(),
        instance_id: "i-0368fa67e156d6d23".to_owned(),
        measurements: Measurements::of_name("image"),
        debug: false,
        map_encoding: MapEncoding::Definite,
        clock: Clock::standing_at(NOW),
    };
    Arc::new(Bytes(NsmSimulator::boot(config).unwrap()))
}

#[tokio::test]
async fn a_document_carries_what_it_was_asked_to_and_the_time() {
    let request = AttestationRequest {
        nonce: Some(b"nonce"),
        user_data: None,
        public_key: Some(b"key"),
    };
    let document = NsmAttester(module()).attest(request).await.unwrap();
    let claims = Claims::read(&document).unwrap();
    assert_eq!(claims.nonce(), Some(&b"nonce"[..]));
    assert_eq!(claims.user_data(), None);
    assert_eq!(claims.public_key(), Some(&b"key"[..]));
    assert_eq!(claims.timestamp().milliseconds(), NOW.0);
}

#[test]
fn the_module_names_itself_and_its_measurements_and_gives_random_bytes() {
    let nsm = module();
    assert!(
        module_id(nsm.as_ref())
            .unwrap()
            .starts_with("i-0368fa67e156d6d23-enc")
    );
    assert_eq!(pcr(nsm.as_ref(), 0).unwrap().len(), 48);
    let (one, other) = (random(nsm.as_ref()).unwrap(), random(nsm.as_ref()).unwrap());
    assert_eq!(one.len(), 256);
    assert_ne!(one, other);
}

#[test]
fn a_refusal_is_told_by_its_name() {
    let error = pcr(module().as_ref(), 32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/dev/nsm made no attestation document: InvalidIndex"
    );
}

#[test]
fn an_answer_to_something_else_is_refused_and_not_shown() {
    let strange = Always(|| Response::GetRandom { random: vec![0x5a] });
    let error = document(&strange, AttestationRequest::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/dev/nsm gave a malformed answer: a document was expected, something else found"
    );
    let nothing = Always(|| Response::GetRandom { random: Vec::new() });
    assert!(random(&nothing).is_err());
}
