//! YCSB's mixes over MICA's hash table: load, measure, compare, and check every record at the end.

use super::clients::{ClusterClients, Turn, WARM_UP, bar, spinner};
use super::served::{Served, load};
use crate::args::{Engine, Ycsb};
use crate::cluster::{Cluster, Wanted};
use crate::load::Shared;
use crate::measurement::Measurement;
use crate::mica;
use crate::report::{Comparison, FORMAT, Machine, Parameters, Report};
use crate::workload::mix::Mix;
use crate::workload::stream::{RECORDS_MAX, Stream};
use anyhow::Result;
use std::time::Duration;

/// Records for which there is room, for each second in which records are inserted. When they are used up, the run ends early.
const INSERTS_PER_SECOND: f64 = 500_000.0;

/// All that was measured.
struct Outcome {
    loaded: Measurement,
    served: Vec<Served>,
    swept: Measurement,
    /// Requests of the shortest stream.
    stream_requests: u64,
}

/// Runs the experiment. `mix` is that of the workload.
pub fn run(options: &Ycsb, mix: &Mix) -> Result<Report> {
    let (key_bytes, value_bytes) = (usize::from(options.key_bytes), usize::from(options.value_bytes));
    let turns = if options.compare.is_some() { options.pairs } else { 1 };
    let capacity = capacity(options, mix, turns, engines(options).len());
    let mut streams = draw(options, mix);
    let cluster = open(options, capacity)?;
    let shared = Shared::new(options.workload, capacity, key_bytes, value_bytes);
    let mut sessions = ClusterClients::connect(&cluster, options.clients as usize, options.window as u16, key_bytes, value_bytes)?;
    let loaded = sessions.load(&shared, options.records, "")?;
    let served = take_turns(options, &cluster, &mut sessions, &shared, &mut streams)?;
    let swept = sessions.sweep(&shared, "")?;
    drop(sessions);
    let stream_requests = streams.iter().map(|stream| stream.len() as u64).min().unwrap_or(0);
    let report = report(options, mix, &cluster, &Outcome { loaded, served, swept, stream_requests });
    cluster.close()?;
    Ok(report)
}

/// The cluster, with regions for so many records.
pub(super) fn open(options: &Ycsb, capacity: u64) -> Result<Cluster> {
    let (key_bytes, value_bytes) = (usize::from(options.key_bytes), usize::from(options.value_bytes));
    let wanted = Wanted {
        cluster: options.cluster.clone(),
        executors: options.host as u16,
        engines: engines(options),
        table_bytes: mica::table_bytes(capacity),
        heap_bytes: mica::heap_bytes(capacity, key_bytes, value_bytes, options.clients * options.window + 64),
    };
    // Their pages are made now, and not while something is measured.
    let mib = (wanted.table_bytes + wanted.heap_bytes) >> 20;
    let size = if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) };
    let progress = spinner(format!("creating regions of {size}"));
    let cluster = Cluster::open(&wanted);
    progress.finish_and_clear();
    cluster
}

/// Lets every engine serve the same requests, one after another, as often as there are turns.
fn take_turns(
    options: &Ycsb,
    cluster: &Cluster,
    sessions: &mut ClusterClients,
    shared: &Shared,
    streams: &mut [Stream],
) -> Result<Vec<Served>> {
    let distribution = options.distribution();
    let engines = cluster.engines();
    let mut served: Vec<Served> = engines.iter().map(|engine| Served::new(engine.name())).collect();
    let turns = if options.compare.is_some() { options.pairs } else { 1 };
    let seconds = Duration::from_secs_f64(options.seconds / turns as f64);
    let whole = seconds * turns as u32 * served.len() as u32;
    let progress = bar(whole.as_millis() as u64, "running  {prefix:11} {wide_bar} {elapsed}");
    let mut done = Duration::ZERO;
    for _ in 0..turns {
        let positions: Vec<usize> = streams.iter().map(Stream::position).collect();
        for (engine, one) in engines.iter().zip(&mut served) {
            streams.iter_mut().zip(&positions).for_each(|(stream, position)| stream.go_to(*position));
            let mut turn = Turn { shared, streams: &mut *streams, distribution, seconds, progress: &progress, done: &mut done };
            progress.set_prefix(one.name);
            one.add(sessions.measure_engine(cluster, *engine, &mut turn)?);
        }
    }
    progress.finish_and_clear();
    Ok(served)
}

fn report(options: &Ycsb, mix: &Mix, cluster: &Cluster, outcome: &Outcome) -> Report {
    let Outcome { loaded, served, swept, .. } = outcome;
    let mut totals: Vec<Measurement> = served.iter().map(Served::total).collect();
    totals[0].add_client(loaded.clone().only_wrong());
    totals[0].add_client(swept.clone().only_wrong());
    let comparison = served.get(1).map(|native| Comparison::new(native.run(&totals[1]), &served[0].ratios_to(native)));
    Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        experiment: "ycsb",
        parameters: parameters(options, mix, cluster, outcome.stream_requests),
        machine: Machine::here(),
        load: load(loaded),
        run: served[0].run(&totals[0]),
        records_checked_at_end: swept.values_checked,
        comparison,
    }
}

pub(super) fn parameters(options: &Ycsb, mix: &Mix, cluster: &Cluster, stream_requests: u64) -> Parameters {
    let distribution = options.distribution();
    Parameters {
        workload: options.workload,
        mix: *mix,
        distribution,
        zipfian_theta: Parameters::theta_of(distribution),
        records: options.records,
        key_bytes: options.key_bytes.into(),
        value_bytes: options.value_bytes.into(),
        seed: options.seed,
        stream_requests,
        clients: options.clients,
        window_requests: options.window,
        transport: "shared_memory".to_owned(),
        places: cluster.places().to_vec(),
        cluster: options.cluster.clone(),
        regions: cluster.regions().clone(),
    }
}

fn engines(options: &Ycsb) -> Vec<Engine> {
    let mut engines = vec![options.engine];
    engines.extend(options.compare.map(|_| Engine::Native));
    engines
}

/// Records that each table must have room for, if so many `servers` have so many turns each.
pub(super) fn capacity(options: &Ycsb, mix: &Mix, turns: u64, servers: usize) -> u64 {
    if mix.insert_percent == 0 {
        return options.records;
    }
    let warm_up_seconds = WARM_UP.as_secs_f64() * turns as f64;
    let inserts = (options.seconds + warm_up_seconds) * servers as f64 * INSERTS_PER_SECOND;
    (options.records + inserts.ceil() as u64).min(RECORDS_MAX)
}

pub(super) fn draw(options: &Ycsb, mix: &Mix) -> Vec<Stream> {
    let clients = options.clients as usize;
    let progress = bar(options.clients, "drawing the requests");
    progress.tick();
    let draw = |client| Stream::draw(mix, options.distribution(), options.records, clients, client, options.seed);
    let streams = (0..clients).map(draw).collect();
    progress.finish_and_clear();
    streams
}
