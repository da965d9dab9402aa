//! Evidence formats, their verification, and release policies written and evaluated: no secrets, no network, no clock.

pub mod hex;
pub mod nitro;
pub mod policy;
pub mod time;
