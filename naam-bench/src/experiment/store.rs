//! A mix of operations over MICA's table or Cell's tree: load, measure, compare, and check every record at the end.

use super::clients::{ClusterClients, Turn, WARM_UP, bar, spinner};
use super::served::{Served, load};
use super::tree;
use crate::application::Application;
use crate::args::{Engine, Plan};
use crate::cell;
use crate::cluster::{Cluster, Wanted};
use crate::load::Shared;
use crate::measurement::Measurement;
use crate::mica;
use crate::report::{Comparison, FORMAT, Machine, Parameters, Report, rounded};
use crate::workload::mix::Workload;
use crate::workload::stream::{RECORDS_MAX, Stream};
use crate::workload::values::Stamp;
use anyhow::{Error, Result};
use runtime::udma::dma::LATENCY_NS_DEFAULT;
use std::time::{Duration, Instant};

/// Records for which there is room, for each second in which records are inserted. When they are used up, the run ends early.
const INSERTS_PER_SECOND: f64 = 500_000.0;

/// All that was measured.
struct Outcome {
    loaded: Measurement,
    served: Vec<Served>,
    swept: Measurement,
    /// Requests of the shortest stream.
    stream_requests: u64,
    /// How long it took to draw all streams.
    draw_seconds: f64,
}

/// Runs the experiment.
pub fn run(plan: &Plan) -> Result<Report> {
    let common = &plan.common;
    let turns = if common.compare.is_some() { common.pairs } else { 1 };
    let capacity = capacity(plan, turns, engines(plan).len());
    let (mut streams, draw_seconds) = draw(plan);
    let cluster = open(plan, capacity)?;
    let built = plan.shape.map(|shape| tree::load(plan, shape, capacity, &cluster)).transpose()?;
    let mut sessions = connect(plan, &cluster)?;
    let (shared, loaded) = match built {
        Some(built) => built,
        None => {
            let shared = table(plan, capacity);
            let loaded = sessions.load(&shared, common.records, "")?;
            (shared, loaded)
        }
    };
    cluster.steer()?;
    let served = take_turns(plan, &cluster, &mut sessions, &shared, &mut streams)?;
    cluster.steer_home()?;
    let swept = sessions.sweep(&shared, "")?;
    drop(sessions);
    let stream_requests = streams.iter().map(|stream| stream.len() as u64).min().unwrap_or(0);
    let report = report(plan, &cluster, &Outcome { loaded, served, swept, stream_requests, draw_seconds })?;
    cluster.close()?;
    Ok(report)
}

/// What clients of a table with room for so many records share.
pub(super) fn table(plan: &Plan, capacity: u64) -> Shared {
    let stamp = plan.workload.map_or(Stamp::Versioned, Workload::stamp);
    Shared::new(stamp, capacity, plan.key_bytes, usize::from(plan.common.value_bytes), None)
}

/// The clients, with sessions of the cluster.
pub(super) fn connect(plan: &Plan, cluster: &Cluster) -> Result<ClusterClients> {
    ClusterClients::connect(cluster, plan.common.clients as usize, plan.common.window as u16, bodies_bytes(plan))
}

/// The cluster, with regions for so many records.
pub(super) fn open(plan: &Plan, capacity: u64) -> Result<Cluster> {
    let wanted = wanted(plan, capacity);
    // Their pages are made now, and not while something is measured.
    let mib = wanted.regions.iter().map(|(_, length_bytes)| length_bytes).sum::<u64>() >> 20;
    let size = if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) };
    let progress = spinner(format!("creating regions of {size}"));
    let cluster = Cluster::open(&wanted);
    progress.finish_and_clear();
    cluster
}

/// The cluster for it, with room for so many records.
fn wanted(plan: &Plan, capacity: u64) -> Wanted {
    let common = &plan.common;
    let (key_bytes, value_bytes) = (plan.key_bytes, usize::from(common.value_bytes));
    let spare = common.clients * common.window + 64;
    let (regions, constants) = match plan.shape {
        None => {
            let heap_bytes = mica::heap_bytes(capacity, key_bytes, value_bytes, spare);
            (vec![(mica::TABLE.0, mica::table_bytes(capacity)), (mica::HEAP.0, heap_bytes)], Vec::new())
        }
        Some(shape) => {
            let constants = [("node_bytes", shape.node_bytes), ("value_bytes", shape.value_bytes)];
            (vec![(cell::TREE.0, shape.region_bytes(common.records, capacity - common.records))], constants.to_vec())
        }
    };
    Wanted {
        cluster: common.cluster.clone(),
        executors: common.host as u16,
        nic_executors: common.nic_executors(),
        dma_latency_ns: common.dma_latency_ns().unwrap_or(LATENCY_NS_DEFAULT),
        place: common.place,
        engines: engines(plan),
        application: plan.application(),
        regions,
        constants: constants.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
    }
}

