//! Verification of an attestation document: ours against the crate attestation-doc-validation, and against the floor.
//!
//! The floor is the document's five P-384 verifications alone, by the same library: four links of the chain and the
//! document. All three take the same genuine document, alternately, in the same process. The other crate has AWS's
//! root and the system's clock built in, so the process runs under libfaketime at the time of the document.
//!
//! usage: attestation-peer RESULTS.json     merges its figures into that file

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use attestation_doc_validation::validate_attestation_doc;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use nodeseal_attestation::nitro::{Anchor, DebugEnclaves, Document, cose};
use x509_parser::prelude::{FromDer, X509Certificate};

const FIXTURE: &str = "../../../shared/fixtures/attestation/enclave-2025-01-rsa2048-key.cbor";
/// When the fixture was made.
const AT: &str = "2025-01-06 16:07:06";
const SET_BACK: &str = "NODESEAL_BENCH_SET_BACK";
const ROUNDS: usize = 400;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attestation-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let results = std::env::args()
        .nth(1)
        .ok_or("usage: attestation-peer RESULTS.json")?;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
    let Ok(bytes) = fs::read(&fixture) else {
        println!("skipped: ../shared/fixtures not present");
        return Ok(());
    };
    if std::env::var_os(SET_BACK).is_none() {
        return Err(again_in_the_past(&results)?.into());
    }
    let floor = Floor::of(&bytes)?;
    ours(&bytes)?;
    floor.verify()?;
    validate_attestation_doc(&bytes)?;

    let (mut our_times, mut peer_times, mut floor_times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor_times.push(timed(|| floor.verify())?);
        our_times.push(timed(|| ours(black_box(&bytes)))?);
        peer_times.push(timed(|| Ok(validate_attestation_doc(black_box(&bytes))?))?);
    }
    let (our_time, peer_time, floor_time) =
        (median(our_times), median(peer_times), median(floor_times));
    println!(
        "one document: ours {our_time:?}, attestation-doc-validation {peer_time:?}, floor {floor_time:?}"
    );
    let ratio = |other: Duration| our_time.as_secs_f64() / other.as_secs_f64();
    let figures = [
        ("attestation_verify_us", our_time.as_secs_f64() * 1e6),
        ("attestation_verify_vs_crate", ratio(peer_time)),
        ("attestation_verify_vs_floor", ratio(floor_time)),
    ];
    for (name, value) in figures {
        println!("{name:<34} {value:>12.3}");
    }
    write(Path::new(&results), &figures)
}

/// Starts this program anew with the clock set back; only the clock of the day, not the one that measures.
fn again_in_the_past(results: &str) -> Result<std::io::Error> {
    let library = fs::read_dir("/usr/lib")?
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .chain([PathBuf::from("/usr/lib/faketime/libfaketime.so.1")])
        .find(|path| path.exists())
        .ok_or("libfaketime is missing: apt-get install faketime")?;
    let error = Command::new(std::env::current_exe()?)
        .arg(results)
        .env("LD_PRELOAD", library)
        .env("TZ", "UTC")
        .env("FAKETIME", format!("@{AT}"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env(SET_BACK, "1")
        .exec();
    Ok(error)
}

fn ours(bytes: &[u8]) -> Result<()> {
    let document = Document::parse(bytes)?;
    let at = document.timestamp();
    document.verify(at, &Anchor::AWS_NITRO_G1, DebugEnclaves::Refuse)?;
    Ok(())
}

/// The signatures of a document, taken out of it beforehand.
struct Floor(Vec<Signature>);

struct Signature {
    algorithm: &'static EcdsaVerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Floor {
    fn of(bytes: &[u8]) -> Result<Self> {
        let document = Document::parse(bytes)?;
        let ders = document
            .cabundle()
            .iter()
            .copied()
            .chain([document.certificate()]);
        let certificates = ders
            .map(|der| Ok(X509Certificate::from_der(der)?.1))
            .collect::<Result<Vec<_>>>()?;
        let key = |certificate: &X509Certificate<'_>| {
            certificate.public_key().subject_public_key.data.to_vec()
        };
        let mut signatures: Vec<Signature> = certificates
            .windows(2)
            .map(|pair| Signature {
                algorithm: &ECDSA_P384_SHA384_ASN1,
                key: key(&pair[0]),
                message: pair[1].tbs_certificate.as_ref().to_vec(),
                signature: pair[1].signature_value.data.to_vec(),
            })
            .collect();
        // The signature stands last; before it the payload, after a head of eight bytes and two of length.
        let (rest, signature) = bytes.split_at(bytes.len() - 96);
        let payload = &rest[10..rest.len() - 2];
        signatures.push(Signature {
            algorithm: &ECDSA_P384_SHA384_FIXED,
            key: key(certificates.last().ok_or("no certificate")?),
            message: cose::sig_structure(payload),
            signature: signature.to_vec(),
        });
        Ok(Self(signatures))
    }

    fn verify(&self) -> Result<()> {
        for signature in &self.0 {
            UnparsedPublicKey::new(signature.algorithm, &signature.key)
                .verify(black_box(&signature.message), &signature.signature)
                .map_err(|_| "a signature of the fixture does not fit")?;
        }
        Ok(())
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn write(path: &Path, figures: &[(&str, f64)]) -> Result<()> {
    let mut all: BTreeMap<String, f64> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => BTreeMap::new(),
    };
    all.extend(
        figures
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value)),
    );
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}
