//! The load generator against a server in this process that runs the native programs, answers out of order, and can be told to lie.

use super::*;
use crate::native::Native;
use crate::workload::mix::{Mix, Workload};
use naamc::abi::UDMA_OPERATIONS_MAX;
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::Outcome;
use runtime::clock::MonotonicClock;
use runtime::engine::{Program, Turn};
use runtime::memory::{Region, Regions};

/// What a server does to every so many requests.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// Nothing.
    None,
    /// Changes a byte of a value.
    Value,
    /// Answers a read with the version before the last.
    Stale,
    /// Says that a record is not there.
    Absent,
    /// Loses a write, but says that it was done.
    Lost,
    /// Says that it has no room.
    Busy,
    /// Ends the request.
    Error,
}

/// A server behind a connection with room for `room` requests.
struct Server {
    regions: Regions,
    activation: Box<Activation>,
    waiting: Vec<(u32, Handler, Vec<u8>)>,
    room: usize,
    random: fastrand::Rng,
    lie: Lie,
    lie_every: u32,
    requests: u32,
    /// The first value of each request's key that was read, for [`Lie::Stale`].
    stale: std::collections::HashMap<Vec<u8>, Vec<u8>>,
}

impl Server {
    fn new(records: u64) -> Server {
        let region = |bytes| Region::anonymous(bytes).unwrap();
        Server {
            regions: vec![region(mica::heap_bytes(records, 8, 64, 64)), region(mica::table_bytes(records))].into(),
            activation: Activation::new_boxed(),
            waiting: Vec::new(),
            room: 48,
            random: fastrand::Rng::with_seed(1),
            lie: Lie::None,
            lie_every: 1000,
            requests: 0,
            stale: std::collections::HashMap::new(),
        }
    }

    fn serve(&mut self, handler: Handler, request: &[u8]) -> (i32, Vec<u8>) {
        let native = match handler {
            Handler::Get => Native::Get,
            Handler::Put => Native::Put,
            Handler::Insert => Native::Insert,
            Handler::ReadModifyWrite => Native::ReadModifyWrite,
            Handler::Scan => panic!("a table has no scans"),
        };
        let activation = &mut self.activation;
        activation.point = POINT_START;
        activation.udma_operations_left = UDMA_OPERATIONS_MAX;
        activation.body_mut()[..request.len()].copy_from_slice(request);
        activation.body_mut()[request.len()..][..8].fill(0);
        let outcome = native.run(activation, &mut Turn::new(&self.regions, 1));
        let Outcome::Finished(result) = outcome else { panic!("{outcome:?}") };
        (result as i32, activation.body()[..activation.reply_bytes as usize].to_vec())
    }
}

impl Connection for Server {
    fn submit(&mut self, handler: Handler, _: u64, tag: u32, body: &[u8]) -> Result<bool, String> {
        if self.waiting.len() == self.room {
            return Ok(false);
        }
        self.waiting.push((tag, handler, body.to_vec()));
        Ok(true)
    }

