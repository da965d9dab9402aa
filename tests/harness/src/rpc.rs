//! JSON-RPC over HTTP on the loopback interface, as the node's own interface speaks it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Context, Error, Result};

/// Longer than the node ever takes; a request that hangs must not hang the caller.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Calls `method` with `parameters` at `port` and returns the result.
///
/// # Errors
/// When there is no answer, or it is an error.
pub fn call(port: u16, method: &str, parameters: &Value) -> Result<Value> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
    let answer = post(port, &request.to_string()).context(method)?;
    let answer: Value = serde_json::from_str(&answer).context(method)?;
    match answer.get("result") {
        Some(result) => Ok(result.clone()),
        None => Err(Error::new(format!("{method}: the node answers {answer}"))),
    }
}

fn post(port: u16, body: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other(format!(
            "unexpected answer: {answer:.200}"
        ))),
    }
}
