//! The built program as its users run it: real processes, real sockets, a state directory for each test.

mod cluster;
mod deployments;
mod harness;
mod hostile_control;
