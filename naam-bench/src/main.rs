//! Drives workloads against NAAM and reports what they cost.
//!
//! A module uses only the modules below it; lowest first: workload, mica, cell, application, args, measurement, native, load, connection,
//! interruption, redis, invoke, report, cluster, experiment.

mod application;
mod args;
mod cell;
mod cluster;
mod connection;
mod experiment;
mod interruption;
mod invoke;
mod load;
mod measurement;
mod mica;
mod native;
mod redis;
mod report;
mod workload;

use args::{Arguments, Baseline, Command, Invoke, Plan, Redis};
use experiment::invoke::Failure;
use runtime::supervisor::error::ControlError;
use serde::Serialize;
use std::process::ExitCode;

/// The report stands.
const STANDS: u8 = 0;
/// A value was wrong, a request failed, or the experiment could not be run to its end.
const FAILED: u8 = 1;
/// The command line asks for something impossible.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    runtime::node::enter(&cluster::native_programs());
    redis::server::enter();
    let code = match Arguments::of_this_process().command {
        Command::Ycsb(options) => options.plan().map_err(usage).and_then(|plan| store(&plan)),
        Command::Cell(options) => options.plan().map_err(usage).and_then(|plan| store(&plan)),
        Command::Baseline { baseline: Baseline::Redis(options) } => baseline_redis(&options),
        Command::Invoke(options) => invoke(&options),
    };
    ExitCode::from(code.unwrap_or_else(|code| code))
}

fn store(plan: &Plan) -> Result<u8, u8> {
    let report = experiment::store::run(plan).map_err(failed)?;
    print(plan.common.json, &report, || report::text::render(&report))?;
    Ok(verdict(report.stands()))
}

fn baseline_redis(options: &Redis) -> Result<u8, u8> {
    let plan = options.plan().map_err(usage)?;
    let report = experiment::baseline::run(options, &plan).map_err(failed)?;
    print(plan.common.json, &report, || report::baseline::render(&report))?;
    Ok(verdict(report.stands()))
}

fn invoke(options: &Invoke) -> Result<u8, u8> {
    let report = experiment::invoke::run(options).map_err(|failure| match failure {
        Failure::Usage(error) => usage(error),
        Failure::Failed(error) => failed(error),
    })?;
    print(options.json, &report, || report::invoke::render(&report))?;
    Ok(verdict(report.stands()))
}

fn usage(error: String) -> u8 {
    eprintln!("error: {error}");
    USAGE
}

fn failed(error: anyhow::Error) -> u8 {
    eprintln!("error: {error:#}");
    let control = error.downcast_ref::<ControlError>();
    if let Some(hint) = control.and_then(|error| error.hint.as_ref()) {
        eprintln!("hint: {hint}");
    }
    FAILED
}

fn verdict(stands: bool) -> u8 {
    if stands { STANDS } else { FAILED }
}

/// Prints a report: as JSON, or the text.
fn print(json: bool, report: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), u8> {
    let text = if json {
        serde_json::to_string_pretty(report).map_err(|error| failed(anyhow::Error::new(error).context("writing the report")))?
            + "\n"
    } else {
        text()
    };
    naamc::output::print(&text).map_err(|error| failed(anyhow::Error::new(error).context("writing the report")))
}
