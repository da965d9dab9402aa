//! Evidence formats, their verification, and release policies written and evaluated: no secrets, no network, no clock.

pub mod azure;
mod base64;
mod der;
pub mod hex;
mod json;
pub mod nitro;
pub mod policy;
pub mod time;
