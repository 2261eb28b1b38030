//! Drives workloads against NAAM and reports what they cost.
mod args;
mod connection;
mod load;
mod measurement;
mod mica;
mod native;
mod report;
mod workload;
fn main() {}
