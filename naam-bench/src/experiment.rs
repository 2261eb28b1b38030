//! Experiments: what is run in which order, and how counts become a report.

pub mod baseline;
mod clients;
pub mod invoke;
mod served;
pub mod store;
mod tree;
