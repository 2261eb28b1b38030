//! `naam-run cluster` and `naam-run stop`.

use crate::args::Cluster;
use crate::failure::Failure;
use naamc::quantity::counted;
use runtime::control::client::Control;
use runtime::control::directory::{Address, NAME_DEFAULT};
use runtime::node::{self, Options};
use serde_json::json;
use std::time::Duration;

/// How long a cluster may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs a cluster until it is stopped.
pub fn run(options: &Cluster, cluster: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let name = match (options.name.as_deref(), cluster) {
        (Some(name), Some(cluster)) if name != cluster => {
            return Err(Failure::usage(format!("--name {name} and --cluster {cluster} name the new cluster differently")));
        }
        (name, cluster) => name.or(cluster).unwrap_or(NAME_DEFAULT).to_owned(),
    };
    let options = Options {
        name,
        executors: options.host,
        nic_executors: options.nic,
        dma_latency_ns: options.dma_latency_ns,
        engine: options.engine.into(),
        pin: !options.unpinned,
    };
    let mut printed = None;
    let ran = node::run(&options, |address| {
        let value = json!({
            "name": address.name,
            "directory": address.directory,
            "engine": options.engine,
            "host_executors": options.executors,
            "nic_executors": options.nic_executors,
        });
        printed = Some(crate::print(as_json, &value, || welcome(&options, address)));
    });
    match (ran, printed) {
        // Whoever looks at this terminal was promised a cluster and has data in it.
        (Err(mut error), Some(_)) => {
            error.message.push_str(&format!("; cluster {:?} has ended, and its regions are gone", options.name));
            return Err(error.into());
        }
        (ran, printed) => ran.map_err(Failure::from).and(printed.unwrap_or(Ok(())))?,
    }
    if as_json { Ok(()) } else { crate::say(&format!("Cluster {:?} has stopped.", options.name)) }
}

fn welcome(options: &Options, address: &Address) -> String {
    let flag = if address.name == NAME_DEFAULT { String::new() } else { format!(" --cluster {}", address.name) };
    let mut executors = counted(options.executors.into(), "host executor");
    if options.nic_executors > 0 {
        let nic = counted(options.nic_executors.into(), "NIC executor");
        executors
            .push_str(&format!(", {nic} ({} ns to memory; `naam-run{flag} steer` sends messages there)", options.dma_latency_ns));
    }
    format!(
        "Cluster {:?} is running: {executors}, engine {}, at {}\n\
         Ctrl-C stops it. In another terminal:\n\
         \x20 naam-run{flag} region create NAME --bytes 64M\n\
         \x20 naam-run{flag} deploy FILE.naam --as NAME --bind REGION=REGION_NAME\n\
         \x20 naam-run{flag} invoke NAME/HANDLER --message JSON\n\
         \x20 naam-run{flag} status",
        address.name,
        options.engine.name(),
        address.directory.display(),
    )
}

/// Stops a cluster and waits until it has ended, so that its name is free.
pub fn stop(control: &Control, as_json: bool) -> Result<(), Failure> {
    let name = &control.address().name;
    let holder = control.address().holder();
    control.stop()?;
    if let Some(holder) = holder
        && !holder.ended_within(STOP_MAX)
    {
        let process = holder.process;
        let still = Failure::refused("stopping", format!("cluster {name:?} is still stopping (process {process})"));
        return Err(still.hint(format!("wait, or end it with `kill -9 {process}`")));
    }
    crate::print(as_json, &json!({ "stopped": name }), || format!("Cluster {name:?} has stopped."))
}
