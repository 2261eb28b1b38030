//! The places of a node: started, reaped when they die, and started again.
//!
//! A place's death is established before anything follows from it: its process is reaped. Then what its executors had claimed is marked
//! uncertain, its flows go to places that run, clients are told, and after a while the place is started again: under a new incarnation,
//! with executor numbers that nothing can still be held under. Before it serves anybody it is told whom to recover from.

use super::error::{Code, ControlError};
use super::process::{self, PlaceEnd, PlaceProcess};
use super::protocol::{self, Deployment, Order, Session, Start};
use super::records::DeploymentRecord;
use super::regions::RegionMemory;
use super::sessions::{Became, SessionNews, Told};
use super::{End, Plan, State, Supervisor, sealed_file};
use crate::memory::{Pages, SharedMemory};
use crate::message::Place;
use crate::metrics::Metrics;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Executors of a place at most.
pub const EXECUTORS_MAX: u16 = 64;
/// Deaths in a row after which a place is not started again.
const DEATHS_MAX: u32 = 6;
/// How long a place must have run for its death to be the first in a row.
const SETTLED: Duration = Duration::from_secs(10);
/// Pause before a place is started again after its first death in a row; doubled with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// Numbers of dead executors that may be held before no client gets one: most of all stay for places, and for clients of others.
const UNRECOVERED_MAX: usize = 4096;

/// What a place is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceConfiguration {
    /// Host or NIC.
    pub place: Place,
    /// Its executors, 1 to [`EXECUTORS_MAX`].
    pub executors: u16,
    /// CPU of each executor, or nothing to leave them to the kernel.
    pub cpus: Option<Vec<u32>>,
    /// Latency of a NIC's DMA engine, in nanoseconds.
    pub dma_latency_ns: u64,
}

/// A place that runs.
pub(super) struct RunningPlace {
    pub(super) place: Place,
    pub(super) process: Arc<PlaceProcess>,
    pub(super) incarnation: u32,
    first_executor: u16,
    pub(super) executors: u16,
    pub(super) metrics: Metrics,
    started: Instant,
}

/// A place of the node, whether or not it runs.
pub(super) struct PlaceState {
    pub(super) configuration: PlaceConfiguration,
    pub(super) running: Option<Arc<RunningPlace>>,
    /// Of its last start.
    pub(super) incarnation: u32,
    deaths_in_a_row: u32,
    pub(super) given_up: bool,
}

/// Executor numbers that something can be held under: by an executor that runs, or by one that died and is not recovered from.
#[derive(Debug, Default)]
pub(super) struct ExecutorNumbers {
    held: BTreeSet<u16>,
    last: u16,
    /// Of dead executors.
    unrecovered: BTreeSet<u16>,
}

impl ExecutorNumbers {
    /// Takes so many numbers in a row, if there are as many; returns the first. Those that were free for longest come first.
    pub(super) fn take(&mut self, count: u16) -> Option<u16> {
        // 0 is nobody.
        let firsts = u32::from(u16::MAX - count);
        let mut candidates = (0..firsts).map(|step| ((u32::from(self.last) + step) % firsts) as u16 + 1);
        let first = candidates.find(|first| self.held.range(*first..first + count).next().is_none())?;
        self.held.extend(first..first + count);
        self.last = first + count - 1;
        Some(first)
    }

    /// Takes one for a client that runs handlers itself.
    ///
    /// # Errors
    /// If too many are held for dead executors: places need some, too.
    pub(super) fn take_for_client(&mut self) -> Result<u16, ControlError> {
        let number = if self.unrecovered.len() < UNRECOVERED_MAX { self.take(1) } else { None };
        number.ok_or_else(|| {
            let count = self.unrecovered.len();
            ControlError::new(
                Code::Exhausted,
                format!("executor numbers are short: {count} are held for dead ones that nobody could recover from"),
            )
            .hint("the terminal where the cluster runs says why; undeploy what cannot be recovered, and let a place start anew")
        })
    }

    /// Numbers of dead executors that nobody has recovered from.
    pub(super) fn unrecovered(&self) -> Vec<u16> {
        self.unrecovered.iter().copied().collect()
    }

    /// Gives numbers back that nothing is held under any more.
    pub(super) fn give_back(&mut self, recovered: &BTreeSet<u16>) {
        self.held.retain(|number| !recovered.contains(number));
        self.unrecovered.retain(|number| !recovered.contains(number));
    }
}

