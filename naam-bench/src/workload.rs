//! What is asked: key numbers and keys, request distributions, operation mixes, request streams, and what values must look like.
//!
//! Definitions are those of YCSB (brianfrankcooper/YCSB, `workloads/*` and its core generators) and MICA; sources are named where they
//! are used. Nothing here knows how a request travels.

pub mod distribution;
pub mod keys;
pub mod mix;
pub mod stream;
pub mod values;
pub mod versions;
