//! State that survives a kill: a JSON file, replaced as a whole at each change.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{self, FileError};

/// State could not be loaded or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// File trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a state file of this simulator.
    #[error("{path}: {cause}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
}

/// A value and the file it is kept in.
pub(crate) struct StateFile<T> {
    path: PathBuf,
    value: RwLock<T>,
}

impl<T: Clone + Serialize + DeserializeOwned> StateFile<T> {
    /// Loads `path`, or starts with `new` where there is no such file; its directory is made.
    pub(crate) fn open(path: &Path, new: impl FnOnce() -> T) -> Result<Self, StateError> {
        if let Some(directory) = path.parent() {
            files::make_directory(directory)?;
        }
        let value = match files::read_if_there(path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|cause| StateError::Json {
                path: path.display().to_string(),
                cause,
            })?,
            None => new(),
        };
        Ok(Self {
            path: path.to_owned(),
            value: RwLock::new(value),
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a copy, writes it, and only then lets it be seen.
    pub(crate) fn change<R, E: From<StateError>>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut current = self.value.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.clone();
        let result = change(&mut next)?;
        let bytes = serde_json::to_vec_pretty(&next).map_err(|cause| StateError::Json {
            path: self.path.display().to_string(),
            cause,
        })?;
        files::replace(&self.path, &bytes).map_err(StateError::from)?;
        *current = next;
        Ok(result)
    }
}
