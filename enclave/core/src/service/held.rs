//! Data keys kept between the requests of one batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::seal::DataKey;

/// The data keys one connection holds, by their id.
#[derive(Default)]
pub(super) struct HeldKeys(Mutex<HashMap<[u8; 16], Arc<DataKey>>>);

impl HeldKeys {
    pub(super) fn get(&self, id: &[u8; 16]) -> Option<Arc<DataKey>> {
        self.keys().get(id).cloned()
    }

    pub(super) fn keep(&self, key: DataKey) {
        self.keys().insert(key.id, Arc::new(key));
    }

    pub(super) fn clear(&self) {
        self.keys().clear();
    }

    pub(super) fn len(&self) -> usize {
        self.keys().len()
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<[u8; 16], Arc<DataKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
