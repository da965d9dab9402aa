//! The security module behind its socket, as an [`Attester`].

use std::path::PathBuf;

use nodeseal_core::evidence::{AttestError, AttestationRequest, Attester};
use nodeseal_core::lock::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub struct Module {
    pub socket: PathBuf,
}

impl Attester for Module {
    fn kind(&self) -> &'static str {
        "nitro-enclave"
    }

    fn attest<'a>(
        &'a self,
        request: AttestationRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, AttestError>> {
        Box::pin(async move {
            let asked = self.ask(request).await;
            asked.map_err(|error| AttestError::Device {
                device: self.socket.display().to_string(),
                reason: error.to_string(),
            })
        })
    }
}

impl Module {
    async fn ask(&self, request: AttestationRequest<'_>) -> std::io::Result<Vec<u8>> {
        // {"Attestation": {"user_data": .., "nonce": .., "public_key": ..}}
        let mut cbor = [&b"\xa1\x6bAttestation\xa3"[..]].concat();
        for (name, value) in [
            (&b"\x69user_data"[..], request.user_data),
            (b"\x65nonce", request.nonce),
            (b"\x6apublic_key", request.public_key),
        ] {
            cbor.extend_from_slice(name);
            match value {
                None => cbor.push(0xf6),
                Some(bytes) => {
                    cbor.push(0x59);
                    cbor.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
                    cbor.extend_from_slice(bytes);
                }
            }
        }
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_u32(u32::try_from(cbor.len()).unwrap()).await?;
        stream.write_all(&cbor).await?;
        let length = stream.read_u32().await?;
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut answer).await?;
        // {"Attestation": {"document": bytes}}, longer than 255 bytes.
        let head = b"\xa1\x6bAttestation\xa1\x68document\x59";
        let document = answer.strip_prefix(&head[..]).unwrap_or_else(|| {
            panic!("no document: {}", String::from_utf8_lossy(&answer));
        });
        Ok(document[2..].to_vec())
    }
}
