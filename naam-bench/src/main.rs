//! Drives workloads against NAAM and reports what they cost.
//!
//! A module uses only the modules below it; lowest first: workload, mica, args, measurement, native, load, connection, report,
//! interruption, cluster, experiment.

mod args;
mod cluster;
mod connection;
mod experiment;
mod interruption;
mod load;
mod measurement;
mod mica;
mod native;
mod report;
mod workload;

use args::{Arguments, Command, Ycsb};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

/// The report stands.
const STANDS: u8 = 0;
/// A value was wrong, a request failed, or the experiment could not be run to its end.
const FAILED: u8 = 1;
/// The command line asks for something impossible.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    runtime::node::enter(&cluster::native_programs());
    let Command::Ycsb(options) = Arguments::parse().command;
    ExitCode::from(ycsb(&options))
}

fn ycsb(options: &Ycsb) -> u8 {
    let mix = match options.mix() {
        Ok(mix) => mix,
        Err(error) => {
            eprintln!("error: {error}");
            return USAGE;
        }
    };
    let report = match experiment::ycsb::run(options, &mix) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return FAILED;
        }
    };
    let text = if options.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => json + "\n",
            Err(error) => {
                eprintln!("error: writing the report: {error}");
                return FAILED;
            }
        }
    } else {
        report::text::render(&report)
    };
    // Whoever closed the pipe does not want the rest.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if report.stands() { STANDS } else { FAILED }
}
