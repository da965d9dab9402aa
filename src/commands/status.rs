//! `status`: how the trusted side is.

use nodeseal_wire::message::{Reply, Request, Status};
use serde_json::{Map, Value, json};

use super::{App, connect};
use crate::client::ClientError;
use crate::failure::Failure;
use crate::report::Report;

/// Asks the trusted side and reports what it says of itself.
///
/// # Errors
/// When it cannot be asked.
pub fn run(app: &App) -> Result<Report, Failure> {
    let config = app.config()?;
    let (software, status) = app.wait_for(async {
        let mut connection = connect(&config).await?;
        let (reply, _) = connection.request(&Request::Status, &[]).await?;
        let Reply::Status(status) = reply else {
            return Err(ClientError::Unexpected {
                expected: "a status",
            }
            .into());
        };
        Ok((connection.software, status))
    })?;
    let Status {
        provider,
        keys_held,
        data_keys_held,
        opened,
        refused,
        facts,
    } = status;
    let address = config.trusted.address.to_string();
    let mut lines = vec![
        ("node", config.node.clone()),
        (
            "trusted side",
            format!("{provider} ({software}) at {address}"),
        ),
        ("opened", opened.to_string()),
        ("refused", refused.to_string()),
        ("keys held", keys_held.to_string()),
        ("data keys held", data_keys_held.to_string()),
    ];
    lines.extend(
        facts
            .iter()
            .map(|fact| (fact.name.as_str(), fact.value.clone())),
    );
    let text = crate::report::table(&lines);
    let as_json = facts
        .iter()
        .map(|fact| (fact.name.clone(), Value::from(fact.value.clone())));
    let json = json!({
        "node": config.node,
        "address": address,
        "software": software,
        "provider": provider,
        "keys_held": keys_held,
        "data_keys_held": data_keys_held,
        "opened": opened,
        "refused": refused,
        "facts": as_json.collect::<Map<_, _>>(),
    });
    Ok(Report::new(json, text))
}
