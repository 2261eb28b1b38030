//! Runs verified message bundles: engines, regions, transports, executors, clients.

pub mod engine;
