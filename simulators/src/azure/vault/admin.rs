//! The door for tests: plain HTTP, apart from the service.
//!
//! | request | body | does |
//! |---|---|---|
//! | GET, POST, DELETE /faults | a fault | lists, adds, removes all |
//! | GET, POST, DELETE /roles | an assignment | lists, assigns, takes away |
//! | PUT /limit | `{"count": 10, "others": 2000, "milliseconds": 10000}` | releases and creations, and others, taken in a time |
//! | PUT /clock | `{"offset_seconds": N}` | how far the service's clock is ahead |
//! | GET /audit | | the audit records, one JSON object a line |

use std::io;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::{Assignment, Limit, Vault};
use crate::http::{
    Answer, Listener, Received, Refused, json as json_answer, read, serve_plain, text,
};
use crate::time::Offset;

/// Answers on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve_admin(listener: Listener, vault: Arc<Vault>) -> io::Result<()> {
    serve_plain(listener, move |request| {
        answer(&vault, &request).unwrap_or_else(|(status, body)| text(status, body))
    })
    .await
}

fn answer(vault: &Vault, request: &Received) -> Result<Answer, Refused> {
    let internal =
        |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    match (request.method(), request.uri().path()) {
        (_, "/faults") => return vault.faults().queue().administer(request),
        (&Method::GET, "/roles") => {
            let all = vault.store.assignments();
            return Ok(json_answer(StatusCode::OK, &json!(all)));
        }
        (&Method::POST, "/roles") => {
            let assignment: Assignment = read(request)?;
            assignment
                .check()
                .map_err(|error| (StatusCode::BAD_REQUEST, error))?;
            vault.store.assign(assignment).map_err(|e| internal(&e))?;
        }
        (&Method::DELETE, "/roles") => {
            let there = vault.store.unassign(&read(request)?);
            if !there.map_err(|e| internal(&e))? {
                return Err((StatusCode::NOT_FOUND, "no such assignment".to_owned()));
            }
        }
        (&Method::PUT, "/limit") => vault.window.set(read::<Limit>(request)?),
        (&Method::PUT, "/clock") => read::<Offset>(request)?.set(vault.clock()),
        (&Method::GET, "/audit") => {
            let records = std::fs::read_to_string(vault.audit_path());
            return records
                .map(|records| text(StatusCode::OK, records))
                .map_err(|e| internal(&e));
        }
        (method, path) => {
            return Err((StatusCode::NOT_FOUND, format!("no {method} {path} here")));
        }
    }
    Ok(json_answer(StatusCode::OK, &json!({})))
}