impl PlaceState {
    pub(super) fn new(configuration: PlaceConfiguration) -> PlaceState {
        PlaceState { configuration, running: None, incarnation: 0, deaths_in_a_row: 0, given_up: false }
    }
}

impl RunningPlace {
    /// Numbers of its executors.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        self.first_executor..self.first_executor + self.executors
    }
}

impl State {
    /// The places that run.
    pub(super) fn running(&self) -> Vec<Arc<RunningPlace>> {
        self.places.iter().filter_map(|place| place.running.clone()).collect()
    }

    /// What a place that starts anew is told of the deployments that there are, and whether each is being drained: it only recovers those.
    fn deployments_anew(&self) -> Result<Vec<(Plan, bool)>, ControlError> {
        let records = self.records.list::<DeploymentRecord>("")?.into_iter();
        records.map(|record| (record.draining, record)).map(|(draining, record)| Ok((self.plan_anew(record)?, draining))).collect()
    }

    /// What a place is told of a deployment that there is.
    pub(super) fn plan_anew(&self, record: DeploymentRecord) -> Result<Plan, ControlError> {
        let (bindings, memories) = self.bind(&record.bindings)?;
        let file = self.bundles.get(&record.name).cloned();
        let file = file.ok_or_else(|| ControlError::new(Code::System, "a deployment without a bundle"))?;
        let DeploymentRecord { name, index, generation, limits, engine, .. } = record;
        // The bundle that runs has its constants set.
        let deployment = Deployment { name, index, generation, constants: Vec::new(), limits, engine, bindings };
        Ok(Plan { file, deployment, memories })
    }
}

impl Supervisor {
    /// Starts a place and tells it everything that there is. Called while nothing else changes.
    pub(super) async fn start_place(&self, index: usize) -> Result<PlaceEnd, ControlError> {
        let failed = |error: io::Error| ControlError::io("making memory for counters", &error);
        let (configuration, incarnation, first_executor, unrecovered) = {
            let mut state = self.state();
            let place = &mut state.places[index];
            place.incarnation += 1;
            let (configuration, incarnation) = (place.configuration.clone(), place.incarnation);
            let first = state.numbers.take(configuration.executors);
            let first = first.ok_or_else(|| ControlError::new(Code::Exhausted, "every executor number is held"))?;
            (configuration, incarnation, first, state.numbers.unrecovered.clone())
        };
        let PlaceConfiguration { place, executors, cpus, dma_latency_ns } = configuration;
        let started = SharedMemory::create("naam-metrics", Metrics::bytes(usize::from(executors)), Pages::Ordinary)
            .and_then(|counters| Ok((Metrics::new(counters.map()?), counters)))
            .map_err(failed)
            .and_then(|counted| Ok((counted, PlaceProcess::start(place, &self.configuration.name)?)));
        let ((metrics, counters), (process, mut end)) = started.inspect_err(|_| {
            // Nothing can be held under them yet.
            self.state().numbers.give_back(&(first_executor..first_executor + executors).collect());
        })?;
        let version = protocol::VERSION;
        let (engine, spins) = (self.configuration.engine, self.configuration.spins());
        let start = Start { version, place, first_executor, executors, incarnation, engine, cpus, spins, dma_latency_ns };
        if let Err(error) = self.introduce(&process, start, &counters, unrecovered).await {
            end.kill().await;
            // It may have begun to recover from others under its own numbers.
            self.state().numbers.unrecovered.extend(first_executor..first_executor + executors);
            return Err(error);
        }
        let started = Instant::now();
        let running = Arc::new(RunningPlace { place, process, incarnation, first_executor, executors, metrics, started });
        let sessions: Vec<u32> = {
            let mut state = self.state();
            state.places[index].running = Some(running.clone());
            state.sessions.keys().copied().collect()
        };
        for number in sessions {
            if let Err(error) = self.join(number, &running, self.flows.changes() + 1).await {
                // The place is dead again, and no session is to blame: whoever waits for its end draws the consequences.
                if error.code == Code::PlaceFailed {
                    break;
                }
                warn(format_args!("session {number} is closed: {error}"));
                if let Some(session) = self.state().sessions.get_mut(&number) {
                    session.teller = None;
                }
            }
        }
        self.state().spread_flows(&self.flows);
        self.flows.announce();
        Ok(end)
    }

