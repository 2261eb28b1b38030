//! Redis as a yardstick: a private server on this machine, and a connection through which the load generator drives it.
//!
//! No client crate: those that pipeline allocate for every command and every reply, so they would measure themselves. What is needed of the
//! protocol fits one file.

pub mod connection;
pub mod resp;
pub mod server;
