//! The same YCSB mix served by NAAM and by a private Redis server, in turns: what active messages gain over a key-value server.

use super::clients::{Clients, ClusterClients, Turn, allowed_processors, bar, processors, spinner};
use super::served::{Served, load};
use super::ycsb::{capacity, draw, open, parameters};
use crate::args::Redis as Options;
use crate::cluster::Cluster;
use crate::load::Shared;
use crate::measurement::Measurement;
use crate::redis::connection::RedisConnection;
use crate::redis::server::{self, Server};
use crate::report::baseline::{BaselineReport, Processors, Redis};
use crate::report::{FORMAT, Machine};
use crate::workload::mix::Mix;
use crate::workload::stream::Stream;
use anyhow::Result;
use runtime::control::Connection as Control;
use std::path::Path;
use std::time::Duration;

/// How long a client of Redis that has a processor of its own looks for replies before it sleeps: as long as one of NAAM.
const SPIN: Duration = Duration::from_micros(crate::cluster::SPIN_US as u64);

/// A server with its clients and what they know of its records.
struct Side<C> {
    clients: Clients<C>,
    shared: Shared,
    served: Served,
    loaded: Measurement,
}

impl<C: crate::load::Connection + Send> Side<C> {
    fn load(mut clients: Clients<C>, shared: Shared, name: &'static str, records: u64, label: &str) -> Result<Side<C>> {
        let loaded = clients.load(&shared, records, label)?;
        Ok(Side { clients, shared, served: Served::new(name), loaded })
    }

    /// All its turns, with what was found wrong while its records were loaded and in the end; and how many there were in the end.
    fn finish(&mut self, label: &str) -> Result<(Measurement, u64)> {
        let swept = self.clients.sweep(&self.shared, label)?;
        let records = swept.values_checked;
        let mut total = self.served.total();
        total.add_client(self.loaded.clone().only_wrong());
        total.add_client(swept.only_wrong());
        Ok((total, records))
    }
}

type Naam = Side<crate::connection::SessionConnection<Control>>;

/// Redis's side, and its server.
struct Yardstick {
    side: Side<RedisConnection>,
    server: Server,
    processor: Option<usize>,
}

impl Yardstick {
    /// Starts the server and loads it.
    fn start(options: &Options, program: &Path, capacity: u64) -> Result<Yardstick> {
        let ycsb = &options.ycsb;
        let (key_bytes, value_bytes) = (usize::from(ycsb.key_bytes), usize::from(ycsb.value_bytes));
        // Where the executors are: last, so that the clients have the first ones.
        let processor = allowed_processors().pop();
        let progress = spinner("starting Redis".to_owned());
        let started = Server::start(program, processor, ycsb.clients as usize);
        progress.finish_and_clear();
        let (server, streams) = started?;
        let processors = processors(ycsb.clients as usize, 1);
        let spin = if processors.is_empty() { Duration::ZERO } else { SPIN };
        let connections = streams
            .into_iter()
            .map(|stream| RedisConnection::new(stream, ycsb.window as usize, key_bytes, value_bytes, spin))
            .collect::<std::io::Result<Vec<_>>>()?;
        let shared = Shared::new(ycsb.workload, capacity, key_bytes, value_bytes).overwriting();
        let clients = Clients::new(connections, processors, ycsb.window as u16);
        let side = Side::load(clients, shared, "redis", ycsb.records, "Redis").map_err(|error| server.explain(error))?;
        Ok(Yardstick { side, server, processor })
    }
}

/// Runs the experiment. `mix` is that of the workload.
///
/// Call it from a thread that lives as long as the program: the server ends with it.
pub fn run(options: &Options, mix: &Mix) -> Result<BaselineReport> {
    let program = server::find(options.server.as_deref())?;
    let ycsb = &options.ycsb;
    let (key_bytes, value_bytes) = (usize::from(ycsb.key_bytes), usize::from(ycsb.value_bytes));
    let capacity = capacity(ycsb, mix, options.turns, 1);
    let mut streams = draw(ycsb, mix);
    let mut yardstick = Yardstick::start(options, &program, capacity)?;
    let cluster = open(ycsb, capacity)?;
    let clients = ClusterClients::connect(&cluster, ycsb.clients as usize, ycsb.window as u16, key_bytes, value_bytes)?;
    let shared = Shared::new(ycsb.workload, capacity, key_bytes, value_bytes);
    let mut naam = Side::load(clients, shared, ycsb.engine.name(), ycsb.records, "NAAM")?;
    take_turns(options, &cluster, &mut naam, &mut yardstick, &mut streams)?;
    let report = report(options, mix, &program, &cluster, &mut naam, &mut yardstick, &streams)?;
    drop(naam);
    drop(yardstick);
    cluster.close()?;
    Ok(report)
}

