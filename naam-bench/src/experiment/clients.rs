//! The clients of an experiment: a thread each, through the phases of a run, with progress on a terminal.

use crate::cluster::Cluster;
use crate::connection::SessionConnection;
use crate::load::{Client, Connection, Phase, Shared, Source};
use crate::measurement::{BusyNs, BusyPercent, Measurement, busy_percent};
use crate::workload::distribution::Distribution;
use crate::workload::stream::Stream;
use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::clock::MonotonicClock;
use runtime::control;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time before each measurement in which requests run but do not count.
pub const WARM_UP: Duration = Duration::from_millis(200);
/// How often progress is shown, and the end of a run is looked for.
const TICK: Duration = Duration::from_millis(20);
/// How often a spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(100);

/// All clients, each with its connection.
pub struct Clients<C> {
    connections: Vec<C>,
    /// The processor of each client, where there are enough.
    processors: Vec<usize>,
    window: usize,
    clock: MonotonicClock,
}

/// Clients with sessions of a cluster.
pub type ClusterClients = Clients<SessionConnection<control::Connection>>;

impl ClusterClients {
    /// Connects them to a cluster.
    pub fn connect(cluster: &Cluster, clients: usize, window: u16, bodies_bytes: [usize; 2]) -> Result<ClusterClients> {
        let processors = processors(clients, cluster.executors() as usize);
        let spin = clients + cluster.working() as usize <= allowed_processors().len();
        let connect = |_| cluster.connect(window, bodies_bytes, spin);
        let connections = (0..clients).map(connect).collect::<Result<_>>()?;
        Ok(Clients::new(connections, processors, window))
    }

    /// Runs the streams against one engine for so long, after a warm-up; returns how busy the executors were, too.
    pub fn measure_engine(
        &mut self,
        cluster: &Cluster,
        engine: crate::args::Engine,
        turn: &mut Turn<'_>,
    ) -> Result<(Measurement, BusyPercent)> {
        let targets = cluster.targets(engine)?;
        self.connections.iter_mut().for_each(|connection| connection.turn_to(targets));
        self.measure(turn, || cluster.busy_ns().ok())
    }
}

impl<C: Connection + Send> Clients<C> {
    /// Clients with these connections, each on its processor if there are any.
    pub fn new(connections: Vec<C>, processors: Vec<usize>, window: u16) -> Clients<C> {
        Clients { connections, processors, window: usize::from(window), clock: MonotonicClock::new() }
    }

    /// The processor of each client; none if they are not pinned.
    pub fn processors(&self) -> &[usize] {
        &self.processors
    }

    /// Inserts records until there are so many. `server` says what is loaded, if there are several.
    pub fn load(&mut self, shared: &Shared, records: u64, server: &str) -> Result<Measurement> {
        let progress = bar(records, "loading  {prefix}{wide_bar} {human_pos} of {human_len} records").with_prefix(prefix(server));
        let loaded = self.run(
            shared,
            |_| Source::Load(records),
            |_| progress.set_position(shared.answered.load(Ordering::Relaxed).min(records)),
        );
        progress.finish_and_clear();
        loaded
    }

    /// Reads every record once.
    pub fn sweep(&mut self, shared: &Shared, server: &str) -> Result<Measurement> {
        let (records, step) = (shared.versions.acknowledged(), self.connections.len() as u64);
        let before = shared.answered.load(Ordering::Relaxed);
        let progress = bar(records, "checking {prefix}{wide_bar} {human_pos} of {human_len} records").with_prefix(prefix(server));
        let swept = self.run(
            shared,
            |client| Source::Sweep { next: client as u64, step },
            |_| progress.set_position((shared.answered.load(Ordering::Relaxed) - before).min(records)),
        );
        progress.finish_and_clear();
        swept
    }

    /// Runs the streams for so long, after a warm-up; returns how busy the threads that serve were, too: `busy_ns` tells how long each has
    /// worked so far, if anybody knows.
    pub fn measure(&mut self, turn: &mut Turn<'_>, busy_ns: impl Fn() -> Option<BusyNs>) -> Result<(Measurement, BusyPercent)> {
        let Turn { shared, streams, distribution, seconds, progress, done } = turn;
        let (shared, distribution, seconds) = (*shared, *distribution, *seconds);
        let mut streams: Vec<Option<&mut Stream>> = streams.iter_mut().map(Some).collect();
        let mut timing = Timing::new(seconds, |phase| shared.enter(phase), busy_ns);
        let measured = self.run(
            shared,
            |client| Source::Stream(streams[client].take().expect("each client takes its stream once"), distribution),
            |started| {
                timing.tick(started);
                progress.set_position((**done + timing.elapsed()).as_millis() as u64);
            },
        );
        shared.enter(Phase::Stop);
        **done += seconds;
        Ok((measured?, timing.busy_percent()))
    }

