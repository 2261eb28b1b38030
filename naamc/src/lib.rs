//! Compiles and verifies handler ELFs into portable message bundles with memory-access manifests.
//!
//! Everything static lives here: instructions, objects, the verifier, contracts, bundles and the reference interpreter. No unsafe
//! code, no sockets, no code generation. The order in which modules may use each other is in `tests/layers.rs`.
#![forbid(unsafe_code)]

pub mod abi;
pub mod activation;
pub mod build;
pub mod bundle;
pub mod cfg;
pub mod compile;
pub mod continuation;
pub mod diagnostic;
pub mod exec;
pub mod interpreter;
pub mod isa;
pub mod manifest;
pub mod memory;
pub mod object;
pub mod output;
pub mod program;
pub mod quantity;
pub mod template;
pub mod types;
pub mod verifier;

pub use build::build;