/// Lets both serve the same requests, one after the other, as often as there are turns.
fn take_turns(
    options: &Options,
    cluster: &Cluster,
    naam: &mut Naam,
    yardstick: &mut Yardstick,
    streams: &mut [Stream],
) -> Result<()> {
    let Options { ycsb, turns, .. } = options;
    let distribution = ycsb.distribution();
    let seconds = Duration::from_secs_f64(ycsb.seconds / *turns as f64);
    let progress = bar((seconds * *turns as u32 * 2).as_millis() as u64, "running  {prefix:5} {wide_bar} {elapsed}");
    let mut done = Duration::ZERO;
    for _ in 0..*turns {
        let positions: Vec<usize> = streams.iter().map(Stream::position).collect();
        progress.set_prefix("NAAM");
        let Side { clients, shared, served, .. } = naam;
        let mut turn = Turn { shared, streams: &mut *streams, distribution, seconds, progress: &progress, done: &mut done };
        served.add(clients.measure_engine(cluster, ycsb.engine, &mut turn)?);
        progress.set_prefix("Redis");
        streams.iter_mut().zip(&positions).for_each(|(stream, position)| stream.go_to(*position));
        let Yardstick { side: Side { clients, shared, served, .. }, server, .. } = yardstick;
        let mut turn = Turn { shared, streams: &mut *streams, distribution, seconds, progress: &progress, done: &mut done };
        let measured = clients.measure(&mut turn, || Some(vec![server.busy_ns()?]));
        served.add(measured.map_err(|error| server.explain(error))?);
    }
    progress.finish_and_clear();
    Ok(())
}

fn report(
    options: &Options,
    mix: &Mix,
    program: &Path,
    cluster: &Cluster,
    naam: &mut Naam,
    yardstick: &mut Yardstick,
    streams: &[Stream],
) -> Result<BaselineReport> {
    let Yardstick { side, server, processor } = yardstick;
    let (naam_total, naam_records) = naam.finish("NAAM")?;
    let (redis_total, redis_records) = side.finish("Redis").map_err(|error| server.explain(error))?;
    let mut redis_run = side.served.run(&redis_total);
    (redis_run.udma_operations_per_request, redis_run.suspensions_per_request) = (None, None);
    let stream_requests = streams.iter().map(|stream| stream.len() as u64).min().unwrap_or(0);
    let executors = allowed_processors().into_iter().rev().take(cluster.executors() as usize).collect::<Vec<_>>();
    let processors = Processors {
        clients: naam.clients.processors().to_vec(),
        // The cluster pins them only if there is one for each.
        executors: if executors.len() as u64 == cluster.executors() { executors } else { Vec::new() },
        redis_clients: side.clients.processors().to_vec(),
        redis: processor.iter().copied().collect(),
    };
    let report = BaselineReport {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        experiment: "baseline-redis",
        parameters: parameters(&options.ycsb, mix, cluster, stream_requests),
        machine: Machine::here(),
        processors,
        load: load(&naam.loaded),
        run: naam.served.run(&naam_total),
        records_checked_at_end: naam_records,
        redis: Redis {
            server: server.name.clone(),
            program: program.display().to_string(),
            transport: "unix_socket",
            load: load(&side.loaded),
            run: redis_run,
            records_checked_at_end: redis_records,
        },
        ratio_to_redis: 0.0,
        ratio_to_redis_min: 0.0,
        ratio_to_redis_max: 0.0,
        ratio_to_redis_turns: Vec::new(),
    };
    Ok(report.with_ratios(&naam.served.ratios_to(&side.served)))
}
