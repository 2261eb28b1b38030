//! One client of a user's workload, in a closed loop: it keeps its window full of the drawn messages and counts what comes back.
//!
//! It works batch by batch, as the load generator of YCSB does, and allocates nothing for a request.

use super::messages::Messages;
use crate::load::{CurrentPhase, Phase};
use crate::measurement::Measurement;
use runtime::client::{Completion, Error, Session};
use runtime::clock::Clock;
use runtime::message::{Place, RuntimeError, Target};
use runtime::transport::Link;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a client waits before it looks whether the run has ended.
const WAIT: Duration = Duration::from_millis(50);
/// Handler results that are told apart in a run; whatever comes after them is counted together.
pub const RESULTS_COUNTED_MAX: usize = 256;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Counts and latencies; `results` by the handlers' values, `errors` by the names of runtime errors.
    pub measured: Measurement,
    /// Requests with results beyond [`RESULTS_COUNTED_MAX`] different ones.
    pub results_other: u64,
    /// Requests that were refused before anything of them ran, by the names of the errors that say so. Nothing else counts them.
    pub refused: BTreeMap<String, u64>,
    /// Requests that ran and were answered, by where they ran.
    pub executors: BTreeMap<(&'static str, u16), u64>,
}

impl Answers {
    /// Adds what another client counted during the same time.
    pub fn add_client(&mut self, other: Answers) {
        self.measured.add_client(other.measured);
        self.results_other += other.results_other;
        for (error, count) in other.refused {
            *self.refused.entry(error).or_default() += count;
        }
        for (executor, count) in other.executors {
            *self.executors.entry(executor).or_default() += count;
        }
    }
}

/// The name of a runtime error in reports.
pub fn error_name(error: RuntimeError) -> &'static str {
    match error {
        RuntimeError::BackEdgesExhausted => "back_edges_exhausted",
        RuntimeError::UdmaOperationsExhausted => "udma_operations_exhausted",
        RuntimeError::RegionUnreachable => "region_unreachable",
        RuntimeError::EngineFault => "engine_fault",
        RuntimeError::Malformed => "malformed",
        RuntimeError::UnknownDeployment => "unknown_deployment",
        RuntimeError::UnknownHandler => "unknown_handler",
        RuntimeError::NotGranted => "not_granted",
        RuntimeError::BadContinuation => "bad_continuation",
        RuntimeError::Busy => "busy",
        RuntimeError::Uncertain => "uncertain",
        RuntimeError::ReplyTooLong => "reply_too_long",
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    message: u32,
    sent_ns: u64,
}

/// One client.
pub struct Client<'a, L: Link, T: Clock> {
    session: &'a mut Session<L>,
    target: Target,
    messages: &'a Messages,
    phase: &'a CurrentPhase,
    gone: &'a AtomicBool,
    clock: &'a T,
    next: usize,
    pending: Vec<Pending>,
    free: Vec<u32>,
    /// Requests to be sent again.
    again: Vec<u32>,
    counts: Counts,
}

/// What is counted between two readings of the clock, and since the last change of the phase.
#[derive(Default)]
struct Counts {
    answers: Answers,
    results: Tally<i32>,
    errors: Tally<&'static str>,
    refused: Tally<&'static str>,
    executors: Tally<(&'static str, u16)>,
    /// Latencies that are still to be recorded: when requests were sent, and how many at that time.
    sent: Vec<(u64, u64)>,
}

/// Counts of few different things, the first ones found fastest: in a run nearly all answers are alike.
struct Tally<K>(Vec<(K, u64)>);

impl<K> Default for Tally<K> {
    fn default() -> Tally<K> {
        Tally(Vec::with_capacity(RESULTS_COUNTED_MAX))
    }
}

impl<K: PartialEq> Tally<K> {
    /// False if there are too many different ones.
    #[inline]
    fn count(&mut self, key: K) -> bool {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == key) {
            *count += 1;
        } else if self.0.len() < RESULTS_COUNTED_MAX {
            self.0.push((key, 1));
        } else {
            return false;
        }
        true
    }
}

