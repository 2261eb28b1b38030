//! A user's own workload: messages drawn from a template, and the client that sends them to one handler and counts what comes back.

pub mod client;
pub mod messages;
pub mod template;
