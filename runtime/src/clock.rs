//! Time as an argument: what executors and clients read once per batch.

use std::time::Instant;

/// Monotonic time in nanoseconds since some fixed moment.
pub trait Clock {
    /// Now.
    fn now_ns(&self) -> u64;
}

/// The system's `CLOCK_MONOTONIC`, from when this was made.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock(Instant);

impl MonotonicClock {
    /// A clock that starts at 0 now.
    pub fn new() -> MonotonicClock {
        MonotonicClock(Instant::now())
    }
}

impl Default for MonotonicClock {
    fn default() -> MonotonicClock {
        MonotonicClock::new()
    }
}

impl Clock for MonotonicClock {
    fn now_ns(&self) -> u64 {
        // 584 years fit.
        self.0.elapsed().as_nanos() as u64
    }
}
