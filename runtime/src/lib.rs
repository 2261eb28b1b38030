//! Runs verified message bundles: engines, regions, transports, executors, clients.
//!
//! A module uses only the modules below it; lowest first: clock, waiting, memory, metrics, message, steering, udma, transport, session,
//! engine, deployment, executor, client, channel, supervisor, place, control, client_place, node. `unsafe` is confined to `memory` and the
//! JIT.
#![deny(unsafe_code)]

pub mod channel;
pub mod client;
#[cfg(feature = "client-place")]
pub mod client_place;
pub mod clock;
pub mod control;
pub mod deployment;
pub mod engine;
pub mod executor;
#[allow(unsafe_code)]
pub mod memory;
pub mod message;
pub mod metrics;
pub mod node;
pub mod place;
pub mod session;
pub mod steering;
pub mod supervisor;
pub mod transport;
pub mod udma;
pub mod waiting;
