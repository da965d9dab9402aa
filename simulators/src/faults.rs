//! What a service can be told to do wrong, one request at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Answer, Received, Refused, json as json_answer, read};

/// A fault, and which requests it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned<F> {
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: F,
    /// How many requests (or connections) it hits; 0: all until it is removed.
    #[serde(default = "once")]
    pub times: u32,
    /// Only requests of this operation (`Decrypt`); connections have none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

fn once() -> u32 {
    1
}

impl<F: Serialize + DeserializeOwned> Planned<F> {
    /// Reads a fault; a member that means nothing is refused, lest a misspelt one be silently left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let planned = Self::deserialize(value).map_err(|error| error.to_string())?;
        let known = serde_json::to_value(&planned).map_err(|error| error.to_string())?;
        let given = value
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys());
        match given
            .into_iter()
            .find(|name| known.get(name.as_str()).is_none())
        {
            Some(name) => Err(format!("a member {name:?} means nothing to this fault")),
            None => Ok(planned),
        }
    }

    /// Whether it is for requests of this operation.
    pub(crate) fn is_for(&self, operation: &str) -> bool {
        let own = self.operation.as_deref();
        own.is_none_or(|name| name == operation)
    }
}

/// The faults to come, in order. A request takes the first that is for it.
pub struct Queue<F>(Mutex<VecDeque<Planned<F>>>);

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F: Clone + Serialize + DeserializeOwned> Queue<F> {
    /// Adds one at the end.
    pub fn add(&self, fault: Planned<F>) {
        self.queue().push_back(fault);
    }

    /// Removes all.
    pub fn clear(&self) {
        self.queue().clear();
    }

    /// Those still to come.
    #[must_use]
    pub fn pending(&self) -> Vec<Planned<F>> {
        self.queue().iter().cloned().collect()
    }

    /// Takes the first for which `is_for` holds.
    pub(crate) fn take(&self, is_for: impl Fn(&Planned<F>) -> bool) -> Option<F> {
        let mut queue = self.queue();
        let at = queue.iter().position(is_for)?;
        let planned = queue.get_mut(at)?;
        let fault = planned.fault.clone();
        match planned.times {
            0 => {}
            1 => drop(queue.remove(at)),
            _ => planned.times -= 1,
        }
        Some(fault)
    }

    /// `/faults` of an admin door: GET lists, POST adds, DELETE removes all.
    pub(crate) fn administer(&self, request: &Received) -> Result<Answer, Refused> {
        match *request.method() {
            Method::GET => return Ok(json_answer(StatusCode::OK, &json!(self.pending()))),
            Method::POST => {
                let fault = Planned::from_json(&read::<Value>(request)?);
                self.add(fault.map_err(|error| (StatusCode::BAD_REQUEST, error))?);
            }
            Method::DELETE => self.clear(),
            _ => return Err((StatusCode::METHOD_NOT_ALLOWED, String::new())),
        }
        Ok(json_answer(StatusCode::OK, &json!({})))
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Planned<F>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
