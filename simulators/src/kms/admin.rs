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
use serde_json::json;

use super::{CmsShape, Kms};
use crate::http::{
    Answer, Listener, Received, Refused, json as json_answer, read, serve_plain, text,
};
use crate::time::Offset;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    shape: CmsShape,
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
        (_, "/faults") => kms.faults().queue().administer(request),
        (&Method::PUT, "/cms") => {
            kms.set_cms_shape(read::<Shape>(request)?.shape);
            Ok(done())
        }
        (&Method::PUT, "/clock") => {
            read::<Offset>(request)?.set(kms.clock());
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
