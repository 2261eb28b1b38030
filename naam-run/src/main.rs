//! `naam-run`: starts clusters and talks to them. Everything that runs is in `runtime`; here are the words for it.
//!
//! A module uses only the modules below it; lowest first: failure, steering, args, cluster, compile, deployments, exec, invoke, regions, status.

mod args;
mod cluster;
mod compile;
mod deployments;
mod exec;
mod failure;
mod invoke;
mod regions;
mod status;
mod steering;

use args::{Arguments, Command};
use failure::Failure;
use runtime::control::client::Control;
use runtime::control::directory::Address;
use runtime::place::NativePrograms;
use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::node::enter(&NativePrograms::default());
    let arguments = Arguments::of_this_process();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.at(arguments.cluster()).report(arguments.json),
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let control = || Ok::<_, Failure>(Control::at(&Address::of(arguments.cluster())?));
    let json = arguments.json;
    match &arguments.command {
        Command::Cluster(options) => cluster::run(options, arguments.cluster.as_deref(), json),
        Command::Stop => cluster::stop(&control()?, json),
        Command::Region(command) => regions::run(&control()?, command, json),
        Command::Deploy(options) => deployments::deploy(&control()?, options, json),
        Command::Undeploy { name } => deployments::undeploy(&control()?, name, json),
        Command::Grant { tenant, deployment, grant } => deployments::grant(&control()?, tenant, deployment, *grant, json),
        Command::Status => status::run(&control()?, json),
        Command::Flows => steering::flows(&control()?, json),
        Command::Steer { flows, place } => steering::steer(&control()?, &flows.0, (*place).into(), json),
        Command::Invoke(options) => invoke::run(&control()?, options, json),
        Command::Compile { file, output } => compile::run(file, output, json),
        Command::Exec(options) => exec::run(&options.arguments),
    }
}

/// Prints a result: JSON if it was asked for, else words.
fn print(json: bool, value: &impl serde::Serialize, words: impl FnOnce() -> String) -> Result<(), Failure> {
    let text =
        if json { serde_json::to_string_pretty(value).map_err(|error| Failure::refused("internal", error))? } else { words() };
    say(&text)
}

/// Prints a line.
fn say(text: &str) -> Result<(), Failure> {
    naamc::output::print(&format!("{text}\n")).map_err(|error| Failure::usage(format!("cannot write to standard output: {error}")))
}
