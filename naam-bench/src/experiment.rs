//! Experiments: what is run in which order, and how counts become a report.

mod clients;
pub mod ycsb;
