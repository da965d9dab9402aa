//! `--shred`: plaintext is removed once its blob, as it is on disk, was opened and compared with it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use nodeseal_wire::message::Class;

use super::{Done, KeyFile, plan};
use crate::audit::{Kind, Trail};
use crate::client::{BlobSource, Connection, open_blobs};
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
    files: &[KeyFile],
    done: &mut [Done],
) -> Result<(), Failure> {
    let mut places = Vec::new();
    let mut sources = Vec::new();
    for (place, (file, done)) in files.iter().zip(&*done).enumerate() {
        if done.sealed {
            places.push(place);
            sources.push(BlobSource {
                path: file.target.clone(),
                name: Some(file.about.name.clone()),
            });
        }
    }
    let mut trail = Trail::new(Kind::Open, &config.node);
    let context = gather(config)?;
    let opened = open_blobs(
        connection,
        &config.node,
        context,
        sources,
        |index, opened| {
            let place = places.get(index).copied().unwrap_or(usize::MAX);
            let (Some(file), Some(done)) = (files.get(place), done.get_mut(place)) else {
                return Ok(());
            };
            let name = &file.about.name;
            let result = match opened {
                Ok(opened) => {
                    trail.done(Some(name), opened.blob);
                    remove_if_equal(file, opened.key)
                }
                Err(refusal) => {
                    trail.refused(name, Some(&file.target), &refusal);
                    Err(Failure::from(refusal).of(file.target.display()))
                }
            };
            match result {
                Ok(()) => done.removed = true,
                Err(failure) => done.failed = Some(failure),
            }
            Ok::<_, Failure>(())
        },
    );
    let opened = opened.await;
    recorded(trail, config, opened)?;
    Ok(())
}

fn remove_if_equal(file: &KeyFile, opened: &[u8]) -> Result<(), Failure> {
    let plaintext = Plaintext::open_to_remove(&file.path, plan::MAX_KEY_FILE)?;
    let key = file.key(&plaintext)?;
    verify_slices_are_equal(key.expose(), opened).map_err(|_| {
        let message = format!(
            "{}: was kept: its blob {} does not hold the same key",
            file.path.display(),
            file.target.display()
        );
        Failure::new(Class::Internal, "changed", message)
    })?;
    plaintext.remove()?;
    Ok(())
}
