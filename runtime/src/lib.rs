//! Runs verified message bundles: engines, regions, transports, executors, clients.
//!
//! Modules depend on those above them in this list only. `unsafe` is confined to `memory`, `transport` and the JIT's code and entry.
#![deny(unsafe_code)]

pub mod clock;
#[allow(unsafe_code)]
pub mod memory;
pub mod metrics;
pub mod message;
pub mod engine;
pub mod transport;
