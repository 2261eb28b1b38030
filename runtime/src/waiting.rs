//! How threads wait for each other: they look, then offer their core between looks, then sleep.
//!
//! A thread with a core of its own loses nothing by looking. One that shares its core keeps from running whoever has what it waits for, and
//! cannot know that by asking: how long its offer took says it.

use std::time::{Duration, Instant};

/// How long a thread that has its core to itself looks before it offers it to others: ten round trips between two cores.
const LOOK_ALONE: Duration = Duration::from_micros(5);
/// An offer that took longer was taken: to ask the kernel in vain takes 0.3 us, two switches and another thread's look more than this.
const OFFER_IN_VAIN: Duration = Duration::from_micros(1);

/// How long a thread that may look does so before it sleeps, usually, in microseconds: about what a wake-up costs.
const SPIN_US: u32 = 50;

/// How a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long it looks before it sleeps. 0 where other threads need the core.
    pub spin_us: u32,
}

impl Waiting {
    /// As a thread does that has a core to itself, or as one that has none.
    pub fn with_own_core(has_own_core: bool) -> Waiting {
        Waiting { spin_us: if has_own_core { SPIN_US } else { 0 } }
    }
}

/// A thread that waits, and what it learnt of its core.
#[derive(Debug)]
pub struct Lookout {
    look: Duration,
    /// Its last offer of the core was taken.
    shares_core: bool,
}

impl Lookout {
    /// Of a thread that waits like this.
    pub fn new(waiting: Waiting) -> Lookout {
        Lookout { look: Duration::from_micros(waiting.spin_us.into()), shares_core: false }
    }

    /// Whether it has looked long enough, and should sleep.
    pub fn is_over(&self, waited: Duration) -> bool {
        waited >= self.look
    }

    /// Lets a moment pass before the next look, after it has waited so long.
    #[inline]
    pub fn pause(&mut self, waited: Duration) {
        if self.offers_core(waited) {
            self.offer_core();
        } else {
            std::hint::spin_loop();
        }
    }

    /// Lets others run, if there are any.
    pub fn offer_core(&mut self) {
        let start = Instant::now();
        std::thread::yield_now();
        self.offered(start.elapsed());
    }

    /// Whether it offers its core between two looks, after it has waited so long.
    #[inline]
    fn offers_core(&self, waited: Duration) -> bool {
        self.shares_core || waited >= LOOK_ALONE
    }

    /// Learns from an offer that took so long.
    fn offered(&mut self, took: Duration) {
        self.shares_core = took > OFFER_IN_VAIN;
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK_ALONE, Lookout, OFFER_IN_VAIN, Waiting};
    use std::time::Duration;

    #[test]
    fn a_core_is_offered_at_once_while_the_last_offer_was_taken() {
        let mut lookout = Lookout::new(Waiting::with_own_core(true));
        assert!(!lookout.offers_core(Duration::ZERO), "alone, as far as it knows");
        assert!(lookout.offers_core(LOOK_ALONE), "after a while it asks");
        lookout.offered(OFFER_IN_VAIN);
        assert!(!lookout.offers_core(Duration::ZERO), "nobody took it");
        lookout.offered(10 * OFFER_IN_VAIN);
        assert!(lookout.offers_core(Duration::ZERO), "somebody is there");
        lookout.offered(Duration::ZERO);
        assert!(!lookout.offers_core(Duration::ZERO), "and gone again");
    }

    #[test]
    fn a_thread_sleeps_when_it_has_looked_as_long_as_it_was_told() {
        let lookout = Lookout::new(Waiting { spin_us: 50 });
        assert!(!lookout.is_over(Duration::from_micros(49)));
        assert!(lookout.is_over(Duration::from_micros(50)));
        assert!(Lookout::new(Waiting::with_own_core(false)).is_over(Duration::ZERO), "one that may not look sleeps at once");
    }
}
