//! The clients of an experiment: a thread each, through the phases of a run, with progress on a terminal.

use crate::cluster::Cluster;
use crate::connection::SessionConnection;
use crate::load::{Client, Phase, Shared, Source};
use crate::measurement::Measurement;
use crate::workload::distribution::Distribution;
use crate::workload::stream::Stream;
use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::clock::MonotonicClock;
use runtime::control::Connection;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time before each measurement in which requests run but do not count.
pub const WARM_UP: Duration = Duration::from_millis(200);
/// How often progress is shown, and the end of a run is looked for.
const TICK: Duration = Duration::from_millis(20);
/// How often a spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(100);

/// All clients, each with its session.
pub struct Clients {
    connections: Vec<SessionConnection<Connection>>,
    /// The processor of each client, where there are enough.
    processors: Vec<usize>,
    window: usize,
    clock: MonotonicClock,
}

impl Clients {
    /// Connects them to a cluster.
    pub fn connect(cluster: &Cluster, clients: usize, window: u16, key_bytes: usize, value_bytes: usize) -> Result<Clients> {
        let processors = processors(clients, cluster.executors() as usize);
        let spin = clients + cluster.working() as usize <= allowed().len();
        let connect = |_| cluster.connect(window, key_bytes, value_bytes, spin);
        let connections = (0..clients).map(connect).collect::<Result<_>>()?;
        Ok(Clients { connections, processors, window: usize::from(window), clock: MonotonicClock::new() })
    }

    /// Inserts records until there are so many.
    pub fn load(&mut self, shared: &Shared, records: u64) -> Result<Measurement> {
        let progress = bar(records, "loading  {wide_bar} {human_pos} of {human_len} records");
        let loaded = self.run(
            shared,
            |_| Source::Load(records),
            |_| progress.set_position(shared.answered.load(Ordering::Relaxed).min(records)),
        );
        progress.finish_and_clear();
        loaded
    }

    /// Reads every record once.
    pub fn sweep(&mut self, shared: &Shared) -> Result<Measurement> {
        let (records, step) = (shared.versions.acknowledged(), self.connections.len() as u64);
        let before = shared.answered.load(Ordering::Relaxed);
        let progress = bar(records, "checking {wide_bar} {human_pos} of {human_len} records");
        let swept = self.run(
            shared,
            |client| Source::Sweep { next: client as u64, step },
            |_| progress.set_position((shared.answered.load(Ordering::Relaxed) - before).min(records)),
        );
        progress.finish_and_clear();
        swept
    }

    /// Runs the streams against one engine for so long, after a warm-up; returns how busy the executors were, too, in percent each.
    pub fn measure(
        &mut self,
        cluster: &Cluster,
        engine: crate::args::Engine,
        turn: &mut Turn<'_>,
    ) -> Result<(Measurement, Vec<f64>)> {
        let targets = cluster.targets(engine)?;
        self.connections.iter_mut().for_each(|connection| connection.turn_to(targets));
        let Turn { shared, streams, distribution, seconds, progress, done } = turn;
        let (shared, distribution, seconds) = (*shared, *distribution, *seconds);
        let mut streams: Vec<Option<&mut Stream>> = streams.iter_mut().map(Some).collect();
        let mut busy = Busy::default();
        shared.enter(Phase::WarmUp);
        let measured = self.run(
            shared,
            |client| Source::Stream(streams[client].take().expect("each client takes its stream once"), distribution),
            |started| {
                if busy.before.is_none() && started >= WARM_UP {
                    busy.before = cluster.busy_ns().ok().map(|busy_ns| (Instant::now(), busy_ns));
                    shared.enter(Phase::Measure);
                } else if busy.after.is_none() && busy.elapsed() >= seconds {
                    shared.enter(Phase::Stop);
                    busy.after = cluster.busy_ns().ok().map(|busy_ns| (Instant::now(), busy_ns));
                }
                progress.set_position((**done + busy.elapsed().min(seconds)).as_millis() as u64);
            },
        );
        shared.enter(Phase::Stop);
        **done += seconds;
        Ok((measured?, busy.percent()))
    }

    /// Gives every client its source and waits for all, while `tick` is called now and then with the time since the start.
    fn run<'s>(
        &mut self,
        shared: &Shared,
        mut source: impl FnMut(usize) -> Source<'s>,
        mut tick: impl FnMut(Duration),
    ) -> Result<Measurement> {
        let Clients { connections, processors, window, clock } = self;
        let (clock, window) = (&*clock, *window);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (index, connection) in connections.iter_mut().enumerate() {
                let (source, processor) = (source(index), processors.get(index).copied());
                let work = move || {
                    pin(processor);
                    Client::new(connection, shared, clock, window).run(source)
                };
                threads.push(std::thread::Builder::new().name(format!("client-{index}")).spawn_scoped(scope, work)?);
            }
            while threads.iter().any(|thread| !thread.is_finished()) {
                tick(started.elapsed());
                std::thread::sleep(TICK);
            }
            let mut total = Measurement::default();
            for thread in threads {
                let measured = thread.join().map_err(|_| anyhow!("a client panicked"))?;
                total.add_client(measured.map_err(|error| anyhow!("a client lost its session: {error}"))?);
            }
            Ok(total)
        })
    }
}

/// What a measurement runs with.
pub struct Turn<'a> {
    /// What the clients share.
    pub shared: &'a Shared,
    /// A stream for each client.
    pub streams: &'a mut [Stream],
    /// How the streams name records.
    pub distribution: Distribution,
    /// Measured time.
    pub seconds: Duration,
    /// Where progress is shown, in milliseconds of all measurements.
    pub progress: &'a ProgressBar,
    /// What was measured before.
    pub done: &'a mut Duration,
}

/// How long executors had worked, before and after.
#[derive(Default)]
struct Busy {
    before: Option<(Instant, Vec<u64>)>,
    after: Option<(Instant, Vec<u64>)>,
}

impl Busy {
    fn elapsed(&self) -> Duration {
        self.before.as_ref().map_or(Duration::ZERO, |(at, _)| at.elapsed())
    }

    /// The share of the time between in which each executor worked; nothing if the cluster did not tell.
    fn percent(&self) -> Vec<f64> {
        let (Some((from, before)), Some((to, after))) = (&self.before, &self.after) else { return Vec::new() };
        let elapsed_ns = (*to - *from).as_nanos() as f64;
        before
            .iter()
            .zip(after)
            .map(|(before, after)| (after.saturating_sub(*before) as f64 * 100.0 / elapsed_ns).min(100.0))
            .collect()
    }
}

/// Processors for the clients, from the first on: executors take the last ones. None if there are too few for all.
fn processors(clients: usize, executors: usize) -> Vec<usize> {
    let allowed = allowed();
    if clients + executors <= allowed.len() { allowed.into_iter().take(clients).collect() } else { Vec::new() }
}

/// Processors that this process may use.
fn allowed() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect()
}

fn pin(processor: Option<usize>) {
    let Some(processor) = processor else { return };
    let mut set = CpuSet::new();
    set.set(processor);
    // A run that may not be pinned is still a run.
    let _ = sched_setaffinity(None, &set);
}

/// Says on standard error, if that is a terminal, that something is going on of which nobody knows how long it takes.
pub fn spinner(what: String) -> ProgressBar {
    let progress = ProgressBar::new_spinner().with_message(what);
    progress.enable_steady_tick(SPINNER_TICK);
    progress
}

/// A progress bar on standard error, if that is a terminal.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let progress = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    progress
}
