//! The least an attested open can be: through a tunnel one TLS connection, one Decrypt that was signed and attested
//! before, and its answer opened.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nodeseal_core::aws::cms::Envelope;
use nodeseal_core::aws::recipient::RecipientKey;
use nodeseal_core::evidence::{AttestationRequest, Attester};
use nodeseal_harness::{Cloud, Context, Error, Result};
use nodeseal_sim::enclave::NsmAttester;
use nodeseal_sim::nsm::{MapEncoding, Measurements, NsmConfig, NsmSimulator};
use nodeseal_sim::pki::NitroRoot;
use nodeseal_sim::time::Clock;
use nodeseal_wire::blob::Blob;
use nodeseal_wire::lock::Lock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use serde_json::{Value, json};

use super::failed;
use super::tunnel::Tunnel;

/// Length of the secret a lock yields, in bytes.
const SECRET: usize = 32;

/// Everything that is made before.
pub struct Floor {
    socket: PathBuf,
    host: String,
    tls: Arc<ClientConfig>,
    recipient: RecipientKey,
    request: Vec<u8>,
}

impl Floor {
    /// For the lock of `blob`, as an enclave with the image `image` would open it.
    pub fn new(cloud: &Cloud, tunnel: &Tunnel, image: &str, blob: &[u8]) -> Result<Self> {
        let host = format!("kms.{}.amazonaws.com", Cloud::REGION);
        let recipient = RecipientKey::generate().map_err(failed)?;
        let document = document(cloud, image, recipient.public_key())?;
        let header = Blob::parse(blob).map_err(failed)?.header;
        let lock = header.ways.first().and_then(|way| way.locks.first());
        let Some(Lock::AwsKms(lock)) = lock else {
            return Err(Error::new("the blob has no lock of AWS KMS"));
        };
        let id: String = header
            .data_key_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let body = json!({
            "KeyId": lock.key,
            "CiphertextBlob": STANDARD.encode(&lock.ciphertext),
            "EncryptionContext": {
                "nodeseal:node": header.node, "nodeseal:data-key": id, "nodeseal:version": "1",
            },
            "Recipient": {
                "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                "AttestationDocument": STANDARD.encode(document),
            },
        });
        Ok(Self {
            socket: tunnel.socket.clone(),
            tls: tls(&cloud.kms.authority_pem()?)?,
            request: signed(cloud, &host, &body.to_string())?,
            recipient,
            host,
        })
    }

    /// Asks once, and opens the answer.
    pub fn ask(&self) -> Result<()> {
        let mut socket = UnixStream::connect(&self.socket).context("tunnel")?;
        let connect = format!(
            "CONNECT {0}:443 HTTP/1.1\r\nHost: {0}:443\r\n\r\n",
            self.host
        );
        socket.write_all(connect.as_bytes()).context("tunnel")?;
        let mut answer = [0; 19];
        socket.read_exact(&mut answer).context("tunnel")?;
        let name = ServerName::try_from(self.host.clone()).map_err(failed)?;
        let mut session = ClientConnection::new(Arc::clone(&self.tls), name).map_err(failed)?;
        let mut stream = Stream::new(&mut session, &mut socket);
        stream.write_all(&self.request).context("request")?;
        let mut answer = Vec::new();
        let body = loop {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).context("answer")?;
            answer.extend_from_slice(part.get(..length).unwrap_or_default());
            match whole(&answer) {
                Some(body) => break body,
                None if length == 0 => return Err(Error::new("half an answer")),
                None => {}
            }
        };
        let body: Value = serde_json::from_slice(body).map_err(failed)?;
        let envelope = body.get("CiphertextForRecipient").and_then(Value::as_str);
        let envelope = envelope.ok_or_else(|| Error::new(format!("KMS answered {body}")))?;
        let envelope = STANDARD.decode(envelope).map_err(failed)?;
        let envelope = Envelope::parse(&envelope).map_err(failed)?;
        let secret = envelope.open(&self.recipient, SECRET).map_err(failed)?;
        match secret.len() {
            SECRET => Ok(()),
            length => Err(Error::new(format!("a secret of {length} bytes"))),
        }
    }
}

/// The body of an answer that is there in full.
fn whole(answer: &[u8]) -> Option<&[u8]> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().ok())?
    })?;
    let body = answer.get(end + 4..)?;
    (body.len() >= length).then_some(body)
}

fn document(cloud: &Cloud, image: &str, public_key: &[u8]) -> Result<Vec<u8>> {
    let clock = Clock::system();
    let root = NitroRoot::in_directory(&cloud.path("kms"), clock.now()).map_err(failed)?;
    let nsm = NsmSimulator::boot(NsmConfig {
        root,
        region: Cloud::REGION.to_owned(),
        instance_id: "i-0123456789abcdef0".to_owned(),
        measurements: Measurements::of_name(image),
        debug: false,
        map_encoding: MapEncoding::Indefinite,
        clock,
    });
    let attester = NsmAttester::new(Arc::new(nsm.map_err(failed)?));
    let request = AttestationRequest {
        public_key: Some(public_key),
        ..AttestationRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.context("runtime")?;
    runtime.block_on(attester.attest(request)).map_err(failed)
}

fn tls(authority: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority).map_err(failed)?;
    roots.add(authority).map_err(failed)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(tls))
}

/// An HTTP request with SigV4 (good for five minutes).
fn signed(cloud: &Cloud, host: &str, body: &str) -> Result<Vec<u8>> {
    let of = |name: &str| {
        let found = cloud.instance.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.clone())
    };
    let credentials = Credentials::new(
        of("AWS_ACCESS_KEY_ID").unwrap_or_default(),
        of("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
        of("AWS_SESSION_TOKEN"),
        None,
        "benchmark",
    );
    let identity = credentials.into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(Cloud::REGION)
        .name("kms")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(failed)?
        .into();
    let headers = [
        ("host", host),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "TrentService.Decrypt"),
    ];
    let url = format!("https://{host}/");
    let body_to_sign = SignableBody::Bytes(body.as_bytes());
    let request = SignableRequest::new("POST", &url, headers.into_iter(), body_to_sign);
    let signature = sign(request.map_err(failed)?, &parameters).map_err(failed)?;
    let (instructions, _) = signature.into_parts();
    let mut request = "POST / HTTP/1.1\r\n".to_owned();
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    Ok(request.into_bytes())
}
