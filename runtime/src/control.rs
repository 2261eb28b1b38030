//! Control: how programs find a cluster and what they may ask of it. HTTP and JSON on one Unix socket, sessions on another.

pub mod client;
mod connection;
pub mod directory;
mod server;
pub(crate) mod sessions;

pub(crate) use server::serve;

pub use crate::supervisor::error::{Code, ControlError};
pub use connection::{Connection, ConnectionOptions};
