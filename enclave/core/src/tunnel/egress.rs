//! The way out the agent offers: an HTTP CONNECT proxy (RFC 9110 §9.3.6) that moves bytes.
//!
//! The proxy is not trusted with anything but moving them: what it says ends up in messages only as printable text.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Dial, Dialled, Sockets, Stream};

/// Most bytes of the proxy's answer.
const MAX_ANSWER: usize = 8192;
/// Most of it that is shown.
const MAX_TEXT: usize = 200;

/// A proxy, and how it is reached.
#[derive(Clone, Debug)]
pub struct Egress {
    address: String,
    dial: Arc<dyn Dial>,
}

/// No way out.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// No address of a proxy.
    #[error("the egress address {found:?} is not {expected}")]
    Address {
        /// The forms it may have.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Nothing listens there, or it hung up.
    #[error("the egress proxy at {address} cannot be reached: {source}")]
    Unreachable {
        /// Of the proxy.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not allow the target.
    #[error("the egress proxy at {address} refuses to connect to {target}: {answer}")]
    Refused {
        /// Of the proxy.
        address: String,
        /// `HOST:PORT`.
        target: String,
        /// What it said.
        answer: String,
    },
    /// The target is not reached from there.
    #[error("the egress proxy at {address} cannot connect to {target}: {answer}")]
    Failed {
        /// Of the proxy.
        address: String,
        /// `HOST:PORT`.
        target: String,
        /// The kind of error, if the proxy says it in the header Proxy-Status (RFC 9209 §2.3); else empty.
        kind: String,
        /// What it said.
        answer: String,
    },
    /// It is no proxy.
    #[error("the egress proxy at {address} does not speak HTTP CONNECT: {found}")]
    Protocol {
        /// Of the proxy.
        address: String,
        /// What came instead.
        found: String,
    },
}

impl Egress {
    /// The proxy at `text`, `unix:/PATH` or `tcp:HOST:PORT`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        let dial: Arc<dyn Dial> = Arc::new(Sockets);
        Self::through(text, &dial)
    }

    /// The proxy at `address`, reached by `dial`.
    ///
    /// # Errors
    /// When it is not of a form `dial` takes.
    pub fn through(address: &str, dial: &Arc<dyn Dial>) -> Result<Self, EgressError> {
        let egress = Self {
            address: address.to_owned(),
            dial: Arc::clone(dial),
        };
        // Nothing happens before the future is polled.
        egress.dial().map(drop)?;
        Ok(egress)
    }

    fn dial(&self) -> Result<Dialled, EgressError> {
        self.dial
            .dial(&self.address)
            .ok_or_else(|| EgressError::Address {
                expected: self.dial.forms(),
                found: printable(self.address.as_bytes(), MAX_TEXT),
            })
    }

    /// Connects to `target`, `HOST:PORT`, through the proxy. The caller bounds the time.
    ///
    /// # Errors
    /// Whatever keeps the tunnel from standing.
    pub async fn connect(&self, target: &str) -> Result<Box<dyn Stream>, EgressError> {
        let address = self.address.clone();
        let unreachable = |source| EgressError::Unreachable {
            address: address.clone(),
            source,
        };
        let mut stream = self.dial()?.await.map_err(unreachable)?;
        let question = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream
            .write_all(question.as_bytes())
            .await
            .map_err(unreachable)?;
        let protocol = |found: String| EgressError::Protocol {
            address: address.clone(),
            found,
        };
        let mut answer = Vec::with_capacity(256);
        let (head, rest) = loop {
            if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break answer.split_at(end.saturating_add(4));
            }
            if answer.len() >= MAX_ANSWER {
                return Err(protocol(format!("more than {MAX_ANSWER} bytes of headers")));
            }
            let mut part = [0; 512];
            let read = stream.read(&mut part).await.map_err(unreachable)?;
            if read == 0 {
                return Err(protocol(format!(
                    "it answered {:?}",
                    printable(&answer, MAX_TEXT)
                )));
            }
            answer.extend_from_slice(part.get(..read).unwrap_or_default());
        };
        let status = head
            .strip_prefix(b"HTTP/1.")
            .and_then(|line| line.get(2..5))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u16>().ok());
        match status {
            // A TLS server waits for its client, so these bytes would be nobody's.
            Some(200..=299) if !rest.is_empty() => {
                Err(protocol("bytes before the tunnel is used".to_owned()))
            }
            Some(200..=299) => Ok(stream),
            Some(500..=599) => Err(EgressError::Failed {
                address,
                target: target.to_owned(),
                kind: error_kind(head),
                answer: printable(&answer, MAX_TEXT),
            }),
            Some(_) => Err(EgressError::Refused {
                address,
                target: target.to_owned(),
                answer: printable(&answer, MAX_TEXT),
            }),
            None => Err(protocol(format!(
                "it answered {:?}",
                printable(head, MAX_TEXT)
            ))),
        }
    }
}