/// Bytes of the longest request and of the longest reply.
fn bodies_bytes(plan: &Plan) -> [usize; 2] {
    match plan.shape {
        None => [mica::value_offset(plan.key_bytes) + usize::from(plan.common.value_bytes); 2],
        Some(shape) if plan.mix.scan_percent > 0 => [shape.record_bytes(), cell::PAGE_HEADER_BYTES + cell::PAGE_BYTES],
        Some(shape) => [shape.record_bytes(); 2],
    }
}

/// Lets every engine serve the same requests, one after another, as often as there are turns.
fn take_turns(
    plan: &Plan,
    cluster: &Cluster,
    sessions: &mut ClusterClients,
    shared: &Shared,
    streams: &mut [Stream],
) -> Result<Vec<Served>> {
    let (distribution, options) = (plan.distribution, &plan.common);
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

fn report(plan: &Plan, cluster: &Cluster, outcome: &Outcome) -> Result<Report> {
    let Outcome { loaded, served, swept, .. } = outcome;
    let mut totals: Vec<Measurement> = served.iter().map(Served::total).collect();
    totals[0].add_client(loaded.clone().only_wrong());
    totals[0].add_client(swept.clone().only_wrong());
    let compare = |native: &Served| Ok::<_, Error>(Comparison::new(native.run(&totals[1]), &served[0].ratios_to(native)?));
    let comparison = served.get(1).map(compare).transpose()?;
    Ok(Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        experiment: plan.experiment,
        parameters: parameters(plan, cluster, outcome.stream_requests),
        machine: Machine::here(),
        draw_seconds: outcome.draw_seconds,
        load: load(loaded),
        run: served[0].run(&totals[0]),
        records_checked_at_end: swept.values_checked,
        comparison,
    })
}

pub(super) fn parameters(plan: &Plan, cluster: &Cluster, stream_requests: u64) -> Parameters {
    let (distribution, options) = (plan.distribution, &plan.common);
    Parameters {
        workload: plan.workload,
        application: plan.application(),
        mix: plan.mix,
        scan_records_max: (plan.mix.scan_percent > 0).then_some(plan.scan_records_max),
        node_bytes: plan.shape.map(|shape| shape.node_bytes as u64),
        distribution,
        zipfian_theta: Parameters::theta_of(distribution),
        records: options.records,
        key_bytes: plan.key_bytes as u64,
        value_bytes: options.value_bytes.into(),
        seed: options.seed,
        stream_requests,
        clients: options.clients,
        window_requests: options.window,
        transport: "shared_memory".to_owned(),
        engine: cluster.engines().first().map_or(options.engine, |engine| *engine),
        place: options.cluster.is_none().then_some(options.place),
        dma_latency_ns: options.dma_latency_ns(),
        places: cluster.places().to_vec(),
        cluster: options.cluster.clone(),
        regions: cluster.regions().clone(),
    }
}

fn engines(plan: &Plan) -> Vec<Engine> {
    let mut engines = vec![plan.common.engine];
    engines.extend(plan.common.compare.map(|_| Engine::Native));
    engines
}

/// Records that each store must have room for, if so many `servers` have so many turns each.
pub(super) fn capacity(plan: &Plan, turns: u64, servers: usize) -> u64 {
    let options = &plan.common;
    if plan.mix.insert_percent == 0 {
        return options.records;
    }
    let per_second = match plan.application() {
        Application::Mica => INSERTS_PER_SECOND,
        // An insert takes longer than a page of a scan.
        Application::Cell => INSERTS_PER_SECOND / 4.0 * (0.2 + f64::from(plan.mix.insert_percent) / 20.0).min(4.0),
    };
    let warm_up_seconds = WARM_UP.as_secs_f64() * turns as f64;
    let inserts = (options.seconds + warm_up_seconds) * servers as f64 * per_second;
    (options.records + inserts.ceil() as u64).min(RECORDS_MAX)
}

/// The stream of each client, and how long it took to draw them, in seconds.
pub(super) fn draw(plan: &Plan) -> (Vec<Stream>, f64) {
    let options = &plan.common;
    let clients = options.clients as usize;
    let each = Stream::requests(options.records, clients);
    let progress = bar(each * options.clients, "drawing  {wide_bar} {human_pos} of {human_len} requests");
    progress.tick();
    let started = Instant::now();
    let draw = |client| {
        let drawn = |drawn| progress.set_position(client as u64 * each + drawn);
        Stream::draw(&plan.mix, plan.distribution, options.records, (client, clients), options.seed, drawn)
    };
    let streams = (0..clients).map(draw).collect();
    progress.finish_and_clear();
    (streams, rounded(started.elapsed().as_secs_f64(), 6))
}
