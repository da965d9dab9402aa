//! An endpoint that answers as a test says: a CONNECT proxy on a unix socket with a TLS server behind it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: Value,
    /// How many came before it.
    pub(super) before: usize,
}

/// What to do with a request.
pub(super) enum Reply {
    /// An answer with this status and JSON body.
    Json(u16, Value),
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then nothing and no end.
    Stall(Vec<u8>),
    /// These bytes for ever.
    Endless(Vec<u8>),
}

/// An error as KMS gives it.
pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::Json(
        status,
        serde_json::json!({"__type": code, "message": message}),
    )
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

pub(super) struct Endpoint {
    directory: TempDir,
    /// PEM of who signed its certificate.
    pub(super) authority: String,
    /// What was asked so far.
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Endpoint {
    /// Starts one, whose certificate is for `name`.
    pub(super) fn start(
        name: &str,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (tls, authority) = certificate(name, &format!("{directory:?}"));
        let asked = Arc::default();
        let endpoint = Self {
            directory,
            authority,
            asked: Arc::clone(&asked),
        };
        let listener = UnixListener::bind(endpoint.path()).unwrap();
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, script, asked) = (tls.clone(), Arc::clone(&script), Arc::clone(&asked));
                // A client may hang up whenever it likes.
                tokio::spawn(async move {
                    let _ = serve(stream, tls, &*script, &asked).await;
                });
            }
        });
        endpoint
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("egress.sock")
    }

    pub(super) fn egress(&self) -> String {
        format!("unix:{}", self.path().display())
    }

    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn certificate(name: &str, signer: &str) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, signer);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (
        TlsAcceptor::from(Arc::new(config)),
        authority.as_ref().pem(),
    )
}

async fn serve(
    mut stream: UnixStream,
    tls: TlsAcceptor,
    script: &Script,
    asked: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    read_head(&mut stream).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut stream = tls.accept(stream).await?;
    let head = read_head(&mut stream).await?;
    let lower = head.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1).unwrap_or_default();
    let length = length.split("\r\n").next().unwrap_or_default();
    let mut body = vec![0; length.parse().unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let reply = {
        let mut asked = asked.lock().unwrap();
        let request = Asked {
            head,
            body: serde_json::from_slice(&body).unwrap(),
            before: asked.len(),
        };
        let reply = script(&request);
        asked.push(request);
        reply
    };
    match reply {
        Reply::Json(status, body) => {
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} Status\r\nContent-Type: application/x-amz-json-1.1\r\n\
                 x-amzn-RequestId: request-{}\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
                 Content-Length: {}\r\n\r\n",
                asked.lock().unwrap().len(),
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.shutdown().await
        }
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            std::future::pending().await
        }
        Reply::Endless(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
    }
}

async fn read_head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
