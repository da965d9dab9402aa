//! `lock`: the trusted side wipes what it holds.

use nodeseal_wire::message::{Reply, Request};
use serde_json::json;

use super::{App, connect};
use crate::client::ClientError;
use crate::failure::Failure;
use crate::report::Report;

/// Asks the trusted side to wipe every key and data key.
///
/// # Errors
/// When it cannot be asked.
pub fn run(app: &App) -> Result<Report, Failure> {
    let config = app.config()?;
    app.wait_for(async {
        let mut connection = connect(&config).await?;
        match connection.request(&Request::Lock, &[]).await? {
            (Reply::Locked, _) => Ok(()),
            _ => Err(ClientError::Unexpected {
                expected: "that all is wiped",
            }
            .into()),
        }
    })?;
    let text = "the trusted side holds no key and no data key\n";
    Ok(Report::new(json!({ "locked": true }), text))
}
