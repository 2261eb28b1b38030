//! `naam-run status`.

use crate::failure::{Failure, at_cluster};
use crate::{deployments, regions};
use naamc::quantity::{counted, grouped};
use runtime::control::client::Control;
use runtime::supervisor::api::{PlaceLife, Status};

/// Prints what runs.
pub fn run(control: &Control, as_json: bool) -> Result<(), Failure> {
    let status = control.status()?;
    crate::print(as_json, &status, || describe(&status))
}

fn describe(status: &Status) -> String {
    let mut parts = vec![format!(
        "Cluster {:?}: engine {}, up {} s, {}, supervisor process {}",
        status.name,
        status.engine,
        grouped(status.uptime_seconds as u64),
        counted(status.sessions as u64, "session"),
        status.process,
    )];
    for place in &status.places {
        let life = match (place.state, place.process) {
            (PlaceLife::Running, Some(process)) => format!("process {process}"),
            (PlaceLife::Running | PlaceLife::Restarting, _) => "died, and is started again".to_owned(),
            (PlaceLife::GivenUp, _) => "died too often, and is not started again".to_owned(),
        };
        parts.push(format!("\nPlace {}: {life}, incarnation {}", place.place, place.incarnation));
        for executor in &place.executors {
            let cpu = executor.cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
            let counters = &executor.counters;
            parts.push(format!(
                "  executor {} on {cpu}: {} ({}), {}, {}, busy {:.3} s",
                executor.executor,
                counted(counters.requests, "request"),
                counted(counters.errors, "error"),
                counted(counters.udma_operations, "UDMA operation"),
                counted(counters.suspensions, "suspension"),
                counters.busy_ns as f64 / 1e9,
            ));
        }
    }
    parts.push(format!("\nRegions\n{}", regions::table(&status.regions, &status.name)));
    parts.push("\nDeployments".to_owned());
    if status.deployments.is_empty() {
        parts.push(at_cluster("None. `naam-run deploy FILE.naam --as NAME` makes one.", &status.name));
    }
    parts.extend(status.deployments.iter().map(deployments::describe));
    parts.join("\n")
}