    /// Gives every client its source and waits for all, while `tick` is called now and then with the time since the start.
    fn run<'s>(
        &mut self,
        shared: &Shared,
        mut source: impl FnMut(usize) -> Source<'s>,
        tick: impl FnMut(Duration),
    ) -> Result<Measurement> {
        let Clients { connections, processors, window, clock } = self;
        let (clock, window) = (&*clock, *window);
        let clients = connections.iter_mut().enumerate().map(|(index, connection)| {
            let source = source(index);
            move || Client::new(connection, shared, clock, window).run(source)
        });
        let measured = on_threads(clients.collect(), processors, tick)?;
        Ok(measured.into_iter().fold(Measurement::default(), |mut total, measured| {
            total.add_client(measured);
            total
        }))
    }
}

/// Lets every client work on a thread of its own, on its processor if there is one, while `tick` is called now and then with the time since
/// the start; returns what each of them brings.
pub fn on_threads<R: Send, E: std::fmt::Display + Send>(
    clients: Vec<impl FnOnce() -> std::result::Result<R, E> + Send>,
    processors: &[usize],
    mut tick: impl FnMut(Duration),
) -> Result<Vec<R>> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let (mut threads, mut failed) = (Vec::new(), None);
        for (index, client) in clients.into_iter().enumerate() {
            let processor = processors.get(index).copied();
            let work = move || {
                pin(processor);
                client()
            };
            match std::thread::Builder::new().name(format!("client-{index}")).spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                // Those that are there are led to their end, or nobody could leave.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        while threads.iter().any(|thread| !thread.is_finished()) {
            tick(started.elapsed());
            std::thread::sleep(TICK);
        }
        let join = |thread: std::thread::ScopedJoinHandle<'_, std::result::Result<R, E>>| {
            let brought = thread.join().map_err(|_| anyhow!("a client panicked"))?;
            brought.map_err(|error| anyhow!("a client lost its session: {error}. The server has ended, or closed it"))
        };
        let brought = threads.into_iter().map(join).collect();
        failed.map_or(brought, |error| Err(anyhow!(error).context("starting a client")))
    })
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

/// Leads clients through warm-up and measurement, and notes how busy the threads that serve were.
pub struct Timing<P, B> {
    seconds: Duration,
    enter: P,
    busy_ns: B,
    /// When the measurement began, and how long each serving thread had worked then, if anybody knows.
    before: Option<(Instant, Option<BusyNs>)>,
    /// The same when it ended.
    after: Option<(Instant, Option<BusyNs>)>,
}

impl<P: Fn(Phase), B: Fn() -> Option<BusyNs>> Timing<P, B> {
    /// Lets clients `enter` the warm-up; they measure for so many seconds then. `busy_ns` tells how long each serving thread has worked so
    /// far.
    pub fn new(seconds: Duration, enter: P, busy_ns: B) -> Timing<P, B> {
        enter(Phase::WarmUp);
        Timing { seconds, enter, busy_ns, before: None, after: None }
    }

    /// Looks whether it is time to go on.
    pub fn tick(&mut self, started: Duration) {
        if self.before.is_none() && started >= WARM_UP {
            self.before = Some((Instant::now(), (self.busy_ns)()));
            (self.enter)(Phase::Measure);
        } else if self.after.is_none() && self.elapsed() >= self.seconds {
            (self.enter)(Phase::Stop);
            self.after = Some((Instant::now(), (self.busy_ns)()));
        }
    }

    /// Measured time so far.
    pub fn elapsed(&self) -> Duration {
        self.before.as_ref().map_or(Duration::ZERO, |(at, _)| at.elapsed()).min(self.seconds)
    }

    /// The share of the measured time in which each serving thread worked; nothing if that is not known.
    pub fn busy_percent(&self) -> BusyPercent {
        // Clients that have nothing left to send end by themselves.
        let now = || Some((Instant::now(), (self.busy_ns)()));
        match (&self.before, &self.after.clone().or_else(now)) {
            (Some((from, Some(before))), Some((to, Some(after)))) => busy_percent(before, after, *to - *from),
            _ => BusyPercent::new(),
        }
    }
}

/// The processors that this process may use.
pub fn allowed_processors() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect()
}

/// Processors for the clients, from the first on: executors take the last ones. None if there are too few for all.
pub fn processors(clients: usize, executors: usize) -> Vec<usize> {
    let allowed = allowed_processors();
    if clients + executors <= allowed.len() { allowed.into_iter().take(clients).collect() } else { Vec::new() }
}

fn pin(processor: Option<usize>) {
    let Some(processor) = processor else { return };
    let mut set = CpuSet::new();
    set.set(processor);
    // A run that may not be pinned is still a run.
    let _ = sched_setaffinity(None, &set);
}

/// A server's name before a bar.
fn prefix(server: &str) -> String {
    if server.is_empty() { String::new() } else { format!("{server} ") }
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