    fn poll(&mut self, take: &mut impl FnMut(u32, Answer<'_>)) -> Result<usize, String> {
        let count = self.random.usize(0..=self.waiting.len());
        for _ in 0..count {
            let (tag, handler, request) = self.waiting.swap_remove(self.random.usize(0..self.waiting.len()));
            self.requests += 1;
            let lie = if self.requests.is_multiple_of(self.lie_every) { self.lie } else { Lie::None };
            let lost = lie == Lie::Lost && handler != Handler::Get;
            let (mut result, mut body) = if lost { (mica::OK, Vec::new()) } else { self.serve(handler, &request) };
            let mut outcome = Ok(());
            match lie {
                Lie::Busy => outcome = Err(Fault::Busy),
                Lie::Error => outcome = Err(Fault::Ended("uncertain".to_owned())),
                Lie::Absent => (result, body) = (mica::ABSENT, Vec::new()),
                Lie::Value => body.last_mut().into_iter().for_each(|byte| *byte ^= 1),
                _ => {}
            }
            if self.lie == Lie::Stale && handler == Handler::Get {
                let first = self.stale.entry(request[8..].to_vec()).or_insert_with(|| body.clone());
                if lie == Lie::Stale {
                    body.clone_from(first);
                }
            }
            let answer =
                Answer { outcome: outcome.map(|()| result), body: &body, suspensions: 1, udma_operations: 3, place: Place::Host };
            take(tag, answer);
        }
        Ok(count)
    }

    fn wait(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Answers nothing. While its client waits, a second passes and the run goes on to its next phase.
struct Stalled<'a> {
    shared: &'a Shared,
    clock: &'a TurnedClock,
    waiting: Vec<u32>,
}

/// A clock that only its owner turns.
#[derive(Default)]
struct TurnedClock(AtomicU64);

impl Clock for TurnedClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connection for Stalled<'_> {
    fn submit(&mut self, _: Handler, _: u64, tag: u32, _: &[u8]) -> Result<bool, String> {
        self.waiting.push(tag);
        Ok(true)
    }

    fn poll(&mut self, take: &mut impl FnMut(u32, Answer<'_>)) -> Result<usize, String> {
        if self.shared.phase.get() != Phase::Stop {
            return Ok(0);
        }
        let outcome = Err(Fault::Ended("late".to_owned()));
        let answer = Answer { outcome, body: &[], suspensions: 0, udma_operations: 0, place: Place::Host };
        Ok(self.waiting.drain(..).map(|tag| take(tag, answer.clone())).count())
    }

    fn wait(&mut self) -> Result<(), String> {
        self.clock.0.fetch_add(1_000_000_000, Ordering::Relaxed);
        let next = if self.shared.phase.get() == Phase::WarmUp { Phase::Measure } else { Phase::Stop };
        self.shared.enter(next);
        Ok(())
    }
}

/// A stall at the end of a phase belongs to it: one before the measurement is no part of it, one at its end is.
#[test]
fn stalls_are_measured_where_they_were() {
    let (shared, clock) = (Shared::new(Workload::C.stamp(), RECORDS, 8, 64, None), TurnedClock::default());
    let mut server = Stalled { shared: &shared, clock: &clock, waiting: Vec::new() };
    let mut stream = Stream::draw(&mix(Workload::C), Distribution::Uniform, RECORDS, (0, 1), 9, |_| {});
    let client = Client::new(&mut server, &shared, &clock, 4);
    let measured = client.run(Source::Stream(&mut stream, Distribution::Uniform)).unwrap();
    assert_eq!((clock.now_ns(), measured.elapsed, measured.requests()), (2_000_000_000, Duration::from_secs(1), 4));
}

const RECORDS: u64 = 2000;

fn mix(workload: Workload) -> Mix {
    workload.mix()
}

/// Loads, runs the workload until so many requests were answered, and sweeps.
fn run(workload: Workload, lie: Lie) -> [Measurement; 3] {
    let capacity = RECORDS * 10;
    let (mut server, shared, clock) =
        (Server::new(capacity), Shared::new(workload.stamp(), capacity, 8, 64, None), MonotonicClock::new());
    let loaded = Client::new(&mut server, &shared, &clock, 64).run(Source::Load(RECORDS)).unwrap();
    server.lie = lie;
    let mut stream = Stream::draw(&mix(workload), workload.distribution(), RECORDS, (0, 1), 9, |_| {});
    let client = Client::new(&mut server, &shared, &clock, 64);
    let measured = std::thread::scope(|scope| {
        let run = scope.spawn(|| client.run(Source::Stream(&mut stream, workload.distribution())).unwrap());
        let mut answered = RECORDS;
        for (phase, requests) in [(Phase::Measure, 5_000), (Phase::Stop, 55_000)] {
            // Counted from the last phase on: whoever measures has then seen it.
            while shared.answered.load(Ordering::Relaxed) < answered + requests && !run.is_finished() {
                std::thread::yield_now();
            }
            answered = shared.answered.load(Ordering::Relaxed);
            shared.enter(phase);
        }
        run.join().unwrap()
    });
    server.lie = Lie::None;
    let swept = Client::new(&mut server, &shared, &clock, 64).run(Source::Sweep { next: 0, step: 1 }).unwrap();
    [loaded, measured, swept]
}

/// Every workload, with answers out of order and too little room: all that is loaded is there, all answers are right, and counts fit together.
#[test]
fn honest_servers_are_believed() {
    for workload in [Workload::A, Workload::B, Workload::C, Workload::D, Workload::F] {
        let [loaded, measured, swept] = run(workload, Lie::None);
        assert_eq!(loaded.results, [(mica::OK, RECORDS)].into());
        for run in [&measured, &swept] {
            assert_eq!((run.values_wrong, &run.wrong_examples, run.busy, run.errors.len()), (0, &Vec::new(), 0, 0), "{workload:?}");
            assert_eq!(run.results, [(mica::OK, run.requests())].into(), "{workload:?}");
            assert_eq!(run.latency_ns.len(), run.requests());
            assert_eq!((run.suspensions, run.udma_operations), (run.requests(), 3 * run.requests()));
        }
        assert!(measured.requests() > 10_000 && measured.elapsed > Duration::ZERO, "{workload:?}");
        let checked = measured.values_checked as f64 / measured.requests() as f64;
        let expected = f64::from(mix(workload).read_percent + mix(workload).read_modify_write_percent) / 100.0;
        assert!((checked - expected).abs() < 0.02, "{workload:?}: {checked} of the answers were checked");
        assert_eq!(swept.values_checked, swept.requests());
        assert_eq!(swept.requests() > RECORDS, workload == Workload::D, "inserted records are swept too");
    }
}

/// Each kind of lie is found, in the run or in the sweep after it; a server that is merely busy is asked again.
#[test]
fn lies_are_found() {
    for (workload, lie) in
        [(Workload::B, Lie::Value), (Workload::A, Lie::Stale), (Workload::A, Lie::Lost), (Workload::F, Lie::Lost)]
    {
        let [_, measured, swept] = run(workload, lie);
        assert!(measured.values_wrong + swept.values_wrong > 0);
        assert!(!measured.wrong_examples.is_empty() || !swept.wrong_examples.is_empty());
    }
    let [_, measured, _] = run(Workload::B, Lie::Absent);
    assert!(measured.results[&mica::ABSENT] > 10);
    let [_, measured, _] = run(Workload::B, Lie::Error);
    assert!(measured.errors["uncertain"] > 10);
    let [_, measured, swept] = run(Workload::B, Lie::Busy);
    assert!(measured.busy > 10);
    assert_eq!((measured.values_wrong, swept.values_wrong, measured.errors.len()), (0, 0, 0));
}

/// Inserts end when there are no more numbers, and the run with them.
#[test]
fn runs_end_when_numbers_do() {
    let (mut server, shared, clock) =
        (Server::new(3000), Shared::new(Workload::D.stamp(), 3000, 8, 64, None), MonotonicClock::new());
    Client::new(&mut server, &shared, &clock, 64).run(Source::Load(RECORDS)).unwrap();
    let mut stream = Stream::draw(&mix(Workload::D), Distribution::Latest, RECORDS, (0, 1), 9, |_| {});
    shared.enter(Phase::Measure);
    let measured = Client::new(&mut server, &shared, &clock, 64).run(Source::Stream(&mut stream, Distribution::Latest)).unwrap();
    assert_eq!(shared.versions.acknowledged(), 3000);
    assert!(measured.requests() > 10_000 && measured.values_wrong == 0);
}
