//! The door for tests: plain HTTP, apart from the service.
//!
//! | request | body | does |
//! |---|---|---|
//! | GET /faults | | the faults to come |
//! | POST /faults | a fault | adds it at the end |
//! | DELETE /faults | | removes all |
//! | PUT /cms | `{"shape": "chunked" \| "primitive" \| "many-chunks"}` | shape of answers to recipients |
//! | PUT /clock | `{"offset_seconds": N}` | how far the service's clock is ahead |
//! | GET /trail | | the trail, one JSON record a line |

use std::io;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{CmsShape, Kms, PlannedFault};
use crate::http::{Answer, Listener, Received, Refused, json as json_answer, serve_plain, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    shape: CmsShape,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offset {
    offset_seconds: i64,
}

/// Answers on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve_admin(listener: Listener, kms: Arc<Kms>) -> io::Result<()> {
    serve_plain(listener, move |request| {
        answer(&kms, &request).unwrap_or_else(|(status, body)| text(status, body))
    })
    .await
}

fn answer(kms: &Kms, request: &Received) -> Result<Answer, Refused> {
    let done = || json_answer(StatusCode::OK, &json!({}));
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/faults") => {
            Ok(json_answer(StatusCode::OK, &json!(kms.faults().pending())))
        }
        (&Method::POST, "/faults") => {
            let fault = PlannedFault::from_json(&read(request)?);
            kms.faults()
                .add(fault.map_err(|error| (StatusCode::BAD_REQUEST, error))?);
            Ok(done())
        }
        (&Method::DELETE, "/faults") => {
            kms.faults().clear();
            Ok(done())
        }
        (&Method::PUT, "/cms") => {
            kms.set_cms_shape(read::<Shape>(request)?.shape);
            Ok(done())
        }
        (&Method::PUT, "/clock") => {
            let offset = read::<Offset>(request)?.offset_seconds;
            kms.clock().set_offset(offset.saturating_mul(1000));
            Ok(done())
        }
        (&Method::GET, "/trail") => {
            let records = std::fs::read_to_string(kms.trail_path());
            records
                .map(|records| text(StatusCode::OK, records))
                .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        }
        (method, path) => Err((StatusCode::NOT_FOUND, format!("no {method} {path} here"))),
    }
}

fn read<T: DeserializeOwned>(request: &Received) -> Result<T, Refused> {
    serde_json::from_slice(request.body())
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}
