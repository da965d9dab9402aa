//! `--shred`: plaintext is removed once its blob, as it is on disk, was opened and compared with it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use nodeseal_wire::blob::Blob;
use nodeseal_wire::message::{Class, Refusal};

use super::{KeyFile, plan};
use crate::audit::{Kind, Trail};
use crate::client::{BlobSource, Connection, Opened, open_blobs};
use crate::commands::recorded;
use crate::config::Config;
use crate::context::gather;
use crate::failure::Failure;
use crate::files::Plaintext;

/// Removes the files of those that are sealed.
///
/// # Errors
/// When the trusted side cannot be asked; each file is there or gone then.
pub async fn remove_sealed(
    connection: &mut Connection,
    config: &Config,
    files: impl Iterator<Item = &mut KeyFile>,
) -> Result<(), Failure> {
    let mut files: Vec<_> = files.filter(|file| file.sealed).collect();
    let source = |file: &&mut KeyFile| BlobSource {
        path: file.target.clone(),
        name: Some(file.about.name.clone()),
    };
    let sources: Vec<_> = files.iter().map(source).collect();
    let mut trail = Trail::new(Kind::Open, &config.node);
    let (node, context) = (&config.node, gather(config)?);
    let opened = open_blobs(connection, node, context, sources, |index, opened| {
        if let Some(file) = files.get_mut(index) {
            match remove_if_equal(file, opened, &mut trail) {
                Ok(()) => file.removed = true,
                Err(failure) => file.failed = Some(failure),
            }
        }
        Ok::<_, Failure>(())
    });
    let opened = opened.await;
    recorded(trail, config, opened)?;
    Ok(())
}

fn remove_if_equal(
    file: &KeyFile,
    opened: Result<Opened<'_>, Refusal>,
    trail: &mut Trail,
) -> Result<(), Failure> {
    let name = &file.about.name;
    let opened = opened.map_err(|refusal| {
        trail.refused(name, Some(&file.target), &refusal);
        Failure::from(refusal).of(file.target.display())
    })?;
    trail.done(name, opened.blob);
    let different = || {
        let message = format!(
            "{}: was kept: its blob {} does not hold the same key",
            file.path.display(),
            file.target.display()
        );
        Failure::new(Class::Internal, "changed", message)
    };
    let header = Blob::parse(opened.blob).map_err(|_| different())?.header;
    let plaintext = Plaintext::open_to_remove(&file.path, plan::MAX_KEY_FILE)?;
    let key = file.key(&plaintext, header.key_type)?;
    verify_slices_are_equal(key.expose(), opened.key).map_err(|_| different())?;
    plaintext.remove()?;
    Ok(())
}
