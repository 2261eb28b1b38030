//! The data plane as its users see it: regions, messages, links, slot records, executors and clients, without bundles and processes.
//!
//! Handlers here are scripts of UDMA operations ([`programs`]), so that every path of the executor is reached with exact effects.
//! Nothing is asserted of times. A failing seed is printed by the assertion that failed.

mod arrivals;
#[path = "../portability/corpus.rs"]
#[allow(dead_code)]
mod corpus;
mod executors;
mod links;
mod memory;
mod messages;
mod moves;
mod programs;
mod simulation;
mod slots;
