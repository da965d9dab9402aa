//! Azure's tokens, releases, quotes and reports: what passes, and each rule broken alone.
#![allow(clippy::unwrap_used)]

mod forge;
mod release;
mod token;
mod vtpm;