/// The parameter `error` of the header Proxy-Status.
fn error_kind(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let kind = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let mut parameters = value.split(';').map(str::trim);
        name.eq_ignore_ascii_case("proxy-status")
            .then(|| parameters.find_map(|parameter| parameter.strip_prefix("error=")))?
    });
    kind.unwrap_or_default().to_owned()
}

/// At most `most` characters of foreign bytes, the printable ones of ASCII, on one line.
#[must_use]
pub fn printable(bytes: &[u8], most: usize) -> String {
    let shown = |byte: &u8| match byte {
        0x20..=0x7e => char::from(*byte),
        _ => ' ',
    };
    let text: String = bytes.iter().take(most).map(shown).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    /// Connects through a proxy that answers `answer`; gives what it was asked, and the outcome.
    async fn connect(answer: Vec<u8>) -> (String, Result<(), EgressError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp:{}", listener.local_addr().unwrap());
        let proxy = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; 1024];
            let length = stream.read(&mut question).await.unwrap();
            question.truncate(length);
            // The other side may hang up before it has read everything.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(question).unwrap()
        });
        let egress = Egress::parse(&address).unwrap();
        let outcome = egress.connect("kms.example:443").await.map(drop);
        (proxy.await.unwrap(), outcome)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_by_name() {
        let (question, outcome) = connect(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).await;
        outcome.unwrap();
        let expected = "CONNECT kms.example:443 HTTP/1.1\r\nHost: kms.example:443\r\n\r\n";
        assert_eq!(question, expected);
    }

    #[tokio::test]
    async fn a_no_of_the_proxy_is_told_from_a_failure_behind_it() {
        let refused = b"HTTP/1.1 403 Forbidden\r\nX-Reason: not\x1b[1m listed\r\n\r\n".to_vec();
        let (_, outcome) = connect(refused).await;
        let text = outcome.unwrap_err().to_string();
        let expected = "refuses to connect to kms.example:443: HTTP/1.1 403 Forbidden X-Reason: not [1m listed";
        assert!(text.ends_with(expected), "{text}");
        for (headers, expected) in [
            ("", ""),
            ("proxy-status: ours; error=dns_error\r\n", "dns_error"),
            (
                "Proxy-Status: a; next-hop=b;error=connection_refused\r\n",
                "connection_refused",
            ),
            ("X-Status: a; error=dns_error\r\nProxy-Status: a\r\n", ""),
        ] {
            let answer = format!("HTTP/1.1 502 no such host\r\n{headers}\r\n");
            let (_, outcome) = connect(answer.into_bytes()).await;
            let Err(EgressError::Failed { kind, .. }) = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(kind, expected);
        }
    }

    #[tokio::test]
    async fn what_is_no_proxy_is_refused() {
        for answer in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 2",
            b"HTTP/1.1 \xff00 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03",
            &[b'a'; MAX_ANSWER + 1],
        ] {
            let (_, outcome) = connect(answer.to_vec()).await;
            let error = outcome.unwrap_err();
            assert!(
                matches!(
                    error,
                    EgressError::Protocol { .. } | EgressError::Unreachable { .. }
                ),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn an_absent_proxy_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("egress.sock");
        let egress = Egress::parse(&format!("unix:{}", path.display())).unwrap();
        let error = egress.connect("kms.example:443").await.err().unwrap();
        let expected = format!(
            "the egress proxy at unix:{} cannot be reached",
            path.display()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in ["", "unix:relative", "tcp:nowhere", "http://a:1", "/run/a"] {
            let error = Egress::parse(text).unwrap_err();
            let expected =
                format!("the egress address {text:?} is not unix:/PATH or tcp:HOST:PORT");
            assert_eq!(error.to_string(), expected);
        }
    }
}
