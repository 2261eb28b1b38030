//! YCSB's mixes over MICA's hash table: load, measure, compare, and check every record at the end.

use super::clients::{Clients, Turn, WARM_UP, bar, spinner};
use crate::args::{Engine, Ycsb};
use crate::cluster::{Cluster, Wanted};
use crate::load::Shared;
use crate::measurement::{Measurement, Ratios};
use crate::mica;
use crate::report::{Comparison, FORMAT, Load, Machine, Parameters, Report, Run, rounded};
use crate::workload::mix::Mix;
use crate::workload::stream::{RECORDS_MAX, Stream};
use anyhow::Result;
use std::time::Duration;

/// Records for which there is room, for each second in which records are inserted. When they are used up, the run ends early.
const INSERTS_PER_SECOND: f64 = 500_000.0;

/// What one engine did in all its turns.
struct Served {
    engine: Engine,
    turns: Vec<Measurement>,
    busy_percent: Vec<Vec<f64>>,
}

impl Served {
    fn total(&self) -> Measurement {
        self.turns.iter().cloned().fold(Measurement::default(), |mut total, turn| {
            total.add_turn(turn);
            total
        })
    }

    /// How busy each executor was, on average over the turns.
    fn busy_percent(&self) -> Vec<f64> {
        let executors = self.busy_percent.iter().map(Vec::len).min().unwrap_or(0);
        let mean =
            |executor: usize| self.busy_percent.iter().map(|turn| turn[executor]).sum::<f64>() / self.busy_percent.len() as f64;
        (0..executors).map(mean).collect()
    }

    fn run(&self, total: &Measurement) -> Run {
        Run::new(self.engine, total, self.busy_percent(), mica::result_name)
    }
}

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
    let capacity = capacity(options, mix);
    let mut streams = draw(options, mix);
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
    let cluster = cluster?;
    let shared = Shared::new(options.workload, capacity, key_bytes, value_bytes);
    let mut sessions = Clients::connect(&cluster, options.clients as usize, options.window as u16, key_bytes, value_bytes)?;
    let loaded = sessions.load(&shared, options.records)?;
    let served = take_turns(options, &cluster, &mut sessions, &shared, &mut streams)?;
    let swept = sessions.sweep(&shared)?;
    drop(sessions);
    let stream_requests = streams.iter().map(|stream| stream.len() as u64).min().unwrap_or(0);
    let report = report(options, mix, &cluster, &Outcome { loaded, served, swept, stream_requests });
    cluster.close()?;
    Ok(report)
}

/// Lets every engine serve the same requests, one after another, as often as there are turns.
fn take_turns(
    options: &Ycsb,
    cluster: &Cluster,
    sessions: &mut Clients,
    shared: &Shared,
    streams: &mut [Stream],
) -> Result<Vec<Served>> {
    let distribution = options.distribution();
    let mut served: Vec<Served> =
        cluster.engines().into_iter().map(|engine| Served { engine, turns: Vec::new(), busy_percent: Vec::new() }).collect();
    let turns = if options.compare.is_some() { options.pairs } else { 1 };
    let seconds = Duration::from_secs_f64(options.seconds / turns as f64);
    let whole = seconds * turns as u32 * served.len() as u32;
    let progress = bar(whole.as_millis() as u64, "running  {prefix:11} {wide_bar} {elapsed}");
    let mut done = Duration::ZERO;
    for _ in 0..turns {
        let positions: Vec<usize> = streams.iter().map(Stream::position).collect();
        for one in &mut served {
            streams.iter_mut().zip(&positions).for_each(|(stream, position)| stream.go_to(*position));
            let mut turn = Turn { shared, streams: &mut *streams, distribution, seconds, progress: &progress, done: &mut done };
            progress.set_prefix(one.engine.name());
            let (measured, busy_percent) = sessions.measure(cluster, one.engine, &mut turn)?;
            one.turns.push(measured);
            one.busy_percent.push(busy_percent);
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
    let comparison = served.get(1).map(|native| Comparison::new(native.run(&totals[1]), &ratios(&served[0], native)));
    Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        experiment: "ycsb",
        parameters: parameters(options, mix, cluster, outcome.stream_requests),
        machine: Machine::here(),
        load: Load {
            records: loaded.requests(),
            seconds: rounded(loaded.elapsed.as_secs_f64(), 6),
            throughput_ops_per_second: rounded(loaded.throughput_ops_per_second(), 1),
        },
        run: served[0].run(&totals[0]),
        records_checked_at_end: swept.values_checked,
        comparison,
    }
}

fn parameters(options: &Ycsb, mix: &Mix, cluster: &Cluster, stream_requests: u64) -> Parameters {
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

/// Records that the table must have room for.
fn capacity(options: &Ycsb, mix: &Mix) -> u64 {
    if mix.insert_percent == 0 {
        return options.records;
    }
    let turns = engines(options).len() as f64;
    let warm_up_seconds = WARM_UP.as_secs_f64() * turns * if options.compare.is_some() { options.pairs as f64 } else { 1.0 };
    let inserts = (options.seconds * turns + warm_up_seconds) * INSERTS_PER_SECOND;
    (options.records + inserts.ceil() as u64).min(RECORDS_MAX)
}

fn draw(options: &Ycsb, mix: &Mix) -> Vec<Stream> {
    let clients = options.clients as usize;
    let progress = bar(options.clients, "drawing the requests");
    progress.tick();
    let draw = |client| Stream::draw(mix, options.distribution(), options.records, clients, client, options.seed);
    let streams = (0..clients).map(draw).collect();
    progress.finish_and_clear();
    streams
}

fn ratios(engine: &Served, native: &Served) -> Ratios {
    let ratio = |(engine, native): (&Measurement, &Measurement)| {
        let native = native.throughput_ops_per_second();
        if native > 0.0 { engine.throughput_ops_per_second() / native } else { 0.0 }
    };
    Ratios { turns: engine.turns.iter().zip(&native.turns).map(ratio).collect() }
}