impl<'a, L: Link, T: Clock> Client<'a, L, T> {
    /// A client that keeps `window` requests of the session under way, and says if their target is `gone`.
    pub fn new(
        session: &'a mut Session<L>,
        target: Target,
        messages: &'a Messages,
        phase: &'a CurrentPhase,
        gone: &'a AtomicBool,
        clock: &'a T,
        window: usize,
    ) -> Client<'a, L, T> {
        Client {
            session,
            target,
            messages,
            phase,
            gone,
            clock,
            next: 0,
            pending: vec![Pending::default(); window],
            free: (0..window as u32).rev().collect(),
            again: Vec::with_capacity(window),
            counts: Counts { sent: Vec::with_capacity(window), ..Counts::default() },
        }
    }

    /// Sends messages until the phase says stop, and waits for every answer; returns what was counted while the phase was to measure.
    ///
    /// # Errors
    /// If the session ends.
    pub fn run(mut self) -> Result<Answers, Error> {
        let (mut phase, mut now_ns, mut measured) = (Phase::WarmUp, self.clock.now_ns(), None);
        let mut from_ns = now_ns;
        loop {
            let current = self.phase.get();
            if current != phase {
                // Since the last reading there may have been a stall: it belongs to the phase in which it was.
                now_ns = self.clock.now_ns();
            }
            if phase == Phase::WarmUp && current != Phase::WarmUp {
                self.counts.close(0);
                from_ns = now_ns;
            }
            if phase != Phase::Stop && current == Phase::Stop {
                measured = Some(self.counts.close(now_ns - from_ns));
            }
            phase = current;
            let sent = self.fill(phase != Phase::Stop, now_ns)?;
            if phase == Phase::Stop && self.free.len() == self.pending.len() {
                return Ok(measured.unwrap_or_default());
            }
            let answered = self.poll()?;
            now_ns = self.clock.now_ns();
            self.counts.record(now_ns);
            if answered == 0 && sent == 0 {
                self.session.wait(Some(WAIT))?;
            }
        }
    }

    /// Sends what must be sent again and, if there is `more`, new messages, until the window is full or there is no room; returns how
    /// many were sent.
    fn fill(&mut self, more: bool, now_ns: u64) -> Result<usize, Error> {
        let mut sent = 0;
        loop {
            let again = self.again.pop();
            let tag = match again {
                Some(tag) => tag,
                None if !more => return Ok(sent),
                None => match self.free.pop() {
                    Some(tag) => {
                        self.pending[tag as usize] = Pending { message: self.next as u32, sent_ns: now_ns };
                        self.next = if self.next + 1 == self.messages.len() { 0 } else { self.next + 1 };
                        tag
                    }
                    None => return Ok(sent),
                },
            };
            let (body, flow) = self.messages.get(self.pending[tag as usize].message as usize);
            match self.session.submit(self.target, Some(flow), body, tag.into()) {
                Ok(()) => sent += 1,
                Err(Error::Full) => {
                    self.again.push(tag);
                    return Ok(sent);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn poll(&mut self) -> Result<usize, Error> {
        let Client { session, pending, free, again, counts, gone, .. } = self;
        session.poll(|completion| {
            let tag = completion.token as u32;
            if completion.outcome == Err(RuntimeError::Busy) {
                counts.answers.measured.busy += 1;
                again.push(tag);
                return;
            }
            if completion.outcome == Err(RuntimeError::UnknownDeployment) {
                gone.store(true, Ordering::Relaxed);
            }
            counts.answered(&completion, pending[tag as usize].sent_ns);
            free.push(tag);
        })
    }
}

impl Counts {
    #[inline]
    fn answered(&mut self, completion: &Completion<'_>, sent_ns: u64) {
        match completion.outcome {
            Ok(result) => {
                if !self.results.count(result) {
                    self.answers.results_other += 1;
                }
            }
            Err(error) if error.is_refusal() => {
                self.refused.count(error_name(error));
                return;
            }
            Err(error) => {
                self.errors.count(error_name(error));
            }
        }
        // An executor that died does not say who it was.
        if completion.place != Place::None {
            self.executors.count((completion.place.name(), completion.executor));
        }
        self.answers.measured.suspensions += u64::from(completion.suspensions);
        self.answers.measured.udma_operations += u64::from(completion.udma_operations);
        match self.sent.last_mut() {
            Some((last_ns, count)) if *last_ns == sent_ns => *count += 1,
            _ => self.sent.push((sent_ns, 1)),
        }
    }

    /// Records the latencies of what was answered since the last time.
    fn record(&mut self, now_ns: u64) {
        let latencies = &mut self.answers.measured.latency_ns;
        for (sent_ns, count) in self.sent.drain(..) {
            let latency_ns = now_ns.saturating_sub(sent_ns).clamp(1, latencies.high());
            // The bounds are the histogram's own, so there is no error to tell.
            let _ = latencies.record_n(latency_ns, count);
        }
    }

    /// Ends an interval and returns what was counted in it.
    fn close(&mut self, elapsed_ns: u64) -> Answers {
        let mut answers = std::mem::take(&mut self.answers);
        answers.measured.elapsed = Duration::from_nanos(elapsed_ns);
        answers.measured.results.extend(self.results.0.drain(..));
        answers.measured.errors.extend(self.errors.0.drain(..).map(|(name, count)| (name.to_owned(), count)));
        answers.refused.extend(self.refused.0.drain(..).map(|(name, count)| (name.to_owned(), count)));
        answers.executors.extend(self.executors.0.drain(..));
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every error has a name of its own.
    #[test]
    fn errors_have_names_of_their_own() {
        let names: BTreeSet<&str> = RuntimeError::ALL.into_iter().map(error_name).collect();
        assert_eq!(names.len(), RuntimeError::ALL.len());
    }

    /// Only what may have run counts as a request, has a latency, and an executor where that is known; refusals are told apart from it.
    #[test]
    fn refusals_are_no_requests() {
        let mut counts = Counts::default();
        let outcomes = RuntimeError::ALL.into_iter().map(Err).chain([Ok(0), Ok(7)]);
        for outcome in outcomes {
            let ran = outcome.map_or_else(|error| !error.is_refusal(), |_| true);
            let known = ran && outcome != Err(RuntimeError::Uncertain);
            let (place, executor) = if known { (Place::Host, 3) } else { (Place::None, 0) };
            let (suspensions, udma_operations) = if known { (1, 2) } else { (0, 0) };
            counts.answered(&Completion { token: 0, outcome, body: &[], place, executor, suspensions, udma_operations }, 1000);
        }
        counts.record(5000);
        let answers = counts.close(1_000_000_000);
        let refusals = RuntimeError::ALL.into_iter().filter(|error| error.is_refusal()).count() as u64;
        let requests = RuntimeError::ALL.len() as u64 - refusals + 2;
        assert_eq!((answers.refused.values().sum::<u64>(), answers.refused["unknown_deployment"]), (refusals, 1));
        assert_eq!((answers.measured.requests(), answers.measured.latency_ns.len()), (requests, requests));
        assert_eq!(answers.executors, [(("host", 3), requests - 1)].into(), "nobody is where no place is");
    }

    /// Different things are told apart up to the limit, and those that are known still count beyond it.
    #[test]
    fn tallies_are_bounded() {
        let mut tally = Tally::default();
        assert!((0..RESULTS_COUNTED_MAX).all(|key| tally.count(key)));
        assert!(!tally.count(RESULTS_COUNTED_MAX) && tally.count(7));
        assert_eq!(tally.0[7], (7, 2));
    }
}
