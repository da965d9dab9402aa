//! `generate`: a key made inside the trusted side; only its public half is ever seen outside.

use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::check_name;
use nodeseal_wire::message::{Class, KeyAbout, NewKey};
use serde_json::json;

use super::{App, connect, recorded, seal};
use crate::audit::{Kind, Trail};
use crate::cli::GenerateArgs;
use crate::config::BLOB_SUFFIX;
use crate::context::gather;
use crate::failure::Failure;
use crate::files::{BLOB_MODE, FileError, create_all};
use crate::public_key::{ethereum, hex};
use crate::report::{Report, table};
use crate::sealing::{Planned, Sealer};

struct Generated(KeyAbout);

impl Planned for Generated {
    fn new_key(&self) -> NewKey {
        NewKey::Generated(self.0.clone())
    }

    fn length(&self) -> u32 {
        0
    }

    fn fill(&self, _: &mut [u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Makes the key, seals it, prints its public half.
///
/// # Errors
/// When it was refused, or its blob cannot be written.
pub fn run(app: &App, args: &GenerateArgs) -> Result<Report, Failure> {
    let config = app.config()?;
    seal::check_release(args.release)?;
    check_name("name", &args.name).map_err(|error| Failure::usage(error.to_string()))?;
    let path = match &args.to {
        Some(directory) => directory.join(format!("{}{BLOB_SUFFIX}", args.name)),
        None => config.blob_path(&args.name),
    };
    if path.symlink_metadata().is_ok() {
        return Err(FileError::Exists { path }.into());
    }
    let join = seal::read_join(args.join.as_deref())?;
    let context = gather(&config)?;
    let mut trail = Trail::new(Kind::Generate, &config.node);
    let mut blob = None;
    let made = app.wait_for(async {
        let mut connection = connect(&config).await?;
        let mut sealer = Sealer::new(&mut connection, &config, context, join);
        let about = KeyAbout {
            name: args.name.clone(),
            key_type: args.key_type,
            release: args.release,
        };
        for made in sealer.seal(&[Generated(about)]).await? {
            let made = made?;
            trail.done(&args.name, &made);
            blob = Some(made);
        }
        Ok(sealer.reports)
    });
    recorded(trail, &config, made)?;
    let blob = blob.ok_or_else(|| Failure::new(Class::Internal, "no-blob", "no blob came back"))?;
    for result in create_all([(path.clone(), blob.clone())], BLOB_MODE) {
        result?;
    }
    let header = Blob::parse(&blob)
        .map_err(|error| Failure::new(Class::Internal, "no-blob", error.to_string()))?
        .header;
    let path = path.display().to_string();
    let public_key = header.public_key.unwrap_or_default();
    let mut json = json!({
        "node": header.node,
        "name": header.name,
        "type": header.key_type.name(),
        "blob": path,
        "public_key": hex(&public_key),
    });
    let mut lines = vec![
        ("name", header.name),
        ("type", header.key_type.name().to_owned()),
        ("blob", path),
        ("public key", hex(&public_key)),
    ];
    if let Some(names) = ethereum(header.key_type, &public_key) {
        json["address"] = names.address.clone().into();
        json["node_id"] = names.node_id.clone().into();
        lines.push(("address", names.address));
        lines.push(("node id", names.node_id));
    }
    Ok(Report::new(json, table(&lines)))
}
