//! The same YCSB mix served by NAAM and by a private Redis server, in turns: what active messages gain over a key-value server.

use super::clients::{Clients, Turn, allowed_processors, bar, processors, spinner};
use super::served::{Served, load};
use super::store::{capacity, connect, draw, open, parameters, table};
use crate::args::{Plan, Redis as Options};
use crate::cluster::Cluster;
use crate::load::Shared;
use crate::measurement::{Measurement, Worker};
use crate::redis::connection::RedisConnection;
use crate::redis::server::{self, Server};
use crate::report::baseline::{BaselineReport, Processors, Redis};
use crate::report::{FORMAT, Machine};
use crate::workload::stream::Stream;
use anyhow::Result;
use runtime::control::Connection as Control;
use runtime::waiting::Waiting;
use std::path::Path;
use std::time::Duration;

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
    fn start(plan: &Plan, program: &Path, capacity: u64) -> Result<Yardstick> {
        let common = &plan.common;
        let (key_bytes, value_bytes) = (plan.key_bytes, usize::from(common.value_bytes));
        // Where the executors are: last, so that the clients have the first ones.
        let processor = allowed_processors().pop();
        let progress = spinner("starting Redis".to_owned());
        let started = Server::start(program, processor, common.clients as usize);
        progress.finish_and_clear();
        let (server, streams) = started?;
        let processors = processors(common.clients as usize, 1);
        // As a client of NAAM waits.
        let waiting = Waiting::with_own_core(!processors.is_empty());
        let connections = streams
            .into_iter()
            .map(|stream| RedisConnection::new(stream, common.window as usize, key_bytes, value_bytes, waiting))
            .collect::<std::io::Result<Vec<_>>>()?;
        let shared = table(plan, capacity).overwriting();
        let clients = Clients::new(connections, processors, common.window as u16);
        let side = Side::load(clients, shared, "redis", common.records, "Redis").map_err(|error| server.explain(error))?;
        Ok(Yardstick { side, server, processor })
    }
}

/// Runs the experiment. `plan` is that of the workload.
///
/// Call it from a thread that lives as long as the program: the server ends with it.
pub fn run(options: &Options, plan: &Plan) -> Result<BaselineReport> {
    let program = server::find(options.server.as_deref())?;
    let common = &plan.common;
    let capacity = capacity(plan, options.turns, 1);
    let (mut streams, draw_seconds) = draw(plan);
    let mut yardstick = Yardstick::start(plan, &program, capacity)?;
    let cluster = open(plan, capacity)?;
    let clients = connect(plan, &cluster)?;
    let mut naam = Side::load(clients, table(plan, capacity), common.engine.name(), common.records, "NAAM")?;
    cluster.steer()?;
    take_turns(options.turns, plan, &cluster, &mut naam, &mut yardstick, &mut streams)?;
    cluster.steer_home()?;
    let mut report = report(plan, &program, &cluster, &mut naam, &mut yardstick, &streams)?;
    report.draw_seconds = draw_seconds;
    drop(naam);
    drop(yardstick);
    cluster.close()?;
    Ok(report)
}

/// Lets both serve the same requests, one after the other, as often as there are turns.
fn take_turns(
    turns: u64,
    plan: &Plan,
    cluster: &Cluster,
    naam: &mut Naam,
    yardstick: &mut Yardstick,
    streams: &mut [Stream],
) -> Result<()> {
    let distribution = plan.distribution;
    let seconds = Duration::from_secs_f64(plan.common.seconds / turns as f64);
    let progress = bar((seconds * turns as u32 * 2).as_millis() as u64, "running  {prefix:5} {wide_bar} {elapsed}");
    let mut done = Duration::ZERO;
    for _ in 0..turns {
        let positions: Vec<usize> = streams.iter().map(Stream::position).collect();
        progress.set_prefix("NAAM");
        let Side { clients, shared, served, .. } = naam;
        let mut turn = Turn { shared, streams: &mut *streams, distribution, seconds, progress: &progress, done: &mut done };
        served.add(clients.measure_engine(cluster, plan.common.engine, &mut turn)?);
        progress.set_prefix("Redis");
        streams.iter_mut().zip(&positions).for_each(|(stream, position)| stream.go_to(*position));
        let Yardstick { side: Side { clients, shared, served, .. }, server, .. } = yardstick;
        let mut turn = Turn { shared, streams: &mut *streams, distribution, seconds, progress: &progress, done: &mut done };
        let measured = clients.measure(&mut turn, || Some([(Worker::FOREIGN, server.busy_ns()?)].into()));
        served.add(measured.map_err(|error| server.explain(error))?);
    }
    progress.finish_and_clear();
    Ok(())
}

fn report(
    plan: &Plan,
    program: &Path,
    cluster: &Cluster,
    naam: &mut Naam,
    yardstick: &mut Yardstick,
    streams: &[Stream],
) -> Result<BaselineReport> {
    let Yardstick { side, server, processor } = yardstick;
    let ratios = naam.served.ratios_to(&side.served)?;
    let (naam_total, naam_records) = naam.finish("NAAM")?;
    let (redis_total, redis_records) = side.finish("Redis").map_err(|error| server.explain(error))?;
    let mut redis_run = side.served.run(&redis_total);
    (redis_run.udma_operations_per_request, redis_run.suspensions_per_request) = (None, None);
    let stream_requests = streams.iter().map(|stream| stream.len() as u64).min().unwrap_or(0);
    let allowed = allowed_processors();
    let executors = cluster.executors() as usize;
    let processors = Processors {
        clients: naam.clients.processors().to_vec(),
        // The cluster pins them only if one is left for others.
        executors: if executors < allowed.len() { allowed.into_iter().rev().take(executors).collect() } else { Vec::new() },
        redis_clients: side.clients.processors().to_vec(),
        redis: processor.iter().copied().collect(),
    };
    let report = BaselineReport {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        experiment: "baseline-redis",
        parameters: parameters(plan, cluster, stream_requests),
        machine: Machine::here(),
        processors,
        draw_seconds: 0.0,
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
    Ok(report.with_ratios(&ratios))
}