    /// Tells a process which place it is, what it runs, and whom it recovers from.
    async fn introduce(
        &self,
        process: &PlaceProcess,
        start: Start,
        counters: &SharedMemory,
        unrecovered: BTreeSet<u16>,
    ) -> Result<(), ControlError> {
        process.order(Order::Start(start), &[counters.descriptor(), self.flow_view.descriptor()]).await?;
        let deployments = self.state().deployments_anew()?;
        let mut draining = Vec::new();
        for (plan, drains) in deployments {
            if drains {
                draining.push(Order::Undeploy { index: plan.deployment.index, generation: plan.deployment.generation });
            }
            deploy_at(process, plan).await?;
        }
        if !unrecovered.is_empty() {
            let order = Order::Recover { executors: unrecovered.iter().copied().collect() };
            match process.order(order, &[]).await {
                Ok(_) => self.state().numbers.give_back(&unrecovered),
                Err(error) if error.code == Code::PlaceFailed => return Err(error),
                // One deployment's locks may be left: no reason to serve no other. The numbers stay held, and the next place tries again.
                Err(error) => warn(format_args!("a place serves without having recovered everything: {error}")),
            }
        }
        for order in draining {
            process.order(order, &[]).await?;
        }
        Ok(())
    }

    /// Gives a session links to the executors of a place, and tells its client. One that does not listen is hung up on.
    pub(super) async fn join(&self, number: u32, place: &RunningPlace, changes: u64) -> Result<(), ControlError> {
        let failed = |error: io::Error| ControlError::io("making links of a session", &error);
        let (links, slots, session) = {
            let mut state = self.state();
            let Some(tenant) = state.sessions.get(&number).map(|open| open.tenant) else { return Ok(()) };
            let grants = state.granted(self.owner, tenant)?;
            state.note_grants(number, &grants);
            let Some(open) = state.sessions.get(&number) else { return Ok(()) };
            let session = Session { number, slots: open.request.slots, rings: open.request.rings, grants };
            let slots = open.slots_memory.descriptor().try_clone_to_owned().map_err(failed)?;
            (open.links(place.executors).map_err(failed)?, slots, session)
        };
        let mut descriptors = vec![slots.as_fd()];
        for (link, server, _) in &links {
            descriptors.extend([link.descriptor(), server.as_fd()]);
        }
        place.process.order(Order::Open(session), &descriptors).await?;
        let mut theirs = Vec::new();
        for (link, _, client) in links {
            theirs.extend([link.descriptor().try_clone_to_owned().map_err(failed)?, client]);
        }
        let news = SessionNews { changes, place: place.place, executors: place.numbers().collect(), what: Became::Joined };
        self.state().tell(number, Told { news, descriptors: theirs });
        Ok(())
    }

    /// Has a place that runs recover from a client that is gone. If none does, the next one that starts will. Called while nothing else
    /// changes.
    pub(super) async fn recover_from_client(&self, executor: u16) {
        let running = {
            let mut state = self.state();
            state.numbers.unrecovered.insert(executor);
            state.running()
        };
        for place in running {
            match place.process.order(Order::Recover { executors: vec![executor] }, &[]).await {
                Ok(_) => return self.state().numbers.give_back(&[executor].into()),
                // Nobody is there to recover for.
                Err(_) if self.end.borrow().is_some() => return,
                Err(error) => warn(format_args!("recovering from client {executor}: {error}")),
            }
        }
    }

    /// Follows a place from one end to the next, until the cluster ends or the place is given up.
    pub(super) async fn keep_place(self: Arc<Supervisor>, index: usize, mut end: PlaceEnd) {
        let mut stopping = self.end.subscribe();
        let mut stopping = std::pin::pin!(async move {
            // The sender is in `self`.
            let _ = stopping.wait_for(Option::is_some).await;
        });
        loop {
            let ended = tokio::select! {
                ended = end.reaped() => ended,
                () = &mut stopping => {
                    end.stop().await;
                    break;
                }
            };
            let how = ended.map_or_else(|error| error.to_string(), process::describe);
            let pause = self.bury(index, &how).await;
            let restarted = tokio::select! {
                restarted = self.revive(index, pause) => restarted,
                () = &mut stopping => break,
            };
            match restarted {
                Some(started) => end = started,
                None => break,
            }
        }
        self.living.send_modify(|living| *living -= 1);
    }

    /// Draws the consequences of a place's death. Returns how long to wait before it is started again; `None` if it is not.
    async fn bury(&self, index: usize, how: &str) -> Option<Duration> {
        let _change = self.changes.lock().await;
        let mut state = self.state();
        let place = &mut state.places[index];
        let kind = place.configuration.place;
        let Some(dead) = place.running.take() else { return place.another_death() };
        if dead.started.elapsed() >= SETTLED {
            place.deaths_in_a_row = 0;
        }
        let pause = place.another_death();
        let numbers: Vec<u16> = dead.numbers().collect();
        state.numbers.unrecovered.extend(&numbers);
        // In this order: what is sent again because of the news finds every claim marked.
        let marked = |slots: &crate::session::SlotTable| numbers.iter().map(|number| slots.mark_uncertain(*number)).sum::<usize>();
        let uncertain: usize = state.sessions.values().map(|session| marked(&session.slots)).sum();
        state.spread_flows(&self.flows);
        let sessions: Vec<u32> = state.sessions.keys().copied().collect();
        for session in sessions {
            let news =
                SessionNews { changes: self.flows.changes() + 1, place: kind, executors: numbers.clone(), what: Became::Gone };
            state.tell(session, Told { news, descriptors: Vec::new() });
        }
        self.flows.announce();
        let then = if pause.is_some() { "it is started again" } else { "it died too often and is not started again" };
        let process = dead.process.process();
        warn(format_args!("the {kind} place (process {process}) died: {how}; requests left uncertain: {uncertain}; {then}"));
        if pause.is_none() && state.running().is_empty() {
            self.end_with(End::PlaceFailed(format!("the {kind} place (process {process}) died: {how}")));
        }
        pause
    }

    /// Starts a place again, as often as it takes. `None` if it is given up.
    async fn revive(&self, index: usize, mut pause: Option<Duration>) -> Option<PlaceEnd> {
        loop {
            tokio::time::sleep(pause?).await;
            let started = {
                let _change = self.changes.lock().await;
                self.start_place(index).await
            };
            match started {
                Ok(end) => return Some(end),
                Err(error) => {
                    warn(format_args!("a place did not start again: {error}"));
                    pause = self.state().places[index].another_death();
                    if pause.is_none() && self.state().running().is_empty() {
                        self.end_with(End::PlaceFailed(format!("no place starts: {error}")));
                    }
                }
            }
        }
    }
}

impl PlaceState {
    /// Counts a death, or a start that failed. Returns the pause before the next start; `None` if there is none.
    fn another_death(&mut self) -> Option<Duration> {
        self.deaths_in_a_row += 1;
        self.given_up = self.deaths_in_a_row >= DEATHS_MAX;
        (!self.given_up).then(|| PAUSE_FIRST * 2u32.pow(self.deaths_in_a_row - 1))
    }
}

/// Tells whoever looks at the cluster's terminal. Nobody may: that must not end a cluster, as `eprintln!` would.
/// Has a place run a deployment.
pub(super) async fn deploy_at(process: &PlaceProcess, plan: Plan) -> Result<(), ControlError> {
    let Plan { file, deployment, memories } = plan;
    let sealed = sealed_file(&file)?;
    let memories = memories.iter().map(RegionMemory::descriptor);
    let descriptors: Vec<_> = std::iter::once(sealed.as_fd()).chain(memories).collect();
    process.order(Order::Deploy(deployment), &descriptors).await.map(|_| ())
}

pub(super) fn warn(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "warning: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executor_numbers_are_held_until_they_are_given_back() {
        let mut numbers = ExecutorNumbers::default();
        assert_eq!((numbers.take(1), numbers.take(64), numbers.take(2)), (Some(1), Some(2), Some(66)));
        let mut taken = 67;
        while let Some(first) = numbers.take(64) {
            assert!(first > 0 && first <= u16::MAX - 64);
            taken += 64;
        }
        assert!(taken > 65_000, "{taken} numbers were there");
        assert_eq!(numbers.held.len(), taken);
        numbers.held.retain(|number| !(1000..1064).contains(number));
        assert_eq!((numbers.take(64), numbers.take(64)), (Some(1000), None));
    }
}
